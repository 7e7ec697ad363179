// Creates known page-table situations step by step. Commands come from standard input, one a line; each is answered by
// one line on standard output, "ok …" or "error REASON", when all that it does is done.
//
// Members are the processes: 0 is the program itself (the root), the others are made by `fork`. ID is a member, NAME a
// mapping of that member (a fork gives the child the same names), FIRST a page of it, numbers are decimal, pages are
// base pages.
//
// clang-format off
//   map ID NAME PAGES [KIND]          new mapping with PROT_NONE guards around; answers ADDRESS. KIND: default (private
//                                     anonymous, the kernel's choice of page size), aligned (to 2 MiB), nohuge, huge
//                                     (aligned and MADV_HUGEPAGE), noreserve, none (PROT_NONE), shared, hugetlb (PAGES
//                                     fill whole huge pages)
//   mapfile ID NAME PATH PAGES private|shared
//   write ID NAME FIRST COUNT [STRIDE]  writes one byte to each of COUNT pages, STRIDE (1) pages apart
//   read ID NAME FIRST COUNT [STRIDE]
//   dontneed ID NAME FIRST COUNT
//   madvise ID NAME ADVICE FIRST COUNT  ADVICE is the kernel's number
//   unmap ID NAME FIRST COUNT
//   remap ID NAME                     mremap to a new place; answers ADDRESS
//   remapfixed ID NAME FIRST COUNT    munmap, then a fresh private anonymous mapping at the same place
//   collapse ID NAME                  MADV_COLLAPSE on all of it (the kernel refuses it for `nohuge`)
//   brk ID PAGES [NAME]               grows the heap by sbrk and writes to it; answers ADDRESS
//   heap ID BYTES                     malloc in small pieces, written to, never freed
//   malloc ID NAME PAGES              malloc in one piece, written to; NAME are its whole pages; answers ADDRESS
//   realloc ID NAME PAGES             realloc of it; answers ADDRESS
//   stack ID PAGES                    writes to so many pages below the stack's present end
//   threads ID COUNT                  starts threads that sleep
//   name ID TEXT                      sets the name of the process
//   fork ID                           answers NEW-ID PID
//   forkdouble ID                     the same through a process in between, which ends: the child is an orphan
//   share ID                          starts a process in the same memory (CLONE_VM) that only sleeps; answers PID
//   survive ID                        does not end when the root does, but a minute from now
//   exec ID                           becomes a fresh process image that only sleeps; takes no commands any more
//   exit ID [zombie], kill ID [zombie]  ends a member and has it reaped by its parent, or with `zombie` not
//   reap ID                           has a zombie reaped
//   pid ID                            answers PID
//   addr ID NAME                      answers ADDRESS PAGES
//   subreaper                         the root becomes the reaper of orphans
//   quit                              ends all; so does the end of standard input
// clang-format on
//
// Commands reach a member through its socket pair; all pairs are made before the first fork, so that a member of any
// depth has its own. All state, also line buffers and the tables of mappings, is in one shared mapping (Control), and
// nothing on the way of a command uses stdio or allocates: what a command itself dirties in a member is a page or two
// of its stack and libc's errno, the same ones each time. Members end when the root does, by a pipe that only the root
// can write to, unless told to survive it.
#include <alloca.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <csetjmp>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <new>
#include <optional>
#include <span>
#include <string_view>

