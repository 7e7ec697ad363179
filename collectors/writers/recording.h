// Records the page faults of processes in a thread of its own, and keeps of each only what the join needs: time,
// process, page and the number of the code. Follows forks, execs and executable mappings, so that addresses are those
// of the moment.
//
// If the thread falls behind, the kernel's rings fill and drop records, which are counted.
//
// Thread rule: all functions are called by the thread that made it.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>
#include <span>
#include <thread>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "collectors/base/result.h"
#include "collectors/faults/fault_recorder.h"
#include "collectors/faults/record.h"
#include "collectors/procfs/root.h"
#include "collectors/procfs/system.h"
#include "collectors/symbols/code_maps.h"
#include "collectors/symbols/symbolizer.h"
#include "collectors/writers/break_joiner.h"
#include "collectors/writers/writer_table.h"

namespace cow::writers {

class Recording {
 public:
  // What was recorded since the last Take.
  struct Batch {
    std::vector<Fault> faults;
    // The frames of new numbers of writers; the numbers count from 0 over all batches.
    std::vector<WriterTable::Frames> new_writers;
    bool forked = false;                   // a process forked
    uint64_t dropped = 0;                  // faults beyond the most that are kept for the next Take
    std::chrono::nanoseconds cpu_time{0};  // of the thread
  };

  // `unwinder` unwinds copies of stacks; it must outlive this object, and only this object uses it until Stop. Null:
  // no stacks are copied.
  Recording(procfs::Root root, procfs::PageGeometry geometry, faults::FaultRecorder recorder,
            symbols::Symbolizer* unwinder);
  Recording(const Recording&) = delete;
  Recording& operator=(const Recording&) = delete;
  ~Recording();

  // Records these processes too, and their later children. Waits for the thread.
  Result<void> Add(std::span<const pid_t> pids);
  // True if a process has forked since the last Take.
  bool forked() const;
  // Takes everything recorded up to this call. Waits for the thread.
  Batch Take();
  // Ends the thread. No other call may follow but those below.
  void Stop();

  // Records that the kernel dropped, as of the last Take or Stop.
  uint64_t lost() const;
  bool has_kernel_faults() const { return kernel_faults_; }
  // Valid after Stop.
  size_t unwatched_threads() const { return unwatched_threads_; }

 private:
  void Run();
  void Serve(std::unique_lock<std::mutex>& lock, bool all);
  void Handle(const std::vector<faults::Record>& records);
  void Handle(const faults::FaultRecord& fault);
  void Handle(const faults::ForkRecord& fork);
  void Handle(const faults::ExecRecord& exec);
  void Handle(const faults::ExitRecord& exit);
  void Handle(const faults::MapRecord& map);
  WriterId WriterOf(const faults::FaultRecord& fault);

  procfs::PageGeometry geometry_;
  // Of the thread, and of its owner before it starts and after it has ended.
  faults::FaultRecorder recorder_;
  symbols::Symbolizer* unwinder_;
  symbols::CodeMaps maps_;
  WriterTable writers_;
  std::vector<symbols::CodeLocation> frames_;
  std::unordered_set<pid_t> strangers_;  // run another program since an exec
  std::unordered_set<pid_t> known_;      // whose mappings were read or inherited
  Batch handled_;                        // not yet in `batch_`
  bool kernel_faults_ = true;
  size_t unwatched_threads_ = 0;
  std::chrono::nanoseconds reported_time_{0};

  mutable std::mutex mutex_;
  std::condition_variable served_;
  bool stop_ = false;
  bool wants_all_ = false;
  std::optional<std::vector<pid_t>> to_add_;
  Result<void> added_;
  Batch batch_;
  uint64_t lost_ = 0;

  std::thread thread_;  // the last member: it uses all others
};

}  // namespace cow::writers
