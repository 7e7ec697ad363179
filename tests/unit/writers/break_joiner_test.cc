// Joins hand-made records and looks, and random ones that a model of the pages checks.
#include "collectors/writers/break_joiner.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <set>
#include <utility>
#include <vector>

namespace cow::writers {
namespace {

constexpr size_t kPagesPerWindow = 512;
constexpr pid_t kParent = 10;
constexpr pid_t kChild = 11;

PageNumber Page(uint64_t number) { return PageNumber(number); }

Fault At(uint64_t time, pid_t pid, uint64_t page, WriterId writer) { return {time, pid, Page(page), writer}; }

// A look that reads all windows at once.
Look LookAt(uint64_t time, std::vector<Break> breaks = {}, std::vector<pid_t> members = {kParent, kChild}) {
  Look look{time, time, kParent, std::move(members), {}, std::move(breaks)};
  look.windows[WindowIndex(0)] = time;
  return look;
}

Break Of(pid_t pid, uint64_t page) { return {.pid = pid, .page = Page(page)}; }

BreakJoiner Joiner() {
  return {kPagesPerWindow, [](const Fault&) { return Fresh::kFirstTouch; }};
}

TEST(BreakJoiner, GivesBreakToFirstRecordSinceLookBefore) {
  BreakJoiner joiner = Joiner();
  joiner.Apply(LookAt(10));
  joiner.Add(At(12, kChild, 5, 1));
  joiner.Apply(LookAt(20));  // not broken yet: the page was fresh, and a fork shared it
  joiner.Add(At(25, kChild, 5, 2));
  joiner.Add(At(26, kChild, 5, 3));
  joiner.Apply(LookAt(30, {Of(kChild, 5)}));
  joiner.Finish();
  const JoinSums& sums = joiner.sums();
  ASSERT_EQ(sums.attributed.size(), 1U);
  EXPECT_EQ(sums.attributed.begin()->first, (JoinSums::Key{2, Side::kChild, memory::MappingKind::kAnon}));
  EXPECT_EQ(sums.records, 3U);
  EXPECT_EQ(sums.repeated_records, 1U);
  EXPECT_EQ(sums.AllFresh(), 1U);
}

TEST(BreakJoiner, TakesEarlierRecordOfLateVerdict) {
  BreakJoiner joiner = Joiner();
  joiner.Apply(LookAt(10));
  joiner.Add(At(12, kParent, 5, 1));
  joiner.Apply(LookAt(20));  // the page kept changing: judged one look later
  joiner.Apply(LookAt(30, {Of(kParent, 5)}));
  joiner.Finish();
  EXPECT_EQ(joiner.sums().unexplained_pages, 0U);
  EXPECT_EQ(joiner.sums().attributed.begin()->first, (JoinSums::Key{1, Side::kParent, memory::MappingKind::kAnon}));
}

TEST(BreakJoiner, CountsBreakWithoutRecordAsUnexplained) {
  BreakJoiner joiner = Joiner();
  joiner.Apply(LookAt(10));
  joiner.Add(At(12, kParent, 5, 1));
  joiner.Apply(LookAt(20, {Of(kChild, 5), Of(kChild, 6)}));
  joiner.Finish();
  EXPECT_EQ(joiner.sums().unexplained_pages, 2U);
  EXPECT_EQ(joiner.sums().AllFresh(), 1U);
}

TEST(BreakJoiner, RecordTellsUnknownSide) {
  BreakJoiner joiner = Joiner();
  joiner.Apply(LookAt(10));
  joiner.Add(At(12, kChild, 5, 1));
  Break found = Of(kParent, 5);
  found.side_known = false;
  joiner.Apply(LookAt(20, {found}));
  joiner.Finish();
  ASSERT_EQ(joiner.sums().attributed.size(), 1U);
  EXPECT_EQ(std::get<Side>(joiner.sums().attributed.begin()->first), Side::kChild);
}

TEST(BreakJoiner, HugetlbPageIsOneRecordAndManyPages) {
  BreakJoiner joiner = Joiner();
  joiner.Apply(LookAt(10));
  joiner.Add(At(12, kChild, 0, 1));
  Break found = Of(kChild, 0);
  found.pages = 512;
  joiner.Apply(LookAt(20, {found}));
  joiner.Finish();
  EXPECT_EQ(joiner.sums().AllAttributed().pages, 512U);
  EXPECT_EQ(joiner.sums().AllAttributed().records, 1U);
}

TEST(BreakJoiner, DropsRecordsOutsideTheRun) {
  BreakJoiner joiner = Joiner();
  joiner.Add(At(9, kChild, 5, 1));
  joiner.Apply(LookAt(10));
  joiner.Apply(LookAt(20));
  joiner.Add(At(20, kChild, 5, 1));
  joiner.Finish();
  EXPECT_EQ(joiner.sums().records, 0U);
}

TEST(BreakJoiner, RecordsOfEndedMembersAreUnjudged) {
  BreakJoiner joiner = Joiner();
  joiner.Apply(LookAt(10));
  joiner.Add(At(12, kChild, 5, 1));
  joiner.Add(At(13, 99, 5, 1));  // lived between two looks
  joiner.Apply(LookAt(20, {}, {kParent}));
  joiner.Finish();
  EXPECT_EQ(joiner.sums().FreshByKind().at(static_cast<size_t>(Fresh::kUnjudged)), 2U);
}

TEST(BreakJoiner, RecordsOfUnmappedWindowsAreUnjudged) {
  BreakJoiner joiner = Joiner();
  joiner.Apply(LookAt(10));
  joiner.Add(At(12, kChild, 5 + kPagesPerWindow, 1));
  joiner.Apply(LookAt(20));
  joiner.Finish();
  EXPECT_EQ(joiner.sums().FreshByKind().at(static_cast<size_t>(Fresh::kUnjudged)), 1U);
}

TEST(BreakJoiner, CloseKeepsYoungRecords) {
  BreakJoiner joiner = Joiner();
  joiner.Apply(LookAt(10));
  joiner.Add(At(12, kChild, 5, 1));
  joiner.Add(At(25, kChild, 6, 1));
  joiner.Apply(LookAt(20));
  joiner.Close(20);
  EXPECT_EQ(joiner.open_records(), 1U);
  joiner.Apply(LookAt(30, {Of(kChild, 6)}));
  joiner.Finish();
  EXPECT_EQ(joiner.sums().records, 2U);
  EXPECT_EQ(joiner.sums().unexplained_pages, 0U);
}

// A family whose members write to pages at random. A look finds a page broken if a member that had shared it wrote
// since the look before.
class Model {
 public:
  explicit Model(uint32_t seed) : random_(seed) {}

