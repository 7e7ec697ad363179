// Records minor page faults of processes as they happen, with the instruction that caused each: perf_event_open with
// PERF_COUNT_SW_PAGE_FAULTS_MIN, an inherited event of each thread on each CPU, and a ring per CPU. Stops no process
// and needs no BPF. Costs the target a few hundred nanoseconds per record (tests/bench/REPORT.md).
//
// Needs CAP_PERFMON, or CAP_SYS_ADMIN on kernels that demand it. Without, the kernel allows it for a user's own
// processes if kernel.perf_event_paranoid is 2 or less, and then hides faults of kernel code.
//
// The kernel throttles a software event only if one occurrence completes several periods, which a fault can't: on 6.18,
// 320,000 faults per second were all recorded under a kernel.perf_event_max_sample_rate of 100,000.
//
// Faults on CPUs that come online after Open are not recorded. Not thread-safe. Open it in a process whose main thread
// lives on.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <unordered_map>
#include <utility>
#include <vector>

#include "collectors/base/result.h"
#include "collectors/faults/decode.h"
#include "collectors/faults/perf_event.h"
#include "collectors/faults/record.h"
#include "collectors/faults/root_filter.h"
#include "collectors/procfs/file_descriptor.h"
#include "collectors/procfs/root.h"

namespace cow::faults {

class FaultRecorder {
 public:
  struct Options {
    size_t ring_bytes = size_t{8} << 20;  // of all rings together; they are smaller if the kernel allows less
    // Records one fault of this many. Each thread and each new process counts on its own, and on each CPU on its own,
    // so one that faults less often than this on every CPU has no record.
    uint32_t one_in = 1;
    Stacks stacks = Stacks::kNone;
    size_t max_descriptors = 0;  // events plus rings; 0: what the limit of open files leaves
  };

  // The kernel stamps a record before a reader can see it. Drain holds records back for this time, which is far more
  // than that takes, so that records of different CPUs come in order. Later ones come late and are not lost.
  static constexpr std::chrono::milliseconds kHoldBack{10};

  // kDenied: the message names the missing right. kIo: `root` is not this system's procfs, or no memory for rings.
  static Result<FaultRecorder> Open(procfs::Root root, const Options& options);

  // Watches all threads of the processes. Their later threads and children are watched from their start. Does nothing
  // for threads that are watched already. Takes at least kHoldBack if others are watched: pass all at once.
  //
  // Watches what it can, and returns the first error. kGone: the process does not exist. kDenied: it belongs to another
  // user. kTooLarge: the limit of open files, as each thread takes a descriptor per CPU; see unwatched_threads().
  Result<void> Add(std::span<const pid_t> pids);
  Result<void> Add(pid_t pid) { return Add(std::span(&pid, 1)); }

  // Appends the records since the last call that are older than kHoldBack, in order of time.
  void Drain(std::vector<Record>& records);
  // Waits for kHoldBack. Then appends all records of the time before the call, in order of time.
  void DrainAll(std::vector<Record>& records);
  // Waits until a ring is half full. Returns false if the time is over, or after a signal.
  bool Wait(std::chrono::milliseconds timeout);

  // The number of records that the kernel or this program could not keep, so far. Asks every event; call it seldom.
  uint64_t lost() const;
  // How often the kernel stopped an event that was too fast, and did not count what that lost.
  uint64_t throttled() const { return throttled_; }
  // Records dropped because they tell of a fault that another record tells of.
  uint64_t doubles() const { return doubles_; }
  // Records of faults that another observer recorded too (another recorder, perf -e minor-faults). On newer
  // kernels (seen on 6.18) all records of a fault have the time and the ids that the kernel found for the first
  // observer: by its clock and in its PID namespace. This program limits such a time to the times of the records around
  // it.
  uint64_t foreign_stamps() const { return foreign_stamps_; }
  // Threads that the last Add could not watch for lack of descriptors.
  size_t unwatched_threads() const { return unwatched_threads_; }
  // False: faults that system calls cause are not recorded, because rights are missing.
  bool records_kernel_faults() const { return abilities_.kernel_faults; }
  size_t ring_bytes() const;
  size_t descriptors() const { return descriptors_; }

 private:
  using Identity = std::pair<pid_t, uint64_t>;  // thread and start time: ids are used again
  struct Watched {
    RootId root = 0;
    std::vector<procfs::FileDescriptor> events;  // one per CPU
    std::vector<uint64_t> event_ids;
  };
  struct Ring {
    PerfRing ring;
    uint64_t last_ns = 0;  // time of the last record that one of our events stamped
  };
  struct Waiting {
    RingRecord record;
    uint64_t time_ns = 0;
    RootId root = kUnknownRoot;
  };
  enum class Walk { kNothingNew, kChanged };

  FaultRecorder(procfs::Root root, const Options& options, const PerfAbilities& abilities, std::vector<PerfRing> rings);

  Result<Walk> WatchThreads(pid_t pid, const std::vector<pid_t>& threads);
  Result<void> WatchThread(const Identity& thread);
  Result<void> OpenOnCpu(const PerfRing& ring, pid_t tid, Watched& watched) const;
  // Reads the rings, and gives all records up to this time to `ready_`.
  void Collect(uint64_t until_ns);
  void MoveReadyTo(std::vector<Record>& records);
  void Read(Ring& ring);
  void Give(Waiting& waiting);
  std::vector<Identity> FindEnded() const;
  void Close(const std::vector<Identity>& ended);

  procfs::Root root_;
  Stacks stacks_;
  PerfAbilities abilities_;
  perf_event_attr attributes_;
  size_t max_descriptors_;
  std::vector<Ring> rings_;
  std::map<Identity, Watched> watched_;
  std::unordered_map<uint64_t, RootId> root_of_event_;
  RootFilter filter_;
  RootId next_root_ = 1;
  size_t descriptors_ = 0;
  size_t unwatched_threads_ = 0;

  std::vector<std::byte> bytes_;
  std::vector<RingRecord> decoded_;
  std::vector<Waiting> waiting_;  // ordered by time
  std::vector<Record> ready_;
  bool some_ended_ = false;
  uint64_t malformed_ = 0;
  uint64_t lost_in_rings_ = 0;   // as records tell
  uint64_t lost_by_closed_ = 0;  // as events that are closed counted
  uint64_t throttled_ = 0;
  uint64_t doubles_ = 0;
  uint64_t foreign_stamps_ = 0;
};

}  // namespace cow::faults
