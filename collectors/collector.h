// The interface of a collector: it is shown windows with their verdicts and adds them up.
//
// A collector opens no file of a process and keeps no per-window state. It declares what it needs to be read and how
// many numbers it adds up; the engine keeps these, per window, per family and per group, so that gauges always are the
// sum of each window's latest reading and counters outlive the processes. Adding a collector is one file that
// implements this interface and one line in registry.cc.
//
// Calls come from whichever thread scans, one at a time. A collector that throws loses its own metrics for that pass,
// nobody else's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "collectors/memory/scan/pass_options.h"
#include "collectors/memory/scan/views.h"
#include "collectors/metrics.h"
#include "collectors/options.h"
#include "collectors/procfs/root.h"

namespace cow::collectors {

// Where a collector adds. The engine zeroes `gauges` before each call: they are what this window or family holds now.
// `counters` are the group's own and only grow; they stay valid until OnPassEnd has returned, or SetOptions is called.
// In the first pass that a collector is shown a family in, after the collector was switched on or the family was taken
// in again, they are nobody's: what there is was there before, and is not counted.
struct Tally {
  std::span<int64_t> gauges;
  std::span<uint64_t> counters;
  std::string_view group = {};  // whose they are; empty: of a family that is left out of what is exported
};

// What a collector knows of one family's anonymous memory, in base pages.
struct FamilyMemory {
  int64_t shared_pages = 0;
  int64_t private_pages = 0;
  int64_t exposure_pages = 0;
};

// What is not read of a member, in base pages.
struct UnreadMember {
  bool is_root = false;
  int64_t anon_pages = 0;    // resident, those of hugetlbfs among them
  int64_t shared_pages = 0;  // of those, taken to be shared with its parent
  int64_t file_pages = 0;
  int64_t shmem_pages = 0;
  int64_t swapped_pages = 0;

  int64_t ResidentPages() const { return anon_pages + file_pages + shmem_pages; }
};

class Collector {
 public:
  explicit Collector(procfs::PageGeometry geometry) : geometry_(geometry) {}
  virtual ~Collector() = default;
  Collector(const Collector&) = delete;
  Collector& operator=(const Collector&) = delete;

  virtual size_t gauges() const { return 0; }
  virtual size_t counters() const { return 0; }

  // Other options, or other collectors beside it: between two passes, also after one that was abandoned.
  virtual void SetOptions(const CollectorOptions& /*options*/) {}

  // What it is to be shown besides the windows. Asked when it is made and after each SetOptions.
  virtual memory::Needs needs() const { return {}; }
  // Whether the kernel and the exporter's rights allow what it does, where that is in question: published as
  // cow_exporter_capability with its name.
  virtual std::optional<bool> capability() const { return std::nullopt; }
  // Why it can't publish anything here, found when it was made: told in the log. Empty: it can.
  virtual std::string limitation() const { return {}; }

  virtual void OnWindow(const memory::WindowView& /*view*/, const Tally& /*tally*/) {}
  // Verdicts about pages at moved addresses: after the windows, any number of times. Only counters may be added to.
  virtual void OnMoved(const memory::Family& /*family*/, const memory::Judgement& /*judgement*/,
                       const Tally& /*tally*/) {}
  // Once per completed pass over a family, after its windows.
  virtual void OnFamily(const memory::FamilyView& /*view*/, const Tally& /*tally*/) {}
  // A member ended (exit or exec) and its pages are settled. Only counters may be added to.
  virtual void OnEnd(const memory::Family& /*family*/, const memory::Member& /*member*/, const Tally& /*tally*/) {}
  // At the end of every pass, for each family, also for those that were not read because nothing of theirs had changed.
  // The gauges replace those of this call in the pass before, and are added to those of windows and family.
  virtual void OnPass(const memory::PassView& /*view*/, const Tally& /*tally*/) {}
  // The family is no more: state kept for it can go.
  virtual void OnFamilyGone(uint64_t /*family_id*/) {}
  // A pass over all families was completed.
  virtual void OnPassEnd() {}

  // Members whose windows were not all read yet: adds what is taken for the rest to the gauges of their family.
  virtual void AddUnread(std::span<const UnreadMember> /*members*/, std::span<int64_t> /*gauges*/) const {}

  // The same sums of a single family, by the gauges of its latest readings.
  virtual std::optional<FamilyMemory> DescribeFamily(std::span<const int64_t> /*gauges*/) const { return std::nullopt; }

  // Begins every metric of its own, whatever there is to tell.
  virtual void Publish(std::span<const GroupSums> groups, MetricWriter& writer) const = 0;

 protected:
  double Bytes(int64_t pages) const { return static_cast<double>(pages) * static_cast<double>(geometry_.page_bytes); }
  double Bytes(uint64_t pages) const { return static_cast<double>(pages) * static_cast<double>(geometry_.page_bytes); }
  int64_t Pages(uint64_t bytes) const { return static_cast<int64_t>(bytes / geometry_.page_bytes); }
  const procfs::PageGeometry& geometry() const { return geometry_; }

 private:
  procfs::PageGeometry geometry_;
};

}  // namespace cow::collectors
