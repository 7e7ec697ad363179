#include "exporter/http/connection_table.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "exporter/http/client_key.h"

namespace cow::exporter {
namespace {

using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

sockaddr_storage Ipv4(const char* address) {
  sockaddr_in name{};
  name.sin_family = AF_INET;
  inet_pton(AF_INET, address, &name.sin_addr);
  sockaddr_storage peer{};
  std::memcpy(&peer, &name, sizeof(name));
  return peer;
}

sockaddr_storage Ipv6(const char* address) {
  sockaddr_in6 name{};
  name.sin6_family = AF_INET6;
  inet_pton(AF_INET6, address, &name.sin6_addr);
  sockaddr_storage peer{};
  std::memcpy(&peer, &name, sizeof(name));
  return peer;
}

TEST(ClientKeyTest, CountsNetworksAndUsers) {
  EXPECT_EQ(ClientOf(Ipv4("10.1.2.3"), -1), ClientOf(Ipv6("::ffff:10.1.2.3"), -1));
  EXPECT_NE(ClientOf(Ipv4("10.1.2.3"), -1), ClientOf(Ipv4("10.1.2.4"), -1));
  EXPECT_EQ(ClientOf(Ipv6("2001:db8:0:1::1"), -1), ClientOf(Ipv6("2001:db8:0:1:ffff::2"), -1));
  EXPECT_NE(ClientOf(Ipv6("2001:db8:0:1::1"), -1), ClientOf(Ipv6("2001:db8:0:2::1"), -1));
  EXPECT_NE(ClientOf(Ipv4("0.0.0.0"), -1), ClientOf(Ipv6("::"), -1));
  std::array<int, 2> pair{};
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, pair.data()), 0);
  sockaddr_storage local{};
  local.ss_family = AF_UNIX;
  EXPECT_EQ(ClientOf(local, pair[0]), (ClientKey{ClientKey::Kind::kUser, getuid()}));
  EXPECT_EQ(ClientOf(local, -1), ClientKey{});
  for (const int fd : pair) close(fd);
}

// A table, and its connections as socket pairs. A closed connection gives its place back when the test calls Reap, or
// at once if a thread does so for it.
class ConnectionTableTest : public testing::Test {
 protected:
  struct Open {
    ~Open() {
      entry.reset();
      for (const int fd : pair) close(fd);
    }
    [[nodiscard]] bool IsClosed() const {
      std::array<char, 1> buffer{};
      return recv(pair[1], buffer.data(), buffer.size(), MSG_DONTWAIT) == 0;
    }

    std::array<int, 2> pair{};
    std::unique_ptr<ConnectionTable::Entry> entry;
  };

  void Make(size_t connections, size_t per_client, milliseconds limit = milliseconds{60'000}) {
    ConnectionTable::Limits limits;
    limits.request = limit;
    limits.response = limit;
    limits.slow = milliseconds{0};
    limits.connections = connections;
    limits.per_client = per_client;
    table_ = std::make_unique<ConnectionTable>(limits);
  }

  static ClientKey Client(uint64_t number) { return {ClientKey::Kind::kIpv4, number}; }

  // Returns null if the table refuses. Frees the places of closed connections meanwhile, as their threads would.
  Open* Connect(uint64_t client) {
    auto open = std::make_unique<Open>();
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, open->pair.data()), 0);
    std::jthread reaper([this](const std::stop_token& stop) {
      while (!stop.stop_requested()) {
        Reap();
        std::this_thread::sleep_for(milliseconds{1});
      }
    });
    open->entry = table_->Admit(Client(client), open->pair[0]);
    reaper.request_stop();
    reaper.join();
    if (open->entry == nullptr) return nullptr;
    open->entry->Start();
    open_.push_back(std::move(open));
    return open_.back().get();
  }

  void Reap() {
    for (const auto& open : open_) {
      if (open->entry != nullptr && open->IsClosed()) open->entry.reset();
    }
  }

  std::vector<Open*> ConnectAll(uint64_t client, size_t count) {
    std::vector<Open*> all;
    for (size_t i = 0; i < count; ++i) all.push_back(Connect(client));
    return all;
  }

  static size_t OpenOf(const std::vector<Open*>& all) {
    return static_cast<size_t>(std::count_if(all.begin(), all.end(), [](Open* open) { return !open->IsClosed(); }));
  }

  std::unique_ptr<ConnectionTable> table_;
  std::vector<std::unique_ptr<Open>> open_;
};