namespace {

constexpr int kRoot = 0;
constexpr int kNobody = -1;
constexpr size_t kMaxMembers = 64;
constexpr size_t kMaxMappings = 32;
constexpr size_t kMaxLine = 1024;
constexpr size_t kMaxWords = 8;
constexpr size_t kHeapPiece = size_t{32} << 10;  // small enough for malloc to take it from the heap
constexpr size_t kMaxPages = size_t{1} << 32;
constexpr int kMadvCollapse = 25;  // Linux 6.1, not in the headers of Debian 12's glibc
constexpr int kEndPolls = 5000;    // milliseconds to wait for a process to end

enum class Kind : uint8_t { kDefault, kAligned, kNoHuge, kHuge, kNoReserve, kNone, kShared, kHugetlb, kFile };

struct KindName {
  std::string_view name;
  Kind kind;
};
constexpr std::array kKindNames{
    KindName{"default", Kind::kDefault}, KindName{"aligned", Kind::kAligned},     KindName{"nohuge", Kind::kNoHuge},
    KindName{"huge", Kind::kHuge},       KindName{"noreserve", Kind::kNoReserve}, KindName{"none", Kind::kNone},
    KindName{"shared", Kind::kShared},   KindName{"hugetlb", Kind::kHugetlb},
};

// A string of limited length that lives where its owner lives.
template <size_t kSize>
class Text {
 public:
  void Clear() { length_ = 0; }
  Text& Add(std::string_view text) {
    const size_t length = std::min(text.size(), kSize - length_);
    std::memcpy(bytes_.data() + length_, text.data(), length);
    length_ += length;
    return *this;
  }
  Text& AddNumber(uint64_t number, int base = 10) {
    const auto result = std::to_chars(bytes_.data() + length_, bytes_.data() + kSize, number, base);
    if (result.ec == std::errc()) {
      length_ = static_cast<size_t>(result.ptr - bytes_.data());
    }
    return *this;
  }
  Text& AddAddress(uintptr_t address) { return Add("0x").AddNumber(address, 16); }
  [[nodiscard]] std::string_view View() const { return {bytes_.data(), length_}; }

 private:
  std::array<char, kSize> bytes_{};
  size_t length_ = 0;
};

struct Mapping {
  Text<24> name;
  uintptr_t address = 0;
  size_t pages = 0;
  Kind kind = Kind::kDefault;
};

enum class State : uint8_t { kUnused, kRunning, kExeced, kZombie, kGone };

struct Member {
  State state = State::kUnused;
  pid_t pid = 0;
  int parent = kNobody;                // the member that reaps it
  std::array<int, 2> sockets{-1, -1};  // the root's end, the member's
  size_t mapping_count = 0;
  std::array<Mapping, kMaxMappings> mappings;
  void* heap_pieces = nullptr;  // each points to the one before
  void* block = nullptr;        // the last one of `malloc`
  bool survives = false;        // the end of the root
  unsigned char next_byte = 0;  // to write
  volatile size_t touched_page = 0;
  volatile bool guarded = false;  // a memory fault returns to `fault`
  sigjmp_buf fault{};
  std::array<char, kMaxLine> line{};
  Text<kMaxLine> reply;
};

struct Control {
  size_t page_bytes = 0;
  size_t huge_page_bytes = 0;
  std::array<int, 2> lifeline{-1, -1};
  bool subreaper = false;
  size_t member_count = 1;
  std::array<Member, kMaxMembers> members;
  std::array<char, kMaxLine> input{};
  size_t input_length = 0;
};

// Set before the first fork and never again. The handler of memory faults has no other way to find it.
Control* control = nullptr;

struct Call {
  int self;  // the member that executes
  std::span<const std::string_view> words;
  [[nodiscard]] Member& Me() const { return control->members.at(static_cast<size_t>(self)); }
  [[nodiscard]] Text<kMaxLine>& Ok() const { return Me().reply.Add("ok"); }
  void Done() const { Me().reply.Add("ok"); }
  void Error(std::string_view reason) const {
    Me().reply.Clear();
    Me().reply.Add("error ").Add(reason);
  }
  void SystemError(std::string_view what) const {
    const int error = errno;
    Me().reply.Clear();
    Me().reply.Add("error ").Add(what).Add(": ").Add(strerrordesc_np(error));
  }
};

Member& MemberAt(int id) { return control->members.at(static_cast<size_t>(id)); }

void* Pointer(uintptr_t address) {
  return reinterpret_cast<void*>(address);  // NOLINT(performance-no-int-to-ptr): places of pages are computed
}

uintptr_t Address(const void* pointer) { return reinterpret_cast<uintptr_t>(pointer); }

template <typename Number>
std::optional<Number> ParseNumber(std::string_view text, Number most) {
  Number number{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size() || number < 0 || number > most) {
    return std::nullopt;
  }
  return number;
}

void SleepMillisecond() {
  const timespec millisecond{.tv_sec = 0, .tv_nsec = 1'000'000};
  nanosleep(&millisecond, nullptr);
}

// ---- Memory

extern "C" void HandleFault(int signal) {
  const pid_t pid = getpid();
  for (Member& member : control->members) {
    if (member.pid == pid && member.guarded) {
      member.guarded = false;
      siglongjmp(member.fault, 1);
    }
  }
  std::signal(signal, SIG_DFL);  // the access is repeated and ends the process
}

// Pages `first`, first + stride, … of the memory at `address`.
struct Range {
  uintptr_t address;
  size_t first;
  size_t count;
  size_t stride;
};

[[gnu::noinline]] void TouchEach(Member& me, const Range& range, bool write) {
  me.next_byte = static_cast<unsigned char>(me.next_byte % 255 + 1);
  for (size_t i = 0; i < range.count; ++i) {
    me.touched_page = range.first + i * range.stride;
    volatile auto* place = static_cast<unsigned char*>(Pointer(range.address + me.touched_page * control->page_bytes));
    if (write) {
      *place = me.next_byte;
    } else {
      static_cast<void>(*place);
    }
  }
}

// Touches one byte of each page. False at a memory fault; me.touched_page is then the page.
[[gnu::noinline]] bool TouchPages(Member& me, const Range& range, bool write) {
  if (sigsetjmp(me.fault, 1) != 0) {
    return false;
  }
  me.guarded = true;
  TouchEach(me, range, write);
  me.guarded = false;
  return true;
}

Mapping* FindMapping(const Call& call, std::string_view name) {
  Member& me = call.Me();
  const std::span mappings(me.mappings.data(), me.mapping_count);
  const auto found = std::find_if(mappings.begin(), mappings.end(),
                                  [&](const Mapping& mapping) { return mapping.name.View() == name; });
  if (found == mappings.end()) {
    call.Error("no such mapping");
    return nullptr;
  }
  return &*found;
}

// A hole in the address space, aligned and with at least a page of PROT_NONE on each side, so that what is mapped into
// it is not merged with a neighbour. 0 on failure.
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

// Enters it in the member's table.
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

// Maps and enters it.
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
  // The words are cut out of a line in which each is followed by a space: end this one there.
  const size_t end = static_cast<size_t>(call.words[3].data() - call.Me().line.data()) + call.words[3].size();
  call.Me().line.at(end) = '\0';
  const int file = open(call.words[3].data(), (shared ? O_RDWR : O_RDONLY) | O_CLOEXEC);
  if (file < 0) {
    return call.SystemError("open");
  }
  AddMapping(call, call.words[2], *pages, Kind::kFile, shared ? MAP_SHARED : MAP_PRIVATE, file);
  close(file);
}

