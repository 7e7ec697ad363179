#include "config/read_file.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>

#include "config/tls_files.h"

namespace cow::config {
namespace {

namespace fs = std::filesystem;

class ReadFileTest : public testing::Test {
 protected:
  ReadFileTest() {
    std::string form = (fs::temp_directory_path() / "cow_read_file_XXXXXX").string();
    directory_ = mkdtemp(form.data());
  }
  ~ReadFileTest() override { fs::remove_all(directory_); }

  std::string Path(const std::string& name) const { return directory_ / name; }
  std::string Write(const std::string& name, const std::string& text) const {
    std::ofstream(Path(name)) << text;
    return Path(name);
  }
  static std::string ErrorOf(const std::string& path) {
    const auto text = ReadTextFile(path);
    return text ? "none" : text.error();
  }

  fs::path directory_;
};

TEST_F(ReadFileTest, ReadsUpToTheLimit) {
  EXPECT_EQ(ReadTextFile(Write("empty", "")).value(), "");
  const std::string path = Write("some", std::string("a\0b\n", 4));
  EXPECT_EQ(ReadTextFile(path).value(), std::string("a\0b\n", 4));
  EXPECT_EQ(ReadTextFile(path, 4).value().size(), 4U);
  EXPECT_EQ(ReadTextFile(path, 3).error(), "larger than 3 bytes");
  EXPECT_EQ(ErrorOf(Write("large", std::string(kMaxTextBytes + 1, ' '))), "larger than 1 MiB");
  EXPECT_EQ(ErrorOf(Path("none")), "No such file or directory");
}

// Nobody opens the other end of the pipe, so a read or an open that waits never returns.
TEST_F(ReadFileTest, OtherKindsAreErrors) {
  ASSERT_EQ(mkfifo(Path("pipe").c_str(), 0600), 0);
  EXPECT_EQ(ErrorOf(Path("pipe")), "expected a regular file, got a pipe");
  fs::create_symlink("pipe", Path("link"));
  EXPECT_EQ(ErrorOf(Path("link")), "expected a regular file, got a pipe");
  EXPECT_EQ(ErrorOf(directory_), "expected a regular file, got a directory");
  EXPECT_EQ(ErrorOf("/dev/zero"), "expected a regular file, got a device");

  const int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  Path("socket").copy(address.sun_path, sizeof(address.sun_path) - 1);
  ASSERT_EQ(bind(listener, reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
  EXPECT_EQ(ErrorOf(Path("socket")), "expected a regular file, got a socket");
  close(listener);
}

TEST_F(ReadFileTest, ReadsTheFilesOfTls) {
  TlsConfig config;
  config.cert_file = Write("cert", "c");
  config.key_file = Write("key", "k");
  const auto files = ReadTlsFiles(config);
  ASSERT_TRUE(files) << files.error();
  EXPECT_EQ(files->texts.at(config.cert_file), "c");
  EXPECT_EQ(files->texts.at(config.key_file), "k");
  EXPECT_EQ(files->texts.size(), 2U);

  ASSERT_EQ(mkfifo(Path("ca").c_str(), 0600), 0);
  config.client_ca_file = Path("ca");
  EXPECT_EQ(ReadTlsFiles(config).error(), "tls_server_config: " + Path("ca") + ": expected a regular file, got a pipe");
}

}  // namespace
}  // namespace cow::config
