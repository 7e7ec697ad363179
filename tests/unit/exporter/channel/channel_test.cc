#include "exporter/channel/channel.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <string>

namespace cow::exporter {
namespace {

using Descriptors = Channel::Descriptors;
using Wait = Channel::Wait;

size_t OpenDescriptors() {
  size_t count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) ++count;
  return count;
}

TEST(ChannelTest, CarriesBytesAndADescriptor) {
  const auto [a, b] = Channel::MakePair();
  std::array<int, 2> pipe{};
  ASSERT_EQ(::pipe(pipe.data()), 0);
  EXPECT_EQ(a.Send("hello", pipe[1], Wait::kNever), Channel::Sent::kYes);
  close(pipe[1]);
  bool closed = false;
  auto message = b.Receive(Descriptors::kAccept, Wait::kForever, closed);
  ASSERT_TRUE(message);
  EXPECT_EQ(message->Bytes(), "hello");
  EXPECT_FALSE(message->malformed);
  ASSERT_TRUE(message->descriptor.valid());
  EXPECT_EQ(write(message->descriptor.get(), "x", 1), 1);
  std::array<char, 2> buffer{};
  EXPECT_EQ(read(pipe[0], buffer.data(), buffer.size()), 1);
  close(pipe[0]);
  EXPECT_FALSE(b.Receive(Descriptors::kAccept, Wait::kNever, closed));
  EXPECT_FALSE(closed);
}

TEST(ChannelTest, SaysThatTheOtherEndClosed) {
  auto [a, b] = Channel::MakePair();
  { const Channel end = std::move(a); }
  bool closed = false;
  EXPECT_FALSE(b.Receive(Descriptors::kRefuse, Wait::kForever, closed));
  EXPECT_TRUE(closed);
  EXPECT_EQ(b.Send("x", -1, Wait::kForever), Channel::Sent::kClosed);
}

TEST(ChannelTest, ClosesDescriptorsThatComeUnwanted) {
  const auto [a, b] = Channel::MakePair();
  const size_t before = OpenDescriptors();
  bool closed = false;
  EXPECT_EQ(a.Send("x", STDERR_FILENO, Wait::kNever), Channel::Sent::kYes);
  auto message = b.Receive(Descriptors::kRefuse, Wait::kNever, closed);
  ASSERT_TRUE(message);
  EXPECT_TRUE(message->malformed);
  EXPECT_EQ(OpenDescriptors(), before);

  // Two descriptors where one is accepted.
  std::array<char, CMSG_SPACE(2 * sizeof(int))> control{};
  char byte = 'y';
  iovec data{&byte, 1};
  msghdr header{};
  header.msg_iov = &data;
  header.msg_iovlen = 1;
  header.msg_control = control.data();
  header.msg_controllen = control.size();
  cmsghdr* rights = CMSG_FIRSTHDR(&header);
  rights->cmsg_level = SOL_SOCKET;
  rights->cmsg_type = SCM_RIGHTS;
  rights->cmsg_len = CMSG_LEN(2 * sizeof(int));
  const std::array<int, 2> descriptors{STDERR_FILENO, STDERR_FILENO};
  std::memcpy(CMSG_DATA(rights), descriptors.data(), sizeof(descriptors));
  ASSERT_EQ(sendmsg(a.Descriptor(), &header, 0), 1);
  message = b.Receive(Descriptors::kAccept, Wait::kNever, closed);
  ASSERT_TRUE(message);
  EXPECT_TRUE(message->malformed);
  message.reset();
  EXPECT_EQ(OpenDescriptors(), before);
}

TEST(ChannelTest, LongMessagesAreMalformed) {
  const auto [a, b] = Channel::MakePair();
  bool closed = false;
  EXPECT_EQ(a.Send(std::string(Channel::kMaxBytes, 'x'), -1, Wait::kNever), Channel::Sent::kYes);
  EXPECT_EQ(a.Send(std::string(Channel::kMaxBytes + 1, 'x'), -1, Wait::kNever), Channel::Sent::kYes);
  EXPECT_FALSE(b.Receive(Descriptors::kRefuse, Wait::kNever, closed)->malformed);
  EXPECT_TRUE(b.Receive(Descriptors::kRefuse, Wait::kNever, closed)->malformed);
}

TEST(ChannelTest, NeverWaitsForAReaderThatStopped) {
  const auto [a, b] = Channel::MakePair();
  size_t sent = 0;
  while (a.Send("x", -1, Wait::kNever) == Channel::Sent::kYes) ++sent;
  EXPECT_GT(sent, 10U);
  EXPECT_EQ(a.Send("x", -1, Wait::kNever), Channel::Sent::kFull);
  a.SetTimeout(std::chrono::milliseconds{20});
  EXPECT_EQ(a.Send("x", -1, Wait::kForever), Channel::Sent::kFull);
}

}  // namespace
}  // namespace cow::exporter
