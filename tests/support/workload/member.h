// A member of the workload (one process), the state that all members share, and the commands' access to both.
//
// All state, including line buffers and tables of mappings, is in one shared mapping (Control). Commands use no stdio
// and do not allocate, so they dirty almost none of a member's private memory. Units: base pages. Each member changes
// its own state only; the root reads the state of members that wait for a command.
#pragma once

#include <sys/types.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <csetjmp>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string_view>

namespace cow::workload {

constexpr int kRoot = 0;
constexpr int kNobody = -1;
constexpr size_t kMaxMembers = 64;
constexpr size_t kMaxMappings = 32;
constexpr size_t kMaxLine = 1024;
constexpr size_t kMaxWords = 8;
constexpr size_t kMaxPages = size_t{1} << 32;

enum class Kind : uint8_t { kDefault, kAligned, kNoHuge, kHuge, kNoReserve, kNone, kShared, kHugetlb, kFile };

// A string of limited length that is stored within its owner.
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
  bool survives = false;        // does not end with the root
  unsigned char next_byte = 0;  // next value to write
  volatile size_t touched_page = 0;
  volatile bool guarded = false;  // a memory fault returns to `fault`
  sigjmp_buf fault{};
  bool answered = false;         // another process in the same memory has answered
  bool leaderless = false;       // its main thread has ended; another one takes its commands
  std::atomic<int> writers = 0;  // threads of `writers` that still write
  std::array<char, kMaxLine> line{};
  Text<kMaxLine> reply;
};

struct Control {
  size_t page_bytes = 0;
  size_t huge_page_bytes = 0;
  int file = -1;  // the file of this mapping
  std::array<int, 2> lifeline{-1, -1};
  bool subreaper = false;
  size_t member_count = 1;
  std::array<Member, kMaxMembers> members;
  std::array<char, kMaxLine> input{};
  size_t input_length = 0;
};

// Set before the first fork and at an exec's return, never again. The handler of memory faults can't find it otherwise.
extern Control* control;

inline Member& MemberAt(int id) { return control->members.at(static_cast<size_t>(id)); }

struct Call {
  int self;  // the member that executes
  std::span<const std::string_view> words;
  [[nodiscard]] Member& Me() const { return MemberAt(self); }
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

inline void* Pointer(uintptr_t address) {
  return reinterpret_cast<void*>(address);  // NOLINT(performance-no-int-to-ptr): places of pages are computed
}

inline uintptr_t Address(const void* pointer) { return reinterpret_cast<uintptr_t>(pointer); }

template <typename Number>
std::optional<Number> ParseNumber(std::string_view text, Number most) {
  Number number{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size() || number < 0 || number > most) {
    return std::nullopt;
  }
  return number;
}

struct Command {
  std::string_view name;
  size_t least_words;  // including the name and the ID
  size_t most_words;
  void (*execute)(const Call&);
};

// The commands that a member executes itself, by subject; one source file each.
std::span<const Command> MemoryCommands();
std::span<const Command> ProcessCommands();

void SleepMillisecond();

// True if there is no such process, or only a zombie.
bool HasEnded(pid_t pid);

// ---- Touching memory

// Makes a memory fault in TouchPages return to it. False with errno on failure.
bool HandleFaults();

// Describes pages `first`, first + stride, … of the memory at `address`.
struct Range {
  uintptr_t address;
  size_t first;
  size_t count;
  size_t stride;
};

// Touches one byte of each page. False at a memory fault; me.touched_page is then the page.
bool TouchPages(Member& me, const Range& range, bool write);

// Returns the member's mapping of this name; null, with the error in its reply, if there is none.
Mapping* FindMapping(const Call& call, std::string_view name);

// Parses words from `index` on: FIRST COUNT [STRIDE] within the mapping. Empty, with the error in the reply, if they
// are wrong.
std::optional<Range> ParseRange(const Call& call, const Mapping& mapping, size_t index);

// ---- The member's loop

// Answers `greeting` and takes commands until the root ends.
[[noreturn]] void RunMember(int self, std::string_view greeting);

}  // namespace cow::workload
