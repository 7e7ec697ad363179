#include "exporter/http/server.h"

#include <gnutls/abstract.h>  // before microhttpd.h, to enable its certificate callbacks
#include <microhttpd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <exception>
#include <stdexcept>
#include <utility>

#include "exporter/explain/json.h"
#include "exporter/http/metrics_page.h"
#include "exporter/http/query.h"
#include "exporter/http/request_check.h"
#include "exporter/http/runbooks.h"

namespace cow::exporter {
namespace {

constexpr size_t kMaxBodyBytes = 65536;  // the server reads bodies only to discard them
constexpr std::string_view kGet = MHD_HTTP_METHOD_GET;
constexpr std::string_view kHead = MHD_HTTP_METHOD_HEAD;

HttpResponse NoApi() {
  return TextResponse(MHD_HTTP_FORBIDDEN, "served only on unix sockets, or with --web.enable-api\n");
}

bool IsRead(std::string_view method) { return method == kGet || method == kHead; }

HttpRequest ReadRequest(MHD_Connection* connection, const std::string& uri, const char* method,
                        const ClientKey& client) {
  HttpRequest request;
  const size_t question = std::min(uri.find('?'), uri.size());
  request.method = method;
  request.path = uri.substr(0, question);
  request.query = uri.substr(std::min(question + 1, uri.size()));
  request.client = client;
  for (const auto& [name, value] : ListHeaders(connection)) {
    std::string key(name);
    for (char& c : key) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    std::string& all = request.headers[key];
    if (!all.empty()) all += ", ";
    all += value;
  }
  return request;
}

// The queued response keeps the body alive.
bool Send(MHD_Connection* connection, const HttpResponse& answer, const HttpHeaders& common) {
  auto owner = std::make_unique<SharedText>(answer.body);
  MHD_Response* response = MHD_create_response_from_buffer_with_free_callback_cls(
      answer.body->size(), const_cast<char*>(answer.body->data()),  // NOLINT: libmicrohttpd only reads it
      [](void* cls) { const std::unique_ptr<SharedText> end(static_cast<SharedText*>(cls)); }, owner.get());
  if (response == nullptr) return false;
  owner.release();  // NOLINT(bugprone-unused-return-value): the response owns it
  const auto add = [response](const char* name, const std::string& value) {
    return MHD_add_response_header(response, name, value.c_str()) == MHD_YES;
  };
  bool good = add(MHD_HTTP_HEADER_CONTENT_TYPE, answer.content_type);
  for (const auto& [name, value] : common) good = good && add(name.c_str(), value);
  for (const auto& header : answer.headers) {
    const bool is_common =
        std::any_of(common.begin(), common.end(), [&](const auto& other) { return other.first == header.first; });
    good = good && (is_common || add(header.first.c_str(), header.second));
  }
  good = good && MHD_queue_response(connection, answer.status, response) == MHD_YES;
  MHD_destroy_response(response);
  return good;
}

// Health probes are answered however busy the server is.
bool IsHealthProbe(const HttpRequest& request) {
  return request.path == kHealthPath && !request.Header("authorization");
}

HttpResponse TooBusy() {
  return TextResponse(MHD_HTTP_SERVICE_UNAVAILABLE, "too many concurrent requests\n", {{"Retry-After", "1"}});
}

// libmicrohttpd counts the timeout from the last byte. Disable it while the server makes a response.
void SetTimeout(MHD_Connection* connection, std::chrono::seconds timeout) {
  MHD_set_connection_option(connection, MHD_CONNECTION_OPTION_TIMEOUT, static_cast<unsigned>(timeout.count()));
}

}  // namespace

struct Server::Connection {
  std::unique_ptr<ConnectionTable::Entry> entry;
  std::shared_ptr<const Tls> tls;  // must outlive the session
};

struct Server::Request {
  explicit Request(const char* raw_uri) : uri(raw_uri) {}

