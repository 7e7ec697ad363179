#include "collectors/faults/root_filter.h"

#include <utility>
#include <variant>

namespace cow::faults {

bool RootFilter::Accept(const RingRecord& record, RootId root) {
  const auto entry = threads_.try_emplace(record.writer, Thread{root, record.writer_pid}).first;
  Thread& writer = entry->second;
  const bool is_exec = std::holds_alternative<ExecRecord>(record.body);
  // A thread that executes a program takes the id of its leader, which has ended.
  if (is_exec && writer.ended) writer = Thread{root, record.writer_pid};
  if (writer.root == kUnknownRoot) writer.root = root;
  if (root != kUnknownRoot && writer.root != root) return false;
  if (is_exec) {
    // No other thread is left, and no record tells that this one gave up its own id.
    std::erase_if(threads_, [&record](const auto& other) {
      return other.second.pid == record.writer_pid && other.first != record.writer;
    });
  }

  const bool bequeathed = writer.bequeaths;
  const auto* fault = std::get_if<FaultRecord>(&record.body);
  // The kernel's own faults may be those of a fork that began earlier.
  if (fault == nullptr || !fault->in_kernel) writer.bequeaths = true;
  if (std::holds_alternative<ExitRecord>(record.body) && !writer.ended) {
    writer.ended = true;
    ended_now_.push_back(record.writer);
  }
  if (const auto* fork = std::get_if<ForkRecord>(&record.body)) {
    threads_.erase(fork->tid);
    if (bequeathed) threads_.emplace(fork->tid, Thread{root, fork->pid, true});
  }
  return true;
}

void RootFilter::EndRound() {
  for (const pid_t tid : ended_before_) {
    const auto entry = threads_.find(tid);
    if (entry != threads_.end() && entry->second.ended) threads_.erase(entry);
  }
  ended_before_ = std::exchange(ended_now_, {});
}

bool RootFilter::IsWatched(pid_t tid) const {
  const auto entry = threads_.find(tid);
  return entry != threads_.end() && !entry->second.ended;
}

}  // namespace cow::faults
