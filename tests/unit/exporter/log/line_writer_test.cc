#include "exporter/log/line_writer.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <spdlog/logger.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <memory>
#include <sstream>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace cow::exporter {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::string_view kDropped = "dropped ";

std::string Report(uint64_t dropped) { return std::string(kDropped) + std::to_string(dropped) + "\n"; }

// Reads everything until the writer is silent.
std::vector<std::string> Drain(int fd) {
  std::string text;
  std::array<char, 65536> part{};
  for (pollfd readable{fd, POLLIN, 0}; poll(&readable, 1, 300) == 1;) {
    const ssize_t count = read(fd, part.data(), part.size());
    if (count <= 0) break;
    text.append(part.data(), static_cast<size_t>(count));
  }
  std::vector<std::string> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

class LineWriterTest : public testing::Test {
 protected:
  LineWriterTest() { EXPECT_EQ(pipe2(ends_.data(), O_CLOEXEC), 0); }
  ~LineWriterTest() override {
    for (const int end : ends_) close(end);
  }

  // Writes numbered lines of `size` bytes with the newline.
  static void WriteLines(spdlog::logger& logger, size_t first, size_t count, size_t size) {
    for (size_t i = first; i < first + count; ++i) {
      std::string line = std::to_string(i) + " ";
      line.resize(size - 1, 'x');
      logger.info(line);
    }
  }

  std::array<int, 2> ends_{};
};

TEST_F(LineWriterTest, WritesInOrder) {
  const auto writer = std::make_shared<LineWriter>(ends_[1], &Report);
  spdlog::logger logger("", writer);
  WriteLines(logger, 0, 100, 100);
  logger.flush();
  const auto lines = Drain(ends_[0]);
  ASSERT_EQ(lines.size(), 100U);
  for (size_t i = 0; i < lines.size(); ++i) EXPECT_EQ(lines[i].substr(0, lines[i].find(' ')), std::to_string(i));
  EXPECT_EQ(writer->DroppedLines(), 0U);
}

// Nobody reads the pipe. Logging, flushing and the end of the writer return all the same, and every line is either
// written later or reported as dropped.
TEST_F(LineWriterTest, FullPipeBlocksNobody) {
  constexpr size_t kLines = 1000;
  constexpr size_t kLineBytes = 1000;
  const auto writer = std::make_shared<LineWriter>(ends_[1], &Report);
  const auto start = Clock::now();
  {
    spdlog::logger logger("", writer);
    WriteLines(logger, 0, kLines, kLineBytes);
    logger.flush();
    EXPECT_LT(Clock::now() - start, std::chrono::seconds(1));
  }
  const uint64_t dropped = writer->DroppedLines();
  EXPECT_GT(dropped, 0U);
  size_t next = 0;  // each line is written or reported where it is missing
  for (const std::string& line : Drain(ends_[0])) {
    if (line.starts_with(kDropped)) {
      next += std::stoul(line.substr(kDropped.size()));
      continue;
    }
    EXPECT_EQ(line.substr(0, line.find(' ')), std::to_string(next++));
    EXPECT_EQ(line.size(), kLineBytes - 1);
  }
  EXPECT_EQ(next, kLines);
  // There is room again.
  spdlog::logger logger("", writer);
  WriteLines(logger, 0, 1, 10);
  EXPECT_EQ(Drain(ends_[0]).size(), 1U);
  EXPECT_EQ(writer->DroppedLines(), dropped);
}

TEST_F(LineWriterTest, EndsWithAFullPipe) {
  const auto start = Clock::now();
  {
    spdlog::logger logger("", std::make_shared<LineWriter>(ends_[1], &Report));
    WriteLines(logger, 0, 1000, 1000);
  }
  EXPECT_LT(Clock::now() - start, std::chrono::seconds(1));
  Drain(ends_[0]);  // the thread ends before the descriptor does
}

// journald gives services a stream socket.
TEST_F(LineWriterTest, FullSocketBlocksNobody) {
  std::array<int, 2> sockets{};
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets.data()), 0);
  const auto writer = std::make_shared<LineWriter>(sockets[1], &Report);
  const auto start = Clock::now();
  spdlog::logger logger("", writer);
  WriteLines(logger, 0, 5000, 1000);
  EXPECT_LT(Clock::now() - start, std::chrono::seconds(1));
  EXPECT_GT(writer->DroppedLines(), 0U);
  EXPECT_TRUE(Drain(sockets[0]).back().starts_with(kDropped));
  for (const int socket : sockets) close(socket);
}

// Other programs share the pipe, so its flags stay as they are. If another program sets O_NONBLOCK, no line is lost.
TEST_F(LineWriterTest, FlagsOfTheDescriptor) {
  const auto writer = std::make_shared<LineWriter>(ends_[1], &Report);
  spdlog::logger logger("", writer);
  WriteLines(logger, 0, 1, 10);
  logger.flush();
  EXPECT_EQ(fcntl(ends_[1], F_GETFL) & O_NONBLOCK, 0);
  ASSERT_EQ(fcntl(ends_[1], F_SETFL, O_NONBLOCK), 0);
  ASSERT_GE(fcntl(ends_[1], F_SETPIPE_SZ, 4096), 4096);
  WriteLines(logger, 1, 60, 1000);
  EXPECT_EQ(Drain(ends_[0]).size(), 61U);
  EXPECT_EQ(writer->DroppedLines(), 0U);
}

TEST_F(LineWriterTest, CountsLinesThatCannotBeWritten) {
  const int full = open("/dev/full", O_WRONLY | O_CLOEXEC);
  const auto writer = std::make_shared<LineWriter>(full, &Report);
  spdlog::logger logger("", writer);
  for (size_t i = 0; i < 3; ++i) {
    WriteLines(logger, i, 1, 10);
    logger.flush();
    EXPECT_EQ(writer->DroppedLines(), i + 1);
  }
  close(full);
}

}  // namespace
}  // namespace cow::exporter
