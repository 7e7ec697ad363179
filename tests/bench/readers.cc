#include "tests/bench/readers.h"

#include <ctime>
#include <stdexcept>
#include <string>
#include <utility>

#include "collectors/base/result.h"
#include "collectors/procfs/root.h"
#include "collectors/procfs/smaps.h"

namespace cow::bench {
namespace {

class Unhindered : public collectors::PassControl {
 public:
  bool Continue() override { return true; }
};

collectors::EngineOptions Options(std::chrono::milliseconds full_every) {
  collectors::EngineOptions options;
  options.full_every = full_every;
  for (const collectors::CollectorInfo& info : collectors::AvailableCollectors()) {
    if (info.enabled_by_default) options.collectors.emplace_back(info.name);
  }
  return options;
}

}  // namespace

std::chrono::nanoseconds CpuTime() {
  timespec time{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec);
}

Readers::Readers() : geometry_(procfs::ReadPageGeometry(procfs::Root()).value()) {}

void Readers::SetFamily(uint64_t address, uint64_t bytes, std::vector<pid_t> pids) {
  address_ = address;
  bytes_ = bytes;
  pids_ = std::move(pids);
  pagemaps_.clear();
  for (const pid_t pid : pids_) pagemaps_.push_back(procfs::Pagemap::Open(procfs::Root(), pid).value());
  entries_.resize(geometry_.PagesPerWindow());
  full_.reset();
  incremental_.reset();
}

void Readers::Read(std::string_view reader) {
  if (reader == "full") {
    Pass(full_, std::chrono::milliseconds(0));
  } else if (reader == "incremental") {
    Pass(incremental_, std::chrono::hours(1));
  } else if (reader == "bare") {
    ReadPagemaps();
  } else if (reader == "rollup") {
    ReadRollups();
  } else {
    throw std::runtime_error("unknown reader");
  }
}

void Readers::Pass(std::unique_ptr<collectors::Engine>& engine, std::chrono::milliseconds full_every) {
  if (!engine) engine = std::make_unique<collectors::Engine>(procfs::Root(), Options(full_every));
  Unhindered control;
  if (!engine->RunPass(control)) throw std::runtime_error("the pass was not completed");
}

void Readers::ReadPagemaps() {
  for (uint64_t address = address_; address < address_ + bytes_; address += geometry_.huge_page_bytes) {
    for (const procfs::Pagemap& pagemap : pagemaps_) {
      if (!pagemap.Read(geometry_.PageOf(address), entries_)) throw std::runtime_error("pagemap can't be read");
    }
  }
}

void Readers::ReadRollups() const {
  for (const pid_t pid : pids_) {
    if (!procfs::ReadSmapsRollup(procfs::Root(), pid)) throw std::runtime_error("smaps_rollup can't be read");
  }
}

}  // namespace cow::bench
