// The HTTP server: the telemetry path, a landing page, health and readiness. libmicrohttpd, one thread per connection,
// with a limit of connections and a timeout for silent ones, so that no client can hold up another.
//
// Paths match byte by byte as they were sent. GET and HEAD are answered; another method on a known path is 405, an
// unknown path is 404. More than `max_requests` telemetry requests at a time are answered 503.
//
// Listen and Stop are for one thread. The callbacks are called by many, at the same time.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "exporter/explain/api.h"
#include "exporter/listen_socket.h"
#include "exporter/log.h"
#include "exporter/snapshot.h"

struct MHD_Connection;
struct MHD_Daemon;

namespace cow::exporter {

struct ServerOptions {
  std::string telemetry_path = "/metrics";  // nothing in it that HTML or a URI would have to escape
  size_t max_requests = 40;
  bool enable_api = false;  // else /api/v1 is answered on unix sockets only
  std::string version;
  unsigned max_connections = 512;  // per listening socket
  unsigned max_connections_per_address = 128;
  std::chrono::seconds connection_timeout{30};
};

struct ServerCallbacks {
  // The snapshot to serve; `deadline` is when the client will want it at the latest. Never null. May block.
  std::function<std::shared_ptr<const Snapshot>(std::optional<std::chrono::steady_clock::time_point> deadline)> scrape;
  std::function<bool()> ready;
  // Answers /api/v1/…; by many threads. Empty: there is no such thing.
  std::function<ApiReply(const ApiRequest& request)> api = {};
  // Reads the configuration again; empty when it is in force, else why not. Null: not enabled.
  std::function<std::optional<std::string>()> reload = {};
  std::function<std::string()> config = {};  // what is in force, as YAML
};

class Server {
 public:
  // `log` outlives the server.
  Server(ServerOptions options, ServerCallbacks callbacks, Log& log);
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  // Throws std::runtime_error if no thread can be started for it.
  void Listen(ListenSocket socket);
  // Ends all connections and waits for their threads: `scrape` must not block any more.
  void Stop();

 private:
  struct Request;
  struct Callbacks;  // what libmicrohttpd calls
  struct Listener {
    ListenSocket socket;
    MHD_Daemon* daemon;
  };

  bool Handle(MHD_Connection* connection, const std::string& path, const std::string& method, Request& request);
  bool HandleApi(MHD_Connection* connection, const std::string& path);
  bool HandleReload(MHD_Connection* connection, const std::string& method);
  bool HandleTelemetry(MHD_Connection* connection, Request& request);

  const ServerOptions options_;
  const ServerCallbacks callbacks_;
  const std::string landing_page_;
  Log& log_;
  std::atomic<size_t> telemetry_requests_ = 0;
  std::vector<Listener> listeners_;
};

}  // namespace cow::exporter
