// A server on a free address, and a client that sends raw text.
#pragma once

#include "exporter/http/server.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <spdlog/sinks/ostream_sink.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <filesystem>
#include <future>
#include <memory>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace cow::exporter {

using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

// A connection to an address in ListenSocket's format.
class Client {
 public:
  explicit Client(const std::string& address) {
    const ListenAddress parsed = ParseListenAddress(address).value();
    if (!parsed.path.empty()) {
      sockaddr_un name{};
      name.sun_family = AF_UNIX;
      parsed.path.copy(static_cast<char*>(name.sun_path), sizeof(name.sun_path) - 1);
      Connect(AF_UNIX, reinterpret_cast<const sockaddr*>(&name), sizeof(name));
    } else if (parsed.host.find(':') != std::string::npos) {
      sockaddr_in6 name{};
      name.sin6_family = AF_INET6;
      name.sin6_port = htons(parsed.port);
      inet_pton(AF_INET6, parsed.host.c_str(), &name.sin6_addr);
      Connect(AF_INET6, reinterpret_cast<const sockaddr*>(&name), sizeof(name));
    } else {
      sockaddr_in name{};
      name.sin_family = AF_INET;
      name.sin_port = htons(parsed.port);
      inet_pton(AF_INET, parsed.host.c_str(), &name.sin_addr);
      Connect(AF_INET, reinterpret_cast<const sockaddr*>(&name), sizeof(name));
    }
  }
  ~Client() { close(fd_); }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  void Send(const std::string& text) const {
    EXPECT_EQ(send(fd_, text.data(), text.size(), MSG_NOSIGNAL), static_cast<ssize_t>(text.size()));
  }

  // The server may close before it received everything.
  void TrySend(const std::string& text) const {
    if (send(fd_, text.data(), text.size(), MSG_NOSIGNAL) <= 0) return;
    shutdown(fd_, SHUT_WR);
    ReadAll();
  }

  // Returns false if the server closed the connection.
  bool SendsStill(const std::string& text) const {
    std::array<char, 1> buffer{};
    if (recv(fd_, buffer.data(), buffer.size(), MSG_DONTWAIT) == 0) return false;
    return send(fd_, text.data(), text.size(), MSG_NOSIGNAL) > 0;
  }

  // Returns the next bytes; empty if the server closed the connection.
  std::string ReadSome() const {
    std::array<char, 4096> buffer{};
    const ssize_t count = recv(fd_, buffer.data(), buffer.size(), 0);
    return count > 0 ? std::string(buffer.data(), static_cast<size_t>(count)) : "";
  }

  // Reads until the server closes the connection.
  std::string ReadAll() const {
    std::string all;
    std::array<char, 4096> buffer{};
    ssize_t count = 0;
    while ((count = recv(fd_, buffer.data(), buffer.size(), 0)) > 0) {
      all.append(buffer.data(), static_cast<size_t>(count));
    }
    return all;
  }

 private:
  void Connect(int family, const sockaddr* name, socklen_t size) {
    fd_ = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(fd_, name, size) != 0) throw std::runtime_error("connect");
  }

  int fd_ = -1;
};

struct Answer {
  int status = 0;
  std::string head;
  std::string body;
};

inline Answer Ask(const std::string& address, const std::string& request_line, const std::string& headers = "") {
  const Client client(address);
  client.Send(request_line + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + headers + "\r\n");
  const std::string all = client.ReadAll();
  const size_t split = all.find("\r\n\r\n");
  if (split == std::string::npos || all.size() < 12) return {};
  return {std::stoi(all.substr(9, 3)), all.substr(0, split + 2), all.substr(split + 4)};
}

inline bool HasHeader(const Answer& answer, const std::string& line) {
  return answer.head.find("\r\n" + line + "\r\n") != std::string::npos;
}

inline constexpr size_t kLargeBytes = size_t{32} << 20U;
inline constexpr const char* kText =
    "# TYPE a gauge\na 1\n# TYPE b_bytes_total counter\nb_bytes_total 0\n# TYPE c gauge\nc 1\n";

class ServerTest : public testing::Test {
 protected:
  using Deadline = std::optional<Clock::time_point>;

  std::string Start(const std::string& address, ServerOptions options = {}) {
    options.version = "1.2.3";
    if (options.host_names.empty()) options.host_names = {"x"};
    options.collectors = {"cow", "ksm", "thp"};
    ServerCallbacks callbacks;
    callbacks.scrape = [this](Deadline deadline) { return scrape_(deadline); };
    callbacks.latest = [this] { return MakeSnapshot(ready_); };
    callbacks.reload = reload_;
    callbacks.config = [] { return std::string("scan: {}\n"); };
    server_ = std::make_unique<Server>(options, callbacks, log_);
    return Listen(address);
  }

  std::string Listen(const std::string& address) {
    ListenSocket socket(ParseListenAddress(address).value());
    std::string bound = socket.Address();
    server_->Listen(std::move(socket));
    return bound;
  }

  static std::shared_ptr<const Snapshot> MakeSnapshot(bool ready = true) {
    prometheus::ClientMetric metric;
    metric.gauge.value = 1;
    PreparedFamilies prepared =
        PrepareFamilies({{"cow", {{"a", "", prometheus::MetricType::Gauge, {metric}}}},
                         {"thp", {{"b_bytes_total", "", prometheus::MetricType::Counter, {metric}}}},
                         {"", {{"c", "", prometheus::MetricType::Gauge, {metric}}}}});
    SnapshotIndex index;
    index.collectors = {"cow", "thp"};
    index.groups = {{"<b>&\"'", 3, 1536, 12.5}, {"quiet", 1, {}, {}}};
    index.ready = ready;
    return RenderSnapshot(prepared.families, std::move(index));
  }

  // More than the socket buffers hold.
  static std::shared_ptr<const Snapshot> MakeLargeSnapshot() {
    prometheus::ClientMetric metric;
    metric.label.push_back({"l", std::string(kLargeBytes, 'x')});
    PreparedFamilies prepared = PrepareFamilies({{"cow", {{"a", "", prometheus::MetricType::Gauge, {metric}}}}});
    return RenderSnapshot(prepared.families, {});
  }

  std::ostringstream log_text_;  // read it after the server stopped
  Log log_{LogLevel::kDebug, LogFormat::kLogfmt, std::make_shared<spdlog::sinks::ostream_sink_mt>(log_text_)};
  std::atomic<bool> ready_ = true;
  std::function<std::shared_ptr<const Snapshot>(Deadline)> scrape_ = [](Deadline /*deadline*/) {
    return MakeSnapshot();
  };
  std::function<std::optional<std::string>()> reload_;
  std::unique_ptr<Server> server_;
};

}  // namespace cow::exporter
