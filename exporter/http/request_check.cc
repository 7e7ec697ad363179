#include "exporter/http/request_check.h"

#include <microhttpd.h>

#include <algorithm>
#include <cstring>
#include <exception>

#include "collectors/base/text.h"
#include "exporter/http/host_name.h"

namespace cow::exporter {
namespace {

bool EqualsIgnoringCase(std::string_view a, std::string_view b) {
  return a.size() == b.size() && strncasecmp(a.data(), b.data(), a.size()) == 0;
}

// RFC 9110, 5.6.2.
bool IsTokenCharacter(char c) {
  constexpr std::string_view kOthers = "!#$%&'*+-.^_`|~";
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
         kOthers.find(c) != std::string_view::npos;
}

bool IsControl(char c) { return (static_cast<unsigned char>(c) < ' ' && c != '\t') || c == '\x7f'; }

// True if between two texts of one buffer there are at least `least` and at most `most` characters, all of them NUL or
// blank. libmicrohttpd replaces separators by NUL.
bool IsGap(const char* from, const char* to, size_t least, size_t most) {
  if (to < from) return false;
  const std::string_view gap(from, static_cast<size_t>(to - from));
  const auto is_separator = [](char c) { return c == '\0' || c == ' ' || c == '\t'; };
  if (!std::all_of(gap.begin(), gap.end(), is_separator)) return false;
  const auto ends = static_cast<size_t>(std::count(gap.begin(), gap.end(), '\0'));
  return ends >= least && ends <= most;
}

}  // namespace

HeaderList ListHeaders(MHD_Connection* connection) {
  struct Result {
    HeaderList headers;
    std::exception_ptr failure = nullptr;
  };
  const auto add = [](void* cls, MHD_ValueKind /*kind*/, const char* name, const char* value) {
    auto& result = *static_cast<Result*>(cls);
    try {
      result.headers.emplace_back(name, value == nullptr ? "" : value);
      return MHD_YES;
    } catch (const std::exception&) {
      result.failure = std::current_exception();
      return MHD_NO;
    }
  };
  Result result;
  MHD_get_connection_values(connection, MHD_HEADER_KIND, add, &result);
  if (result.failure) std::rethrow_exception(result.failure);
  return result.headers;
}

std::optional<std::string> CheckHeaders(std::string_view version, const HeaderList& headers) {
  size_t lengths = 0;
  size_t encodings = 0;
  size_t hosts = 0;
  for (const auto& [name, value] : headers) {
    if (name.empty() || !std::all_of(name.begin(), name.end(), IsTokenCharacter)) return "invalid name of a header";
    if (std::any_of(value.begin(), value.end(), IsControl)) return "control character in a header";
    if (EqualsIgnoringCase(name, MHD_HTTP_HEADER_CONTENT_LENGTH)) ++lengths;
    if (EqualsIgnoringCase(name, MHD_HTTP_HEADER_TRANSFER_ENCODING)) {
      ++encodings;
      if (!EqualsIgnoringCase(text::Trim(value), "chunked")) return "unknown Transfer-Encoding";
    }
    if (EqualsIgnoringCase(name, MHD_HTTP_HEADER_HOST)) {
      ++hosts;
      if (!ParseHost(text::Trim(value))) return "invalid Host";
    }
  }
  const bool is_old = version == MHD_HTTP_VERSION_1_0;
  if (lengths > 1) return "repeated Content-Length";
  if (encodings > 1) return "repeated Transfer-Encoding";
  if (lengths + encodings > 1) return "Content-Length beside Transfer-Encoding";
  if (is_old && encodings > 0) return "Transfer-Encoding in HTTP/1.0";
  if (hosts > 1) return "repeated Host";
  if (!is_old && hosts == 0) return "missing Host";
  return std::nullopt;
}

bool HidesBytes(MHD_Connection* connection, const char* method, const char* url, size_t uri_bytes, const char* version,
                const HeaderList& headers) {
  if (std::string_view(MHD_get_version()) != "0.9.75") return false;
  const auto* info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);
  if (info == nullptr) return true;
  const char* const end = method + info->header_size;
  if (!IsGap(method + std::strlen(method), url, 1, 1)) return true;
  if (!IsGap(url + uri_bytes, version, 1, 1)) return true;
  const char* at = version + std::strlen(version);
  for (const auto& [name, value] : headers) {
    if (name.data() + name.size() > end || value.data() + value.size() > end) return true;
    if (!IsGap(at, name.data(), 1, 2) || !IsGap(name.data() + name.size(), value.data(), 1, 1)) return true;
    at = value.data() + value.size();
  }
  return !IsGap(at, end, 2, 4);
}

}  // namespace cow::exporter
