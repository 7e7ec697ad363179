// The scanner: decides what is read of which process, and in which order. It is the only place that reads pages.
//
// A family is walked window by window (what one PMD maps): each member's entries of a window are read microseconds
// apart, given to the ledger, read again where a verdict is new, and shown to the observer. So no process' mmap lock is
// held for longer than one window takes, and each process rests between two windows, by its relatives' turns or by a
// sleep. What nobody can share is not walked: anonymous memory of a process without relatives, as long as every process
// of the host can be seen.
//
// Not thread-safe; errors of single processes end up in Member::unread.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "collectors/memory/families.h"
#include "collectors/memory/frame_facts.h"
#include "collectors/memory/ledger.h"
#include "collectors/memory/views.h"
#include "collectors/procfs/pagemap_scan.h"
#include "collectors/procfs/root.h"
#include "collectors/procfs/system.h"
#include "collectors/procfs/vmstat.h"

namespace cow::memory {

// What the kernel and this process' rights allow.
struct Capabilities {
  bool frames = false;
  bool kpageflags = false;
  bool kpagecount = false;
  bool pagemap_scan = false;
  bool exclusive_marks = false;  // kpageflags bit 34 is AnonExclusive
  bool sees_every_process = false;
};

// What was read since the start.
struct ScanCounters {
  uint64_t pagemap_pages = 0;  // entries
  uint64_t pagemap_reads = 0;  // system calls
  uint64_t scan_calls = 0;     // PAGEMAP_SCAN ioctls
  uint64_t frame_words = 0;    // words of kpageflags and kpagecount
  uint64_t frame_reads = 0;    // system calls
  uint64_t rests = 0;          // sleeps that gave a process its rest
  uint64_t windows_read_again = 0;
  uint64_t unstable_pages = 0;  // kept changing under the reads, left for the next pass
};

class Scanner : public FrameProbe {
 public:
  Scanner(procfs::Root root, procfs::PageGeometry geometry);

  const Capabilities& capabilities() const { return capabilities_; }
  const procfs::PageGeometry& geometry() const { return geometry_; }
  uint64_t zero_frame() const { return zero_frame_; }
  ScanCounters counters() const;
  // What observers are to be shown besides the windows.
  void SetNeeds(const Needs& needs) { needs_ = needs; }

  // Reads the host's own counters: called once before the families of a pass.
  void BeginPass();
  // Whether the family must be read: its members, their signals or the host's have moved since its last completed pass,
  // or that was `full_every` ago (spread over time by family). 0: always.
  bool IsDue(const Family& family, std::chrono::milliseconds full_every) const;

  // One pass over a family. False if the observer abandoned it.
  bool ScanFamily(Family& family, std::chrono::milliseconds full_every, ScanObserver& observer);

  bool ShareFrame(const Process& a, const Process& b) override;
  std::optional<bool> SameMemory(const Process& a, const Process& b) override;
  procfs::Result<procfs::Pagemap> OpenPagemap(const Process& process) override;
  bool LayoutIsRandom(const Process& process) override;

 private:
  struct PageRange {
    uint64_t first = 0;  // page numbers
    uint64_t last = 0;   // past the end
  };
  // How the current family is walked.
  struct Walk {
    bool all = false;         // anonymous memory too
    bool ksm_in_use = false;  // by a member
    bool swapped_in = false;  // pages of members, since the family's last pass
    bool unsettled = false;   // pages were on their way, or kept changing under the reads: to be looked at again
  };
  // One member's way through its mappings.
  struct Cursor {
    Member* member = nullptr;
    const procfs::Pagemap* pagemap = nullptr;
    std::vector<PageRange> ranges;  // to be read, ascending
    uint64_t walked_anon_pages = 0;
    uint64_t walked_swap_pages = 0;
    uint64_t walked_hugetlb_pages = 0;
    size_t next_range = 0;
    size_t next_mapping = 0;
    bool alive = true;
    uint64_t pages_since_rest = 0;
    std::chrono::steady_clock::time_point read_end;
    uint64_t* entries = nullptr;  // of the current window, or the zero window
    bool maps_window = false;
  };

