// Protects the pages that show or reload the configuration from web pages of other sites, in a browser that can reach
// this server.
//
// Host. A site can make its own name resolve to this server's address (DNS rebinding); the browser then takes this
// server's pages for the site's. So the Host of a request must be an address, a name of this machine, localhost, or the
// host of --web.external-url. A site can't rebind an address. Requests from unix sockets need no such Host.
//
// Origin. A site can make a browser send requests whose responses it can't read. So a reload is refused if Origin names
// another host than Host or --web.external-url, or if Sec-Fetch-Site names another site. Browsers send Origin with
// every POST and PUT. Programs such as curl send neither header and pass.
//
// Immutable; any thread.
#pragma once

#include <functional>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "exporter/http/host_name.h"
#include "exporter/http/http_message.h"

namespace cow::exporter {

inline constexpr const char* kConfigPath = "/config";
inline constexpr const char* kReloadPath = "/-/reload";

// The names of this machine: its host name, alone and with each search domain of the resolver, and the other names on
// its lines of the hosts file. Reads files below /etc but asks no server. Call it before threads start.
std::vector<std::string> HostNames();

class OriginCheck {
 public:
  // `external_url` is empty or valid.
  OriginCheck(const std::vector<std::string>& host_names, std::string_view external_url);

  // Returns the refusal, or nothing if the request may pass.
  [[nodiscard]] std::optional<HttpResponse> Check(const HttpRequest& request) const;

 private:
  [[nodiscard]] bool IsOwnHost(const HttpRequest& request) const;
  [[nodiscard]] bool IsOwnOrigin(const HttpRequest& request) const;

  std::set<std::string, std::less<>> names_;
  std::optional<HostPort> external_;
};

}  // namespace cow::exporter