  std::string uri;  // as received
  bool begun = false;
  bool reads_body = false;
  size_t body_bytes = 0;
};

// C code calls these functions, so no exception may leave them.
struct Server::Callbacks {
  // Returns null if memory is exhausted; Access then closes the connection.
  static void* Begin(void* cls, const char* uri, MHD_Connection* /*connection*/) {
    try {
      return std::make_unique<Request>(uri).release();
    } catch (const std::exception& error) {
      static_cast<Server*>(cls)->LogFailure(error);
      return nullptr;
    }
  }

  static MHD_Result Access(void* cls, MHD_Connection* connection, const char* url, const char* method,
                           const char* version, const char* /*upload_data*/, size_t* upload_data_size, void** con_cls) {
    Server& server = *static_cast<Server*>(cls);
    if (*con_cls == nullptr || ConnectionOf(connection) == nullptr) return MHD_NO;
    try {
      auto& request = *static_cast<Request*>(*con_cls);
      if (!std::exchange(request.begun, true)) {
        if (const auto problem = Check(connection, method, url, version, request)) {
          return Refuse(server, connection, *problem) ? MHD_YES : MHD_NO;
        }
        // Read a body only if the method is allowed; otherwise answer at once and close the connection.
        const Route* route = server.FindRoute(std::string_view(request.uri).substr(0, request.uri.find('?')));
        request.reads_body = IsRead(method) || (route != nullptr && Allows(*route, method));
        if (request.reads_body) return MHD_YES;
      } else if (*upload_data_size > 0) {
        request.body_bytes += std::exchange(*upload_data_size, 0);
        return request.body_bytes <= kMaxBodyBytes ? MHD_YES : MHD_NO;
      }
      return Answer(server, connection, method, request) ? MHD_YES : MHD_NO;
    } catch (const std::exception& error) {
      server.LogFailure(error);
      return MHD_NO;  // closes the connection
    }
  }

  static bool Answer(Server& server, MHD_Connection* connection, const char* method, const Request& request) {
    ConnectionTable::Entry& entry = *ConnectionOf(connection)->entry;
    const bool has_room = entry.Work();
    SetTimeout(connection, std::chrono::seconds{0});
    const HttpRequest read = ReadRequest(connection, request.uri, method, entry.Client());
    HttpResponse response = has_room || IsHealthProbe(read) ? server.Respond(read) : TooBusy();
    SetTimeout(connection, server.options_.silence_timeout);
    entry.SendResponse();
    if (!request.reads_body) response.headers.emplace_back(MHD_HTTP_HEADER_CONNECTION, "close");
    return Send(connection, response, server.CommonHeaders());
  }

  static std::optional<std::string> Check(MHD_Connection* connection, const char* method, const char* url,
                                          const char* version, const Request& request) {
    const HeaderList headers = ListHeaders(connection);
    if (HidesBytes(connection, method, url, request.uri.size(), version, headers)) return "NUL in the request";
    return CheckHeaders(version, headers);
  }

  // Answers 400 and closes the connection after it.
  static bool Refuse(const Server& server, MHD_Connection* connection, const std::string& problem) {
    ConnectionOf(connection)->entry->SendResponse();
    return Send(connection, TextResponse(MHD_HTTP_BAD_REQUEST, problem + "\n", {{MHD_HTTP_HEADER_CONNECTION, "close"}}),
                server.CommonHeaders());
  }

  static bool Allows(const Route& route, std::string_view method) {
    return std::find(route.methods.begin(), route.methods.end(), method) != route.methods.end();
  }

  static Connection* ConnectionOf(MHD_Connection* connection) {
    const auto* info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    return static_cast<Connection*>(info->socket_context);
  }

  static void Completed(void* /*cls*/, MHD_Connection* connection, void** con_cls,
                        MHD_RequestTerminationCode /*code*/) {
    const std::unique_ptr<Request> end(static_cast<Request*>(std::exchange(*con_cls, nullptr)));
    if (Connection* open = ConnectionOf(connection)) open->entry->AwaitRequest();
  }

