#include "collectors/memory/read/kernel_probe.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <ctime>
#include <filesystem>
#include <new>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "collectors/memory/ledger/page.h"
#include "collectors/procfs/file_descriptor.h"
#include "collectors/procfs/kpage.h"

namespace cow::memory {
namespace {

using procfs::FileDescriptor;

constexpr int kCollapse = 25;  // MADV_COLLAPSE (6.1): makes a huge page now, or fails
// A larger huge page (512 MiB with 64 KiB pages) costs more than its answer is worth.
constexpr size_t kLargestHugePage = size_t{64} << 20;
constexpr auto kChildTime = std::chrono::seconds(2);
// The kernel may move a page between two reads: a second try finds what the first missed.
constexpr int kTries = 2;

// The kernel's words about one page. Kept in memory that the child writes.
struct Words {
  PageEntry entry;
  uint64_t flags = 0;
  uint64_t count = 0;

  bool IsAnonymous() const { return entry.IsAnonymous(); }
  bool IsOfFile() const { return entry.IsPresent() && entry.IsFile(); }
  bool IsOnce() const { return entry.IsMappedOnce(); }
  bool IsMarked() const { return (flags & procfs::kFrameAnon) != 0 && (flags & procfs::kFrameAnonExclusive) != 0; }
  bool IsUnmarked() const { return (flags & procfs::kFrameAnon) != 0 && (flags & procfs::kFrameAnonExclusive) == 0; }
};

// Reads the kernel's files with system calls only: the child of a multi-threaded process uses it too.
class KernelFiles {
 public:
  KernelFiles(const procfs::Root& root, size_t page_bytes) : page_bytes_(page_bytes) {
    if (auto opened = procfs::OpenReadOnly(root, root.ProcPath("self/pagemap"))) pagemap_ = std::move(*opened);
    if (auto opened = procfs::OpenReadOnly(root, root.ProcPath("kpageflags"))) flags_ = std::move(*opened);
    if (auto opened = procfs::OpenReadOnly(root, root.ProcPath("kpagecount"))) counts_ = std::move(*opened);
  }

  bool has_counts() const { return counts_.valid(); }

  Words Read(int pagemap, const volatile std::byte* page) const {
    Words words;
    words.entry = PageEntry(ReadWord(pagemap, reinterpret_cast<uintptr_t>(page) / page_bytes_));
    ReadFrame(words);
    return words;
  }
  Words Read(const volatile std::byte* page) const { return Read(pagemap_.get(), page); }

  // Fills in kpageflags and kpagecount of the entry's frame.
  void ReadFrame(Words& words) const {
    const Pfn frame = words.entry.Frame();
    if (!words.entry.IsPresent() || frame == Pfn::None()) return;
    words.flags = ReadWord(flags_.get(), frame.number());
    words.count = ReadWord(counts_.get(), frame.number());
  }

 private:
  static uint64_t ReadWord(int file, uint64_t index) {
    uint64_t word = 0;
    ssize_t bytes = 0;
    do {
      bytes = pread(file, &word, sizeof(word), static_cast<off_t>(index * sizeof(word)));
    } while (bytes < 0 && errno == EINTR);
    return bytes == sizeof(word) ? word : 0;
  }

  size_t page_bytes_;
  FileDescriptor pagemap_;
  FileDescriptor flags_;
  FileDescriptor counts_;
};

// A mapping of this process; invalid if mmap failed.
class Area {
 public:
  explicit Area(size_t bytes, int kind = MAP_PRIVATE | MAP_ANONYMOUS, int file = -1)
      : bytes_(bytes), start_(mmap(nullptr, bytes, PROT_READ | PROT_WRITE, kind, file, 0)) {}
  Area(const Area&) = delete;
  Area& operator=(const Area&) = delete;
  ~Area() {
    if (valid()) munmap(start_, bytes_);
  }

  bool valid() const { return start_ != MAP_FAILED; }  // NOLINT: the C macro casts
  void* start() const { return start_; }
  volatile std::byte* bytes() const { return static_cast<volatile std::byte*>(start_); }

 private:
  size_t bytes_;
  void* start_;
};

// A page that never becomes part of a huge page.
class SmallPage : public Area {
 public:
  explicit SmallPage(size_t page_bytes, int kind = MAP_PRIVATE | MAP_ANONYMOUS, int file = -1)
      : Area(page_bytes, kind, file) {
    if (valid()) madvise(start(), page_bytes, MADV_NOHUGEPAGE);
  }
};

// A range with the size and alignment of a huge page, which becomes one at the first access if the host has one free.
class HugeRange {
 public:
  explicit HugeRange(size_t bytes) : bytes_(bytes), area_(2 * bytes) {
    if (!area_.valid()) return;
    const auto start = reinterpret_cast<uintptr_t>(area_.start());
    first_ = area_.bytes() + ((bytes - start % bytes) % bytes);
    madvise(At(0), bytes_, MADV_HUGEPAGE);
  }

