// Tests the keeper and the launcher with fronts that misbehave. The launcher executes this program again, so main()
// decides by the first argument what it is.
#include <gtest/gtest.h>
#include <poll.h>
#include <spdlog/sinks/ostream_sink.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "exporter/front/front_keeper.h"
#include "exporter/front/launcher.h"
#include "exporter/front/outbox.h"
#include "exporter/front/reader_client.h"
#include "exporter/front/worker.h"
#include "exporter/http/health_check.h"
#include "exporter/snapshot/snapshot_file.h"

namespace cow::exporter {
namespace {

using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

constexpr const char* kConduct = "COW_TEST_FRONT";
constexpr std::string_view kOutlives = "outlives ";  // and the file of a socket
constexpr milliseconds kPatience{20'000};

template <class Condition>
bool Eventually(Condition condition) {
  const auto end = Clock::now() + kPatience;
  while (!condition()) {
    if (Clock::now() >= end) return false;
    std::this_thread::sleep_for(milliseconds{2});
  }
  return true;
}

void SendRaw(const Channel& channel, std::string_view bytes) {
  if (channel.Send(bytes, -1, Channel::Wait::kForever) != Channel::Sent::kYes) _exit(0);
}

void Tell(const Channel& channel, const FrontMessage& message) {
  const FrontBytes bytes = Encode(message);
  SendRaw(channel, {reinterpret_cast<const char*>(&bytes), sizeof(bytes)});
}

// A front that serves nothing and behaves as the environment says.
int RunTestFront() {
  const char* given = std::getenv(kConduct);  // NOLINT(concurrency-mt-unsafe): there is one thread
  const std::string_view conduct = given == nullptr ? "" : given;
  const Channel channel{procfs::FileDescriptor(kFrontChannel)};
  if (conduct == "ends at once") return 3;
  if (conduct.starts_with(kOutlives)) {
    const std::string file(conduct.substr(kOutlives.size()));
    while (std::filesystem::exists(file)) std::this_thread::sleep_for(milliseconds{1});
    Tell(channel, {FrontMessage::Type::kAlive, 0, 0, {}});
    return 0;
  }
  const auto sleep = [] {
    while (true) std::this_thread::sleep_for(kPatience);
  };
  if (conduct == "never listens") sleep();
  Tell(channel, {FrontMessage::Type::kListening, 0, 0, {}});
  if (conduct == "sends garbage") SendRaw(channel, "garbage");
  if (conduct == "stops reading") sleep();
  while (conduct == "floods") Tell(channel, {FrontMessage::Type::kFamilies, 1, 0, {}});
  const bool answers = conduct != "does not answer";
  bool closed = false;
  while (!closed) {
    const auto message = channel.Receive(Channel::Descriptors::kAccept, Channel::Wait::kForever, closed);
    if (!message || !answers) continue;
    const auto decoded = DecodeReaderMessage(message->Bytes());
    if (decoded->type == ReaderMessage::Type::kPing) Tell(channel, {FrontMessage::Type::kAlive, 0, 0, {}});
  }
  return 0;
}

FrontKeeper::Timing Quick() {
  FrontKeeper::Timing timing;
  timing.start = timing.answer = milliseconds{1'000};
  timing.ping = milliseconds{20};
  timing.web = milliseconds{20};
  timing.first_pause = milliseconds{10};
  timing.longest_pause = milliseconds{40};
  return timing;
}

class FrontKeeperTest : public testing::Test {
 protected:
  FrontKeeper& Make(const std::string& conduct, FrontKeeper::Timing timing = Quick()) {
    setenv(kConduct, conduct.c_str(), 1);  // NOLINT(concurrency-mt-unsafe): the launcher has not started yet
    std::vector<ListenSocket> sockets;
    sockets.emplace_back(ParseListenAddress("127.0.0.1:0").value());
    address_ = sockets[0].Address();
    sockets.emplace_back(ParseListenAddress("unix:" + file_).value());
    launcher_ = std::make_unique<Launcher>(sockets, SandboxMode::kAuto);
    ReaderServices services;
    services.want_pass = [this] { return ++passes_; };
    services.families = [this] {
      ++families_;
      return FrontReply{200, "{}"};
    };
    services.explain = [](const ExplainQuery&) { return FrontReply{200, "{}"}; };
    services.restarted = [this] { ++restarts_; };
    services.failed = [this] { failed_ = true; };
    keeper_ = std::make_unique<FrontKeeper>(*launcher_, FrontOptions{}, nullptr, services, log_, timing);
    keeper_->Configure("a: 1\n");
    keeper_->Publish(*RenderSnapshot({}, {}));
    return *keeper_;
  }

  void TearDown() override {
    keeper_.reset();
    launcher_.reset();
  }

  std::string Logged() {
    keeper_->Stop();
    return log_text_.str();
  }

  const std::string file_ = std::filesystem::temp_directory_path() / ("cow_front_" + std::to_string(getpid()));
  std::string address_;
  std::ostringstream log_text_;
  Log log_{LogLevel::kInfo, LogFormat::kLogfmt, std::make_shared<spdlog::sinks::ostream_sink_mt>(log_text_)};
  std::atomic<uint64_t> passes_ = 0;
  std::atomic<int> families_ = 0;
  std::atomic<int> restarts_ = 0;
  std::atomic<bool> failed_ = false;
  std::unique_ptr<Launcher> launcher_;
  std::unique_ptr<FrontKeeper> keeper_;
};

TEST_F(FrontKeeperTest, StartsAFrontAndRemovesTheSocketFileAtTheEnd) {
  FrontKeeper& keeper = Make("well behaved");
  keeper.Start();
  EXPECT_TRUE(std::filesystem::exists(file_));
  std::this_thread::sleep_for(milliseconds{200});
  EXPECT_EQ(restarts_, 0);
  EXPECT_TRUE(keeper.IsAlive(std::chrono::seconds{5}));
  keeper.Stop();
  launcher_.reset();
  EXPECT_FALSE(std::filesystem::exists(file_));
  keeper_.reset();
}

// A reader that is forced to end does not wait for the launcher, and a service manager kills what is left.
TEST_F(FrontKeeperTest, RemovesTheSocketFileBeforeItWaitsForTheFront) {
  Make(std::string(kOutlives) + file_);
  const auto [ours, theirs] = Channel::MakePair();
  launcher_->StartFront(theirs);
  launcher_->End();
  bool closed = false;
  EXPECT_TRUE(ours.Receive(Channel::Descriptors::kRefuse, Channel::Wait::kNever, closed).has_value());
}

TEST_F(FrontKeeperTest, FirstFrontThatEndsIsAnError) {
  FrontKeeper& keeper = Make("ends at once");
  EXPECT_THROW(keeper.Start(), std::runtime_error);
  EXPECT_NE(Logged().find("exit code 3"), std::string::npos) << Logged();
}

TEST_F(FrontKeeperTest, FirstFrontThatNeverListensIsAnError) {
  FrontKeeper& keeper = Make("never listens");
  EXPECT_THROW(keeper.Start(), std::runtime_error);
  EXPECT_NE(Logged().find("it did not listen in time"), std::string::npos);
}

TEST_F(FrontKeeperTest, ReplacesAFrontThatSendsGarbage) {
  Make("sends garbage").Start();
  EXPECT_TRUE(Eventually([&] { return restarts_ >= 3; }));
  EXPECT_NE(Logged().find("it sent a malformed message"), std::string::npos);
}

TEST_F(FrontKeeperTest, ReplacesAFrontThatDoesNotAnswer) {
  Make("does not answer").Start();
  EXPECT_TRUE(Eventually([&] { return restarts_ >= 1; }));
  EXPECT_NE(Logged().find("it does not answer"), std::string::npos);
}

// Publishing goes on at full speed.
TEST_F(FrontKeeperTest, ReplacesAFrontThatStopsReading) {
  FrontKeeper::Timing timing = Quick();
  timing.ping = std::chrono::hours{1};  // a ping would notice it too
  FrontKeeper& keeper = Make("stops reading", timing);
  keeper.Start();
  const auto snapshot = RenderSnapshot({}, {});
  uint64_t published = 0;
  EXPECT_TRUE(Eventually([&] {
    for (int i = 0; i < 100; ++i) keeper.Publish(*snapshot), keeper.Passed(++published);
    return restarts_ >= 1;
  }));
  EXPECT_NE(Logged().find("it does not read its messages"), std::string::npos);
}

// The keeper reads at most 2,000 messages per second, and spends a tenth of a CPU on answers.
TEST_F(FrontKeeperTest, AFloodCostsLittle) {
  FrontKeeper::Timing timing = Quick();
  timing.answer = std::chrono::seconds{60};
  FrontKeeper& keeper = Make("floods", timing);
  keeper.Start();
  std::this_thread::sleep_for(milliseconds{1'000});
  EXPECT_TRUE(keeper.IsAlive(std::chrono::seconds{2}));
  EXPECT_LE(families_, 2'500);
  EXPECT_EQ(restarts_, 0);
}

TEST_F(FrontKeeperTest, SaysThatTheLauncherHasEnded) {
  FrontKeeper& keeper = Make("well behaved");
  keeper.Start();
  const std::string children = "/proc/self/task/" + std::to_string(getpid()) + "/children";
  pid_t child = 0;
  std::ifstream(children) >> child;
  ASSERT_GT(child, 0);
  kill(child, SIGKILL);
  EXPECT_TRUE(Eventually([&] { return failed_.load(); }));
  keeper.Stop();
  std::filesystem::remove(file_);
}

TEST_F(FrontKeeperTest, TriesAgainAfterAStartThatFailed) {
  FrontKeeper& keeper = Make("sends garbage");
  keeper.Start();
  rlimit limit{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
  const rlimit none{3, limit.rlim_max};  // no new descriptor
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  std::this_thread::sleep_for(milliseconds{300});
  const int before = restarts_;
  std::this_thread::sleep_for(milliseconds{100});
  EXPECT_EQ(restarts_, before);
  EXPECT_TRUE(keeper.IsAlive(std::chrono::seconds{5}));
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
  EXPECT_TRUE(Eventually([&] { return restarts_ > before; }));
  EXPECT_NE(Logged().find("none could start"), std::string::npos);
}

// TCP connections are refused while no front runs and the keeper pauses.
TEST_F(FrontKeeperTest, RefusesConnectionsWhileItPauses) {
  FrontKeeper::Timing timing = Quick();
  timing.first_pause = timing.longest_pause = milliseconds{400};
  FrontKeeper& keeper = Make("sends garbage", timing);
  keeper.Start();
  const auto address = ParseListenAddress(address_).value();
  EXPECT_TRUE(Eventually([&] {
    const auto problem = CheckHealth(address, {});
    return problem && problem->find("refused") != std::string::npos;
  }));
  // Connections wait for the next front, at the same port.
  EXPECT_TRUE(Eventually([&] {
    const auto problem = CheckHealth(address, {});
    return !problem || problem->find("refused") == std::string::npos;
  }));
}

TEST(OutboxTest, NewerSnapshotReplacesOneThatWaits) {
  Outbox outbox;
  const auto [own, other] = Channel::MakePair();
  const auto old_file = std::make_shared<const procfs::FileDescriptor>(dup(STDERR_FILENO));
  const auto new_file = std::make_shared<const procfs::FileDescriptor>(dup(STDERR_FILENO));
  outbox.Add({ReaderMessage::Type::kSnapshot}, old_file);
  outbox.Add({ReaderMessage::Type::kPassed, 0, 1});
  outbox.Add({ReaderMessage::Type::kSnapshot}, new_file);
  outbox.Add({ReaderMessage::Type::kPassed, 0, 2});
  EXPECT_EQ(old_file.use_count(), 1);
  EXPECT_EQ(outbox.Send(own), Outbox::State::kEmpty);
  std::vector<ReaderMessage> received;
  bool closed = false;
  while (const auto message = other.Receive(Channel::Descriptors::kAccept, Channel::Wait::kNever, closed)) {
    received.push_back(DecodeReaderMessage(message->Bytes()).value());
  }
  ASSERT_EQ(received.size(), 2U);
  EXPECT_EQ(received[0].type, ReaderMessage::Type::kSnapshot);
  EXPECT_EQ(received[1].number, 2U);
}

TEST(WorkerTest, LimitsJobsAndCpu) {
  std::atomic<int> done = 0;
  std::atomic<bool> go = false;
  Worker worker(2, 0.1);
  const auto job = [&] {
    while (!go) std::this_thread::sleep_for(milliseconds{1});
    ++done;
  };
  EXPECT_TRUE(worker.Offer(job));
  EXPECT_TRUE(worker.Offer(job));
  EXPECT_FALSE(worker.Offer(job));
  go = true;
  EXPECT_TRUE(Eventually([&] { return done == 2; }));

  const auto begin = Clock::now();
  EXPECT_TRUE(Eventually([&] {
    return worker.Offer([&] {
      const auto end = Clock::now() + milliseconds{20};
      while (Clock::now() < end) {
      }
      ++done;
    });
  }));
  EXPECT_TRUE(Eventually([&] { return worker.Offer([&] { ++done; }); }));
  EXPECT_TRUE(Eventually([&] { return done == 4; }));
  EXPECT_GE(Clock::now() - begin, milliseconds{20});
}

// The reader's side of a channel.
class ReaderClientTest : public testing::Test {
 protected:
  void Say(const ReaderMessage& message, int file = -1) {
    const ReaderBytes bytes = Encode(message);
    ASSERT_EQ(reader_.Send({reinterpret_cast<const char*>(&bytes), sizeof(bytes)}, file, Channel::Wait::kNever),
              Channel::Sent::kYes);
  }
  void Publish(bool on_demand, bool ready) {
    SnapshotIndex index;
    index.on_demand = on_demand;
    index.ready = ready;
    const auto file = WriteSnapshot(*RenderSnapshot({}, index));
    Say({ReaderMessage::Type::kSnapshot}, file.get());
  }
  FrontMessage Next() {
    bool closed = false;
    return DecodeFrontMessage(reader_.Receive(Channel::Descriptors::kRefuse, Channel::Wait::kForever, closed)->Bytes())
        .value();
  }

  std::pair<Channel, Channel> ends_ = Channel::MakePair();
  Channel reader_ = std::move(ends_.first);
  ReaderClient client_{std::move(ends_.second)};
};

TEST_F(ReaderClientTest, ServesTheLatestWithoutAsking) {
  Publish(false, true);
  ASSERT_TRUE(client_.Receive());
  EXPECT_TRUE(client_.Scrape(std::nullopt)->Index().ready);
}

TEST_F(ReaderClientTest, WaitsForAPassAndServesTheLatestAtTheDeadline) {
  Publish(true, false);
  ASSERT_TRUE(client_.Receive());
  EXPECT_FALSE(client_.Scrape(Clock::now() - milliseconds{1})->Index().ready);
  EXPECT_FALSE(client_.Scrape(Clock::now() + milliseconds{20})->Index().ready);
  EXPECT_EQ(Next().type, FrontMessage::Type::kScrape);
  EXPECT_EQ(Next().type, FrontMessage::Type::kScrape);

  std::atomic<bool> served = false;
  std::jthread scrape([&] {
    EXPECT_TRUE(client_.Scrape(std::nullopt)->Index().ready);
    served = true;
  });
  Say({ReaderMessage::Type::kReply, Next().id, 5});
  Say({ReaderMessage::Type::kPassed, 0, 4});
  ASSERT_TRUE(client_.Receive());
  ASSERT_TRUE(client_.Receive());
  std::this_thread::sleep_for(milliseconds{20});
  EXPECT_FALSE(served);
  Publish(true, true);
  Say({ReaderMessage::Type::kPassed, 0, 5});
  ASSERT_TRUE(client_.Receive());
  ASSERT_TRUE(client_.Receive());
  EXPECT_TRUE(Eventually([&] { return served.load(); }));
}

TEST_F(ReaderClientTest, AnswersPingsAndRefusesGarbage) {
  Say({ReaderMessage::Type::kPing});
  ASSERT_TRUE(client_.Receive());
  EXPECT_EQ(Next().type, FrontMessage::Type::kAlive);
  Say({ReaderMessage::Type::kReply, 77, 1});  // nobody waits for it
  EXPECT_TRUE(client_.Receive());
  ASSERT_EQ(reader_.Send("garbage", -1, Channel::Wait::kNever), Channel::Sent::kYes);
  EXPECT_THROW(client_.Receive(), std::runtime_error);
  { const Channel end = std::move(reader_); }
  EXPECT_FALSE(client_.Receive());
}

}  // namespace
}  // namespace cow::exporter

int main(int argc, char** argv) {
  using namespace cow::exporter;  // NOLINT(google-build-using-namespace)
  const std::string_view first = argc > 1 ? argv[1] : "";
  if (first == kLauncherCommand) return RunLauncher({argv + 2, argv + argc});
  if (first == kFrontCommand) return RunTestFront();
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
