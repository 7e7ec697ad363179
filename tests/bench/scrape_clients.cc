#include "tests/bench/scrape_clients.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <exception>
#include <future>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace cow::bench {
namespace {

using Clock = std::chrono::steady_clock;

class Client {
 public:
  explicit Client(uint16_t port) : socket_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const int on = 1;
    setsockopt(socket_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    connected_ = connect(socket_, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0;
  }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;
  ~Client() { close(socket_); }

  // Returns the length of the body, including chunk headers if it is chunked.
  size_t Scrape() {
    constexpr std::string_view kRequest = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nAccept: text/plain\r\n\r\n";
    constexpr std::string_view kEndOfHead = "\r\n\r\n";
    if (!connected_ || send(socket_, kRequest.data(), kRequest.size(), MSG_NOSIGNAL) < 0) {
      throw std::runtime_error("no connection");
    }
    answer_.clear();
    size_t end_of_head = std::string::npos;
    while ((end_of_head = answer_.find(kEndOfHead)) == std::string::npos) Receive();
    const size_t body = end_of_head + kEndOfHead.size();
    const std::string head = LowerCase(answer_.substr(0, end_of_head));
    if (!head.starts_with("http/1.1 200")) {
      throw std::runtime_error("unexpected answer: " + head.substr(0, head.find('\r')));
    }
    if (head.find("transfer-encoding: chunked") != std::string::npos) {
      while (!answer_.ends_with("\r\n0\r\n\r\n")) Receive();
    } else {
      const size_t length = BodyLength(head);
      while (answer_.size() < body + length) Receive();
    }
    return answer_.size() - body;
  }

 private:
  void Receive() {
    const ssize_t length = recv(socket_, buffer_.data(), buffer_.size(), 0);
    if (length <= 0) throw std::runtime_error("the connection was closed");
    answer_.append(buffer_.data(), static_cast<size_t>(length));
  }

  static std::string LowerCase(std::string text) {
    const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; };
    std::transform(text.begin(), text.end(), text.begin(), lower);
    return text;
  }

  static size_t BodyLength(const std::string& head) {
    constexpr std::string_view kField = "content-length:";
    const size_t field = head.find(kField);
    if (field == std::string::npos) throw std::runtime_error("an answer without its length");
    return std::stoul(head.substr(field + kField.size()));
  }

  int socket_;
  bool connected_ = false;
  std::string answer_;
  std::array<char, 65536> buffer_{};
};

struct ClientResult {
  std::vector<std::chrono::nanoseconds> took;
  size_t body_bytes = 0;
};

ClientResult ScrapeUntil(uint16_t port, Clock::time_point end) {
  Client client(port);
  ClientResult result;
  for (Clock::time_point begin = Clock::now(); begin < end;) {
    result.body_bytes = client.Scrape();
    const Clock::time_point now = Clock::now();
    result.took.emplace_back(now - begin);
    begin = now;
  }
  return result;
}

}  // namespace

ScrapeResult Scrape(uint16_t port, size_t clients, std::chrono::milliseconds duration) {
  std::vector<std::future<ClientResult>> running;
  const Clock::time_point end = Clock::now() + duration;
  for (size_t i = 0; i < clients; ++i) running.push_back(std::async(std::launch::async, ScrapeUntil, port, end));
  std::vector<std::chrono::nanoseconds> took;
  ScrapeResult result;
  for (std::future<ClientResult>& one : running) {
    const ClientResult of_client = one.get();
    took.insert(took.end(), of_client.took.begin(), of_client.took.end());
    result.body_bytes = of_client.body_bytes;
  }
  if (took.empty()) throw std::runtime_error("no scrape was made");
  std::sort(took.begin(), took.end());
  result.scrapes = took.size();
  result.p50 = took[took.size() / 2];
  result.p99 = took[took.size() * 99 / 100];
  result.max = took.back();
  return result;
}

}  // namespace cow::bench
