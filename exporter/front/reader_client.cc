#include "exporter/front/reader_client.h"

#include <stdexcept>
#include <string_view>
#include <utility>

#include "exporter/snapshot/sealed_file.h"
#include "exporter/snapshot/snapshot_file.h"

namespace cow::exporter {
namespace {

SharedText MapText(int descriptor) {
  const auto mapping = std::make_shared<const SealedFileMapping>(descriptor);
  return {mapping->Bytes(), mapping};
}

}  // namespace

std::optional<ReaderClient::Received> ReaderClient::Receive() {
  std::optional<Channel::Message> bytes;
  bool closed = false;
  const Clock::time_point silent = Clock::now() + kSilence;
  while (!bytes) {
    if (Clock::now() > silent) throw std::runtime_error("the reader is silent");
    bytes = channel_.Receive(Channel::Descriptors::kAccept, Channel::Wait::kForever, closed);
    if (closed) return std::nullopt;
  }
  const auto message = bytes->malformed ? std::nullopt : DecodeReaderMessage(bytes->Bytes());
  if (!message) throw std::runtime_error("malformed message of the reader");
  const int file = bytes->descriptor.get();
  switch (message->type) {
    case ReaderMessage::Type::kPing:
      Tell(FrontMessage::Type::kAlive);
      break;
    case ReaderMessage::Type::kSnapshot: {
      auto snapshot = ReadSnapshot(file);
      const std::lock_guard lock(mutex_);
      snapshot_.swap(snapshot);
      break;
    }
    case ReaderMessage::Type::kConfiguration: {
      const SharedText text = MapText(file);
      const std::lock_guard lock(mutex_);
      configuration_ = *text;
      break;
    }
    case ReaderMessage::Type::kPassed: {
      const std::lock_guard lock(mutex_);
      passed_ = message->number;
      break;
    }
    case ReaderMessage::Type::kReply: {
      Reply reply{message->number, std::nullopt};
      if (bytes->descriptor.valid()) reply.text = MapText(file);
      const std::lock_guard lock(mutex_);
      const auto waiting = replies_.find(message->id);
      if (waiting != replies_.end()) waiting->second = std::move(reply);
      break;
    }
    default:
      break;
  }
  changed_.notify_all();
  return Received{*message, std::move(bytes->descriptor)};
}

bool ReaderClient::Send(const FrontMessage& message) const {
  const FrontBytes bytes = Encode(message);
  const std::string_view whole(reinterpret_cast<const char*>(&bytes), sizeof(bytes));
  return channel_.Send(whole, -1, Channel::Wait::kForever) == Channel::Sent::kYes;
}

void ReaderClient::Tell(FrontMessage::Type type, uint64_t number) {
  // Receive finds out that the reader has ended.
  if (!Send({type, 0, number, {}})) return;
}

std::shared_ptr<const Snapshot> ReaderClient::Latest() const {
  const std::lock_guard lock(mutex_);
  return snapshot_;
}

std::string ReaderClient::Configuration() const {
  const std::lock_guard lock(mutex_);
  return configuration_;
}

std::shared_ptr<const Snapshot> ReaderClient::Scrape(std::optional<Clock::time_point> deadline) {
  auto latest = Latest();
  if (!latest->Index().on_demand) return latest;
  if (const auto reply = Ask(FrontMessage::Type::kScrape, {}, deadline)) {
    std::unique_lock lock(mutex_);
    WaitUntil(lock, deadline, [this, pass = reply->number] { return passed_ >= pass; });
  }
  return Latest();
}

std::optional<ReaderClient::Reply> ReaderClient::Ask(FrontMessage::Type type, const ExplainQuery& query,
                                                     std::optional<Clock::time_point> deadline) {
  std::unique_lock lock(mutex_);
  const uint32_t id = ++last_id_;
  const auto entry = replies_.emplace(id, std::nullopt).first;
  lock.unlock();
  const bool sent = Send({type, id, 0, query});
  lock.lock();
  if (sent) WaitUntil(lock, deadline, [entry] { return entry->second.has_value(); });
  std::optional<Reply> reply = std::move(entry->second);
  replies_.erase(entry);
  return reply;
}

void ReaderClient::WaitUntil(std::unique_lock<std::mutex>& lock, std::optional<Clock::time_point> deadline,
                             const std::function<bool()>& done) {
  if (deadline) {
    changed_.wait_until(lock, *deadline, done);
  } else {
    changed_.wait(lock, done);
  }
}

}  // namespace cow::exporter
