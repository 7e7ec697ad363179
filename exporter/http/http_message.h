// HTTP requests and responses as handlers see them. Plain values.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "exporter/http/client_key.h"

namespace cow::exporter {

inline constexpr const char* kTextPlain = "text/plain; charset=utf-8";
inline constexpr const char* kJsonType = "application/json";
inline constexpr const char* kHtml = "text/html; charset=utf-8";

inline constexpr const char* kHealthPath = "/-/healthy";

struct HttpRequest {
  std::string method;
  std::string path;                                         // as received, not decoded
  std::string query;                                        // after the "?", as received
  std::map<std::string, std::string, std::less<>> headers;  // by lower-case name; repeated ones joined by ", "
  ClientKey client;

  [[nodiscard]] bool IsFromUnixSocket() const { return client.kind == ClientKey::Kind::kUser; }

  [[nodiscard]] std::optional<std::string_view> Header(std::string_view lower_case_name) const {
    const auto found = headers.find(lower_case_name);
    if (found == headers.end()) return std::nullopt;
    return found->second;
  }
};

using HttpHeaders = std::vector<std::pair<std::string, std::string>>;

struct HttpResponse {
  unsigned status = 200;
  std::string content_type = kTextPlain;
  std::shared_ptr<const std::string> body;  // never null; responses may share it
  HttpHeaders headers;                      // in addition to those of every response
};

inline HttpResponse TextResponse(unsigned status, std::string body, HttpHeaders headers = {}) {
  return {status, kTextPlain, std::make_shared<const std::string>(std::move(body)), std::move(headers)};
}

}  // namespace cow::exporter
