#include "exporter/http/origin_check.h"

#include <microhttpd.h>
#include <netdb.h>
#include <netinet/in.h>  // for resolv.h
#include <resolv.h>
#include <unistd.h>

#include <array>
#include <cctype>
#include <climits>
#include <utility>

namespace cow::exporter {
namespace {

constexpr std::string_view kLocalhost = "localhost";
constexpr std::string_view kBelowLocalhost = ".localhost";

std::string LowerCase(std::string text) {
  for (char& c : text) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return text;
}

// True if the entry of the hosts file names this machine.
bool IsOwn(const hostent& host, std::string_view own_name) {
  if (host.h_name == own_name) return true;
  for (char** alias = host.h_aliases; *alias != nullptr; ++alias) {
    if (*alias == own_name) return true;
  }
  return false;
}

}  // namespace

std::vector<std::string> HostNames() {
  std::vector<std::string> names;
  std::array<char, HOST_NAME_MAX + 1> buffer{};
  if (gethostname(buffer.data(), buffer.size() - 1) != 0) return names;
  const std::string own = buffer.data();
  names.push_back(own);
  names.push_back(own.substr(0, own.find('.')));
  struct __res_state resolver {};
  if (res_ninit(&resolver) == 0) {
    for (const char* const* domain = resolver.dnsrch; *domain != nullptr; ++domain) {
      names.push_back(own + "." + *domain);
    }
    res_nclose(&resolver);
  }
  sethostent(0);
  while (const hostent* host = gethostent()) {  // NOLINT(concurrency-mt-unsafe): before threads start
    if (!IsOwn(*host, own)) continue;
    names.emplace_back(host->h_name);
    for (char** alias = host->h_aliases; *alias != nullptr; ++alias) names.emplace_back(*alias);
  }
  endhostent();
  return names;
}

OriginCheck::OriginCheck(const std::vector<std::string>& host_names, std::string_view external_url)
    : external_(ParseOrigin(external_url)) {
  for (const std::string& name : host_names) names_.insert(LowerCase(name));
  if (external_) names_.insert(external_->host);
}

std::optional<HttpResponse> OriginCheck::Check(const HttpRequest& request) const {
  if (request.path != kConfigPath && request.path != kReloadPath) return std::nullopt;
  if (!request.IsFromUnixSocket() && !IsOwnHost(request)) {
    return TextResponse(MHD_HTTP_MISDIRECTED_REQUEST,
                        "Host is no name of this machine: pass --web.external-url=URL to accept that URL's host\n");
  }
  if (request.path == kReloadPath && !IsOwnOrigin(request)) {
    return TextResponse(MHD_HTTP_FORBIDDEN,
                        "a page of another site sent this request: pass --web.external-url=URL to accept that site\n");
  }
  return std::nullopt;
}

bool OriginCheck::IsOwnHost(const HttpRequest& request) const {
  const auto header = request.Header("host");
  const auto host = header ? ParseHost(*header) : std::nullopt;
  if (!host) return !header;  // HTTP/1.0, which browsers don't speak
  std::string_view name = host->host;
  if (name.ends_with('.')) name.remove_suffix(1);
  return host->is_address || name == kLocalhost || name.ends_with(kBelowLocalhost) || names_.contains(name);
}

bool OriginCheck::IsOwnOrigin(const HttpRequest& request) const {
  const auto site = request.Header("sec-fetch-site");
  if (site && *site != "same-origin" && *site != "none") return false;
  const auto header = request.Header("origin");
  if (!header) return true;
  const auto origin = ParseOrigin(*header);
  if (!origin) return false;
  if (origin == external_) return true;
  const auto host = request.Header("host");
  // Host doesn't say the scheme. Without a port it means the default one of the origin's scheme.
  const std::string scheme = header->substr(0, header->find(':')) == "https" ? "https://" : "http://";
  return host && ParseOrigin(scheme + std::string(*host)) == origin;
}

}  // namespace cow::exporter
