#include "exporter/front/front_keeper.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <exception>
#include <stdexcept>
#include <string_view>
#include <system_error>
#include <utility>

#include "exporter/explain/json.h"
#include "exporter/snapshot/sealed_file.h"
#include "exporter/snapshot/snapshot_file.h"

namespace cow::exporter {
namespace {

using std::chrono::milliseconds;

// At most kSlotMessages are read per slot.
constexpr milliseconds kSlot{100};
constexpr size_t kSlotMessages = 200;
constexpr size_t kWaitingRequests = 64;
constexpr double kRequestsCpu = 0.1;  // a front that asks all the time costs this share of a CPU
constexpr size_t kWaitingLooks = 1;
constexpr double kLooksCpu = 1;

using File = Outbox::File;

File Share(procfs::FileDescriptor file) { return std::make_shared<const procfs::FileDescriptor>(std::move(file)); }

File Seal(std::string_view text) { return Share(MakeSealedFile({&text, 1})); }

procfs::FileDescriptor MakeEvent() {
  procfs::FileDescriptor event(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!event.valid()) throw std::system_error(errno, std::generic_category(), "eventfd");
  return event;
}

std::string Describe(int status) {
  if (WIFSIGNALED(status)) return "signal " + std::to_string(WTERMSIG(status));
  return "exit code " + std::to_string(WEXITSTATUS(status));
}

std::string Milliseconds(milliseconds time) { return std::to_string(time.count()) + "ms"; }

}  // namespace

FrontKeeper::FrontKeeper(Launcher& launcher, const FrontOptions& options, std::unique_ptr<WebFilesReader> web,
                         ReaderServices services, Log& log, Timing timing)
    : launcher_(launcher),
      web_(std::move(web)),
      services_(std::move(services)),
      log_(log),
      timing_(timing),
      options_file_(Share(SealFrontOptions(options))),
      wake_(MakeEvent()) {
  if (web_ != nullptr) web_file_ = Share(SealWebFiles(web_->Read()));
}

FrontKeeper::~FrontKeeper() {
  Stop();
  EndRequests();
}

void FrontKeeper::Start() {
  requests_.emplace(kWaitingRequests, kRequestsCpu);
  looks_.emplace(kWaitingLooks, kLooksCpu);
  last_turn_ = Clock::now();
  StartFront();
  thread_ = std::jthread([this](const std::stop_token& stop) { Run(stop); });
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return phase_ != Phase::kStarting; });
  if (phase_ == Phase::kFailed) throw std::runtime_error("the process that serves HTTP did not start");
}

void FrontKeeper::Stop() {
  thread_.request_stop();
  Wake();
  if (thread_.joinable()) thread_.join();
  channel_.reset();  // the front ends
}

void FrontKeeper::EndRequests() {
  requests_.reset();
  looks_.reset();
}

void FrontKeeper::Publish(const Snapshot& snapshot) {
  File file = Share(WriteSnapshot(snapshot));
  {
    const std::lock_guard lock(mutex_);
    snapshot_file_ = file;
  }
  Add({ReaderMessage::Type::kSnapshot}, std::move(file));
}

void FrontKeeper::Configure(const std::string& yaml) {
  File file = Seal(yaml);
  {
    const std::lock_guard lock(mutex_);
    configuration_file_ = file;
  }
  Add({ReaderMessage::Type::kConfiguration}, std::move(file));
}

void FrontKeeper::Passed(uint64_t pass) {
  {
    const std::lock_guard lock(mutex_);
    passed_ = pass;
  }
  Add({ReaderMessage::Type::kPassed, 0, pass});
}

void FrontKeeper::Add(const ReaderMessage& message, File file) {
  outbox_.Add(message, std::move(file));
  Wake();
}

void FrontKeeper::Wake() const {
  const uint64_t one = 1;
  // Fails only if the counter is full, and then the thread wakes anyway.
  if (write(wake_.get(), &one, sizeof(one)) < 0) return;
}

void FrontKeeper::SetPhase(Phase phase) {
  const std::lock_guard lock(mutex_);
  phase_ = phase;
  changed_.notify_all();
}

