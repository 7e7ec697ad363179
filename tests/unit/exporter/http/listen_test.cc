#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <stdexcept>
#include <string>

#include "exporter/http/listen_address.h"
#include "exporter/http/listen_socket.h"

namespace cow::exporter {
namespace {

TEST(ListenAddressTest, Forms) {
  EXPECT_EQ(ParseListenAddress(":10066")->port, 10066);
  EXPECT_EQ(ParseListenAddress(":10066")->host, "");
  EXPECT_EQ(ParseListenAddress("127.0.0.1:0")->host, "127.0.0.1");
  EXPECT_EQ(ParseListenAddress("[::1]:1")->host, "::1");
  EXPECT_EQ(ParseListenAddress("localhost:1")->host, "localhost");
  EXPECT_EQ(ParseListenAddress("unix:/a:b")->path, "/a:b");
}

TEST(ListenAddressTest, RefusesTheRest) {
  for (const char* text :
       {"", "10066", ":", ":x", ":-1", ":65536", "127.0.0.1", "1.2.3:1", "300.0.0.1:1", "::1:1", "[]:1",
        "[127.0.0.1]:1", "[::1", "[::1]", "[::1]1", "a b:1", "unix:", "http://a:1", "a/b:1"}) {
    EXPECT_FALSE(ParseListenAddress(text)) << text;
  }
  EXPECT_FALSE(ParseListenAddress("unix:/" + std::string(107, 'x')));
}

TEST(ListenAddressTest, FormatHostPort) {
  EXPECT_EQ(FormatHostPort("127.0.0.1", 1), "127.0.0.1:1");
  EXPECT_EQ(FormatHostPort("::1", 1), "[::1]:1");
  EXPECT_EQ(FormatHostPort("", 1), ":1");
}

ListenSocket Listen(const std::string& address) { return ListenSocket(ParseListenAddress(address).value()); }

TEST(ListenSocketTest, ReportsTheChosenPortAndThatItIsInUse) {
  const ListenSocket socket = Listen("127.0.0.1:0");
  EXPECT_EQ(socket.Address().rfind("127.0.0.1:", 0), 0U);
  EXPECT_NE(socket.Address(), "127.0.0.1:0");
  try {
    Listen(socket.Address());
    FAIL();
  } catch (const std::runtime_error& error) {
    EXPECT_EQ(error.what(), "cannot listen on " + socket.Address() + ": the address is in use");
  }
}

TEST(ListenSocketTest, AdoptsAListeningSocket) {
  const ListenSocket socket = Listen("127.0.0.1:0");
  const ListenSocket inherited(dup(socket.Descriptor()));
  EXPECT_EQ(inherited.Address(), socket.Address());
  EXPECT_FALSE(inherited.IsUnix());
  EXPECT_THROW(ListenSocket(STDIN_FILENO), std::runtime_error);
  EXPECT_THROW(ListenSocket(-1), std::runtime_error);
}

TEST(ListenSocketTest, ForeignAddressFails) { EXPECT_THROW(Listen("192.0.2.1:0"), std::runtime_error); }

class UnixSocketTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = "/tmp/cow_listen_XXXXXX";
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    directory_ = name;
    path_ = directory_ / "s";
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }
  std::string Address() const { return "unix:" + path_.string(); }

  std::filesystem::path directory_;
  std::filesystem::path path_;
};

TEST_F(UnixSocketTest, IsRemovedAtTheEnd) {
  {
    const ListenSocket socket = Listen(Address());
    EXPECT_TRUE(std::filesystem::is_socket(path_));
    EXPECT_EQ(socket.Address(), Address());
    EXPECT_TRUE(socket.IsUnix());
    EXPECT_EQ(std::filesystem::status(path_).permissions(), std::filesystem::perms{0660});
    EXPECT_THROW(Listen(Address()), std::runtime_error);
    EXPECT_TRUE(std::filesystem::is_socket(path_));
  }
  EXPECT_FALSE(std::filesystem::exists(path_));
}

TEST_F(UnixSocketTest, KeepsTheFileOfAnAdoptedSocket) {
  ListenSocket first = Listen(Address());
  {
    const ListenSocket inherited(dup(first.Descriptor()));
    EXPECT_EQ(inherited.Address(), Address());
    EXPECT_TRUE(inherited.IsUnix());
  }
  EXPECT_TRUE(std::filesystem::is_socket(path_));
}

TEST_F(UnixSocketTest, ReplacesAStaleOne) {
  {
    ListenSocket dead = Listen(Address());
    close(dead.Release());
    std::filesystem::rename(path_, directory_ / "kept");
  }
  std::filesystem::rename(directory_ / "kept", path_);
  ASSERT_TRUE(std::filesystem::is_socket(path_));
  EXPECT_NO_THROW(Listen(Address()));
}

TEST_F(UnixSocketTest, LeavesOtherFilesAlone) {
  std::ofstream(path_) << "data";
  EXPECT_THROW(Listen(Address()), std::runtime_error);
  EXPECT_TRUE(std::filesystem::is_regular_file(path_));
}

TEST_F(UnixSocketTest, LeavesASuccessorsSocketAlone) {
  auto first = std::make_unique<ListenSocket>(ParseListenAddress(Address()).value());
  std::filesystem::remove(path_);
  const ListenSocket second = Listen(Address());
  first.reset();
  EXPECT_TRUE(std::filesystem::is_socket(path_));
}

}  // namespace
}  // namespace cow::exporter
