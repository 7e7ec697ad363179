// The HTTP server: a table of paths with their methods and handlers, on libmicrohttpd with one thread per connection.
// connection_table.h says how connections share the places, so that no client keeps others out.
//
// Paths match exactly, as received. Every path that allows GET allows HEAD. Answers 405 to other methods of a known
// path, 404 to unknown paths and 503 beyond `max_requests` concurrent telemetry requests.
//
// Call Listen and Stop from one thread. Many threads call the callbacks concurrently.
#pragma once

#include <sys/socket.h>

#include <atomic>
#include <chrono>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "exporter/channel/messages.h"
#include "exporter/http/acceptor.h"
#include "exporter/http/connection_table.h"
#include "exporter/http/filtered_bodies.h"
#include "exporter/http/http_message.h"
#include "exporter/http/landing_page.h"
#include "exporter/http/listen_socket.h"
#include "exporter/http/origin_check.h"
#include "exporter/http/web_access.h"
#include "exporter/log/log.h"
#include "exporter/log/log_once.h"
#include "exporter/snapshot/snapshot.h"

struct MHD_Connection;
struct MHD_Daemon;

namespace cow::exporter {

struct ServerOptions {
  std::string telemetry_path = "/metrics";  // needs no escaping in HTML or a URI
  size_t max_requests = 40;
  std::string version;
  std::vector<std::string> collectors;  // names of all collectors
  bool enable_api = false;              // serve /api/v1 on TCP too, not only on unix sockets
  // See origin_check.h.
  std::vector<std::string> host_names;
  std::string external_url;
  std::chrono::seconds silence_timeout{30};
  ConnectionTable::Limits limits;
};

struct ServerCallbacks {
  // Returns the snapshot to serve, never null. May block until `deadline`.
  std::function<std::shared_ptr<const Snapshot>(std::optional<std::chrono::steady_clock::time_point> deadline)> scrape;
  // Returns the latest snapshot without blocking, never null.
  std::function<std::shared_ptr<const Snapshot>()> latest;
  // Answer /api/v1/…; null: answer 404.
  std::function<HttpResponse(const ExplainQuery& query)> explain = {};
  std::function<HttpResponse()> families = {};
  // Reloads the configuration and returns the errors, if any. Null: answer 403.
  std::function<std::optional<std::string>()> reload = {};
  std::function<std::string()> config = {};  // the configuration in force as YAML; null: answer 404
};

class Server {
 public:
  // `log` and `access` must outlive the server. Without `access`, serves without TLS and authentication.
  Server(ServerOptions options, ServerCallbacks callbacks, Log& log, WebAccess* access = nullptr);
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  // Starts to serve on `socket`. Throws std::runtime_error if no thread can start or no descriptor is left.
  void Listen(ListenSocket socket);
  // Closes all connections and waits for their threads. Call it when `scrape` no longer blocks.
  void Stop();

 private:
  struct Request;
  struct Connection;
  struct Callbacks;  // of libmicrohttpd
  struct Route {
    std::string path;
    std::vector<std::string_view> methods;  // for the header Allow
    std::function<HttpResponse(const HttpRequest&)> handle;
  };

  void StartDaemon();
  // Hands a new connection to the daemon, or closes it.
  void Accept(int fd, const sockaddr_storage& peer, socklen_t peer_bytes);
  // Takes the connection that Accept handed over; null if unknown.
  std::unique_ptr<Connection> TakeAccepted(int fd);
  [[nodiscard]] std::vector<Route> MakeRoutes();
  [[nodiscard]] const Route* FindRoute(std::string_view path) const;
  // Checks access, then handles the request.
  [[nodiscard]] HttpResponse Respond(const HttpRequest& request) const;
  [[nodiscard]] HttpResponse Handle(const HttpRequest& request) const;
  [[nodiscard]] HttpHeaders CommonHeaders() const;
  void LogFailure(const std::exception& error);
  HttpResponse HandleTelemetry(const HttpRequest& request);
  [[nodiscard]] HttpResponse HandleReload() const;
  [[nodiscard]] bool MayUseApi(const HttpRequest& request) const;
  [[nodiscard]] HttpResponse HandleExplain(const HttpRequest& request) const;

  const ServerOptions options_;
  const ServerCallbacks callbacks_;
  Log& log_;
  WebAccess* const access_;
  const LandingPage landing_page_;
  const OriginCheck origin_check_;
  const std::vector<Route> routes_;
  std::atomic<size_t> telemetry_requests_ = 0;
  LogOnce failures_;
  FilteredBodies filtered_bodies_;
  ConnectionTable connections_;
  std::mutex accepted_mutex_;
  std::map<int, std::unique_ptr<Connection>> accepted_;  // by descriptor, until the daemon's thread takes them
  MHD_Daemon* daemon_ = nullptr;
  std::vector<std::unique_ptr<Acceptor>> acceptors_;
};

}  // namespace cow::exporter
