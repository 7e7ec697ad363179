// The messages that the reader has for its front, in order. A front that does not read them delays nobody: sending
// never waits, and a newer snapshot takes the place of one that was not sent yet.
//
// Any thread.
#pragma once

#include <deque>
#include <memory>
#include <mutex>

#include "collectors/procfs/file_descriptor.h"
#include "exporter/channel/channel.h"
#include "exporter/channel/messages.h"

namespace cow::exporter {

class Outbox {
 public:
  using File = std::shared_ptr<const procfs::FileDescriptor>;

  // `file` may be null.
  void Add(const ReaderMessage& message, File file = nullptr);

  enum class State { kEmpty, kWaits, kClosed };

  // Sends as many messages as there is room for. kWaits: some remain.
  State Send(const Channel& channel);

  void Clear();

 private:
  struct Entry {
    ReaderMessage message;
    File file;
  };

  std::mutex mutex_;
  std::deque<Entry> entries_;
};

}  // namespace cow::exporter