  static void Notify(void* cls, MHD_Connection* connection, void** context, MHD_ConnectionNotificationCode code) {
    Server& server = *static_cast<Server*>(cls);
    if (code == MHD_CONNECTION_NOTIFY_CLOSED) {  // libmicrohttpd closes the descriptor after this call
      const std::unique_ptr<Connection> end(static_cast<Connection*>(std::exchange(*context, nullptr)));
      return;
    }
    const int fd = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
    std::unique_ptr<Connection> open = server.TakeAccepted(fd);
    try {
      if (open != nullptr && server.access_ != nullptr && server.access_->IsTls()) {
        const auto* info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_GNUTLS_SESSION);
        open->tls = server.access_->Rules()->tls;
        open->tls->Apply(static_cast<gnutls_session_t>(info->tls_session));
      }
    } catch (const std::exception& error) {
      shutdown(fd, SHUT_RDWR);
      server.LogFailure(error);
    }
    if (open != nullptr) open->entry->Start();
    *context = open.release();
  }

  // libmicrohttpd requires a certificate or this callback at its start. Notify gives each session its own credentials.
  static int NoCertificate(gnutls_session_t /*session*/, const gnutls_cert_retr_st* /*info*/,
                           gnutls_pcert_st** /*chain*/, unsigned* /*chain_length*/, gnutls_ocsp_data_st** /*ocsp*/,
                           unsigned* /*ocsp_length*/, gnutls_privkey_t* /*key*/, unsigned* /*flags*/) {
    return -1;
  }

  // Keeps the URI undecoded, because paths match as received.
  static size_t Unescape(void* /*cls*/, MHD_Connection* /*connection*/, char* text) { return std::strlen(text); }

  static void Log(void* cls, const char* format, va_list arguments) {
    std::array<char, 512> line{};
    const int length = std::vsnprintf(line.data(), line.size(), format, arguments);
    std::string_view text(line.data(), std::clamp<size_t>(length < 0 ? 0 : static_cast<size_t>(length), 0, 511));
    while (!text.empty() && text.back() == '\n') text.remove_suffix(1);
    try {
      static_cast<Server*>(cls)->log_.Debug("http", {{"detail", std::string(text)}});
    } catch (const std::exception&) {  // no memory: drop the line
    }
  }
};

Server::Server(ServerOptions options, ServerCallbacks callbacks, Log& log, WebAccess* access)
    : options_(std::move(options)),
      callbacks_(std::move(callbacks)),
      log_(log),
      access_(access),
      landing_page_(options_.version, {{options_.telemetry_path, "Metrics"},
                                       {kConfigPath, "Configuration"},
                                       {std::string(kRunbooksPath), "Runbooks and documentation"},
                                       {kHealthPath, "Health"},
                                       {"/-/ready", "Readiness"}}),
      origin_check_(options_.host_names, options_.external_url),
      routes_(MakeRoutes()),
      connections_(options_.limits) {}

Server::~Server() { Stop(); }

void Server::Listen(ListenSocket socket) {
  StartDaemon();
  const std::string address = socket.Address();
  acceptors_.push_back(std::make_unique<Acceptor>(
      std::move(socket),
      [this](int fd, const sockaddr_storage& peer, socklen_t peer_bytes) { Accept(fd, peer, peer_bytes); }));
  log_.Info("listening", {{"address", address}});
}

