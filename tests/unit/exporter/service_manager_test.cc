#include "exporter/service_manager.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <string>

namespace cow::exporter {
namespace {

// A service manager that takes down what it is told.
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

TEST_F(ServiceManagerTest, TellsItsState) {
  ServiceManager manager;
  manager.Ready();
  EXPECT_EQ(Next(), "READY=1");
  manager.Reloading();
  EXPECT_EQ(Next().rfind("RELOADING=1\nMONOTONIC_USEC=", 0), 0U);
  manager.Ready();
  EXPECT_EQ(Next(), "READY=1");
  manager.Stopping();
  EXPECT_EQ(Next(), "STOPPING=1");
}

TEST_F(ServiceManagerTest, WatchdogHearsOfTheLiving) {
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

TEST_F(ServiceManagerTest, WithoutAWatchdogNobodyIsAsked) {
  ServiceManager manager;
  manager.StartWatchdog([](std::chrono::microseconds /*within*/) {
    ADD_FAILURE();
    return true;
  });
}

}  // namespace
}  // namespace cow::exporter
