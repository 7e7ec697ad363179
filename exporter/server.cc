#include "exporter/server.h"

#include <microhttpd.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <exception>
#include <initializer_list>
#include <stdexcept>
#include <string_view>
#include <utility>

#include "config/units.h"

namespace cow::exporter {
namespace {

using Clock = std::chrono::steady_clock;

constexpr const char* kTimeoutHeader = "X-Prometheus-Scrape-Timeout-Seconds";
constexpr std::chrono::milliseconds kTimeoutReserve{500};
constexpr size_t kMaxBodyBytes = 65536;  // of a request that needs none

constexpr const char* kTextPlain = "text/plain; charset=utf-8";
constexpr const char* kTextFormat = "text/plain; version=0.0.4; charset=utf-8";
constexpr const char* kJson = "application/json";
constexpr const char* kHtml = "text/html; charset=utf-8";

struct Header {
  const char* name;
  const char* value;
};

std::string LandingPage(const ServerOptions& options) {
  const std::string& path = options.telemetry_path;
  return "<!DOCTYPE html>\n<html lang=\"en\">\n<head><meta "
         "charset=\"utf-8\"><title>cow_exporter</title></head>\n<body>\n"
         "<h1>cow_exporter</h1>\n<p>Prometheus exporter for copy-on-write memory, version " +
         options.version + ".</p>\n<ul>\n<li><a href=\"" + path + "\">Metrics</a></li>\n" +
         "<li><a href=\"/-/healthy\">Health</a></li>\n<li><a href=\"/-/ready\">Readiness</a></li>\n</ul>\n"
         "</body>\n</html>\n";
}

// Takes over `response`.
bool Queue(MHD_Connection* connection, unsigned status, MHD_Response* response, std::initializer_list<Header> headers) {
  if (response == nullptr) return false;
  bool good = MHD_add_response_header(response, "X-Content-Type-Options", "nosniff") == MHD_YES;
  for (const Header& header : headers) {
    good = good && MHD_add_response_header(response, header.name, header.value) == MHD_YES;
  }
  good = good && MHD_queue_response(connection, status, response) == MHD_YES;
  MHD_destroy_response(response);
  return good;
}

bool Reply(MHD_Connection* connection, unsigned status, std::string_view body, const char* content_type,
           std::initializer_list<Header> headers = {}) {
  MHD_Response* response = MHD_create_response_from_buffer(body.size(), const_cast<char*>(body.data()),
                                                           MHD_RESPMEM_MUST_COPY);  // NOLINT: it only copies from there
  if (response == nullptr) return false;
  if (MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, content_type) != MHD_YES) {
    MHD_destroy_response(response);
    return false;
  }
  return Queue(connection, status, response, headers);
}

// The response shares the snapshot's text and keeps it alive.
bool ReplySnapshot(MHD_Connection* connection, std::shared_ptr<const Snapshot> snapshot) {
  using Owner = std::shared_ptr<const Snapshot>;
  auto owner = std::make_unique<Owner>(std::move(snapshot));
  const std::string& text = (*owner)->text;
  MHD_Response* response = MHD_create_response_from_buffer_with_free_callback_cls(
      text.size(), const_cast<char*>(text.data()),  // NOLINT: it only reads there
      [](void* cls) { const std::unique_ptr<Owner> end(static_cast<Owner*>(cls)); }, owner.get());
  if (response == nullptr) return false;
  owner.release();  // NOLINT(bugprone-unused-return-value): the response has it
  return Queue(connection, MHD_HTTP_OK, response, {{MHD_HTTP_HEADER_CONTENT_TYPE, kTextFormat}});
}

// When an answer is due: at the scrape's timeout, less what it takes to get there.
std::optional<Clock::time_point> ScrapeDeadline(MHD_Connection* connection) {
  constexpr double kMaxSeconds = 3600;
  const char* value = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, kTimeoutHeader);
  if (value == nullptr) return std::nullopt;
  const auto seconds = config::ParseNumber(value);
  if (!seconds || *seconds <= 0) return std::nullopt;
  const std::chrono::duration<double> timeout(std::min(*seconds, kMaxSeconds));
  return Clock::now() + std::chrono::duration_cast<Clock::duration>(timeout) - kTimeoutReserve;
}

// A connection's silence is counted from its last byte; time spent in a pass is not silence.
void SetTimeout(MHD_Connection* connection, std::chrono::seconds timeout) {
  MHD_set_connection_option(connection, MHD_CONNECTION_OPTION_TIMEOUT, static_cast<unsigned>(timeout.count()));
}