void Server::StartDaemon() {
  if (daemon_ != nullptr) return;
  unsigned flags = MHD_USE_THREAD_PER_CONNECTION | MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_POLL | MHD_USE_ITC |
                   MHD_USE_NO_LISTEN_SOCKET | MHD_USE_ERROR_LOG;
  std::array<MHD_OptionItem, 2> tls_options{};
  if (access_ != nullptr && access_->IsTls()) {
    flags |= MHD_USE_TLS;
    tls_options[0].option = MHD_OPTION_HTTPS_CERT_CALLBACK2;
    tls_options[0].ptr_value = reinterpret_cast<void*>(&Callbacks::NoCertificate);
  }
  tls_options[access_ != nullptr && access_->IsTls() ? 1 : 0].option = MHD_OPTION_END;
  // The table limits connections. libmicrohttpd counts a connection a little longer.
  const auto limit = static_cast<unsigned>(2 * options_.limits.connections + 16);
  daemon_ = MHD_start_daemon(
      flags, 0, nullptr, nullptr, &Callbacks::Access, this, MHD_OPTION_EXTERNAL_LOGGER, &Callbacks::Log, this,
      MHD_OPTION_UNESCAPE_CALLBACK, &Callbacks::Unescape, this, MHD_OPTION_URI_LOG_CALLBACK, &Callbacks::Begin, this,
      MHD_OPTION_NOTIFY_COMPLETED, &Callbacks::Completed, this, MHD_OPTION_NOTIFY_CONNECTION, &Callbacks::Notify, this,
      MHD_OPTION_CONNECTION_LIMIT, limit, MHD_OPTION_CONNECTION_TIMEOUT,
      static_cast<unsigned>(options_.silence_timeout.count()), MHD_OPTION_ARRAY, tls_options.data(), MHD_OPTION_END);
  if (daemon_ == nullptr) throw std::runtime_error("cannot start the HTTP server");
}

void Server::Accept(int fd, const sockaddr_storage& peer, socklen_t peer_bytes) {
  try {
    auto entry = connections_.Admit(ClientOf(peer, fd), fd);
    if (entry == nullptr) {
      close(fd);
      return;
    }
    const std::lock_guard lock(accepted_mutex_);
    // An entry that is still here belongs to a connection that libmicrohttpd closed without a word.
    accepted_.insert_or_assign(fd, std::make_unique<Connection>(Connection{std::move(entry), nullptr}));
  } catch (const std::exception& error) {
    close(fd);
    LogFailure(error);
    return;
  }
  // Owns the descriptor, also if it fails.
  if (MHD_add_connection(daemon_, fd, reinterpret_cast<const sockaddr*>(&peer), peer_bytes) != MHD_YES) {
    TakeAccepted(fd);
  }
}

std::unique_ptr<Server::Connection> Server::TakeAccepted(int fd) {
  const std::lock_guard lock(accepted_mutex_);
  auto node = accepted_.extract(fd);
  return node.empty() ? nullptr : std::move(node.mapped());
}

void Server::Stop() {
  if (access_ != nullptr) access_->Stop();
  acceptors_.clear();
  if (daemon_ != nullptr) MHD_stop_daemon(std::exchange(daemon_, nullptr));
  accepted_.clear();
}

std::vector<Server::Route> Server::MakeRoutes() {
  const std::vector<std::string_view> read = {kGet, kHead};
  std::vector<Route> routes = {
      {options_.telemetry_path, read, [this](const HttpRequest& request) { return HandleTelemetry(request); }},
      {"/", read, [this](const HttpRequest&) { return landing_page_.Show(callbacks_.latest()->Index().groups); }},
      {kHealthPath, read, [](const HttpRequest&) { return TextResponse(MHD_HTTP_OK, "healthy\n"); }},
      {"/-/ready", read,
       [this](const HttpRequest&) {
         return callbacks_.latest()->Index().ready
                    ? TextResponse(MHD_HTTP_OK, "ready\n")
                    : TextResponse(MHD_HTTP_SERVICE_UNAVAILABLE, "no pass has completed yet\n");
       }},
      {kReloadPath, {MHD_HTTP_METHOD_POST, MHD_HTTP_METHOD_PUT}, [this](const HttpRequest&) { return HandleReload(); }},
  };
  if (callbacks_.config) {
    routes.push_back(
        {kConfigPath, read, [this](const HttpRequest&) { return TextResponse(MHD_HTTP_OK, callbacks_.config()); }});
  }
  for (RunbookPage& page : RunbookPages()) {
    routes.push_back({std::move(page.path), read,
                      [response = std::move(page.response)](const HttpRequest& /*request*/) { return response; }});
  }
  if (callbacks_.explain) {
    routes.push_back({kApiExplain, read, [this](const HttpRequest& request) { return HandleExplain(request); }});
  }
  if (callbacks_.families) {
    routes.push_back({kApiFamilies, read, [this](const HttpRequest& request) {
                        return MayUseApi(request) ? callbacks_.families() : NoApi();
                      }});
  }
  return routes;
}