  // Opens a member's page table and reads its mappings; false if that can't be done, and why is in `unread`.
  bool OpenMember(Member& member, std::vector<procfs::Pagemap>& borrowed, Cursor& cursor);
  std::vector<Cursor> Prepare(Family& family, std::vector<procfs::Pagemap>& borrowed);
  bool MustWalk(const Family& family) const;
  std::vector<PageRange> RangesOf(Cursor& cursor, bool walk_all);
  void AddPopulatedRanges(const Mapping& mapping, Cursor& cursor, std::vector<PageRange>& ranges);
  std::vector<bool> EmptyByScreening(const Member& member) const;
  void ScanUnwalked(Cursor& cursor, bool count_sizes, Unwalked& unwalked);
  void ScanMapping(Cursor& cursor, const procfs::Vma& vma, uint64_t any_of, uint64_t return_mask, bool sparse);
  void SampleLonely(Cursor& cursor);
  std::optional<bool> SameStack(const Process& a, const Process& b);
  bool AnyShared(std::span<const uint64_t> entries);
  bool FramesMatch(const procfs::Pagemap& a, const procfs::Pagemap& b, uint64_t first, size_t pages);
  bool ReadEntries(Cursor& cursor, uint64_t first, std::span<uint64_t> entries);
  void ReadWindow(Cursor& cursor, uint64_t window, std::span<uint64_t> entries);
  void Rest(Cursor& cursor, size_t pages);
  void WalkWindow(Family& family, std::vector<Cursor>& cursors, uint64_t window, Walk& walk, ScanObserver& observer);
  void BuildReadings(const Family& family, const std::vector<Cursor>& cursors, uint64_t window);
  void SettleWindow(Family& family, std::vector<Cursor>& cursors, uint64_t window, Walk& walk);
  bool AnyMigrating() const;
  // Adds breaks to the lives of the members they concern.
  void Account(const Family& family);
  bool WitnessesAgree(std::vector<Cursor>& cursors, uint64_t window, std::span<uint64_t> unstable);
  void Show(const Family& family, std::vector<Cursor>& cursors, uint64_t window, const Walk& walk,
            ScanObserver& observer);
  SegmentTally TallySegment(const Mapping& mapping, std::span<const uint64_t> entries) const;
  uint64_t HugePages(Cursor& cursor, uint64_t window);
  // False if the observer abandoned the pass.
  bool ReadSmaps(const Family& family, ScanObserver& observer);
  void FinishLedger(Family& family, MovedSharing& moved);
  bool SwappedIn(const Family& family) const;
  void PassCompleted(Family& family, const Walk& walk, std::chrono::milliseconds full_every) const;

  procfs::Root root_;
  procfs::PageGeometry geometry_;
  size_t pages_;
  Capabilities capabilities_;
  procfs::PagemapScan scan_;
  std::unique_ptr<FrameReader> frames_;
  uint64_t zero_frame_ = kNoFrame;
  bool random_layouts_ = true;
  DeviceTypes devices_;
  ScanCounters counters_;
  Needs needs_;
  std::optional<procfs::Vmstat> vmstat_;
  bool host_changed_ = true;  // by its own counters, since the pass before
  bool ksm_on_host_ = false;  // KSM has merged pages of somebody

  // Buffers kept from window to window.
  std::vector<uint64_t> zero_window_;
  std::vector<uint64_t> entries_;
  std::vector<uint64_t> again_;
  std::vector<Reading> readings_;
  std::vector<uint32_t> cursor_of_reading_;
  Examination examination_;
  FrameFacts facts_;
  Judgement judgement_;
  WindowSharing sharing_;
  std::vector<procfs::ScanRegion> regions_;
  std::vector<Segment> segments_;
  std::vector<MemberWindow> shown_;
  std::vector<SmapsReading> smaps_;
};

}  // namespace cow::memory
