#include "exporter/http/host_name.h"

#include <arpa/inet.h>

#include <algorithm>
#include <array>
#include <cctype>

namespace cow::exporter {
namespace {

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

bool IsNameCharacter(char c) {
  return IsDigit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' || c == '.' || c == '_';
}

bool IsAddress(int family, const std::string& text) {
  std::array<unsigned char, sizeof(in6_addr)> bytes{};
  return inet_pton(family, text.c_str(), bytes.data()) == 1;
}

}  // namespace

std::optional<HostPort> ParseHost(std::string_view text) {
  constexpr size_t kMaxPortDigits = 5;
  HostPort result;
  std::string_view rest;
  if (text.starts_with('[')) {
    const size_t end = text.find(']');
    if (end == std::string_view::npos) return std::nullopt;
    result.host = text.substr(1, end - 1);
    rest = text.substr(end + 1);
    result.is_address = true;
    if (!IsAddress(AF_INET6, result.host)) return std::nullopt;
  } else {
    const size_t end = std::min(text.find(':'), text.size());
    result.host = text.substr(0, end);
    rest = text.substr(end);
    result.is_address = IsAddress(AF_INET, result.host);
    if (result.host.empty() || !std::all_of(result.host.begin(), result.host.end(), IsNameCharacter)) {
      return std::nullopt;
    }
  }
  for (char& c : result.host) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  if (rest.empty()) return result;
  result.port = rest.substr(1);
  if (rest.front() != ':' || result.port.size() > kMaxPortDigits ||
      !std::all_of(result.port.begin(), result.port.end(), IsDigit)) {
    return std::nullopt;
  }
  return result;
}

std::optional<HostPort> ParseOrigin(std::string_view url) {
  constexpr std::string_view kHttp = "http://";
  constexpr std::string_view kHttps = "https://";
  const bool is_secure = url.starts_with(kHttps);
  if (!is_secure && !url.starts_with(kHttp)) return std::nullopt;
  url.remove_prefix(is_secure ? kHttps.size() : kHttp.size());
  auto host = ParseHost(url.substr(0, std::min(url.find('/'), url.size())));
  if (host && host->port.empty()) host->port = is_secure ? "443" : "80";
  return host;
}

}  // namespace cow::exporter