void FrontKeeper::StartFront() {
  started_ = Clock::now();  // also if the start fails, so that the pauses grow
  auto [own, fronts] = Channel::MakePair();
  launcher_.StartFront(fronts);
  channel_.emplace(std::move(own));
  serves_ = false;
  unanswered_since_.reset();
  full_since_.reset();
  if (pending_web_file_ != nullptr) web_->ReadAgain();  // the old front did not answer
  pending_web_file_.reset();
  next_ping_ = started_ + timing_.ping;
  const std::lock_guard lock(mutex_);
  ++front_;
  outbox_.Clear();
  outbox_.Add({ReaderMessage::Type::kStart}, options_file_);
  if (web_file_ != nullptr) outbox_.Add({ReaderMessage::Type::kWeb}, web_file_);
  outbox_.Add({ReaderMessage::Type::kConfiguration}, configuration_file_);
  outbox_.Add({ReaderMessage::Type::kSnapshot}, snapshot_file_);
  outbox_.Add({ReaderMessage::Type::kPassed, 0, passed_});
}

void FrontKeeper::Run(const std::stop_token& stop) {
  while (!stop.stop_requested()) {
    try {
      const auto reason = Turn();
      if (reason && !stop.stop_requested()) ReplaceFront(*reason, stop);
    } catch (const std::exception& error) {  // no memory, or the launcher has ended
      if (const auto admitted = failures_.Admit(error.what())) log_.Error("front failed", {{"error", *admitted}});
    }
    if (phase_ == Phase::kFailed) return;
  }
}

std::optional<std::string> FrontKeeper::Turn() {
  if (!channel_) return "none could start";
  const auto state = outbox_.Send(*channel_);
  const Clock::time_point now = Clock::now();
  if (state == Outbox::State::kClosed) return "it closed its channel";
  if (state == Outbox::State::kWaits) {
    if (!full_since_) full_since_ = now;
  } else {
    full_since_.reset();
  }
  if (auto reason = CheckDeadlines(now)) return reason;
  LookAtWebFiles(now);
  Wait(state == Outbox::State::kWaits);
  return ReadMessages();
}

void FrontKeeper::Wait(bool with_room) {
  const Clock::time_point now = Clock::now();
  if (now >= slot_end_) {
    slot_end_ = now + kSlot;
    slot_messages_ = 0;
  }
  const bool reads = slot_messages_ < kSlotMessages;
  Clock::time_point end = next_ping_;
  if (web_ != nullptr) end = std::min(end, next_web_look_);
  if (!reads) end = std::min(end, slot_end_);
  const auto events = static_cast<int16_t>((reads ? POLLIN : 0) | (with_room ? POLLOUT : 0));
  std::array<pollfd, 3> waits{
      {{channel_->Descriptor(), events, 0}, {wake_.get(), POLLIN, 0}, {launcher_.Descriptor(), 0, 0}}};
  const auto left = std::chrono::ceil<milliseconds>(end - now).count();
  last_turn_ = kIdle;
  const int ready = poll(waits.data(), waits.size(), static_cast<int>(std::clamp<int64_t>(left, 0, 1000)));
  last_turn_ = Clock::now();
  if (ready <= 0) return;
  uint64_t count = 0;
  // Nothing to read is no error: the thread woke for another reason.
  if (read(wake_.get(), &count, sizeof(count)) < 0) count = 0;
  if ((waits[2].revents & (POLLHUP | POLLERR)) != 0) {
    log_.Error("the launcher has ended");
    SetPhase(Phase::kFailed);
    services_.failed();
  }
}

std::optional<std::string> FrontKeeper::ReadMessages() {
  while (slot_messages_ < kSlotMessages) {
    bool closed = false;
    const auto bytes = channel_->Receive(Channel::Descriptors::kRefuse, Channel::Wait::kNever, closed);
    if (closed) return "it has ended";
    if (!bytes) return std::nullopt;
    ++slot_messages_;
    const auto message = bytes->malformed ? std::nullopt : DecodeFrontMessage(bytes->Bytes());
    if (!message) return "it sent a malformed message";
    Handle(*message);
  }
  return std::nullopt;
}

std::optional<std::string> FrontKeeper::CheckDeadlines(Clock::time_point now) {
  if (!serves_ && now > started_ + timing_.start) return "it did not listen in time";
  if (full_since_ && now > *full_since_ + timing_.answer) return "it does not read its messages";
  if (unanswered_since_ && now > *unanswered_since_ + timing_.answer) return "it does not answer";
  if (now >= next_ping_) {
    next_ping_ = now + timing_.ping;
    if (!unanswered_since_) {
      unanswered_since_ = now;
      Add({ReaderMessage::Type::kPing});
    }
  }
  return std::nullopt;
}