  void Run() {
    ApplyLook(false);
    const int looks = Pick(1, 5);
    for (int i = 0; i < looks; ++i) {
      const int steps = Pick(0, 400);
      for (int step = 0; step < steps; ++step) Step();
      ApplyLook(true);
    }
    joiner_.Finish();
    Check();
  }

 private:
  struct PageState {
    bool shared = false;
    bool broken = false;            // since the last look at it
    std::optional<WriterId> first;  // of the records since the last look
  };
  using Place = std::pair<pid_t, uint64_t>;

  int Pick(int from, int to) { return std::uniform_int_distribution<int>(from, to)(random_); }

  void Step() {
    ++now_;
    if (Pick(0, 99) == 0) {  // a fork shares all pages of a member anew
      const pid_t pid = members_[static_cast<size_t>(Pick(0, static_cast<int>(members_.size()) - 1))];
      const pid_t child = next_pid_++;
      for (uint64_t page = 0; page < kPages; ++page) {
        pages_[{pid, page}].shared = true;
        pages_[{child, page}].shared = true;
      }
      members_.push_back(child);
      return;
    }
    if (Pick(0, 199) == 0 && members_.size() > 1) {
      members_.pop_back();
      return;
    }
    Write(members_[static_cast<size_t>(Pick(0, static_cast<int>(members_.size()) - 1))],
          static_cast<uint64_t>(Pick(0, kPages - 1)));
  }

