// The HTTP server: a table of paths with their methods and handlers. libmicrohttpd, one thread per connection, with a
// limit of connections and timeouts for clients that are silent or slow, so that none can hold up another.
//
// Paths match byte by byte as they were sent. GET includes HEAD; another method on a known path is 405, an unknown path
// is 404. More than `max_requests` telemetry requests whose answers are being made at a time are answered 503.
//
// Listen and Stop are for one thread. The callbacks are called by many, at the same time.
#pragma once

#include <atomic>
#include <chrono>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "exporter/explain/api.h"
#include "exporter/http/connection_watch.h"
#include "exporter/http/http_message.h"
#include "exporter/http/landing_page.h"
#include "exporter/http/listen_socket.h"
#include "exporter/http/web_access.h"
#include "exporter/log/log.h"
#include "exporter/log/told_once.h"
#include "exporter/scan/group_history.h"
#include "exporter/scan/snapshot.h"

struct MHD_Connection;
struct MHD_Daemon;

namespace cow::exporter {

struct ServerOptions {
  std::string telemetry_path = "/metrics";  // nothing in it that HTML or a URI would have to escape
  size_t max_requests = 40;
  std::string version;
  std::vector<std::string_view> collectors;  // all there are, by name
  bool enable_api = false;                   // else /api/v1 is answered on unix sockets only
  unsigned max_connections = 512;            // per listening socket
  unsigned max_connections_per_address = 128;
  std::chrono::seconds silence_timeout{30};
  ConnectionWatch::Limits limits;
};

struct ServerCallbacks {
  // The snapshot to serve; `deadline` is when the client will want it at the latest. Never null. May block.
  std::function<std::shared_ptr<const Snapshot>(std::optional<std::chrono::steady_clock::time_point> deadline)> scrape;
  // The latest snapshot, at once. Never null.
  std::function<std::shared_ptr<const Snapshot>()> latest;
  std::function<bool()> ready;
  std::function<std::vector<GroupSummary>()> groups;  // for the landing page
  // Answers /api/v1/…. Empty: there is no such thing.
  std::function<ApiReply(const ApiRequest& request)> api = {};
  // Reads the configuration again; empty when it is in force, else why not. Null: not enabled.
  std::function<std::optional<std::string>()> reload = {};
  std::function<std::string()> config = {};  // what is in force, as YAML. Null: there is no such page
};

class Server {
 public:
  // `log` and `access` outlive the server; without `access` there is no TLS and everybody is let in.
  Server(ServerOptions options, ServerCallbacks callbacks, Log& log, WebAccess* access = nullptr);
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  // Throws std::runtime_error if no thread can be started for it.
  void Listen(ListenSocket socket);
  // Ends all connections and waits for their threads: `scrape` must not block any more.
  void Stop();

 private:
  struct Request;
  struct Connection;
  struct Callbacks;  // what libmicrohttpd calls
  struct Listener {
    Server& server;
    ListenSocket socket;
    MHD_Daemon* daemon;
  };
  struct Route {
    std::string path;
    std::vector<std::string_view> methods;  // for the header Allow
    std::function<HttpResponse(const HttpRequest&)> handle;
  };

  [[nodiscard]] std::vector<Route> MakeRoutes();
  [[nodiscard]] const Route* FindRoute(std::string_view path) const;
  // To whoever asks, or only to those who may.
  [[nodiscard]] HttpResponse Respond(const HttpRequest& request) const;
  [[nodiscard]] HttpResponse Handle(const HttpRequest& request) const;
  [[nodiscard]] HttpHeaders CommonHeaders() const;
  void TellFailure(const std::exception& error);
  HttpResponse HandleTelemetry(const HttpRequest& request);
  [[nodiscard]] HttpResponse HandleReload() const;
  [[nodiscard]] HttpResponse HandleApi(const HttpRequest& request) const;

  const ServerOptions options_;
  const ServerCallbacks callbacks_;
  Log& log_;
  WebAccess* const access_;
  const LandingPage landing_page_;
  const std::vector<Route> routes_;
  std::atomic<size_t> telemetry_requests_ = 0;
  ToldOnce failures_;
  ConnectionWatch watch_;
  std::vector<std::unique_ptr<Listener>> listeners_;
};

}  // namespace cow::exporter
