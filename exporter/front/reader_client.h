// The front's side of the channel: keeps what the reader sends, and asks it.
//
// One thread calls Receive; any thread the rest.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "exporter/channel/channel.h"
#include "exporter/channel/messages.h"
#include "exporter/http/http_message.h"
#include "exporter/http/web_files.h"
#include "exporter/snapshot/snapshot.h"

namespace cow::exporter {

class ReaderClient {
 public:
  using Clock = std::chrono::steady_clock;

  static constexpr std::chrono::seconds kSilence{10};

  struct Reply {
    uint64_t number = 0;
    std::optional<SharedText> text;
  };

  explicit ReaderClient(Channel channel) : channel_(std::move(channel)) {}

  // Receives the next message. Answers a ping, and keeps what it brings. Returns the message with its file, or nothing
  // if the reader has ended. Throws std::exception if the message is malformed, or if none came within kSilence: the
  // reader sends one each second, and a front that served on would hide that it hangs.
  struct Received {
    ReaderMessage message;
    procfs::FileDescriptor file;
  };
  std::optional<Received> Receive();

  // Tells the reader something that needs no reply. Does nothing if the reader has ended.
  void Tell(FrontMessage::Type type, uint64_t number = 0);

  // Never null once a snapshot came.
  [[nodiscard]] std::shared_ptr<const Snapshot> Latest() const;
  [[nodiscard]] std::string Configuration() const;

  // Returns the latest snapshot. If each scrape runs a pass, waits for one until `deadline`.
  std::shared_ptr<const Snapshot> Scrape(std::optional<Clock::time_point> deadline);

  // Asks the reader and waits for its reply. Nothing if `deadline` comes first or if the reader reads no messages.
  std::optional<Reply> Ask(FrontMessage::Type type, const ExplainQuery& query = {},
                           std::optional<Clock::time_point> deadline = std::nullopt);

 private:
  [[nodiscard]] bool Send(const FrontMessage& message) const;
  void WaitUntil(std::unique_lock<std::mutex>& lock, std::optional<Clock::time_point> deadline,
                 const std::function<bool()>& done);

  const Channel channel_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::shared_ptr<const Snapshot> snapshot_;
  std::string configuration_;
  uint64_t passed_ = 0;
  uint32_t last_id_ = 0;
  std::map<uint32_t, std::optional<Reply>> replies_;  // by request; empty until it is answered
};

}  // namespace cow::exporter
