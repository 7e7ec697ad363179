// The reader's side of the front: starts it through the launcher, sends it snapshots, configuration, certificates and
// keys, and answers its requests. If the front ends, sends garbage, or no longer answers, starts a new one, at once and
// then after growing pauses. Meanwhile passes go on.
//
// The front may be in the hands of an attacker. The keeper reads a limited number of messages per second, so a flood
// costs little, and never waits for the front.
//
// Call Start and Stop from one thread, everything else from any.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <thread>

#include "collectors/procfs/file_descriptor.h"
#include "exporter/channel/channel.h"
#include "exporter/channel/messages.h"
#include "exporter/front/launcher.h"
#include "exporter/front/options.h"
#include "exporter/front/outbox.h"
#include "exporter/front/worker.h"
#include "exporter/http/web_files.h"
#include "exporter/log/log.h"
#include "exporter/log/log_once.h"
#include "exporter/snapshot/snapshot.h"

namespace cow::exporter {

struct FrontReply {
  uint64_t number = 0;  // an HTTP status or a pass
  std::optional<std::string> text;
};

// What the keeper calls. The functions may throw.
struct ReaderServices {
  std::function<uint64_t()> want_pass;                           // must not block
  std::function<std::optional<std::string>()> reload;            // null: the front gets 403
  std::function<FrontReply()> families;                          // an HTTP status and JSON
  std::function<FrontReply(const ExplainQuery& query)> explain;  // the same
  std::function<void()> restarted = [] {};                       // a new front has started
  std::function<void()> failed = [] {};                          // the launcher has ended: no front can start
};

class FrontKeeper {
 public:
  using Clock = std::chrono::steady_clock;

  struct Timing {
    std::chrono::milliseconds start{10'000};     // within which a front must listen
    std::chrono::milliseconds answer{10'000};    // within which it must answer a ping and read its messages
    std::chrono::milliseconds ping{1'000};       // between pings
    std::chrono::milliseconds web{250};          // between looks at the files of the web configuration
    std::chrono::milliseconds first_pause{100};  // before the second new front; doubles
    std::chrono::milliseconds longest_pause{5'000};
    std::chrono::milliseconds steady{60'000};  // a front that lived this long resets the pauses
  };

  // `launcher` and `log` must outlive the keeper. `web`: null without a web configuration. Throws WebAccessError.
  FrontKeeper(Launcher& launcher, const FrontOptions& options, std::unique_ptr<WebFilesReader> web,
              ReaderServices services, Log& log, Timing timing);
  ~FrontKeeper();
  FrontKeeper(const FrontKeeper&) = delete;
  FrontKeeper& operator=(const FrontKeeper&) = delete;

  // Starts the first front and returns when it listens. Call Publish and Configure before. Throws std::runtime_error if
  // the front ends or does not listen in time.
  void Start();
  // Ends the front. Requests that are being answered go on.
  void Stop();
  // Waits for the requests that are being answered. Call it when what they wait for has ended.
  void EndRequests();

  // These three never wait for the front. They throw std::system_error if no sealed file can be made.
  void Publish(const Snapshot& snapshot);
  void Configure(const std::string& yaml);
  void Passed(uint64_t pass);

  // True if the keeper's thread waits for something to do, or began to do it within this time.
  [[nodiscard]] bool IsAlive(std::chrono::nanoseconds within) const {
    return Clock::now() - last_turn_.load() < within;
  }

 private:
  using File = Outbox::File;
  static constexpr Clock::time_point kIdle = Clock::time_point::max();

  enum class Phase { kStarting, kServing, kFailed };

  void Run(const std::stop_token& stop);
  // Waits for something to do.
  void Wait(bool with_room);
  void StartFront();
  // Returns why the front must be replaced, or nothing.
  std::optional<std::string> Turn();
  std::optional<std::string> ReadMessages();
  std::optional<std::string> CheckDeadlines(Clock::time_point now);
  void ReplaceFront(const std::string& reason, const std::stop_token& stop);
  void Handle(const FrontMessage& message);
  void LookAtWebFiles(Clock::time_point now);
  // Runs `answer` in `worker` and sends its reply; sends `busy` if too many requests wait.
  void AnswerBy(Worker& worker, uint32_t id, std::function<FrontReply()> answer, const std::string& busy);
  // Sends a reply without a text if there is no memory for it.
  void Reply(uint64_t front, uint32_t id, const FrontReply& reply) noexcept;
  void Add(const ReaderMessage& message, File file = nullptr);
  void SetPhase(Phase phase);
  void Wake() const;

  Launcher& launcher_;
  const std::unique_ptr<WebFilesReader> web_;
  const ReaderServices services_;
  Log& log_;
  const Timing timing_;
  const File options_file_;
  const procfs::FileDescriptor wake_;  // an eventfd
  Outbox outbox_;
  LogOnce failures_;

  std::mutex mutex_;
  std::condition_variable changed_;
  Phase phase_ = Phase::kStarting;
  uint64_t front_ = 0;  // number of the current front: a reply to an earlier one is dropped
  File snapshot_file_;
  File configuration_file_;
  uint64_t passed_ = 0;

  // Used by the keeper's thread.
  std::optional<Channel> channel_;  // empty: no front could start
  File web_file_;                   // in force
  File pending_web_file_;           // sent and not answered
  Clock::time_point started_;
  bool serves_ = false;
  std::optional<Clock::time_point> unanswered_since_;  // the oldest ping without an answer
  std::optional<Clock::time_point> full_since_;        // the outbox has waited since
  Clock::time_point next_ping_;
  Clock::time_point next_web_look_;
  Clock::time_point slot_end_;
  size_t slot_messages_ = 0;  // messages read since the slot began
  std::chrono::milliseconds pause_{0};

  std::atomic<Clock::time_point> last_turn_ = Clock::time_point::min();  // kIdle: it waits
  std::optional<Worker> requests_;                                       // but those for looks
  std::optional<Worker> looks_;                                          // they have a budget of their own
  std::jthread thread_;
};

}  // namespace cow::exporter