bool IsUnixSocket(MHD_Connection* connection) {
  const MHD_ConnectionInfo* info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
  sockaddr_storage address{};
  socklen_t length = sizeof(address);
  return info != nullptr && getsockname(info->connect_fd, reinterpret_cast<sockaddr*>(&address), &length) == 0 &&
         address.ss_family == AF_UNIX;
}

}  // namespace

struct Server::Request {
  explicit Request(Server& owner) : server(owner) {}
  ~Request() {
    if (is_telemetry) --server.telemetry_requests_;
  }
  Request(const Request&) = delete;
  Request& operator=(const Request&) = delete;

  Server& server;
  bool is_telemetry = false;  // counted in telemetry_requests_
  size_t body_bytes = 0;
};

struct Server::Callbacks {
  static MHD_Result Access(void* cls, MHD_Connection* connection, const char* url, const char* method,
                           const char* /*version*/, const char* /*upload_data*/, size_t* upload_data_size,
                           void** con_cls) {
    auto& server = *static_cast<Server*>(cls);
    try {
      auto* request = static_cast<Request*>(*con_cls);
      if (request == nullptr) {
        *con_cls = request = std::make_unique<Request>(server).release();
        // A body must be read before the next request, but only that of a method that is going to be answered.
        const std::string_view verb = method;
        if (verb == MHD_HTTP_METHOD_GET || verb == MHD_HTTP_METHOD_HEAD) return MHD_YES;
      } else if (*upload_data_size > 0) {
        request->body_bytes += std::exchange(*upload_data_size, 0);
        return request->body_bytes <= kMaxBodyBytes ? MHD_YES : MHD_NO;
      }
      return server.Handle(connection, url, method, *request) ? MHD_YES : MHD_NO;
    } catch (const std::exception& error) {
      server.log_.Error("request failed", {{"error", error.what()}});
      return MHD_NO;  // closes the connection
    }
  }

  static void Completed(void* /*cls*/, MHD_Connection* /*connection*/, void** con_cls,
                        MHD_RequestTerminationCode /*code*/) {
    const std::unique_ptr<Request> end(static_cast<Request*>(std::exchange(*con_cls, nullptr)));
  }

  // Leaves the URI as it was sent: "%6d" is not "m", and "%00" ends nothing.
  static size_t Unescape(void* /*cls*/, MHD_Connection* /*connection*/, char* text) { return std::strlen(text); }

  static void Log(void* cls, const char* format, va_list arguments) {
    std::array<char, 512> line{};
    const int length = std::vsnprintf(line.data(), line.size(), format, arguments);
    std::string_view text(line.data(), std::clamp<size_t>(length < 0 ? 0 : static_cast<size_t>(length), 0, 511));
    while (!text.empty() && text.back() == '\n') text.remove_suffix(1);
    static_cast<Server*>(cls)->log_.Debug("http", {{"detail", std::string(text)}});
  }
};

Server::Server(ServerOptions options, ServerCallbacks callbacks, Log& log)
    : options_(std::move(options)), callbacks_(std::move(callbacks)), landing_page_(LandingPage(options_)), log_(log) {}

Server::~Server() { Stop(); }

void Server::Listen(ListenSocket socket) {
  MHD_Daemon* daemon = MHD_start_daemon(
      MHD_USE_THREAD_PER_CONNECTION | MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_POLL | MHD_USE_ERROR_LOG, 0, nullptr,
      nullptr, &Callbacks::Access, this, MHD_OPTION_EXTERNAL_LOGGER, &Callbacks::Log, this, MHD_OPTION_LISTEN_SOCKET,
      socket.Descriptor(), MHD_OPTION_UNESCAPE_CALLBACK, &Callbacks::Unescape, this, MHD_OPTION_NOTIFY_COMPLETED,
      &Callbacks::Completed, this, MHD_OPTION_CONNECTION_LIMIT, options_.max_connections,
      MHD_OPTION_PER_IP_CONNECTION_LIMIT, options_.max_connections_per_address, MHD_OPTION_CONNECTION_TIMEOUT,
      static_cast<unsigned>(options_.connection_timeout.count()), MHD_OPTION_END);
  if (daemon == nullptr) throw std::runtime_error("cannot serve on " + socket.Address());
  socket.Release();  // MHD_stop_daemon closes it
  log_.Info("listening", {{"address", socket.Address()}});
  listeners_.push_back({std::move(socket), daemon});
}

void Server::Stop() {
  for (const Listener& listener : listeners_) MHD_stop_daemon(listener.daemon);
  listeners_.clear();
}