void FrontKeeper::ReplaceFront(const std::string& reason, const std::stop_token& stop) {
  if (Clock::now() >= started_ + timing_.steady) pause_ = milliseconds{0};
  const bool was_first = phase_ == Phase::kStarting;
  const int status = launcher_.StopFront(pause_.count() > 0);
  channel_.reset();
  if (was_first) {
    log_.Error("front did not start", {{"reason", reason}, {"status", Describe(status)}});
    SetPhase(Phase::kFailed);
    return;
  }
  log_.Error("front ended, starting a new one",
             {{"reason", reason}, {"status", Describe(status)}, {"pause", Milliseconds(pause_)}});
  const Clock::time_point end = Clock::now() + pause_;
  while (Clock::now() < end && !stop.stop_requested()) {
    last_turn_ = Clock::now();
    std::this_thread::sleep_for(std::min<Clock::duration>(milliseconds{50}, end - Clock::now()));
  }
  if (stop.stop_requested()) return;
  pause_ = std::clamp(pause_ * 2, timing_.first_pause, timing_.longest_pause);
  StartFront();
  services_.restarted();
}

void FrontKeeper::Handle(const FrontMessage& message) {
  switch (message.type) {
    case FrontMessage::Type::kListening:
      serves_ = true;
      if (phase_ == Phase::kStarting) SetPhase(Phase::kServing);
      break;
    case FrontMessage::Type::kAlive:
      unanswered_since_.reset();
      break;
    case FrontMessage::Type::kWebAccepted:
      if (pending_web_file_ != nullptr) web_file_ = std::move(pending_web_file_);
      pending_web_file_.reset();
      break;
    case FrontMessage::Type::kWebRefused:
      pending_web_file_.reset();
      break;
    case FrontMessage::Type::kScrape:
      Reply(front_, message.id, {services_.want_pass(), std::nullopt});
      break;
    case FrontMessage::Type::kReload:
      if (!services_.reload) {
        Reply(front_, message.id, {kUnavailable, "reloading is off\n"});
        break;
      }
      AnswerBy(
          *requests_, message.id,
          [this] {
            return FrontReply{0, services_.reload()};
          },
          "busy: too many requests wait\n");
      break;
    case FrontMessage::Type::kFamilies:
      AnswerBy(*requests_, message.id, services_.families, ErrorJson("busy: too many requests wait"));
      break;
    case FrontMessage::Type::kExplain:
      AnswerBy(
          *looks_, message.id, [this, query = message.query] { return services_.explain(query); },
          ErrorJson("busy: another process is being explained"));
      break;
  }
}

void FrontKeeper::AnswerBy(Worker& worker, uint32_t id, std::function<FrontReply()> answer, const std::string& busy) {
  const bool accepted = worker.Offer([this, front = front_, id, answer = std::move(answer)] {
    FrontReply reply{kUnavailable, std::nullopt};
    try {
      reply = answer();
    } catch (const std::exception&) {  // no memory
    }
    Reply(front, id, reply);
  });
  if (!accepted) Reply(front_, id, {kUnavailable, busy});
}

void FrontKeeper::Reply(uint64_t front, uint32_t id, const FrontReply& reply) noexcept {
  ReaderMessage message{ReaderMessage::Type::kReply, id, reply.number};
  File file;
  try {
    if (reply.text) file = Seal(*reply.text);
  } catch (const std::exception&) {
    message.number = kUnavailable;
  }
  const std::lock_guard lock(mutex_);
  if (front != front_) return;
  try {
    Add(message, std::move(file));
  } catch (const std::exception&) {  // the front waits for its reply until it gives up
  }
}

void FrontKeeper::LookAtWebFiles(Clock::time_point now) {
  if (web_ == nullptr || now < next_web_look_) return;
  next_web_look_ = now + timing_.web;
  if (!web_->Changed()) return;
  try {
    pending_web_file_ = Share(SealWebFiles(web_->Read()));
    Add({ReaderMessage::Type::kWeb}, pending_web_file_);
  } catch (const WebAccessError& error) {
    log_.Error("reload failed, the previous web configuration stays in force", {{"error", error.what()}});
  } catch (const std::exception&) {
    web_->ReadAgain();
    throw;
  }
}

}  // namespace cow::exporter
