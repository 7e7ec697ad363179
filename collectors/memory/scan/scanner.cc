#include "collectors/memory/scan/scanner.h"

#include <algorithm>
#include <utility>

#include "collectors/memory/read/foreign_access.h"
#include "collectors/memory/scan/due.h"
#include "collectors/procfs/ksm.h"
#include "collectors/procfs/pagemap_scan.h"

namespace cow::memory {

MappingKind KindOfVerdict(const Family& family, const Verdict& verdict, const procfs::PageGeometry& geometry) {
  const Member* member = family.FindSlot(verdict.slot);
  if (member == nullptr || !member->access.mappings) return MappingKind::kAnon;
  const Mapping* mapping = FindMapping(*member->access.mappings, verdict.page.Address(geometry.page_bytes));
  return mapping == nullptr ? MappingKind::kAnon : mapping->kind;
}

Scanner::Scanner(procfs::Root root, procfs::PageGeometry geometry, size_t threads,
                 const std::optional<KernelFacts>& kernel)
    : host_{std::move(root), geometry, {}, procfs::PagemapScan(), {}, Pfn::None(), std::nullopt, false, nullptr},
      devices_(host_.root) {
  const procfs::Root own_root = RootOfSelf(host_.root);
  host_.scan = procfs::PagemapScan::Probe(own_root, geometry);
  host_.kernel = kernel ? *kernel : ProbeKernel(own_root, geometry, host_.scan);
  GrowTo(std::max<size_t>(threads, 1));
  FrameReader& frames = workers_.front()->frames;
  host_.zero_frame = procfs::FindZeroPageFrame(own_root, geometry).value_or(Pfn::None());
  // If the root is another system's tree, this process' own zero page is not that system's.
  const bool is_own_system = procfs::ReadLink(own_root, own_root.ProcPath("self/exe")).has_value();
  if (host_.zero_frame == Pfn::None() && !is_own_system)
    host_.zero_frame = frames.SearchZeroFrame(host_.root, geometry.page_bytes);
  Capabilities& can = host_.capabilities;
  can.frames = host_.zero_frame != Pfn::None() && host_.kernel.entry_kinds;
  can.kpageflags = frames.has_flags();
  can.kpagecount = frames.has_counts();
  can.exclusive_marks = host_.kernel.words.marks != ExclusiveMarks::kNone && can.kpageflags;
  can.folio_marks = host_.kernel.words.marks == ExclusiveMarks::kOfThePage && can.kpageflags;
  can.merged_flag = host_.kernel.words.merged_flag && can.kpageflags;
  can.page_mapcounts = host_.kernel.mapped_once && host_.kernel.page_mapcounts;
  can.pagemap_scan = host_.kernel.scan_kinds && host_.scan.Supports(procfs::kScanPresent | procfs::kScanSwapped |
                                                                    procfs::kScanZeroPage | procfs::kScanHuge);
  const ForeignAccess foreign = ProbeForeignAccess(own_root);
  can.ptrace = foreign.details;
  can.sees_every_process = foreign.page_tables && procfs::SeesEveryProcess(host_.root);
  layouts_ = foreign.page_tables && !foreign.details ? LayoutSource::kAuxiliaryVector : LayoutSource::kStat;
  forks_ = std::make_unique<ForkHistory>(host_.root, can.sees_every_process);
  host_.forks = forks_.get();
  relatives_ = std::make_unique<Relatives>(host_.root, geometry, host_.zero_frame, layouts_, frames, counters_);
}

void Scanner::GrowTo(size_t threads) {
  while (workers_.size() < threads) workers_.push_back(std::make_unique<ScanWorker>(host_));
}

ScanCounters Scanner::Counters() const {
  ScanCounters sum = counters_;
  for (const auto& worker : workers_) sum.Add(worker->counters);
  return sum;
}

void Scanner::BeginPass() {
  devices_.BeginPass();
  host_.vmstat.reset();
  if (const auto vmstat = procfs::ReadVmstat(host_.root)) host_.vmstat = *vmstat;
  host_.ksm_has_merged = procfs::KsmHasMerged(host_.root);
}

bool Scanner::IsDue(const Family& family, const PassOptions& options) const {
  return options.show_all || memory::IsDue(host_, family, options.full_every);
}

}  // namespace cow::memory
