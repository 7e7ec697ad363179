// The system calls behind a FaultRecorder: perf_event_open, and the ring that the kernel fills. Any thread, but one at
// a time for one object.
#pragma once

#include <linux/perf_event.h>
#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "collectors/base/result.h"
#include "collectors/faults/decode.h"
#include "collectors/procfs/file_descriptor.h"
#include "collectors/procfs/root.h"

namespace cow::faults {

// What this kernel and the rights of this process allow. Found by trying.
struct PerfAbilities {
  bool kernel_faults = true;  // records faults of kernel code
  bool build_ids = true;      // MapRecords have build IDs (Linux 5.12)
  bool lost_counts = true;    // events count what they lost (Linux 6.0)
};

// An event that records one in `one_in` minor faults of a task and of its later children, with their forks, execs,
// exits and executable mappings.
perf_event_attr FaultAttributes(Stacks stacks, uint32_t one_in, const PerfAbilities& abilities);

// Opens an event of `task` on one CPU. Returns the kernel's errno as it is.
Result<procfs::FileDescriptor> OpenEvent(const perf_event_attr& attributes, pid_t task, int cpu);

// Returns how many records the event and the inherited ones have lost; 0 if it was opened without lost_counts.
uint64_t ReadLostCount(const procfs::FileDescriptor& event);

// Says in a sentence why perf_event_open failed, and what would help.
Error ExplainOpenError(const procfs::Root& root, int error_number);

// A ring of one CPU. Owns an event that never counts, which holds the ring; other events of the CPU write into it.
class PerfRing {
 public:
  // `data_bytes` is a power of two of pages. Fails with EPERM if locked memory is limited.
  static Result<PerfRing> Open(int cpu, size_t data_bytes, const perf_event_attr& like);
  PerfRing(PerfRing&& other) noexcept;
  PerfRing& operator=(PerfRing&& other) noexcept;
  PerfRing(const PerfRing&) = delete;
  PerfRing& operator=(const PerfRing&) = delete;
  ~PerfRing();

  int cpu() const { return cpu_; }
  int descriptor() const { return holder_.get(); }
  size_t data_bytes() const { return data_bytes_; }
  bool HalfFull() const;
  // Sends the records of `event` to this ring.
  Result<void> Redirect(const procfs::FileDescriptor& event) const;
  // Moves everything that the kernel has written into `bytes`.
  void Take(std::vector<std::byte>& bytes);

 private:
  PerfRing(int cpu, procfs::FileDescriptor holder) : cpu_(cpu), holder_(std::move(holder)) {}
  perf_event_mmap_page* page() const { return static_cast<perf_event_mmap_page*>(memory_); }

  int cpu_;
  procfs::FileDescriptor holder_;
  void* memory_ = nullptr;
  size_t memory_bytes_ = 0;
  size_t data_bytes_ = 0;
};

}  // namespace cow::faults