  bool valid() const { return area_.valid(); }
  volatile std::byte* bytes() const { return first_; }
  void* At(size_t offset) const { return const_cast<std::byte*>(first_ + offset); }  // NOLINT: system calls want it
  // Writes one byte. If the last page is present then, the range is a huge page.
  bool Populate(const KernelFiles& files, size_t page_bytes) const {
    *first_ = std::byte{1};
    const auto is_there = [&] { return files.Read(first_ + (bytes_ - page_bytes)).entry.IsPresent(); };
    return is_there() || (madvise(At(0), bytes_, kCollapse) == 0 && is_there());
  }

 private:
  size_t bytes_;
  Area area_;
  volatile std::byte* first_ = nullptr;
};

// The child's findings, in memory that both processes map.
struct ChildReport {
  Words shared;    // the small page, as fork left it
  Words copy;      // the child's page after its write to it
  Words original;  // the parent's page then
  Words partner;   // a parent's page of the huge page, which the child has dropped
  bool has_partner = false;
  bool complete = false;
};

class Probe {
 public:
  Probe(const procfs::Root& root, const procfs::PageGeometry& geometry, const procfs::PagemapScan& scan)
      : root_(root),
        geometry_(geometry),
        scan_(scan),
        files_(root, geometry.page_bytes),
        own_pagemap_(root.ProcPath("self/pagemap")) {}

  KernelFacts Find() {
    FindKinds();
    FindMappedOnce();
    ProbeHugePage();
    if (small_.valid()) {
      *small_.bytes() = std::byte{1};
      fresh_ = files_.Read(small_.bytes());
      facts_.words.merged_flag = (fresh_.flags & (procfs::kFrameAnon | procfs::kFrameKsm)) == procfs::kFrameAnon;
      ProbeInChild();
    }
    FindMarks();
    FindMapCounts();
    facts_.scan_kinds = ScanFindsKinds();
    return facts_;
  }

 private:
  size_t PageBytes() const { return geometry_.page_bytes; }

  void FindKinds() {
    const SmallPage own(PageBytes());
    const SmallPage shared(PageBytes(), MAP_SHARED | MAP_ANONYMOUS);
    if (!own.valid() || !shared.valid()) return;
    const PageEntry hole = files_.Read(own.bytes()).entry;
    *own.bytes() = std::byte{1};
    *shared.bytes() = std::byte{1};
    facts_.entry_kinds = !hole.IsPresent() && !hole.IsSwap() && files_.Read(own.bytes()).IsAnonymous() &&
                         files_.Read(shared.bytes()).IsOfFile();
  }

  // Maps a memfd page once, then a second time.
  void FindMappedOnce() {
    const FileDescriptor file(memfd_create("cow_exporter", MFD_CLOEXEC));
    if (!file.valid() || ftruncate(file.get(), static_cast<off_t>(PageBytes())) != 0) return;
    const SmallPage first(PageBytes(), MAP_SHARED, file.get());
    if (!first.valid()) return;
    *first.bytes() = std::byte{1};
    const bool once = files_.Read(first.bytes()).IsOnce();
    const SmallPage second(PageBytes(), MAP_SHARED, file.get());
    if (!second.valid()) return;
    *second.bytes() = std::byte{2};
    const Words twice = files_.Read(first.bytes());
    facts_.mapped_once = once && twice.entry.IsPresent() && !twice.IsOnce();
    counts_small_ = !files_.has_counts() || twice.entry.Frame() == Pfn::None() || twice.count == 2;
  }