  void Write(pid_t pid, uint64_t page) {
    PageState& state = pages_[{pid, page}];
    const bool is_lost = Pick(0, 9) == 0;
    const auto writer = static_cast<WriterId>(Pick(0, 4));
    if (std::exchange(state.shared, false)) {
      state.broken = true;
    } else if (Pick(0, 3) != 0) {
      return;  // no fault
    }
    if (is_lost) return;
    joiner_.Add({now_, pid, Page(page), writer});
    ++records_;
    if (!state.first) state.first = writer;
  }

  // Windows are read one after another while the members go on.
  void ApplyLook(bool judges) {
    Look look{++now_, 0, members_.front(), members_, {}, {}};
    for (uint64_t window = 0; window < kPages / kPagesPerWindow; ++window) {
      look.windows[WindowIndex(window)] = ++now_;
      for (const pid_t pid : look.members) {
        for (uint64_t page = window * kPagesPerWindow; page < (window + 1) * kPagesPerWindow; ++page) {
          PageState& state = pages_[{pid, page}];
          const bool broken = std::exchange(state.broken, false);
          const auto first = std::exchange(state.first, std::nullopt);
          if (!broken || !judges) continue;
          ++broken_;
          if (first) ++expected_[*first];
          look.breaks.push_back(Of(pid, page));
        }
      }
      for (int i = Pick(0, 30); judges && i > 0; --i) Outside(window);
    }
    look.end_ns = ++now_;
    joiner_.Apply(look);
  }

  // A fault during a look at a window that has been read: it belongs to the next look.
  void Outside(uint64_t read_up_to) {
    ++now_;
    const auto page = static_cast<uint64_t>(Pick(0, kPages - 1));
    if (page / kPagesPerWindow > read_up_to) return;
    const pid_t pid = members_[static_cast<size_t>(Pick(0, static_cast<int>(members_.size()) - 1))];
    PageState& state = pages_[{pid, page}];
    joiner_.Add({now_, pid, Page(page), 7});
    if (!state.first) state.first = 7;
    ++during_looks_;
  }

  void Check() const {
    const JoinSums& sums = joiner_.sums();
    const Attributed attributed = sums.AllAttributed();
    EXPECT_EQ(sums.broken_pages, broken_);
    EXPECT_EQ(attributed.pages + sums.unexplained_pages, broken_);
    EXPECT_EQ(attributed.records + sums.AllFresh() + sums.repeated_records, sums.records);
    EXPECT_GE(sums.records, records_);
    EXPECT_LE(sums.records, records_ + during_looks_);
    std::map<WriterId, uint64_t> found;
    for (const auto& [key, sum] : sums.attributed) found[std::get<WriterId>(key)] += sum.pages;
    uint64_t expected = 0;
    for (const auto& [writer, pages] : expected_) {
      EXPECT_GE(found[writer], pages);
      expected += pages;
    }
    EXPECT_GE(attributed.pages, expected);
  }

  static constexpr int kPages = 2 * static_cast<int>(kPagesPerWindow);

  std::mt19937 random_;
  BreakJoiner joiner_ = Joiner();
  std::map<Place, PageState> pages_;
  std::vector<pid_t> members_{kParent};
  pid_t next_pid_ = kChild;
  uint64_t now_ = 0;
  uint64_t records_ = 0;
  uint64_t during_looks_ = 0;
  uint64_t broken_ = 0;
  std::map<WriterId, uint64_t> expected_;  // pages by the first record of each break
};

class JoinerModelTest : public testing::TestWithParam<uint32_t> {};

TEST_P(JoinerModelTest, BothSumsHold) {
  for (uint32_t i = 0; i < 20; ++i) {
    SCOPED_TRACE(GetParam() * 100 + i);
    Model(GetParam() * 100 + i).Run();
    if (HasFailure()) return;
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, JoinerModelTest, testing::Range(0U, 10U));

}  // namespace
}  // namespace cow::writers
