// The buffers, open kernel files (kpageflags, kpagecount) and counters that one thread needs to make steps of scans.
// Each thread has its own worker.
#pragma once

#include "collectors/memory/read/frame_reader.h"
#include "collectors/memory/read/host.h"
#include "collectors/memory/read/scan_counters.h"
#include "collectors/memory/scan/break_account.h"
#include "collectors/memory/scan/window_reporter.h"
#include "collectors/memory/scan/window_scan.h"

namespace cow::memory {

class ScanWorker {
 public:
  // `host` must outlive this object.
  explicit ScanWorker(const Host& host)
      : frames(host.root, host.kernel.words, host.geometry.PagesPerWindow(), counters),
        window(host, frames, counters),
        reporter(host) {}
  ScanWorker(const ScanWorker&) = delete;
  ScanWorker& operator=(const ScanWorker&) = delete;

  ScanCounters counters;
  FrameReader frames;
  WindowScan window;
  WindowReporter reporter;
  BreakAccount breaks;
};

}  // namespace cow::memory
