#include "exporter/http/health_check.h"

#include <gnutls/abstract.h>  // before microhttpd.h, to enable its certificate callbacks
#include <gnutls/gnutls.h>
#include <microhttpd.h>
#include <netdb.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include <array>
#include <cerrno>
#include <chrono>
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

constexpr std::chrono::seconds kMaxTime{5};
constexpr size_t kMaxStatusLine = 4096;
constexpr std::string_view kRequest = "GET /-/healthy HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

// send and recv with an error message.
struct Channel {
  std::function<Result<size_t>(std::string_view bytes)> send;
  std::function<Result<size_t>(char* buffer, size_t size)> receive;  // 0: end of stream
};

std::string ErrorText(int error_number) {
  return error_number == EAGAIN ? "no answer in time" : std::generic_category().message(error_number);
}

// A socket whose operations fail with EAGAIN after the deadline of the whole check.
class Socket {
 public:
  using Clock = std::chrono::steady_clock;

  Socket(FileDescriptor descriptor, Clock::time_point deadline)
      : descriptor_(std::move(descriptor)), deadline_(deadline) {}

  // Like connect, send and recv.
  [[nodiscard]] int Connect(const sockaddr* address, socklen_t size) const {
    if (!LimitTime(SO_SNDTIMEO)) return -1;
    const int status = connect(descriptor_.get(), address, size);
    if (status != 0 && errno == EINPROGRESS) errno = EAGAIN;
    return status;
  }
  [[nodiscard]] ssize_t Send(const void* bytes, size_t size) const {
    return LimitTime(SO_SNDTIMEO) ? send(descriptor_.get(), bytes, size, MSG_NOSIGNAL) : -1;
  }
  [[nodiscard]] ssize_t Receive(void* buffer, size_t size) const {
    return LimitTime(SO_RCVTIMEO) ? recv(descriptor_.get(), buffer, size, 0) : -1;
  }

  [[nodiscard]] bool OutOfTime() const { return Clock::now() >= deadline_; }

 private:
  [[nodiscard]] bool LimitTime(int option) const {
    const auto left = std::chrono::ceil<std::chrono::microseconds>(deadline_ - Clock::now());
    if (left.count() <= 0) {
      errno = EAGAIN;
      return false;
    }
    const auto seconds = std::chrono::floor<std::chrono::seconds>(left);
    const timeval timeout{seconds.count(), (left - seconds).count()};
    return setsockopt(descriptor_.get(), SOL_SOCKET, option, &timeout, sizeof(timeout)) == 0;
  }

  FileDescriptor descriptor_;
  Clock::time_point deadline_;
};

Result<Socket> ConnectTo(const sockaddr* address, socklen_t size, Socket::Clock::time_point deadline) {
  FileDescriptor descriptor(::socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!descriptor.valid()) return tl::unexpected(ErrorText(errno));
  Socket socket(std::move(descriptor), deadline);
  if (socket.Connect(address, size) != 0) return tl::unexpected(ErrorText(errno));
  return socket;
}

Result<Socket> Connect(const ListenAddress& address) {
  const auto deadline = Socket::Clock::now() + kMaxTime;
  if (!address.path.empty()) {
    const sockaddr_un target = UnixAddress(address.path);
    return ConnectTo(reinterpret_cast<const sockaddr*>(&target), sizeof(target), deadline);
  }
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICSERV;
  addrinfo* found = nullptr;
  // An empty host gives the loopback addresses.
  const int status = getaddrinfo(address.host.empty() ? nullptr : address.host.c_str(),
                                 std::to_string(address.port).c_str(), &hints, &found);
  if (status != 0) return tl::unexpected(std::string(gai_strerror(status)));
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> owner(found, &freeaddrinfo);
  Result<Socket> connection = tl::unexpected(std::string("no address"));
  for (const addrinfo* each = found; each != nullptr && !connection; each = each->ai_next) {
    connection = ConnectTo(each->ai_addr, each->ai_addrlen, deadline);
  }
  return connection;
}

