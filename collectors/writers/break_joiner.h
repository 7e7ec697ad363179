// Joins page faults with the breaks that looks of the ledger find. Two sums hold for every run:
//
//   attributed + unexplained pages = pages that the looks judged as broken
//   attributed + fresh + repeated records = records of the run
//
// A break found by a look belongs to the first record of its page and process since the look before. If there is none,
// the break may be older than that look (the scan judges a page that kept changing one look later), so the latest
// earlier record is taken. Later records of a broken page are repeated. Records of pages that no look found broken are
// fresh.
//
// The run of a window begins and ends when its first and its last look read it. Records outside belong to no run and
// are dropped.
//
// Pure: sees records and verdicts, no files. Times are CLOCK_MONOTONIC in nanoseconds, pages are base pages. Memory: 32
// bytes per record since the last Close. Not thread-safe.
#pragma once

#include <sys/types.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <tuple>
#include <unordered_map>
#include <utility>
#include <vector>

#include "collectors/base/page_numbers.h"
#include "collectors/memory/read/mapping.h"

namespace cow::writers {

// The caller's number for the code that touched a page.
using WriterId = uint32_t;

enum class Side : uint8_t { kParent, kChild, kUnknown };
inline constexpr size_t kSides = 3;

// What a record was that no look found to be a break.
enum class Fresh : uint8_t {
  kFirstTouch,   // anonymous memory that was absent before
  kZeroPage,     // the zero page was there before
  kFileMapped,   // a page of a private file mapping; it is still the file's
  kFileWritten,  // a page of a private file mapping; the process has its own copy now
  kSharedFile,   // a page of a shared mapping: no write copies it
  kUnjudged,     // no look came after it: the process ended or unmapped the page before
};
inline constexpr size_t kFreshKinds = 6;

struct Fault {
  uint64_t time_ns = 0;
  pid_t pid = 0;  // the member whose memory it is
  PageNumber page;
  WriterId writer = 0;
  bool was_zero = false;  // the zero page was there at the look before
};

struct Break {
  pid_t pid = 0;
  bool side_known = true;  // false: `pid` stands for several members
  PageNumber page;
  uint64_t pages = 1;  // more than 1: a page of hugetlbfs
  memory::MappingKind mapping = memory::MappingKind::kAnon;
};

// One look at the family.
struct Look {
  uint64_t begin_ns = 0;
  uint64_t end_ns = 0;
  pid_t root = 0;                                     // the family's parent
  std::vector<pid_t> members;                         // that were readable to the end
  std::unordered_map<WindowIndex, uint64_t> windows;  // not later than the window was read
  std::vector<Break> breaks;                          // the first look's are ignored: they are older than the run
};

struct Attributed {
  uint64_t pages = 0;
  uint64_t records = 0;
};

struct JoinSums {
  using Key = std::tuple<WriterId, Side, memory::MappingKind>;

  std::map<Key, Attributed> attributed;
  std::map<std::pair<WriterId, Fresh>, uint64_t> fresh;  // records
  uint64_t broken_pages = 0;                             // as the looks judged
  uint64_t unexplained_pages = 0;                        // of them, without a record
  uint64_t records = 0;                                  // of the run, attributed or closed
  uint64_t repeated_records = 0;

  Attributed AllAttributed() const;
  uint64_t AllFresh() const;
  std::array<uint64_t, kFreshKinds> FreshByKind() const;
};

class BreakJoiner {
 public:
  // Says what a record without a break was, from the latest look. Never kUnjudged.
  using Describe = std::function<Fresh(const Fault&)>;

  BreakJoiner(size_t pages_per_window, Describe describe);

  // Records come in any order. Records that a look may have seen must be added before Apply of that look.
  void Add(const Fault& fault) { records_.push_back({fault}); }
  // Joins the breaks of a look.
  void Apply(const Look& look);
  // Decides about records before `time_ns` and forgets them.
  void Close(uint64_t time_ns);
  // Decides about all records. The last look ends the run.
  void Finish() { Close(~uint64_t{0}); }

  const JoinSums& sums() const { return sums_; }
  // Returns the sums since the last call.
  JoinSums TakeSums() { return std::exchange(sums_, {}); }
  size_t open_records() const { return records_.size(); }
  // The time of the look before the latest; records before it can be closed. 0: there are no two looks.
  uint64_t previous_look_ns() const { return previous_.begin_ns; }

 private:
  enum class State : uint8_t { kOpen, kAttributed, kRepeated };
  struct Record {
    Fault fault;
    State state = State::kOpen;
  };

  void Sort();
  uint64_t ReadAt(const Look& look, PageNumber page) const;
  Record* Find(pid_t pid, PageNumber page);
  Record* FindOfAny(const Break& found);
  bool IsOutside(const Fault& fault) const;
  bool IsJudged(const Fault& fault) const;
  void Decide(const Record& record);

  size_t pages_per_window_;
  Describe describe_;
  std::vector<Record> records_;
  size_t sorted_ = 0;  // the first of them are sorted by process, page and time
  std::optional<Look> first_;
  Look previous_;
  Look latest_;
  std::unordered_map<pid_t, uint64_t> last_seen_;  // begin of the last look at each member
  JoinSums sums_;
};

}  // namespace cow::writers
