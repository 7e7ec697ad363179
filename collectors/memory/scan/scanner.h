// The scanner: decides what is read of which process. It is the only place that reads pages, through the family
// scanners, one for each thread that scans.
//
// What nobody can share is not walked: anonymous memory of a process without relatives, as long as every process of the
// host can be seen. What nothing of has changed is not read: a family, or single members of it.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "collectors/memory/family/families.h"
#include "collectors/memory/family/relatives.h"
#include "collectors/memory/process/fork_history.h"
#include "collectors/memory/read/host.h"
#include "collectors/memory/read/kernel_probe.h"
#include "collectors/memory/read/mapping.h"
#include "collectors/memory/read/scan_counters.h"
#include "collectors/memory/scan/family_scanner.h"
#include "collectors/memory/scan/views.h"
#include "collectors/procfs/root.h"
#include "collectors/procfs/system.h"

namespace cow::memory {

class Scanner {
 public:
  // `kernel`: taken for what the kernel would be found to tell.
  Scanner(procfs::Root root, procfs::PageGeometry geometry, size_t threads = 1,
          const std::optional<KernelFacts>& kernel = std::nullopt);

  size_t threads() const { return scanners_.size(); }
  const Capabilities& capabilities() const { return host_.capabilities; }
  const procfs::PageGeometry& geometry() const { return host_.geometry; }
  uint64_t zero_frame() const { return host_.zero_frame; }
  // Of one thread's scanning: for that thread, or between passes. The first one's with those of looking for relatives.
  ScanCounters counters(size_t thread) const;
  ScanCounters counters() const;  // of all, between passes
  // Told of each update of the process table, or nothing is known of forks.
  ForkHistory& forks() { return *forks_; }
  FrameProbe& probe() { return *relatives_; }
  // The first thread's: for it, or between passes.
  FrameReader& frames() { return scanners_.front()->frames(); }

  // Between passes, of one thread.
  // Makes it so many threads at least.
  void GrowTo(size_t threads);
  // Reads the host's own counters: called once before the families of a pass.
  void BeginPass();

  // Whether the family must be read: its members, their signals or the host's have moved since its last completed pass,
  // or a member's turn has come. Any thread during a pass.
  bool IsDue(const Family& family, const PassOptions& options) const;

  // Begins a scan of the family or goes on with the one that rests with it. False if the observer interrupted it: it
  // rests then. `thread` below the number of threads; each of them scans one family at a time.
  bool ScanFamily(Family& family, const PassOptions& options, ScanObserver& observer, size_t thread = 0);

  // Whether a scan that rests was begun for a process without relatives, which has some now.
  bool IsOutdated(const Family& family) const;

  // Between scans: shows what leaves the sums of a family with members that ended, as ShowDeparture.
  bool ShowDeparture(Family& family, std::span<Member* const> gone, const std::function<void(const WindowView&)>& show,
                     const MayGoOn& may_go_on) const;

 private:
  Host host_;
  DeviceTypes devices_;
  ScanCounters counters_;  // of looking for relatives
  std::vector<std::unique_ptr<FamilyScanner>> scanners_;
  std::unique_ptr<Relatives> relatives_;
  std::unique_ptr<ForkHistory> forks_;
};

}  // namespace cow::memory
