// Makes each allocation of the server fail in turn. The server may lose a response, but must keep running. A separate
// program, because it replaces operator new.
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <spdlog/sinks/null_sink.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <new>
#include <string>
#include <string_view>
#include <utility>

#include "exporter/http/server.h"
#include "exporter/http/web_access.h"

namespace {

// Number of allocations, in all threads, before one fails. Negative: none fails.
std::atomic<int> left = -1;

}  // namespace

// Not inlined, because GCC 12 would warn about the free below.
[[gnu::noinline]] void* operator new(std::size_t size) {
  if (left >= 0 && left-- == 0) throw std::bad_alloc();
  if (void* memory = std::malloc(size)) return memory;  // NOLINT: this is what it stands for
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }                        // NOLINT
[[gnu::noinline]] void operator delete(void* memory, std::size_t /*size*/) noexcept { std::free(memory); }  // NOLINT

namespace cow::exporter {
namespace {

// More allocations than a test makes.
constexpr int kAllocations = 400;

class NoMemoryTest : public testing::Test {
 protected:
  void SetUp() override { Write(0); }
  void TearDown() override { std::filesystem::remove(path_); }

  // Replaces the file by one with this number.
  void Write(int number) const {
    const std::string next = path_.string() + ".new";
    std::ofstream(next) << "http_server_config: {headers: {X-XSS-Protection: '" << number << "'}}\n";
    std::filesystem::rename(next, path_);
  }

  std::filesystem::path path_ =
      std::filesystem::temp_directory_path() / ("cow_no_memory_" + std::to_string(getpid()) + ".yml");
  Log log_{LogLevel::kInfo, LogFormat::kLogfmt, std::make_shared<spdlog::sinks::null_sink_mt>()};
};

// After any failure, the next attempt puts the current content of the file in force.
TEST_F(NoMemoryTest, RulesAreReadAfterTheFailure) {
  WebFilesReader reader(path_);
  WebAccess access(reader.Read(), log_);
  int failed = 0;
  for (int number = 1; number <= kAllocations; ++number) {
    Write(number);
    EXPECT_TRUE(reader.Changed());
    bool has_read = false;
    left = number - 1;
    try {
      const WebFiles files = reader.Read();
      has_read = true;
      EXPECT_TRUE(access.Update(files));
    } catch (const std::bad_alloc&) {
      left = -1;
      EXPECT_TRUE(has_read || reader.Changed());
      EXPECT_TRUE(access.Update(reader.Read()));
    }
    failed += left.exchange(-1) < 0 ? 1 : 0;
    EXPECT_EQ(access.Rules()->config.headers.at("X-XSS-Protection"), std::to_string(number));
  }
  EXPECT_GT(failed, 50);
}

// Allocates no memory.
bool IsAnswered(uint16_t port) {
  constexpr std::string_view kRequest = "GET /-/healthy HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
  constexpr std::string_view kGood = "HTTP/1.1 200 ";
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in name{};
  name.sin_family = AF_INET;
  name.sin_port = htons(port);
  name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  std::array<char, 1024> answer{};
  if (connect(fd, reinterpret_cast<const sockaddr*>(&name), sizeof(name)) == 0) {
    send(fd, kRequest.data(), kRequest.size(), MSG_NOSIGNAL);
    recv(fd, answer.data(), answer.size(), MSG_WAITALL);  // until the other side closes
  }
  close(fd);
  return std::string_view(answer.data(), kGood.size()) == kGood;
}

TEST_F(NoMemoryTest, OnlyAResponseIsLost) {
  WebAccess access(WebFilesReader(path_).Read(), log_);
  ServerCallbacks callbacks;
  Server server({}, callbacks, log_, &access);
  ListenSocket socket(ParseListenAddress("127.0.0.1:0").value());
  const auto port = ParseListenAddress(socket.Address()).value().port;
  server.Listen(std::move(socket));
  int lost = 0;
  for (int number = 0; number < kAllocations / 4; ++number) {
    left = number;
    lost += IsAnswered(port) ? 0 : 1;
    left = -1;
    EXPECT_TRUE(IsAnswered(port)) << number;
  }
  EXPECT_GT(lost, 5);
}

}  // namespace
}  // namespace cow::exporter
