#include "exporter/front/outbox.h"

#include <algorithm>
#include <string_view>
#include <utility>

namespace cow::exporter {

using Type = ReaderMessage::Type;

void Outbox::Add(const ReaderMessage& message, File file) {
  const std::lock_guard lock(mutex_);
  if (message.type == Type::kSnapshot) {
    const auto older = std::find_if(entries_.begin(), entries_.end(),
                                    [](const Entry& entry) { return entry.message.type == Type::kSnapshot; });
    if (older != entries_.end()) {
      older->file = std::move(file);
      return;
    }
  }
  if (message.type == Type::kPassed && !entries_.empty() && entries_.back().message.type == Type::kPassed) {
    entries_.back().message = message;
    return;
  }
  entries_.push_back({message, std::move(file)});
}

Outbox::State Outbox::Send(const Channel& channel) {
  const std::lock_guard lock(mutex_);
  while (!entries_.empty()) {
    const Entry& entry = entries_.front();
    const ReaderBytes bytes = Encode(entry.message);
    const std::string_view whole(reinterpret_cast<const char*>(&bytes), sizeof(bytes));
    const auto sent = channel.Send(whole, entry.file ? entry.file->get() : -1, Channel::Wait::kNever);
    if (sent == Channel::Sent::kFull) return State::kWaits;
    if (sent == Channel::Sent::kClosed) return State::kClosed;
    entries_.pop_front();
  }
  return State::kEmpty;
}

void Outbox::Clear() {
  const std::lock_guard lock(mutex_);
  entries_.clear();
}

}  // namespace cow::exporter
