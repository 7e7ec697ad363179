// Refuses requests that two servers could read in two ways, so that a proxy in front of this one can't be tricked.
//
// Answer 400 and close the connection if one of these functions returns a problem. Any thread.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

struct MHD_Connection;

namespace cow::exporter {

using HeaderList = std::vector<std::pair<std::string_view, std::string_view>>;  // as received, in order

// The headers, valid during the request.
HeaderList ListHeaders(MHD_Connection* connection);

// Checks the headers: names and values without control characters; at most one Content-Length and none beside
// Transfer-Encoding; of the transfer encodings only `chunked`, and none in HTTP/1.0; one valid Host, which HTTP/1.0 may
// omit. `version` is HTTP/1.0 or HTTP/1.1. Pure. Returns the problem.
std::optional<std::string> CheckHeaders(std::string_view version, const HeaderList& headers);

// Looks for NUL characters, which end the texts that libmicrohttpd 0.9.75 returns and hide what follows. That version
// keeps the request in one buffer, so the texts must lie as far apart as their separators are long. It can't tell a NUL
// and a line feed from a carriage return and a line feed, because the library overwrites both. Later versions answer
// 400 themselves. `method`, `url` and `version` are what libmicrohttpd passed to the handler, `uri_bytes` is the length
// of the URI as received. Call it before the body is read.
bool HidesBytes(MHD_Connection* connection, const char* method, const char* url, size_t uri_bytes, const char* version,
                const HeaderList& headers);

}  // namespace cow::exporter
