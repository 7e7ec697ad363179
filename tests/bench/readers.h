// The readers of the benchmark. All are measured in CPU time of this process, so other work on the machine matters
// little.
//
//   full         a pass of the exporter's engine that reads everything, including every other process of the host
//   incremental  a pass that reads what has changed since the previous one
//   bare         reads the pagemap entries of the family's heap window by window without using them: the lower bound
//   rollup       reads smaps_rollup of each member, as other exporters do
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "collectors/engine/engine.h"
#include "collectors/procfs/pagemap.h"
#include "collectors/procfs/system.h"

namespace cow::bench {

// Returns the CPU time of this process.
std::chrono::nanoseconds CpuTime();

class Readers {
 public:
  Readers();

  // Sets what `bare` and `rollup` read. Drops engines, so their next passes are first passes.
  void SetFamily(uint64_t address, uint64_t bytes, std::vector<pid_t> pids);

  // Reads once. Throws std::runtime_error on an unknown name and if a read fails.
  void Read(std::string_view reader);

 private:
  void Pass(std::unique_ptr<collectors::Engine>& engine, std::chrono::milliseconds full_every);
  void ReadPagemaps();
  void ReadRollups() const;

  procfs::PageGeometry geometry_;
  uint64_t address_ = 0;
  uint64_t bytes_ = 0;
  std::vector<pid_t> pids_;
  std::vector<procfs::Pagemap> pagemaps_;
  std::vector<procfs::PageEntry> entries_;
  std::unique_ptr<collectors::Engine> full_;
  std::unique_ptr<collectors::Engine> incremental_;
};

}  // namespace cow::bench