  // Reads the huge page PMD-mapped, then PTE-mapped with its last page dropped.
  void ProbeHugePage() {
    const size_t huge_bytes = geometry_.huge_page_bytes;
    std::error_code ignored;
    has_large_folios_ = std::filesystem::exists(root_.SysPath("kernel/mm/transparent_hugepage"), ignored);
    if (!has_large_folios_ || huge_bytes > kLargestHugePage || huge_bytes < 4 * PageBytes()) return;
    huge_.emplace(huge_bytes);
    if (!huge_->valid() || !huge_->Populate(files_, PageBytes())) {
      huge_.reset();
      return;
    }
    head_ = files_.Read(huge_->bytes());
    tail_ = files_.Read(huge_->bytes() + PageBytes());
    const size_t last = huge_bytes - PageBytes();
    dropped_ = files_.Read(huge_->bytes() + last);
    scanned_as_huge_ = Scanned(huge_->bytes(), procfs::kScanHuge) == procfs::kScanHuge;
    madvise(huge_->At(last), PageBytes(), MADV_DONTNEED);
    files_.ReadFrame(dropped_);  // the folio keeps the frame
    kept_ = files_.Read(huge_->bytes() + PageBytes());
  }

  void ProbeInChild() {
    const Area shared(sizeof(ChildReport), MAP_SHARED | MAP_ANONYMOUS);
    if (!shared.valid()) return;
    auto* report = new (shared.start()) ChildReport;
    const pid_t child = fork();
    if (child < 0) return;
    if (child == 0) RunChild(*report);
    if (!Await(child) || !report->complete) return;
    report_ = *report;
    *small_.bytes() = std::byte{3};
    rewritten_ = files_.Read(small_.bytes());
  }

  // The parent may have other threads: makes system calls only.
  [[noreturn]] void RunChild(ChildReport& report) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    const int own = open(own_pagemap_.c_str(), O_RDONLY | O_CLOEXEC);
    if (own < 0) _exit(1);
    report.shared = files_.Read(own, small_.bytes());
    *small_.bytes() = std::byte{2};
    report.copy = files_.Read(own, small_.bytes());
    report.original = files_.Read(small_.bytes());  // through the parent's descriptor
    if (huge_) {
      madvise(huge_->At(PageBytes()), PageBytes(), MADV_DONTNEED);
      report.partner = files_.Read(huge_->bytes() + PageBytes());
      report.has_partner = true;
    }
    report.complete = true;
    _exit(0);
  }

  // Leaves no child behind. False if it did not end by itself or another thread reaped it.
  static bool Await(pid_t child) {
    const auto give_up = std::chrono::steady_clock::now() + kChildTime;
    int status = 0;
    while (true) {
      const pid_t ended = waitpid(child, &status, WNOHANG);
      if (ended == child) return WIFEXITED(status);
      if (ended < 0 && errno != EINTR) return false;
      if (std::chrono::steady_clock::now() > give_up) break;
      const timespec pause{0, 100000};
      nanosleep(&pause, nullptr);
    }
    kill(child, SIGKILL);
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    return false;
  }

  void FindMarks() {
    facts_.words.marks = ExclusiveMarks::kNone;
    const bool known = report_ && fresh_.IsMarked() && report_->shared.IsUnmarked() && report_->copy.IsMarked() &&
                       report_->original.IsUnmarked() && rewritten_.IsMarked();
    if (!known) return;
    facts_.words.marks = has_large_folios_ ? ExclusiveMarks::kOfSmallFolios : ExclusiveMarks::kOfThePage;
    if (!huge_ || !head_.IsMarked()) return;
    facts_.words.marks = tail_.IsMarked() ? ExclusiveMarks::kOfTheFolio : ExclusiveMarks::kOfThePage;
  }

  // A page dropped from a folio has no mapping, even if its neighbours have.
  void FindMapCounts() {
    const bool frames_seen = fresh_.entry.Frame() != Pfn::None();
    const bool asks_counts = files_.has_counts() && frames_seen;
    facts_.words.page_counts = !has_large_folios_ || (huge_ && asks_counts && kept_.count == 1 && dropped_.count == 0);
    const bool once_of_page = !has_large_folios_ || (report_ && report_->has_partner && report_->partner.IsOnce());
    facts_.page_mapcounts = asks_counts ? facts_.words.page_counts : once_of_page;
    if (!counts_small_) facts_.page_mapcounts = facts_.words.page_counts = false;
  }

  // The categories of a page, limited to `wanted`.
  uint64_t Scanned(const volatile std::byte* page, uint64_t wanted) const {
    // Uses this process's pid in that procfs: it differs in another PID namespace.
    const auto self = procfs::ReadLink(root_, root_.ProcPath("self"));
    pid_t pid = 0;
    if (!self || std::from_chars(self->data(), self->data() + self->size(), pid).ec != std::errc()) return 0;
    const auto pagemap = procfs::Pagemap::Open(root_, pid);
    if (!pagemap) return 0;
    const auto start = reinterpret_cast<uintptr_t>(page);
    std::vector<procfs::ScanRegion> regions;
    uint64_t calls = 0;
    const procfs::ScanRequest request{start, start + PageBytes(), wanted, wanted};
    if (!scan_.Scan(*pagemap, request, PageBytes(), regions, calls, [] {}) || regions.size() != 1) return 0;
    return regions.front().categories;
  }