void Server::LogFailure(const std::exception& error) {
  try {
    if (const auto admitted = failures_.Admit(error.what())) log_.Error("request failed", {{"error", *admitted}});
  } catch (const std::exception&) {  // no memory: drop the line
  }
}

const Server::Route* Server::FindRoute(std::string_view path) const {
  const auto found =
      std::find_if(routes_.begin(), routes_.end(), [path](const Route& route) { return route.path == path; });
  return found == routes_.end() ? nullptr : &*found;
}

HttpResponse Server::Respond(const HttpRequest& request) const {
  if (access_ != nullptr) {
    if (const auto refusal = access_->Check(request)) return *refusal;
  }
  return Handle(request);
}

HttpHeaders Server::CommonHeaders() const {
  std::map<std::string, std::string> headers = {{"X-Content-Type-Options", "nosniff"}};
  if (access_ != nullptr) {
    for (const auto& [name, value] : access_->Rules()->config.headers) headers[name] = value;
  }
  return {headers.begin(), headers.end()};
}

HttpResponse Server::Handle(const HttpRequest& request) const {
  const Route* route = FindRoute(request.path);
  if (route == nullptr) return TextResponse(MHD_HTTP_NOT_FOUND, "not found\n");
  if (Callbacks::Allows(*route, request.method)) {
    if (auto refusal = origin_check_.Check(request)) return *std::move(refusal);
    return route->handle(request);
  }
  std::string allowed;
  for (const std::string_view method : route->methods) allowed.append(allowed.empty() ? "" : ", ").append(method);
  return TextResponse(MHD_HTTP_METHOD_NOT_ALLOWED, "method not allowed\n", {{MHD_HTTP_HEADER_ALLOW, allowed}});
}

HttpResponse Server::HandleTelemetry(const HttpRequest& request) {
  struct Count {
    explicit Count(std::atomic<size_t>& counter) : requests(counter), number(++counter) {}
    ~Count() { --requests; }
    Count(const Count&) = delete;
    Count& operator=(const Count&) = delete;

    std::atomic<size_t>& requests;
    const size_t number;
  };
  const auto filter = ParseFilter(request.query, options_.collectors, callbacks_.latest()->Index().collectors);
  if (!filter) return TextResponse(MHD_HTTP_BAD_REQUEST, filter.error() + "\n");
  const Count count(telemetry_requests_);
  if (count.number > options_.max_requests) {
    return TextResponse(MHD_HTTP_SERVICE_UNAVAILABLE, "too many concurrent requests\n");
  }
  return MetricsResponse(request, *filter, callbacks_.scrape(ScrapeDeadline(request)), filtered_bodies_);
}

HttpResponse Server::HandleReload() const {
  if (!callbacks_.reload) return TextResponse(MHD_HTTP_FORBIDDEN, "reloading needs --web.enable-lifecycle\n");
  const std::optional<std::string> problem = callbacks_.reload();
  return problem ? TextResponse(MHD_HTTP_INTERNAL_SERVER_ERROR, *problem) : TextResponse(MHD_HTTP_OK, "reloaded\n");
}

bool Server::MayUseApi(const HttpRequest& request) const { return options_.enable_api || request.IsFromUnixSocket(); }

HttpResponse Server::HandleExplain(const HttpRequest& request) const {
  if (!MayUseApi(request)) return NoApi();
  const auto query = ParseExplainQuery(request.query);
  if (!query) return ApiResponse(MHD_HTTP_BAD_REQUEST, ErrorJson(query.error()));
  return callbacks_.explain(*query);
}

}  // namespace cow::exporter
