#include "exporter/http/health_check.h"

#include <gnutls/gnutls.h>
#include <netdb.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include <array>
#include <cerrno>
#include <functional>
#include <memory>
#include <string_view>
#include <system_error>
#include <tl/expected.hpp>
#include <utility>

#include "collectors/procfs/file_descriptor.h"
#include "config/units.h"

namespace cow::exporter {
namespace {

using procfs::FileDescriptor;
template <class T>
using Result = tl::expected<T, std::string>;

constexpr time_t kTimeoutSeconds = 5;  // of each step
constexpr int kOk = 200;
constexpr int kUnauthorized = 401;
constexpr int kTooManyRequests = 429;
constexpr size_t kMaxStatusLine = 4096;
constexpr std::string_view kRequest = "GET /-/healthy HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

// As send and recv, with errors told in their own way.
struct Channel {
  std::function<Result<size_t>(std::string_view bytes)> send;
  std::function<Result<size_t>(char* buffer, size_t size)> receive;  // 0: the end
};

std::string Message(int error_number) {
  return error_number == EAGAIN ? "no answer in time" : std::generic_category().message(error_number);
}

Result<FileDescriptor> ConnectTo(const sockaddr* address, socklen_t size) {
  FileDescriptor socket(::socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const timeval timeout{kTimeoutSeconds, 0};
  for (const int option : {SO_RCVTIMEO, SO_SNDTIMEO}) {
    setsockopt(socket.get(), SOL_SOCKET, option, &timeout, sizeof(timeout));
  }
  if (!socket.valid() || connect(socket.get(), address, size) != 0) {
    return tl::unexpected(errno == EINPROGRESS ? Message(EAGAIN) : Message(errno));
  }
  return socket;
}

Result<FileDescriptor> Connect(const ListenAddress& address) {
  if (!address.path.empty()) {
    sockaddr_un target{};
    target.sun_family = AF_UNIX;
    address.path.copy(static_cast<char*>(target.sun_path), sizeof(target.sun_path) - 1);
    return ConnectTo(reinterpret_cast<const sockaddr*>(&target), sizeof(target));
  }
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICSERV;
  addrinfo* found = nullptr;
  // Without a host these are the loopback addresses.
  const int status = getaddrinfo(address.host.empty() ? nullptr : address.host.c_str(),
                                 std::to_string(address.port).c_str(), &hints, &found);
  if (status != 0) return tl::unexpected(std::string(gai_strerror(status)));
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> owner(found, &freeaddrinfo);
  Result<FileDescriptor> connection = tl::unexpected(std::string("no address"));
  for (const addrinfo* each = found; each != nullptr && !connection; each = each->ai_next) {
    connection = ConnectTo(each->ai_addr, each->ai_addrlen);
  }
  return connection;
}

// The status of the answer to the request.
Result<int> Ask(const Channel& channel) {
  for (std::string_view rest = kRequest; !rest.empty();) {
    const auto sent = channel.send(rest);
    if (!sent) return tl::unexpected(sent.error());
    rest.remove_prefix(*sent);
  }
  std::string answer;
  while (answer.find('\n') == std::string::npos && answer.size() < kMaxStatusLine) {
    std::array<char, 1024> part{};
    const auto received = channel.receive(part.data(), part.size());
    if (!received) return tl::unexpected(received.error());
    if (*received == 0) break;
    answer.append(part.data(), *received);
  }
  constexpr std::string_view kVersion = "HTTP/1.1 ";
  constexpr size_t kStatusDigits = 3;
  if (answer.compare(0, kVersion.size(), kVersion) == 0 && answer.size() > kVersion.size() + kStatusDigits) {
    const auto code = config::ParseInteger(answer.substr(kVersion.size(), kStatusDigits));
    if (code) return static_cast<int>(*code);
  }
  return tl::unexpected(std::string(answer.empty() ? "the connection was closed" : "the answer is not HTTP/1.1"));
}

Channel PlainChannel(int socket) {
  const auto result = [](ssize_t count) -> Result<size_t> {
    if (count < 0) return tl::unexpected(Message(errno));
    return static_cast<size_t>(count);
  };
  return {[=](std::string_view bytes) { return result(send(socket, bytes.data(), bytes.size(), MSG_NOSIGNAL)); },
          [=](char* buffer, size_t size) { return result(recv(socket, buffer, size, 0)); }};
}

// A client's session that takes any certificate and has none.
class TlsSession {
 public:
  explicit TlsSession(int socket) {
    gnutls_certificate_allocate_credentials(&credentials_);
    gnutls_certificate_set_retrieve_function(credentials_, &HaveNone);
    gnutls_init(&session_, GNUTLS_CLIENT | GNUTLS_NO_SIGNAL);
    gnutls_session_set_ptr(session_, this);
    gnutls_set_default_priority(session_);
    gnutls_credentials_set(session_, GNUTLS_CRD_CERTIFICATE, credentials_);
    gnutls_transport_set_int(session_, socket);
    gnutls_handshake_set_timeout(session_, kTimeoutSeconds * 1000);
  }
  ~TlsSession() {
    gnutls_deinit(session_);
    gnutls_certificate_free_credentials(credentials_);
  }
  TlsSession(const TlsSession&) = delete;
  TlsSession& operator=(const TlsSession&) = delete;

  Result<int> AskIt() {
    int status = gnutls_handshake(session_);
    while (status < 0 && gnutls_error_is_fatal(status) == 0) status = gnutls_handshake(session_);
    if (status < 0) return tl::unexpected(std::string("TLS: ").append(gnutls_strerror(status)));
    const auto result = [](ssize_t count) -> Result<size_t> {
      if (count == GNUTLS_E_AGAIN) return tl::unexpected(Message(EAGAIN));
      if (count < 0) return tl::unexpected(std::string("TLS: ").append(gnutls_strerror(static_cast<int>(count))));
      return static_cast<size_t>(count);
    };
    return Ask(
        {[&](std::string_view bytes) { return result(gnutls_record_send(session_, bytes.data(), bytes.size())); },
         [&](char* buffer, size_t size) { return result(gnutls_record_recv(session_, buffer, size)); }});
  }
  [[nodiscard]] bool WasAskedForCertificate() const { return asked_; }

 private:
  static int HaveNone(gnutls_session_t session, const gnutls_datum_t* /*issuers*/, int /*count*/,
                      const gnutls_pk_algorithm_t* /*algorithms*/, int /*count*/, gnutls_retr2_st* certificate) {
    static_cast<TlsSession*>(gnutls_session_get_ptr(session))->asked_ = true;
    certificate->ncerts = 0;
    return 0;
  }

  gnutls_certificate_credentials_t credentials_ = nullptr;
  gnutls_session_t session_ = nullptr;
  bool asked_ = false;
};

bool DemandsCertificate(const config::TlsConfig& tls) {
  return tls.client_auth == config::ClientAuth::kRequireAny || tls.client_auth == config::ClientAuth::kRequireVerified;
}

}  // namespace

std::optional<std::string> CheckHealth(const ListenAddress& address, const config::WebConfig& web) {
  const auto connection = Connect(address);
  if (!connection) return connection.error();
  Result<int> status = 0;
  if (web.tls) {
    TlsSession session(connection->get());
    status = session.AskIt();
    if (!status && session.WasAskedForCertificate() && DemandsCertificate(*web.tls)) return std::nullopt;
  } else {
    status = Ask(PlainChannel(connection->get()));
  }
  if (!status) return status.error();
  if (*status == kOk || (*status == kUnauthorized && !web.users.empty()) ||
      (*status == kTooManyRequests && web.rate_limit)) {
    return std::nullopt;
  }
  return "status " + std::to_string(*status);
}

}  // namespace cow::exporter
