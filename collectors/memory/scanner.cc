#include "collectors/memory/scanner.h"

#include <algorithm>
#include <charconv>
#include <utility>

#include "collectors/memory/due.h"
#include "collectors/procfs/ksm.h"
#include "collectors/procfs/pagemap_scan.h"
#include "collectors/procfs/text.h"

namespace cow::memory {
namespace {

// By the kernel's version: root/sys/kernel/osrelease.
ExclusiveMarks MarksOfKernel(const procfs::Root& root) {
  const auto release = procfs::ReadTextFile(root, root.ProcPath("sys/kernel/osrelease"));
  if (!release) return ExclusiveMarks::kNone;
  std::pair<unsigned, unsigned> version;
  const char* end = release->data() + release->size();
  const auto [dot, error] = std::from_chars(release->data(), end, version.first);
  if (error != std::errc() || dot == end || *dot != '.') return ExclusiveMarks::kNone;
  if (std::from_chars(dot + 1, end, version.second).ec != std::errc()) return ExclusiveMarks::kNone;
  if (version < std::pair(5U, 19U)) return ExclusiveMarks::kNone;
  return version < std::pair(6U, 12U) ? ExclusiveMarks::kOfThePage : ExclusiveMarks::kOfTheFolio;
}

}  // namespace

MappingKind KindOfVerdict(const Family& family, const Verdict& verdict, const procfs::PageGeometry& geometry) {
  const Member* member = family.FindSlot(verdict.slot);
  if (member == nullptr || !member->mappings) return MappingKind::kAnon;
  const Mapping* mapping = FindMapping(*member->mappings, verdict.page * geometry.page_bytes);
  return mapping == nullptr ? MappingKind::kAnon : mapping->kind;
}

Scanner::Scanner(procfs::Root root, procfs::PageGeometry geometry, size_t threads)
    : host_{std::move(root), geometry, {}, procfs::PagemapScan(), kNoFrame, {}, std::nullopt, false},
      marks_(MarksOfKernel(host_.root)) {
  host_.scan = procfs::PagemapScan::Probe(host_.root, geometry);
  GrowTo(std::max<size_t>(threads, 1));
  FrameReader& frames = scanners_.front()->frames();
  host_.zero_frame = procfs::FindZeroPageFrame(host_.root, geometry).value_or(kNoFrame);
  // Where the root is another system's tree, this process' own page tells nothing of it.
  const bool is_own_system = procfs::ReadLink(host_.root, host_.root.ProcPath("self/exe")).has_value();
  if (host_.zero_frame == kNoFrame && !is_own_system)
    host_.zero_frame = frames.SearchZeroFrame(host_.root, geometry.page_bytes);
  Capabilities& can = host_.capabilities;
  can.frames = host_.zero_frame != kNoFrame;
  can.kpageflags = frames.has_flags();
  can.kpagecount = frames.has_counts();
  can.exclusive_marks = marks_ != ExclusiveMarks::kNone && can.kpageflags;
  can.pagemap_scan =
      host_.scan.Supports(procfs::kScanPresent | procfs::kScanSwapped | procfs::kScanZeroPage | procfs::kScanHuge);
  can.sees_every_process = procfs::SeesEveryProcess(host_.root);
  relatives_ = std::make_unique<Relatives>(host_.root, geometry, host_.zero_frame, frames, counters_);
}

void Scanner::GrowTo(size_t threads) {
  while (scanners_.size() < threads) scanners_.push_back(std::make_unique<FamilyScanner>(host_, marks_));
}

ScanCounters Scanner::counters(size_t thread) const {
  ScanCounters sum = scanners_[thread]->counters();
  if (thread == 0) sum.Add(counters_);
  return sum;
}

ScanCounters Scanner::counters() const {
  ScanCounters sum;
  for (size_t thread = 0; thread < threads(); ++thread) sum.Add(counters(thread));
  return sum;
}

void Scanner::BeginPass() {
  host_.vmstat.reset();
  if (const auto vmstat = procfs::ReadVmstat(host_.root)) host_.vmstat = *vmstat;
  host_.ksm_has_merged = procfs::KsmHasMerged(host_.root);
}

bool Scanner::IsDue(const Family& family, const PassOptions& options) const {
  return options.show_all || memory::IsDue(host_, family, options.full_every);
}

bool Scanner::ScanFamily(Family& family, const PassOptions& options, ScanObserver& observer, size_t thread) {
  return scanners_[thread]->Scan(family, options, observer);
}

}  // namespace cow::memory