TEST_F(ConnectionTableTest, ANewClientTakesTheOldestPlaceOfTheLargest) {
  Make(10, 10);
  const auto few = ConnectAll(1, 3);
  const auto many = ConnectAll(2, 7);
  Open* scraper = Connect(3);
  ASSERT_NE(scraper, nullptr);
  EXPECT_EQ(OpenOf(few), 3U);
  EXPECT_TRUE(many[0]->IsClosed());
  EXPECT_EQ(OpenOf(many), 6U);
  // However often the large client comes back, the small ones stay.
  int admitted = 0;
  for (int i = 0; i < 50; ++i) admitted += Connect(2) == nullptr ? 0 : 1;
  EXPECT_GE(admitted, 4);
  EXPECT_LT(admitted, 50);
  EXPECT_EQ(OpenOf(few), 3U);
  EXPECT_FALSE(scraper->IsClosed());
}

TEST_F(ConnectionTableTest, AClientBeyondItsLimitReplacesItsOwn) {
  Make(100, 4);
  const auto own = ConnectAll(1, 4);
  Open* other = Connect(2);
  own[0]->entry->AwaitRequest();  // idle connections go after those that never sent a request
  own[1]->entry->Work();
  ASSERT_NE(Connect(1), nullptr);
  EXPECT_TRUE(own[2]->IsClosed());
  EXPECT_EQ(OpenOf(own), 3U);
  EXPECT_FALSE(other->IsClosed());
}

TEST_F(ConnectionTableTest, ManyClientsWithOneConnectionEach) {
  Make(8, 4);
  std::vector<Open*> all;
  for (uint64_t client = 0; client < 8; ++client) all.push_back(Connect(client));
  all[0]->entry->SendResponse();
  all[1]->entry->AwaitRequest();
  ASSERT_NE(Connect(100), nullptr);
  EXPECT_TRUE(all[2]->IsClosed());
  EXPECT_EQ(OpenOf(all), 7U);
}

TEST_F(ConnectionTableTest, SlowReadersOfALargeClientGoBeforeOthersIdleConnections) {
  Make(8, 8);
  const auto readers = ConnectAll(1, 7);
  for (Open* open : readers) open->entry->SendResponse();
  Open* idle = Connect(2);
  idle->entry->AwaitRequest();
  ASSERT_NE(Connect(3), nullptr);
  EXPECT_TRUE(readers[0]->IsClosed());
  EXPECT_FALSE(idle->IsClosed());
}

TEST_F(ConnectionTableTest, WorkIsNeverClosedAndLeavesRoom) {
  Make(8, 8);
  const auto all = ConnectAll(1, 8);
  for (size_t i = 0; i < 8; ++i) EXPECT_EQ(all[i]->entry->Work(), i < 6) << i;
  EXPECT_EQ(Connect(2), nullptr);
  EXPECT_EQ(OpenOf(all), 8U);
  all[7]->entry->SendResponse();
  EXPECT_NE(Connect(2), nullptr);
  EXPECT_TRUE(all[7]->IsClosed());
}

TEST_F(ConnectionTableTest, PressureShortensDeadlines) {
  Make(4, 4, milliseconds{2000});
  const auto start = Clock::now();
  Open* first = Connect(1);
  ConnectAll(2, 2);
  while (!first->IsClosed()) std::this_thread::sleep_for(milliseconds{5});
  EXPECT_GE(Clock::now() - start, milliseconds{450});
  EXPECT_LT(Clock::now() - start, milliseconds{1500});
  open_.clear();
  Make(100, 100, milliseconds{2000});
  Open* alone = Connect(1);
  std::this_thread::sleep_for(milliseconds{1000});
  EXPECT_FALSE(alone->IsClosed());
  open_.clear();
}

}  // namespace
}  // namespace cow::exporter
