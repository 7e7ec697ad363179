// Everything that scans share on one host: the probed features of the kernel, one worker per scanning thread, the probe
// for relatives, and the forks. Reads /proc/vmstat and /sys/kernel/mm/ksm/pages_shared at the begin of a pass. Thread
// rule: one thread, unless a function's comment allows more.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <vector>

#include "collectors/memory/family/relatives.h"
#include "collectors/memory/process/fork_history.h"
#include "collectors/memory/read/host.h"
#include "collectors/memory/read/kernel_probe.h"
#include "collectors/memory/read/mapping.h"
#include "collectors/memory/scan/family_scan.h"
#include "collectors/memory/scan/scan_worker.h"
#include "collectors/procfs/root.h"
#include "collectors/procfs/system.h"

namespace cow::memory {

class Scanner {
 public:
  // Probes the kernel. `kernel`, if given, replaces the result of ProbeKernel.
  Scanner(procfs::Root root, procfs::PageGeometry geometry, size_t threads = 1,
          const std::optional<KernelFacts>& kernel = std::nullopt);

  const Host& host() const { return host_; }
  const Capabilities& capabilities() const { return host_.capabilities; }
  const procfs::PageGeometry& geometry() const { return host_.geometry; }
  Pfn zero_frame() const { return host_.zero_frame; }
  // Where the process table must read layouts.
  LayoutSource layouts() const { return layouts_; }
  // Call between steps of all threads.
  ScanCounters Counters() const;
  // Call its BeforeUpdate and AfterUpdate around each update of the process table; otherwise it knows no forks.
  ForkHistory& forks() { return *forks_; }
  FrameProbe& probe() { return *relatives_; }

  // Grows to at least `threads` workers. Call between passes.
  void GrowTo(size_t threads);
  size_t threads() const { return workers_.size(); }
  ScanWorker& worker(size_t thread = 0) { return *workers_[thread]; }

  // Reads the host's own counters. Call once before the scans of a pass.
  void BeginPass();

  // True if the family must be scanned (see due.h). Any thread during a pass.
  bool IsDue(const Family& family, const PassOptions& options) const;
  std::unique_ptr<FamilyScan> Begin(Family& family, const PassOptions& options) {
    return std::make_unique<FamilyScan>(host_, devices_, family, options);
  }

 private:
  Host host_;
  LayoutSource layouts_ = LayoutSource::kStat;
  DeviceTypes devices_;
  ScanCounters counters_;  // of looking for relatives
  std::vector<std::unique_ptr<ScanWorker>> workers_;
  std::unique_ptr<Relatives> relatives_;
  std::unique_ptr<ForkHistory> forks_;
};

}  // namespace cow::memory