// Words from `index` on: FIRST COUNT [STRIDE] within the mapping.
std::optional<Range> ParseRange(const Call& call, const Mapping& mapping, size_t index) {
  const auto first = ParseNumber<size_t>(call.words[index], kMaxPages);
  const auto count = ParseNumber<size_t>(call.words[index + 1], kMaxPages);
  const auto stride =
      call.words.size() > index + 2 ? ParseNumber<size_t>(call.words[index + 2], kMaxPages) : std::optional<size_t>(1);
  if (!first || !count || !stride || *count == 0 || *stride == 0 || *first >= mapping.pages ||
      (mapping.pages - 1 - *first) / *stride < *count - 1) {
    call.Error("range is not within the mapping");
    return std::nullopt;
  }
  return Range{mapping.address, *first, *count, *stride};
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

// Also `remapfixed`, which maps fresh memory into the hole.
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

void Remap(const Call& call) {
  Mapping* mapping = FindMapping(call, call.words[2]);
  if (mapping == nullptr) {
    return;
  }
  const size_t bytes = mapping->pages * control->page_bytes;
  const uintptr_t hole = ReserveHole(bytes, AlignmentOf(mapping->kind));
  if (hole == 0) {
    return call.SystemError("mmap");
  }
  if (mremap(Pointer(mapping->address), bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, Pointer(hole)) == MAP_FAILED) {
    return call.SystemError("mremap");
  }
  mapping->address = hole;
  call.Ok().Add(" ").AddAddress(hole);
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
  if (!pages) {
    return call.Error("bad number of pages, or more than the stack's limit allows");
  }
  TouchStack(*pages);
  call.Done();
}

// ---- Processes

void* SleepForever(void* /*unused*/) {
  for (;;) {
    pause();
  }
}

void Threads(const Call& call) {
  const auto count = ParseNumber<int>(call.words[2], 1000);
  if (!count) {
    return call.Error("bad number of threads");
  }
  for (int i = 0; i < *count; ++i) {
    pthread_t thread{};
    errno = pthread_create(&thread, nullptr, SleepForever, nullptr);
    if (errno != 0) {
      return call.SystemError("pthread_create");
    }
    pthread_detach(thread);
  }
  call.Done();
}

void Name(const Call& call) {
  Text<16> name;
  name.Add(call.words[2].substr(0, 15)).Add(std::string_view("\0", 1));
  prctl(PR_SET_NAME, name.View().data());
  call.Done();
}

int SleepInProcess(void* /*unused*/) {
  SleepForever(nullptr);
  return 0;
}

void Share(const Call& call) {
  constexpr size_t kStackBytes = size_t{64} << 10;
  void* stack = mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (stack == MAP_FAILED) {
    return call.SystemError("mmap");
  }
  const int pid = clone(SleepInProcess, static_cast<char*>(stack) + kStackBytes, CLONE_VM | SIGCHLD, nullptr);
  if (pid < 0) {
    return call.SystemError("clone");
  }
  call.Ok().Add(" ").AddNumber(static_cast<uint64_t>(pid));
}

[[noreturn]] void RunMember(int self);

void Fork(const Call& call) {
  if (control->member_count == kMaxMembers) {
    return call.Error("too many members");
  }
  const bool orphan = call.words[0] == "forkdouble";
  const int id = static_cast<int>(control->member_count);
  Member& member = MemberAt(id);
  member.mapping_count = call.Me().mapping_count;
  member.mappings = call.Me().mappings;
  member.heap_pieces = call.Me().heap_pieces;
  member.block = call.Me().block;
  member.parent = orphan ? kNobody : call.self;

  const pid_t pid = fork();
  if (pid == 0) {
    if (orphan) {
      const pid_t inner = fork();
      if (inner != 0) {
        _exit(inner < 0 ? 1 : 0);
      }
    }
    RunMember(id);
  }
  int status = 0;
  if (pid < 0 || (orphan && (waitpid(pid, &status, 0) != pid || status != 0))) {
    return call.SystemError("fork");
  }
  // The child says that it is there, so that it is done with its own start when we answer.
  char ready = 0;
  if (recv(member.sockets[0], &ready, 1, 0) != 1) {
    return call.SystemError("recv");
  }
  ++control->member_count;
  call.Ok().Add(" ").AddNumber(static_cast<uint64_t>(id)).Add(" ").AddNumber(static_cast<uint64_t>(member.pid));
}

void Survive(const Call& call) {
  constexpr unsigned kSeconds = 60;
  call.Me().survives = true;
  alarm(kSeconds);
  call.Done();
}

void Exec(const Call& call) {
  Member& me = call.Me();
  std::array<Text<16>, 2> numbers;
  const std::array descriptors{me.sockets[1], control->lifeline[0]};
  for (size_t i = 0; i < descriptors.size(); ++i) {
    numbers.at(i).AddNumber(static_cast<uint64_t>(descriptors.at(i))).Add(std::string_view("\0", 1));
    fcntl(descriptors.at(i), F_SETFD, 0);
  }
  // The new image answers, after the exec.
  execl("/proc/self/exe", "cow_workload", "--idle", numbers[0].View().data(), numbers[1].View().data(), nullptr);
  call.SystemError("exec");
  for (const int descriptor : descriptors) {
    fcntl(descriptor, F_SETFD, FD_CLOEXEC);
  }
}

void Exit(const Call& call) {
  call.Done();
  send(call.Me().sockets[1], call.Me().reply.View().data(), call.Me().reply.View().size(), MSG_NOSIGNAL);
  _exit(0);
}

// Sent by the root only: _reap ID PID.
void Reap(const Call& call) {
  const auto pid = ParseNumber<pid_t>(call.words[2], INT32_MAX);
  if (!pid || waitpid(*pid, nullptr, 0) != *pid) {
    return call.SystemError("waitpid");
  }
  call.Done();
}

struct Command {
  std::string_view name;
  size_t least_words;  // with the name and the ID
  size_t most_words;
  void (*execute)(const Call&);
};

constexpr std::array kMemberCommands{
    Command{"map", 4, 5, Map},           Command{"mapfile", 6, 6, MapFile},   Command{"write", 5, 6, Touch},
    Command{"read", 5, 6, Touch},        Command{"dontneed", 5, 5, DontNeed}, Command{"madvise", 6, 6, AdviseNumber},
    Command{"unmap", 5, 5, Unmap},       Command{"remap", 3, 3, Remap},       Command{"remapfixed", 5, 5, Unmap},
    Command{"collapse", 3, 3, Collapse}, Command{"brk", 3, 4, Brk},           Command{"heap", 3, 3, Heap},
    Command{"stack", 3, 3, Stack},       Command{"threads", 3, 3, Threads},   Command{"fork", 2, 2, Fork},
    Command{"forkdouble", 2, 2, Fork},   Command{"exec", 2, 2, Exec},         Command{"malloc", 4, 4, Malloc},
    Command{"realloc", 4, 4, Realloc},   Command{"name", 3, 3, Name},         Command{"share", 2, 2, Share},
    Command{"survive", 2, 2, Survive},   Command{"_exit", 2, 2, Exit},        Command{"_reap", 3, 3, Reap},
};

size_t SplitWords(std::string_view line, std::array<std::string_view, kMaxWords>& words) {
  size_t count = 0;
  while (!line.empty() && count < kMaxWords) {
    const size_t start = line.find_first_not_of(' ');
    if (start == std::string_view::npos) {
      break;
    }
    line.remove_prefix(start);
    words.at(count) = line.substr(0, line.find(' '));
    line.remove_prefix(words.at(count).size());
    ++count;
  }
  return count;
}

// Executes what is in the member's line, in the member; the answer is in its reply.
void Execute(int self, size_t length) {
  Member& me = MemberAt(self);
  std::array<std::string_view, kMaxWords> words;
  const size_t count = SplitWords({me.line.data(), length}, words);
  const Call call{self, {words.data(), count}};
  me.reply.Clear();
  const auto* command = std::find_if(kMemberCommands.begin(), kMemberCommands.end(),
                                     [&](const Command& candidate) { return count > 0 && candidate.name == words[0]; });
  if (command == kMemberCommands.end()) {
    return call.Error("unknown command");
  }
  if (count < command->least_words || count > command->most_words) {
    return call.Error("wrong number of arguments");
  }
  command->execute(call);
}

[[noreturn]] void RunMember(int self) {
  Member& me = MemberAt(self);
  me.pid = getpid();
  me.state = State::kRunning;
  close(control->lifeline[1]);  // fails in a member's child, which has it closed already
  send(me.sockets[1], "r", 1, MSG_NOSIGNAL);
  for (;;) {
    std::array<pollfd, 2> events{pollfd{me.sockets[1], POLLIN, 0},
                                 pollfd{me.survives ? -1 : control->lifeline[0], POLLIN, 0}};
    if (poll(events.data(), events.size(), -1) < 0) {
      continue;
    }
    if (events[1].revents != 0) {
      _exit(0);
    }
    const ssize_t length = recv(me.sockets[1], me.line.data(), me.line.size() - 1, 0);
    if (length <= 0) {
      continue;
    }
    Execute(self, static_cast<size_t>(length));
    send(me.sockets[1], me.reply.View().data(), me.reply.View().size(), MSG_NOSIGNAL);
  }
}

// ---- The root

// The letter of /proc/PID/stat, 0 when there is no such process.
char ProcessState(pid_t pid) {
  Text<32> path;
  path.Add("/proc/").AddNumber(static_cast<uint64_t>(pid)).Add("/stat").Add(std::string_view("\0", 1));
  const int file = open(path.View().data(), O_RDONLY | O_CLOEXEC);
  if (file < 0) {
    return '\0';
  }
  std::array<char, 512> content{};
  const ssize_t length = read(file, content.data(), content.size());
  close(file);
  const std::string_view text(content.data(), length > 0 ? static_cast<size_t>(length) : 0);
  const size_t name_end = text.rfind(')');
  return name_end == std::string_view::npos || name_end + 2 >= text.size() ? '\0' : text[name_end + 2];
}

bool HasEnded(pid_t pid) {
  const char state = ProcessState(pid);
  return state == '\0' || state == 'Z' || state == 'X';
}

void AwaitEnd(pid_t pid) {
  for (int i = 0; i < kEndPolls && !HasEnded(pid); ++i) {
    SleepMillisecond();
  }
}

void MarkEnded(int id) {
  MemberAt(id).state = State::kZombie;
  for (Member& other : control->members) {
    if (other.parent == id) {
      other.parent = kNobody;
    }
  }
}

// Has the member execute the line and puts its answer into the root's reply.
void Request(int id, std::string_view line) {
  const Call root{kRoot, {}};
  Member& member = MemberAt(id);
  if (id == kRoot) {
    std::memcpy(member.line.data(), line.data(), line.size());
    return Execute(kRoot, line.size());
  }
  send(member.sockets[0], line.data(), line.size(), MSG_NOSIGNAL);
  pollfd event{member.sockets[0], POLLIN, 0};
  bool ended = false;
  while (poll(&event, 1, ended ? 0 : 100) <= 0) {
    if (ended) {  // and nothing was left to read
      MarkEnded(id);
      return root.Error("the member died");
    }
    ended = HasEnded(member.pid);
  }
  std::array<char, kMaxLine> answer;
  const ssize_t length = recv(member.sockets[0], answer.data(), answer.size(), 0);
  MemberAt(kRoot).reply.Clear();
  MemberAt(kRoot).reply.Add({answer.data(), length > 0 ? static_cast<size_t>(length) : 0});
}

// Has a member that has ended reaped by its parent, or by the root as subreaper. An orphan of others is theirs to reap.
void ReapMember(int id) {
  const Call root{kRoot, {}};
  Member& member = MemberAt(id);
  const bool orphan = member.parent == kNobody || MemberAt(member.parent).state != State::kRunning;
  if (orphan && control->subreaper) {
    waitpid(member.pid, nullptr, 0);  // fails if it was adopted before
  }
  if (orphan) {
    root.Done();
  } else {
    Text<64> line;
    line.Add("_reap ")
        .AddNumber(static_cast<uint64_t>(member.parent))
        .Add(" ")
        .AddNumber(static_cast<uint64_t>(member.pid));
    Request(member.parent, line.View());
  }
  member.state = State::kGone;
}

// exit ID [zombie], kill ID [zombie]
void EndMember(const Call& call, int id) {
  Member& member = MemberAt(id);
  const bool zombie = call.words.size() > 2;
  if (id == kRoot || (zombie && call.words[2] != "zombie")) {
    return call.Error("the root ends by quit, the only option is zombie");
  }
  if (call.words[0] == "exit" && member.state == State::kRunning) {
    Request(id, "_exit 0");
  } else if (call.words[0] == "kill" && (member.state == State::kRunning || member.state == State::kExeced)) {
    kill(member.pid, SIGKILL);
  } else {
    return call.Error("the member takes no commands");
  }
  AwaitEnd(member.pid);
  MarkEnded(id);
  call.Me().reply.Clear();
  if (!HasEnded(member.pid)) {
    call.Error("the member did not end");
  } else if (zombie) {
    call.Done();
  } else {
    ReapMember(id);
  }
}

void FindAddress(const Call& call, int id) {
  Member& member = MemberAt(id);
  const auto* found = std::find_if(member.mappings.begin(), member.mappings.begin() + member.mapping_count,
                                   [&](const Mapping& mapping) { return mapping.name.View() == call.words[2]; });
  if (found == member.mappings.begin() + member.mapping_count) {
    return call.Error("no such mapping");
  }
  call.Ok().Add(" ").AddAddress(found->address).Add(" ").AddNumber(found->pages);
}

// One line of input; the answer is in the root's reply.
void HandleLine(std::string_view line) {
  std::array<std::string_view, kMaxWords> words;
  const size_t count = SplitWords(line, words);
  const Call call{kRoot, {words.data(), count}};
  call.Me().reply.Clear();
  if (count == 1 && words[0] == "subreaper") {
    control->subreaper = prctl(PR_SET_CHILD_SUBREAPER, 1) == 0;
    return control->subreaper ? call.Done() : call.SystemError("prctl");
  }
  if (count < 2 || words[0].substr(0, 1) == "_") {
    return call.Error("unknown command, or without a member");
  }
  const auto id = ParseNumber<int>(words[1], static_cast<int>(control->member_count) - 1);
  if (!id) {
    return call.Error("no such member");
  }
  Member& member = MemberAt(*id);
  if (words[0] == "pid") {
    call.Ok().Add(" ").AddNumber(static_cast<uint64_t>(member.pid));
  } else if (words[0] == "addr" && count == 3) {
    FindAddress(call, *id);
  } else if (words[0] == "exit" || words[0] == "kill") {
    EndMember(call, *id);
  } else if (words[0] == "reap") {
    if (member.state != State::kZombie) {
      return call.Error("not a zombie");
    }
    ReapMember(*id);
  } else if (member.state != State::kRunning || (*id == kRoot && words[0] == "exec")) {
    call.Error("the member takes no commands");
  } else {
    Request(*id, line);
    if (words[0] == "exec" && call.Me().reply.View() == "ok") {
      member.state = State::kExeced;
    }
  }
}

bool WriteAll(std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = write(STDOUT_FILENO, text.data(), text.size());
    if (written <= 0) {
      return false;
    }
    text.remove_prefix(static_cast<size_t>(written));
  }
  return true;
}