  bool ScanFindsKinds() const {
    constexpr uint64_t kKinds = procfs::kScanPresent | procfs::kScanZeroPage | procfs::kScanHuge;
    if (!scan_.Supports(kKinds | procfs::kScanSwapped)) return false;
    const SmallPage zero(PageBytes());
    const SmallPage hole(PageBytes());
    if (!zero.valid() || !hole.valid() || !small_.valid()) return false;
    static_cast<void>(*zero.bytes());
    // A kernel without a zero page allocated a page instead.
    const bool is_own = files_.Read(zero.bytes()).IsOnce();
    const uint64_t zero_kinds = procfs::kScanPresent | (is_own ? 0 : procfs::kScanZeroPage);
    if (Scanned(zero.bytes(), kKinds) != zero_kinds) return false;
    if (Scanned(small_.bytes(), kKinds) != procfs::kScanPresent || Scanned(hole.bytes(), kKinds) != 0) return false;
    return !huge_ || scanned_as_huge_;
  }

  const procfs::Root& root_;
  const procfs::PageGeometry& geometry_;
  const procfs::PagemapScan& scan_;
  KernelFiles files_;
  std::string own_pagemap_;
  SmallPage small_{geometry_.page_bytes};
  KernelFacts facts_;
  Words fresh_;
  Words rewritten_;
  std::optional<ChildReport> report_;
  bool counts_small_ = false;
  bool has_large_folios_ = true;
  std::optional<HugeRange> huge_;
  Words head_;     // PMD-mapped
  Words tail_;     // PMD-mapped
  Words kept_;     // PTE-mapped
  Words dropped_;  // its frame after the page was dropped
  bool scanned_as_huge_ = false;
};

bool IsComplete(const KernelFacts& facts) {
  return facts.entry_kinds && facts.mapped_once && facts.page_mapcounts && facts.scan_kinds &&
         facts.words.merged_flag && facts.words.page_counts && facts.words.marks != ExclusiveMarks::kNone &&
         facts.words.marks != ExclusiveMarks::kOfSmallFolios;
}

// Keeps what any try found reliable: no disturbance can fake a right answer.
void Add(KernelFacts& facts, const KernelFacts& more) {
  facts.entry_kinds = facts.entry_kinds || more.entry_kinds;
  facts.mapped_once = facts.mapped_once || more.mapped_once;
  facts.page_mapcounts = facts.page_mapcounts || more.page_mapcounts;
  facts.scan_kinds = facts.scan_kinds || more.scan_kinds;
  facts.words.merged_flag = facts.words.merged_flag || more.words.merged_flag;
  facts.words.page_counts = facts.words.page_counts || more.words.page_counts;
  const bool better =
      facts.words.marks == ExclusiveMarks::kNone ||
      (facts.words.marks == ExclusiveMarks::kOfSmallFolios && more.words.marks != ExclusiveMarks::kNone);
  if (better) facts.words.marks = more.words.marks;
}

}  // namespace

KernelFacts KernelFacts::AsDocumented() {
  KernelFacts facts;
  facts.words = {ExclusiveMarks::kOfThePage, true, true};
  facts.entry_kinds = facts.mapped_once = facts.page_mapcounts = facts.scan_kinds = true;
  return facts;
}

bool IsOfThisSystem(const procfs::Root& root) {
  struct statfs filesystem {};
  return statfs(root.ProcPath("").c_str(), &filesystem) == 0 && filesystem.f_type == PROC_SUPER_MAGIC;
}

procfs::Root RootOfSelf(const procfs::Root& root) {
  if (!IsOfThisSystem(root) || procfs::ReadLink(root, root.ProcPath("self"))) return root;
  return procfs::Root("/proc", root.sysfs(), root.interposer());
}

KernelFacts ProbeKernel(const procfs::Root& root, const procfs::PageGeometry& geometry,
                        const procfs::PagemapScan& scan) {
  if (!IsOfThisSystem(root)) return KernelFacts::AsDocumented();
  KernelFacts facts;
  facts.words = {ExclusiveMarks::kNone, false, false};
  for (int i = 0; i < kTries && !IsComplete(facts); ++i) {
    Add(facts, Probe(root, geometry, scan).Find());
  }
  return facts;
}

}  // namespace cow::memory
