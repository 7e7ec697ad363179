// HTTP, from the bytes of a client to the bytes of the answer: a server on a unix socket, one connection per input. It
// never hangs, and each answer begins with a status line.
#include <spdlog/sinks/null_sink.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "exporter/http/server.h"
#include "exporter/snapshot/snapshot.h"
#include "tests/fuzz/bytes.h"
#include "tests/fuzz/check.h"
#include "tests/support/fixture_tree.h"

using cow::fuzz::Check;
using namespace cow::exporter;  // NOLINT(google-build-using-namespace): the target is about it

namespace {

std::shared_ptr<const Snapshot> MakeSnapshot() {
  prometheus::ClientMetric metric;
  metric.gauge.value = 1;
  PreparedFamilies prepared = PrepareFamilies({{"cow", {{"a", "", prometheus::MetricType::Gauge, {metric}}}}});
  SnapshotIndex index;
  index.collectors = {"cow", "thp"};
  index.groups = {{"g", 3, 1536, 12.5}};
  index.ready = true;
  return RenderSnapshot(prepared.families, std::move(index));
}

class TestServer {
 public:
  TestServer() : server_(Options(), Callbacks(), log_) {
    ListenAddress address;
    address.path = directory_.Path("socket");
    server_.Listen(ListenSocket(address));
    name_ = UnixAddress(address.path);
  }

  // Returns everything that the server sends.
  std::string Ask(std::string_view request) const {
    const int client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const timeval patience{25, 0};
    setsockopt(client, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    Check(connect(client, reinterpret_cast<const sockaddr*>(&name_), sizeof(name_)) == 0, "the server listens");
    if (!request.empty()) static_cast<void>(send(client, request.data(), request.size(), MSG_NOSIGNAL));
    shutdown(client, SHUT_WR);
    std::string answer;
    std::array<char, 16384> part{};
    ssize_t count = 0;
    for (;;) {
      count = recv(client, part.data(), part.size(), 0);
      if (count < 0 && errno == EINTR) continue;  // libFuzzer's timer
      if (count <= 0) break;
      answer.append(part.data(), static_cast<size_t>(count));
    }
    Check(count == 0 || errno == ECONNRESET, "the server ends the connection");
    close(client);
    return answer;
  }

 private:
  static ServerOptions Options() {
    ServerOptions options;
    options.version = "1";
    options.collectors = {"cow", "ksm", "thp"};
    options.enable_api = true;
    return options;
  }
  static ServerCallbacks Callbacks() {
    static const std::shared_ptr<const Snapshot> snapshot = MakeSnapshot();
    ServerCallbacks callbacks;
    callbacks.scrape = [](auto /*deadline*/) { return snapshot; };
    callbacks.latest = [] { return snapshot; };
    callbacks.explain = [](const ExplainQuery& /*query*/) { return ApiResponse(200, std::string("{}\n")); };
    callbacks.families = [] { return ApiResponse(200, std::string("{}\n")); };
    callbacks.reload = [] { return std::optional<std::string>("no\n"); };
    callbacks.config = [] { return std::string("scan: {}\n"); };
    return callbacks;
  }

  cow::test::FixtureTree directory_;
  Log log_{LogLevel::kError, LogFormat::kLogfmt, std::make_shared<spdlog::sinks::null_sink_mt>()};
  Server server_;
  sockaddr_un name_{};
};

bool BeginsWithStatus(std::string_view answer) {
  constexpr std::string_view kVersion = "HTTP/1.";
  if (!answer.starts_with(kVersion) || answer.size() < 14) return false;
  const std::string_view rest = answer.substr(kVersion.size());
  const auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
  return (rest[0] == '0' || rest[0] == '1') && rest[1] == ' ' && rest[2] >= '1' && rest[2] <= '5' &&
         is_digit(rest[3]) && is_digit(rest[4]) && rest[5] == ' ' && answer.find("\r\n\r\n") != std::string_view::npos;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const TestServer server;
  const std::string answer = server.Ask(cow::fuzz::Text(data, size));
  Check(answer.empty() || BeginsWithStatus(answer), "a status line: " + answer.substr(0, 100));
  return 0;
}
