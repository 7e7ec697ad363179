#include "exporter/service_manager.h"

#include <gtest/gtest.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdlib>
#include <filesystem>
#include <new>
#include <optional>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

namespace cow::exporter {
namespace {

// A service manager that records its notifications.
class ServiceManagerTest : public testing::Test {
 protected:
  void SetUp() override {
    path_ = std::filesystem::temp_directory_path() / ("cow_notify_" + std::to_string(getpid()));
    fd_ = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    sockaddr_un name{};
    name.sun_family = AF_UNIX;
    path_.string().copy(static_cast<char*>(name.sun_path), sizeof(name.sun_path) - 1);
    ASSERT_EQ(bind(fd_, reinterpret_cast<const sockaddr*>(&name), sizeof(name)), 0);
    setenv("NOTIFY_SOCKET", path_.c_str(), 1);  // NOLINT(concurrency-mt-unsafe): there is one thread
  }
  void TearDown() override {
    unsetenv("NOTIFY_SOCKET");  // NOLINT(concurrency-mt-unsafe)
    unsetenv("WATCHDOG_USEC");  // NOLINT(concurrency-mt-unsafe)
    close(fd_);
    std::filesystem::remove(path_);
  }

  std::string Next(int flags = 0) const {
    std::array<char, 256> buffer{};
    const ssize_t count = recv(fd_, buffer.data(), buffer.size(), flags);
    return count > 0 ? std::string(buffer.data(), static_cast<size_t>(count)) : "";
  }

  std::filesystem::path path_;
  int fd_ = -1;
};

TEST_F(ServiceManagerTest, NotifiesItsState) {
  ServiceManager manager;
  manager.Ready("listening on \xff\xc3\xa9\nREADY=0");
  EXPECT_EQ(Next(), "READY=1\nSTATUS=listening on ?\xc3\xa9?READY=0");
  EXPECT_EQ(manager.Reload([] { return std::optional<std::string>(); }), std::nullopt);
  EXPECT_EQ(Next().rfind("RELOADING=1\nMONOTONIC_USEC=", 0), 0U);
  EXPECT_EQ(Next(), "READY=1\nSTATUS=configuration reloaded");
  const std::string problem = "f:1:2: bad\nf:3:4: worse\n";
  EXPECT_EQ(manager.Reload([&problem] { return std::optional(problem); }), problem);
  EXPECT_EQ(Next().rfind("RELOADING=1\nMONOTONIC_USEC=", 0), 0U);
  EXPECT_EQ(Next(),
            "READY=1\nSTATUS=reload failed, the previous configuration stays in force: f:1:2: bad (and 1 more)");
  manager.Stopping();
  EXPECT_EQ(Next(), "STOPPING=1");
}

TEST_F(ServiceManagerTest, ASlowReloadExtendsTheTimeout) {
  ServiceManager manager({std::chrono::milliseconds{5}, std::chrono::microseconds{700}});
  manager.Reload([this] {
    EXPECT_EQ(Next().rfind("RELOADING=1\n", 0), 0U);
    for (int i = 0; i < 3; ++i) EXPECT_EQ(Next(), "EXTEND_TIMEOUT_USEC=700");
    return std::optional<std::string>();
  });
  std::string told = Next();
  while (told == "EXTEND_TIMEOUT_USEC=700") told = Next();
  EXPECT_EQ(told, "READY=1\nSTATUS=configuration reloaded");
  usleep(20'000);
  EXPECT_EQ(Next(MSG_DONTWAIT), "");
}

// No thread can start, as at TasksMax=.
TEST_F(ServiceManagerTest, AReloadNeedsNoThread) {
  pthread_attr_t before{};
  ASSERT_EQ(pthread_getattr_default_np(&before), 0);
  pthread_attr_t attributes = before;
  ASSERT_EQ(pthread_attr_setstacksize(&attributes, size_t{1} << 50U), 0);  // larger than the address space
  ASSERT_EQ(pthread_setattr_default_np(&attributes), 0);
  EXPECT_THROW(std::jthread([] {}), std::system_error);
  ServiceManager manager;
  bool reloaded = false;
  EXPECT_NO_THROW(manager.Reload([&reloaded] {
    reloaded = true;
    return std::optional<std::string>();
  }));
  EXPECT_EQ(pthread_setattr_default_np(&before), 0);
  EXPECT_TRUE(reloaded);
  EXPECT_EQ(Next().rfind("RELOADING=1\n", 0), 0U);
  EXPECT_EQ(Next(), "READY=1\nSTATUS=configuration reloaded");
}

TEST_F(ServiceManagerTest, AThrowingReloadSendsReady) {
  ServiceManager manager;
  EXPECT_THROW(manager.Reload([]() -> std::optional<std::string> { throw std::bad_alloc(); }), std::bad_alloc);
  EXPECT_EQ(Next().rfind("RELOADING=1\n", 0), 0U);
  EXPECT_EQ(Next(), "READY=1");
}

// One reload by signal and one by HTTP: each sends READY=1 before the next begins.
TEST_F(ServiceManagerTest, ReloadsRunOneAtATime) {
  ServiceManager manager;
  {
    std::vector<std::jthread> threads;
    threads.reserve(4);
    for (int i = 0; i < 4; ++i) {
      threads.emplace_back([&manager] {
        manager.Reload([] {
          usleep(2'000);
          return std::optional<std::string>();
        });
      });
    }
    for (int i = 0; i < 4; ++i) {
      EXPECT_EQ(Next().rfind("RELOADING=1\n", 0), 0U);
      EXPECT_EQ(Next().rfind("READY=1\n", 0), 0U);
    }
  }
}

TEST_F(ServiceManagerTest, NotifiesTheWatchdogWhileAlive) {
  setenv("WATCHDOG_USEC", "20000", 1);  // NOLINT(concurrency-mt-unsafe)
  std::atomic<bool> alive = true;
  std::atomic<int> asked = 0;
  {
    ServiceManager manager;
    manager.StartWatchdog([&](std::chrono::microseconds within) {
      EXPECT_EQ(within.count(), 20000);
      ++asked;
      return alive.load();
    });
    for (int i = 0; i < 3; ++i) EXPECT_EQ(Next(), "WATCHDOG=1");
    alive = false;
    const int before = asked;
    while (asked < before + 3) usleep(1000);
  }
  int more = 0;
  while (Next(MSG_DONTWAIT) == "WATCHDOG=1") ++more;
  EXPECT_LE(more, 1);
}

TEST_F(ServiceManagerTest, WithoutAWatchdogAliveIsNotCalled) {
  ServiceManager manager;
  manager.StartWatchdog([](std::chrono::microseconds /*within*/) {
    ADD_FAILURE();
    return true;
  });
}

}  // namespace
}  // namespace cow::exporter
