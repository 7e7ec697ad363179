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
inline constexpr const char* kApiFamilies = "/api/v1/families";
inline constexpr const char* kApiExplain = "/api/v1/explain";

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

// A text that keeps its memory alive: a string, or a part of a mapped file.
class SharedText {
 public:
  SharedText() = default;
  // These two convert implicitly: a body is often a plain string.
  // NOLINTNEXTLINE(google-explicit-constructor)
  SharedText(std::string text) : SharedText(std::make_shared<const std::string>(std::move(text))) {}
  // NOLINTNEXTLINE(google-explicit-constructor)
  SharedText(const std::shared_ptr<const std::string>& text) : text_(*text), memory_(text) {}
  SharedText(std::string_view text, std::shared_ptr<const void> memory) : text_(text), memory_(std::move(memory)) {}

  std::string_view operator*() const { return text_; }
  const std::string_view* operator->() const { return &text_; }

 private:
  std::string_view text_;
  std::shared_ptr<const void> memory_;
};

struct HttpResponse {
  unsigned status = 200;
  std::string content_type = kTextPlain;
  SharedText body;      // responses may share it
  HttpHeaders headers;  // in addition to those of every response
};

// The body is JSON, for /api/v1.
inline HttpResponse ApiResponse(unsigned status, SharedText body) {
  return {status, kJsonType, std::move(body), {{"Cache-Control", "no-store"}}};
}

inline HttpResponse TextResponse(unsigned status, std::string body, HttpHeaders headers = {}) {
  return {status, kTextPlain, std::move(body), std::move(headers)};
}

}  // namespace cow::exporter