// False to end.
bool Answer(std::string_view line) {
  Text<kMaxLine>& reply = MemberAt(kRoot).reply;
  if (line == "quit") {
    reply.Clear();
    reply.Add("ok");
  } else {
    HandleLine(line);
  }
  reply.Add("\n");
  return WriteAll(reply.View()) && line != "quit";
}

void RunRoot() {
  auto& input = control->input;
  for (;;) {
    const std::string_view pending(input.data(), control->input_length);
    const size_t end = pending.find('\n');
    if (end != std::string_view::npos) {
      if (!Answer(pending.substr(0, end))) {
        return;
      }
      control->input_length -= end + 1;
      std::memmove(input.data(), input.data() + end + 1, control->input_length);
      continue;
    }
    if (control->input_length == input.size()) {
      WriteAll("error line too long\n");
      return;
    }
    const ssize_t length =
        read(STDIN_FILENO, input.data() + control->input_length, input.size() - control->input_length);
    if (length <= 0) {
      return;
    }
    control->input_length += static_cast<size_t>(length);
  }
}

bool Initialise() {
  void* memory = mmap(nullptr, sizeof(Control), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) {
    return false;
  }
  control = new (memory) Control;
  control->page_bytes = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  control->huge_page_bytes = control->page_bytes / sizeof(uint64_t) * control->page_bytes;  // one page of table entries
  if (pipe2(control->lifeline.data(), O_CLOEXEC) != 0) {
    return false;
  }
  for (Member& member : control->members) {
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, member.sockets.data()) != 0) {
      return false;
    }
  }
  MemberAt(kRoot).pid = getpid();
  MemberAt(kRoot).state = State::kRunning;
  struct sigaction action {};
  action.sa_handler = HandleFault;
  return sigaction(SIGSEGV, &action, nullptr) == 0 && sigaction(SIGBUS, &action, nullptr) == 0;
}

// What an exec'ed member does: says so, then sleeps until the root ends.
int Idle(int socket, int lifeline) {
  prctl(PR_SET_NAME, "cow_idle");
  std::signal(SIGCHLD, SIG_IGN);  // children it had are reaped by the kernel
  send(socket, "ok", 2, MSG_NOSIGNAL);
  close(socket);
  pollfd event{lifeline, POLLIN, 0};
  while (poll(&event, 1, -1) <= 0) {
  }
  return 0;
}

}  // namespace

int main(int count, char** arguments) {
  if (count == 4 && std::string_view(arguments[1]) == "--idle") {
    const auto socket = ParseNumber<int>(arguments[2], INT32_MAX);
    const auto lifeline = ParseNumber<int>(arguments[3], INT32_MAX);
    return socket && lifeline ? Idle(*socket, *lifeline) : 2;
  }
  if (count != 1) {
    WriteAll("cow_workload takes its commands from standard input\n");
    return 2;
  }
  if (!Initialise()) {
    WriteAll("error start failed\n");
    return 1;
  }
  RunRoot();
  _exit(0);
}