// Sends the request and returns the status of the response.
Result<int> Request(const Channel& channel) {
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

Channel PlainChannel(const Socket& socket) {
  const auto result = [](ssize_t count) -> Result<size_t> {
    if (count < 0) return tl::unexpected(ErrorText(errno));
    return static_cast<size_t>(count);
  };
  return {[=, &socket](std::string_view bytes) { return result(socket.Send(bytes.data(), bytes.size())); },
          [=, &socket](char* buffer, size_t size) { return result(socket.Receive(buffer, size)); }};
}

// A client's session that accepts any certificate and offers none.
class TlsSession {
 public:
  explicit TlsSession(const Socket& socket) : socket_(socket) {
    status_ = gnutls_certificate_allocate_credentials(&credentials_);
    if (status_ >= 0) status_ = gnutls_init(&session_, GNUTLS_CLIENT | GNUTLS_NO_SIGNAL);
    if (status_ < 0) return;
    gnutls_certificate_set_retrieve_function(credentials_, &OfferNoCertificate);
    gnutls_session_set_ptr(session_, this);
    gnutls_credentials_set(session_, GNUTLS_CRD_CERTIFICATE, credentials_);
    gnutls_transport_set_ptr(session_, this);
    gnutls_transport_set_push_function(session_, &Push);
    gnutls_transport_set_pull_function(session_, &Pull);
    status_ = gnutls_set_default_priority(session_);
  }
  ~TlsSession() {
    if (session_ != nullptr) gnutls_deinit(session_);
    if (credentials_ != nullptr) gnutls_certificate_free_credentials(credentials_);
  }
  TlsSession(const TlsSession&) = delete;
  TlsSession& operator=(const TlsSession&) = delete;

  Result<int> RequestHealth() {
    if (status_ < 0) return tl::unexpected(Problem(status_));
    const auto shaken = Try([&] { return gnutls_handshake(session_); });
    if (!shaken) return tl::unexpected(shaken.error());
    return Request({[&](std::string_view bytes) {
                      return Try([&] { return gnutls_record_send(session_, bytes.data(), bytes.size()); });
                    },
                    [&](char* buffer, size_t size) {
                      auto received = Try([&] { return gnutls_record_recv(session_, buffer, size); });
                      if (received) (*received == 0 ? closed_ : answered_) = true;
                      return received;
                    }});
  }
  // True if the server asked for a certificate and then ended the session, by an alert or by closing the connection.
  [[nodiscard]] bool WasRefused() const { return asked_ && closed_ && !answered_; }

 private:
  static std::string Problem(ssize_t status) {
    return std::string("TLS: ").append(gnutls_strerror(static_cast<int>(status)));
  }
  // Repeats the operation while GnuTLS asks for it, until the deadline.
  template <class Operation>
  Result<size_t> Try(Operation operation) {
    ssize_t status = operation();
    while (status < 0 && gnutls_error_is_fatal(static_cast<int>(status)) == 0 && !socket_.OutOfTime()) {
      status = operation();
    }
    if (status >= 0) return static_cast<size_t>(status);
    if (gnutls_error_is_fatal(static_cast<int>(status)) == 0) return tl::unexpected(ErrorText(EAGAIN));
    closed_ = closed_ || status == GNUTLS_E_FATAL_ALERT_RECEIVED || status == GNUTLS_E_PREMATURE_TERMINATION;
    return tl::unexpected(Problem(status));
  }

  static ssize_t Push(gnutls_transport_ptr_t self, const void* bytes, size_t size) {
    return static_cast<TlsSession*>(self)->Note(static_cast<TlsSession*>(self)->socket_.Send(bytes, size));
  }
  static ssize_t Pull(gnutls_transport_ptr_t self, void* buffer, size_t size) {
    return static_cast<TlsSession*>(self)->Note(static_cast<TlsSession*>(self)->socket_.Receive(buffer, size));
  }
  ssize_t Note(ssize_t count) {
    if (count < 0 && (errno == ECONNRESET || errno == EPIPE)) closed_ = true;
    return count;
  }
  static int OfferNoCertificate(gnutls_session_t session, const gnutls_datum_t* /*issuers*/, int /*count*/,
                                const gnutls_pk_algorithm_t* /*algorithms*/, int /*count*/,
                                gnutls_retr2_st* certificate) {
    static_cast<TlsSession*>(gnutls_session_get_ptr(session))->asked_ = true;
    certificate->ncerts = 0;
    return 0;
  }

  const Socket& socket_;
  int status_ = 0;  // of the constructor
  gnutls_certificate_credentials_t credentials_ = nullptr;
  gnutls_session_t session_ = nullptr;
  bool asked_ = false;
  bool answered_ = false;
  bool closed_ = false;
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
    TlsSession session(*connection);
    status = session.RequestHealth();
    if (!status && session.WasRefused() && DemandsCertificate(*web.tls)) return std::nullopt;
  } else {
    status = Request(PlainChannel(*connection));
  }
  if (!status) return status.error();
  if (*status == MHD_HTTP_OK || (*status == MHD_HTTP_UNAUTHORIZED && !web.users.empty())) return std::nullopt;
  return "status " + std::to_string(*status);
}

}  // namespace cow::exporter
