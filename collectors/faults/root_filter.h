// Finds out which threads are watched, and drops what was recorded twice.
//
// A thread is watched by events that were opened for it, or by events that it inherited from the thread that made it,
// or by both if it appeared while threads were being listed. All events that were opened for one thread, with the
// inherited ones, are a root. The first root that a thread's records come from is the thread's own; records of another
// root are doubles. Not thread-safe.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <unordered_map>
#include <vector>

#include "collectors/faults/decode.h"

namespace cow::faults {

using RootId = uint64_t;
// The record does not tell its root: several events recorded the same fault, and newer kernels stamp all records of it
// with the id of one of them.
inline constexpr RootId kUnknownRoot = 0;

class RootFilter {
 public:
  // Takes the next record in order of time. Returns false if it is a double. The caller passes one record of a fault
  // that several events recorded with the same stamp, with kUnknownRoot.
  bool Accept(const RingRecord& record, RootId root);
  // Call after each batch of records.
  void EndRound();
  // Forgets all threads, because a record of an end or a start may be lost. Their next records count as their first.
  void Forget() { threads_.clear(); }
  // Forgets a thread because another thread has its id now.
  void Forget(pid_t tid) { threads_.erase(tid); }
  // Returns true if the records prove that the thread lives and is watched. False means that they do not tell.
  bool IsWatched(pid_t tid) const;

 private:
  struct Thread {
    RootId root = kUnknownRoot;
    pid_t pid = 0;
    // The thread was watched before it made its next thread, so that one inherits. The kernel copies the events early
    // in a fork and records the fork late; an event opened in between records the fork but is not inherited.
    bool bequeaths = false;
    bool ended = false;
  };

  std::unordered_map<pid_t, Thread> threads_;
  // Doubles of an end may come in the next round.
  std::vector<pid_t> ended_now_;
  std::vector<pid_t> ended_before_;
};

}  // namespace cow::faults
