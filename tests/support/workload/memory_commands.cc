// Commands on a member's own memory; cow_workload.cc describes them.
#include <alloca.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

#include "tests/support/workload/member.h"

namespace cow::workload {
namespace {

constexpr size_t kHeapPiece = size_t{32} << 10;  // small enough for malloc to take it from the heap
// Not in the headers of Debian 12.
constexpr int kMadvCollapse = 25;                     // Linux 6.1
constexpr uint64_t kUffdWpAsync = uint64_t{1} << 15;  // Linux 6.7: the kernel lifts the protection itself

struct KindName {
  std::string_view name;
  Kind kind;
};
constexpr std::array kKindNames{
    KindName{"default", Kind::kDefault}, KindName{"aligned", Kind::kAligned},     KindName{"nohuge", Kind::kNoHuge},
    KindName{"huge", Kind::kHuge},       KindName{"noreserve", Kind::kNoReserve}, KindName{"none", Kind::kNone},
    KindName{"shared", Kind::kShared},   KindName{"hugetlb", Kind::kHugetlb},
};

// Returns a hole in the address space, aligned and with at least one page of PROT_NONE on each side, so that a mapping
// in it is not merged with a neighbour. 0 on failure.
uintptr_t ReserveHole(size_t bytes, size_t alignment) {
  void* area = mmap(nullptr, bytes + 2 * alignment, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (area == MAP_FAILED) {
    return 0;
  }
  return (Address(area) / alignment + 1) * alignment;
}

bool Advise(uintptr_t address, size_t bytes, Kind kind) {
  if (kind == Kind::kHuge) {
    return madvise(Pointer(address), bytes, MADV_HUGEPAGE) == 0;
  }
  return kind != Kind::kNoHuge || madvise(Pointer(address), bytes, MADV_NOHUGEPAGE) == 0;
}

size_t AlignmentOf(Kind kind) {
  const bool huge = kind == Kind::kAligned || kind == Kind::kHuge || kind == Kind::kHugetlb;
  return huge ? control->huge_page_bytes : control->page_bytes;
}

// Enters the mapping in the member's table.
void Enter(const Call& call, std::string_view name, uintptr_t address, size_t pages, Kind kind) {
  Member& me = call.Me();
  Mapping& mapping = me.mappings.at(me.mapping_count++);
  mapping.name.Clear();
  mapping.name.Add(name);
  mapping.address = address;
  mapping.pages = pages;
  mapping.kind = kind;
  call.Ok().Add(" ").AddAddress(address);
}

bool MayEnter(const Call& call, std::string_view name, size_t pages) {
  const Member& me = call.Me();
  if (me.mapping_count == kMaxMappings || name.size() > 24 || pages == 0) {
    call.Error("too many mappings, name too long, or no pages");
    return false;
  }
  const std::span mappings(me.mappings.data(), me.mapping_count);
  if (std::any_of(mappings.begin(), mappings.end(), [&](const Mapping& other) { return other.name.View() == name; })) {
    call.Error("the name is taken");
    return false;
  }
  return true;
}

// Maps memory and enters it.
void AddMapping(const Call& call, std::string_view name, size_t pages, Kind kind, int flags, int file) {
  if (!MayEnter(call, name, pages)) {
    return;
  }
  const size_t bytes = pages * control->page_bytes;
  if (kind == Kind::kHugetlb && bytes % control->huge_page_bytes != 0) {
    return call.Error("not a whole number of huge pages");
  }
  const uintptr_t hole = ReserveHole(bytes, AlignmentOf(kind));
  if (hole == 0) {
    return call.SystemError("mmap");
  }
  const int protection = kind == Kind::kNone ? PROT_NONE : PROT_READ | PROT_WRITE;
  if (mmap(Pointer(hole), bytes, protection, flags | MAP_FIXED, file, 0) == MAP_FAILED) {
    return call.SystemError("mmap");
  }
  if (!Advise(hole, bytes, kind)) {
    return call.SystemError("madvise");
  }
  Enter(call, name, hole, pages, kind);
}

void Map(const Call& call) {
  const auto pages = ParseNumber<size_t>(call.words[3], kMaxPages);
  const std::string_view kind_name = call.words.size() > 4 ? call.words[4] : "default";
  const auto* kind = std::find_if(kKindNames.begin(), kKindNames.end(),
                                  [&](const KindName& candidate) { return candidate.name == kind_name; });
  if (!pages || kind == kKindNames.end()) {
    return call.Error("bad number of pages or unknown kind");
  }
  int flags = MAP_ANONYMOUS | (kind->kind == Kind::kShared ? MAP_SHARED : MAP_PRIVATE);
  if (kind->kind == Kind::kNoReserve) {
    flags |= MAP_NORESERVE;
  } else if (kind->kind == Kind::kHugetlb) {
    flags |= MAP_HUGETLB;
  }
  AddMapping(call, call.words[2], *pages, kind->kind, flags, -1);
}

void MapFile(const Call& call) {
  const auto pages = ParseNumber<size_t>(call.words[4], kMaxPages);
  const bool shared = call.words[5] == "shared";
  if (!pages || (!shared && call.words[5] != "private")) {
    return call.Error("bad number of pages, or neither private nor shared");
  }
  // Words are followed by a space in the line: end this one there.
  const size_t end = static_cast<size_t>(call.words[3].data() - call.Me().line.data()) + call.words[3].size();
  call.Me().line.at(end) = '\0';
  const int file = open(call.words[3].data(), (shared ? O_RDWR : O_RDONLY) | O_CLOEXEC);
  if (file < 0) {
    return call.SystemError("open");
  }
  AddMapping(call, call.words[2], *pages, Kind::kFile, shared ? MAP_SHARED : MAP_PRIVATE, file);
  close(file);
}

void MapMemfd(const Call& call) {
  const auto pages = ParseNumber<size_t>(call.words[3], kMaxPages);
  const bool shared = call.words[4] == "shared";
  const bool huge = call.words.size() > 5 && call.words[5] == "hugetlb";
  if (!pages || (!shared && call.words[4] != "private") || (call.words.size() > 5 && !huge)) {
    return call.Error("bad number of pages, neither private nor shared, or not hugetlb");
  }
  const int file = memfd_create("cow_workload", MFD_CLOEXEC | (huge ? MFD_HUGETLB : 0U));
  if (file < 0 || ftruncate(file, static_cast<off_t>(*pages * control->page_bytes)) != 0) {
    return call.SystemError("memfd");
  }
  const Kind kind = huge ? Kind::kHugetlb : Kind::kFile;
  AddMapping(call, call.words[2], *pages, kind, shared ? MAP_SHARED : MAP_PRIVATE, file);
  close(file);
}

// Maps System V shared memory.
void MapShm(const Call& call) {
  const auto pages = ParseNumber<size_t>(call.words[3], kMaxPages);
  const bool huge = call.words.size() > 4 && call.words[4] == "hugetlb";
  if (!pages || (call.words.size() > 4 && !huge)) {
    return call.Error("bad number of pages, or not hugetlb");
  }
  if (!MayEnter(call, call.words[2], *pages)) {
    return;
  }
  const int id = shmget(IPC_PRIVATE, *pages * control->page_bytes, IPC_CREAT | 0600 | (huge ? SHM_HUGETLB : 0));
  if (id < 0) {
    return call.SystemError("shmget");
  }
  const void* place = shmat(id, nullptr, 0);
  const int error = errno;
  shmctl(id, IPC_RMID, nullptr);  // removed with its last mapping
  errno = error;
  if (place == MAP_FAILED) {  // (void*)-1, shmat's error value
    return call.SystemError("shmat");
  }
  Enter(call, call.words[2], reinterpret_cast<uintptr_t>(place), *pages, huge ? Kind::kHugetlb : Kind::kFile);
}

void Touch(const Call& call) {
  const Mapping* mapping = FindMapping(call, call.words[2]);
  if (mapping == nullptr) {
    return;
  }
  const auto range = ParseRange(call, *mapping, 3);
  if (!range) {
    return;
  }
  if (!TouchPages(call.Me(), *range, call.words[0] == "write")) {
    call.Error("memory fault at page ");
    call.Me().reply.AddNumber(call.Me().touched_page);
  } else {
    call.Done();
  }
}

void AdvisePages(const Call& call, int advice, const Range& range) {
  if (madvise(Pointer(range.address + range.first * control->page_bytes), range.count * control->page_bytes, advice) !=
      0) {
    return call.SystemError("madvise");
  }
  call.Done();
}

void DontNeed(const Call& call) {
  if (const Mapping* mapping = FindMapping(call, call.words[2]); mapping != nullptr) {
    if (const auto range = ParseRange(call, *mapping, 3)) {
      AdvisePages(call, MADV_DONTNEED, *range);
    }
  }
}

void AdviseNumber(const Call& call) {
  const auto advice = ParseNumber<int>(call.words[3], 1000);
  if (!advice) {
    return call.Error("bad advice number");
  }
  if (const Mapping* mapping = FindMapping(call, call.words[2]); mapping != nullptr) {
    if (const auto range = ParseRange(call, *mapping, 4)) {
      AdvisePages(call, *advice, *range);
    }
  }
}

void Collapse(const Call& call) {
  if (const Mapping* mapping = FindMapping(call, call.words[2]); mapping != nullptr) {
    AdvisePages(call, kMadvCollapse, Range{mapping->address, 0, mapping->pages, 1});
  }
}

// Also executes `remapfixed`, which maps fresh memory into the hole.
void Unmap(const Call& call) {
  const Mapping* mapping = FindMapping(call, call.words[2]);
  if (mapping == nullptr) {
    return;
  }
  const auto range = ParseRange(call, *mapping, 3);
  if (!range) {
    return;
  }
  const uintptr_t address = mapping->address + range->first * control->page_bytes;
  const size_t bytes = range->count * control->page_bytes;
  if (munmap(Pointer(address), bytes) != 0) {
    return call.SystemError("munmap");
  }
  if (call.words[0] == "remapfixed") {
    constexpr int kFlags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE;
    if (mmap(Pointer(address), bytes, PROT_READ | PROT_WRITE, kFlags, -1, 0) == MAP_FAILED) {
      return call.SystemError("mmap");
    }
    if (!Advise(address, bytes, mapping->kind)) {
      return call.SystemError("madvise");
    }
  }
  call.Done();
}

// A third word names a mapping of equal size to replace; it names the hole afterwards. With "-" the new place is as
// large as the mapping, so the virtual size does not change.
void Remap(const Call& call) {
  Mapping* mapping = FindMapping(call, call.words[2]);
  if (mapping == nullptr) {
    return;
  }
  const bool same_size = call.words.size() > 3 && call.words[3] == "-";
  Mapping* onto = call.words.size() > 3 && !same_size ? FindMapping(call, call.words[3]) : nullptr;
  if (call.words.size() > 3 && !same_size && onto == nullptr) {
    return;
  }
  if (onto != nullptr && (onto == mapping || onto->pages != mapping->pages)) {
    return call.Error("not another mapping of as many pages");
  }
  const size_t bytes = mapping->pages * control->page_bytes;
  uintptr_t place = 0;
  if (onto != nullptr) {
    place = onto->address;
  } else if (same_size) {
    void* area = mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    place = area == MAP_FAILED ? 0 : Address(area);
  } else {
    place = ReserveHole(bytes, AlignmentOf(mapping->kind));
  }
  if (place == 0) {
    return call.SystemError("mmap");
  }
  if (mremap(Pointer(mapping->address), bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, Pointer(place)) == MAP_FAILED) {
    return call.SystemError("mremap");
  }
  if (onto != nullptr) {
    onto->address = mapping->address;
  }
  mapping->address = place;
  call.Ok().Add(" ").AddAddress(place);
}

void Brk(const Call& call) {
  const auto pages = ParseNumber<size_t>(call.words[2], kMaxPages);
  if (!pages) {
    return call.Error("bad number of pages");
  }
  if (call.words.size() > 3 && !MayEnter(call, call.words[3], *pages)) {
    return;
  }
  void* start = sbrk(static_cast<intptr_t>(*pages * control->page_bytes));
  if (Address(start) == UINTPTR_MAX) {
    return call.SystemError("sbrk");
  }
  if (!TouchPages(call.Me(), Range{Address(start), 0, *pages, 1}, true)) {
    return call.Error("memory fault");
  }
  if (call.words.size() > 3) {
    return Enter(call, call.words[3], Address(start), *pages, Kind::kDefault);
  }
  call.Ok().Add(" ").AddAddress(Address(start));
}

void BrkShrink(const Call& call) {
  const auto pages = ParseNumber<size_t>(call.words[2], kMaxPages);
  if (!pages) {
    return call.Error("bad number of pages");
  }
  if (Address(sbrk(-static_cast<intptr_t>(*pages * control->page_bytes))) == UINTPTR_MAX) {
    return call.SystemError("sbrk");
  }
  call.Done();
}

void Heap(const Call& call) {
  const auto bytes = ParseNumber<size_t>(call.words[2], size_t{1} << 40U);
  if (!bytes) {
    return call.Error("bad number of bytes");
  }
  for (size_t done = 0; done < *bytes; done += kHeapPiece) {
    void* piece = std::malloc(kHeapPiece);
    if (piece == nullptr) {
      return call.SystemError("malloc");
    }
    std::memset(piece, 1, kHeapPiece);
    std::memcpy(piece, static_cast<const void*>(&call.Me().heap_pieces), sizeof(void*));
    call.Me().heap_pieces = piece;
  }
  call.Done();
}

// The block begins behind malloc's header in the page before.
uintptr_t FirstWholePage(const void* block) { return Address(block) / control->page_bytes * control->page_bytes; }

void Malloc(const Call& call) {
  const auto pages = ParseNumber<size_t>(call.words[3], kMaxPages);
  if (!pages || !MayEnter(call, call.words[2], *pages)) {
    return call.Error("bad number of pages, or bad name");
  }
  void* block = std::malloc(*pages * control->page_bytes);
  if (block == nullptr) {
    return call.SystemError("malloc");
  }
  call.Me().block = block;
  if (!TouchPages(call.Me(), Range{Address(block), 0, *pages, 1}, true)) {
    return call.Error("memory fault");
  }
  Enter(call, call.words[2], FirstWholePage(block), *pages, Kind::kDefault);
}

void Realloc(const Call& call) {
  Mapping* mapping = FindMapping(call, call.words[2]);
  if (mapping == nullptr) {
    return;
  }
  const auto pages = ParseNumber<size_t>(call.words[3], kMaxPages);
  Member& me = call.Me();
  if (!pages || mapping->address != FirstWholePage(me.block)) {
    return call.Error("bad number of pages, or not the last block from malloc");
  }
  void* block = std::realloc(me.block, *pages * control->page_bytes);
  if (block == nullptr) {
    return call.SystemError("realloc");
  }
  me.block = block;
  mapping->address = FirstWholePage(block);
  mapping->pages = *pages;
  call.Ok().Add(" ").AddAddress(mapping->address);
}

[[gnu::noinline]] void TouchStack(size_t pages) {
  const size_t page_bytes = control->page_bytes;
  auto* block = static_cast<volatile char*>(alloca(pages * page_bytes));
  block[pages * page_bytes - 1] = 1;  // a page boundary may lie between the first byte of the last page and this frame
  for (size_t page = pages; page-- > 0;) {
    block[page * page_bytes] = 1;
  }
}

void Stack(const Call& call) {
  constexpr size_t kUsedBytes = size_t{1} << 20;  // generous: a member's stack is a few pages deep
  rlimit limit{};
  getrlimit(RLIMIT_STACK, &limit);
  const size_t most = limit.rlim_cur < kUsedBytes ? 0 : (limit.rlim_cur - kUsedBytes) / control->page_bytes;
  const auto pages = ParseNumber<size_t>(call.words[2], std::min(most, kMaxPages));
  if (!pages || *pages == 0) {
    return call.Error("bad number of pages, or more than the stack's limit allows");
  }
  TouchStack(*pages);
  call.Done();
}

// Parses words 2 to 4: NAME FIRST COUNT. Empty, with the error in the reply, if they name no pages.
std::optional<iovec> ParseBytes(const Call& call) {
  const Mapping* mapping = FindMapping(call, call.words[2]);
  if (mapping == nullptr) {
    return std::nullopt;
  }
  const auto range = ParseRange(call, *mapping, 3);
  if (!range || range->stride != 1) {
    return std::nullopt;
  }
  return iovec{Pointer(range->address + range->first * control->page_bytes), range->count * control->page_bytes};
}

void Lock(const Call& call) {
  const bool on_fault = call.words.size() > 5;
  const auto bytes = ParseBytes({call.self, call.words.first(5)});
  if (!bytes) {
    return;
  }
  if (on_fault && call.words[5] != "onfault") {
    return call.Error("the only option is onfault");
  }
  if (mlock2(bytes->iov_base, bytes->iov_len, on_fault ? MLOCK_ONFAULT : 0U) != 0) {
    return call.SystemError("mlock2");
  }
  call.Done();
}

void LockAll(const Call& call) {
  if (mlockall(MCL_CURRENT | MCL_FUTURE) != 0) {
    return call.SystemError("mlockall");
  }
  call.Done();
}

// The descriptor stays open: the registration lives as long.
void WriteProtect(const Call& call) {
  const auto bytes = ParseBytes(call);
  if (!bytes) {
    return;
  }
  const auto file = static_cast<int>(syscall(SYS_userfaultfd, O_CLOEXEC));
  if (file < 0) {
    return call.SystemError("userfaultfd");
  }
  uffdio_api api{};
  api.api = UFFD_API;
  api.features = kUffdWpAsync;
  uffdio_register area{};
  area.range = {Address(bytes->iov_base), bytes->iov_len};
  area.mode = UFFDIO_REGISTER_MODE_WP;
  uffdio_writeprotect protect{};
  protect.range = area.range;
  protect.mode = UFFDIO_WRITEPROTECT_MODE_WP;
  if (ioctl(file, UFFDIO_API, &api) != 0 || ioctl(file, UFFDIO_REGISTER, &area) != 0 ||
      ioctl(file, UFFDIO_WRITEPROTECT, &protect) != 0) {
    return call.SystemError("userfaultfd");
  }
  call.Done();
}

// The descriptor stays open: the pages are pinned as long.
void Pin(const Call& call) {
  const auto bytes = ParseBytes(call);
  if (!bytes) {
    return;
  }
  io_uring_params parameters{};
  const auto ring = static_cast<int>(syscall(SYS_io_uring_setup, 1, &parameters));
  if (ring < 0) {
    return call.SystemError("io_uring_setup");
  }
  if (syscall(SYS_io_uring_register, ring, IORING_REGISTER_BUFFERS, &*bytes, 1) != 0) {
    return call.SystemError("io_uring_register");
  }
  call.Done();
}

constexpr std::array kCommands{
    Command{"map", 4, 5, Map},
    Command{"mapfile", 6, 6, MapFile},
    Command{"memfd", 5, 6, MapMemfd},
    Command{"shm", 4, 5, MapShm},
    Command{"write", 5, 6, Touch},
    Command{"read", 5, 6, Touch},
    Command{"dontneed", 5, 5, DontNeed},
    Command{"madvise", 6, 6, AdviseNumber},
    Command{"unmap", 5, 5, Unmap},
    Command{"remap", 3, 4, Remap},
    Command{"remapfixed", 5, 5, Unmap},
    Command{"collapse", 3, 3, Collapse},
    Command{"mlock", 5, 6, Lock},
    Command{"mlockall", 2, 2, LockAll},
    Command{"uffdwp", 5, 5, WriteProtect},
    Command{"pin", 5, 5, Pin},
    Command{"brk", 3, 4, Brk},
    Command{"brkshrink", 3, 3, BrkShrink},
    Command{"heap", 3, 3, Heap},
    Command{"malloc", 4, 4, Malloc},
    Command{"realloc", 4, 4, Realloc},
    Command{"stack", 3, 3, Stack},
};

}  // namespace

std::span<const Command> MemoryCommands() { return kCommands; }

}  // namespace cow::workload
