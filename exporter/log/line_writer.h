// Writes log lines to a file descriptor in a thread of its own. A full pipe, a stopped terminal or a hung disk
// therefore blocks neither those that log nor the end of the program. The lines wait in a queue of bounded size. When
// the queue is full, further lines are dropped and counted, and one line says so as soon as the queue has room.
//
// O_NONBLOCK would not do: it belongs to the open file, which other programs share, as they do a terminal. Nor would
// poll: another program can fill a pipe between poll and write.
//
// The thread starts with the first line, so a process may fork before that. Drops a line that cannot be written. Any
// thread.
#pragma once

#include <spdlog/sinks/base_sink.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>

namespace cow::exporter {

class LineWriter final : public spdlog::sinks::base_sink<std::mutex> {
 public:
  static constexpr size_t kMaxQueuedBytes = size_t{64} << 10U;
  // Flush and the destructor wait at most this long for the queue.
  static constexpr std::chrono::milliseconds kPatience{100};

  // Returns the line that reports dropped lines, with its newline.
  using Report = std::function<std::string(uint64_t dropped_lines)>;

  // `fd` stays open and belongs to the caller.
  LineWriter(int fd, Report report);
  ~LineWriter() override;
  LineWriter(const LineWriter&) = delete;
  LineWriter& operator=(const LineWriter&) = delete;

  [[nodiscard]] uint64_t DroppedLines() const;

 private:
  struct State;  // shared with the thread, which may outlive this object in a write that blocks

  void sink_it_(const spdlog::details::log_msg& message) override;
  void flush_() override;
  void Start();

  const std::shared_ptr<State> state_;
  bool started_ = false;
};

}  // namespace cow::exporter