bool Server::Handle(MHD_Connection* connection, const std::string& path, const std::string& method, Request& request) {
  const bool is_telemetry = path == options_.telemetry_path;
  const bool is_landing = path == "/";
  const bool is_health = path == "/-/healthy";
  const bool is_readiness = path == "/-/ready";
  const bool is_read = method == MHD_HTTP_METHOD_GET || method == MHD_HTTP_METHOD_HEAD;

  if (path == "/-/reload") return HandleReload(connection, method);
  const bool is_api = callbacks_.api && (path == kApiFamilies || path == kApiExplain);
  const bool is_config = path == "/config" && callbacks_.config;
  const bool is_known = is_config || is_telemetry || is_landing || is_health || is_readiness || is_api;
  if (!is_read) {  // its body is not read, so the connection can't go on
    return is_known ? Reply(connection, MHD_HTTP_METHOD_NOT_ALLOWED, "method not allowed\n", kTextPlain,
                            {{MHD_HTTP_HEADER_ALLOW, "GET, HEAD"}, {MHD_HTTP_HEADER_CONNECTION, "close"}})
                    : Reply(connection, MHD_HTTP_NOT_FOUND, "not found\n", kTextPlain,
                            {{MHD_HTTP_HEADER_CONNECTION, "close"}});
  }
  if (!is_known) return Reply(connection, MHD_HTTP_NOT_FOUND, "not found\n", kTextPlain);
  if (is_landing) {
    return Reply(connection, MHD_HTTP_OK, landing_page_, kHtml,
                 {{"Content-Security-Policy",
                   "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"}});
  }
  if (is_api) return HandleApi(connection, path);
  if (is_config) return Reply(connection, MHD_HTTP_OK, callbacks_.config(), kTextPlain);
  if (is_health) return Reply(connection, MHD_HTTP_OK, "healthy\n", kTextPlain);
  if (is_readiness) {
    return callbacks_.ready() ? Reply(connection, MHD_HTTP_OK, "ready\n", kTextPlain)
                              : Reply(connection, MHD_HTTP_SERVICE_UNAVAILABLE, "no pass yet\n", kTextPlain);
  }
  return HandleTelemetry(connection, request);
}

bool Server::HandleApi(MHD_Connection* connection, const std::string& path) {
  if (!options_.enable_api && !IsUnixSocket(connection)) {
    return Reply(connection, MHD_HTTP_FORBIDDEN, "only on unix sockets, or with --web.enable-api\n", kTextPlain);
  }
  const auto argument = [connection](const char* name) -> std::optional<std::string> {
    const char* value = MHD_lookup_connection_value(connection, MHD_GET_ARGUMENT_KIND, name);
    return value == nullptr ? std::nullopt : std::optional<std::string>(value);
  };
  SetTimeout(connection, std::chrono::seconds{0});
  const ApiReply reply = callbacks_.api({path, argument("pid"), argument("pages"), argument("mapping")});
  SetTimeout(connection, options_.connection_timeout);
  return Reply(connection, reply.status, reply.body, kJson, {{MHD_HTTP_HEADER_CACHE_CONTROL, "no-store"}});
}

// Of a body nothing is read, so the connection can't go on.
bool Server::HandleReload(MHD_Connection* connection, const std::string& method) {
  const auto reply = [connection](unsigned status, const std::string& text) {
    return Reply(connection, status, text, kTextPlain, {{MHD_HTTP_HEADER_CONNECTION, "close"}});
  };
  if (method != MHD_HTTP_METHOD_POST && method != MHD_HTTP_METHOD_PUT) {
    return Reply(connection, MHD_HTTP_METHOD_NOT_ALLOWED, "method not allowed\n", kTextPlain,
                 {{MHD_HTTP_HEADER_ALLOW, "POST, PUT"}, {MHD_HTTP_HEADER_CONNECTION, "close"}});
  }
  if (!callbacks_.reload) return reply(MHD_HTTP_FORBIDDEN, "reloading needs --web.enable-lifecycle\n");
  SetTimeout(connection, std::chrono::seconds{0});
  const std::optional<std::string> problem = callbacks_.reload();
  SetTimeout(connection, options_.connection_timeout);
  return problem ? reply(MHD_HTTP_INTERNAL_SERVER_ERROR, *problem) : reply(MHD_HTTP_OK, "reloaded\n");
}

bool Server::HandleTelemetry(MHD_Connection* connection, Request& request) {
  if (++telemetry_requests_ > options_.max_requests) {
    --telemetry_requests_;
    return Reply(connection, MHD_HTTP_SERVICE_UNAVAILABLE, "too many requests at a time\n", kTextPlain);
  }
  request.is_telemetry = true;
  const auto deadline = ScrapeDeadline(connection);
  SetTimeout(connection, std::chrono::seconds{0});
  std::shared_ptr<const Snapshot> snapshot = callbacks_.scrape(deadline);
  SetTimeout(connection, options_.connection_timeout);
  return ReplySnapshot(connection, std::move(snapshot));
}

}  // namespace cow::exporter
