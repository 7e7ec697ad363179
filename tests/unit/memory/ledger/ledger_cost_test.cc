// The cost of committing a window grows with the number of members, not with its square.
#include <gtest/gtest.h>
#include <malloc.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <ctime>
#include <functional>
#include <limits>
#include <string>
#include <unordered_map>
#include <vector>

#include "collectors/memory/ledger/ledger.h"

namespace cow::memory {
namespace {

constexpr size_t kPages = 512;
constexpr uint64_t kFirstFrame = 1000;

double CpuMilliseconds() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return 1e3 * static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_nsec);
}

// One window that a parent and its children share.
class Window {
 public:
  Window(size_t members, uint64_t ledger_limit_bytes)
      : budget_{ledger_limit_bytes, 0}, ledger_(kPages, Pfn::None(), &budget_), frames_(members) {
    for (std::vector<uint64_t>& frames : frames_) {
      for (size_t page = 0; page < kPages; ++page) frames.push_back(kFirstFrame + page);
    }
  }

  size_t members() const { return frames_.size(); }
  void Write(size_t member, size_t page) { frames_[member][page] = next_frame_++; }
  void ShareBetween(size_t a, size_t b, size_t page) { frames_[a][page] = frames_[b][page] = next_frame_++; }
  void End(size_t member) {
    ledger_.Depart(MemberIndex(member));
    frames_[member].clear();
  }
  void first_look(bool first_look) { first_look_ = first_look; }

  // Returns the milliseconds it took.
  double Commit() {
    ledger_.BeginPass();
    std::unordered_map<uint64_t, int> holders;
    for (const auto& frames : frames_) {
      for (const uint64_t frame : frames) ++holders[frame];
    }
    std::vector<std::vector<PageEntry>> entries;
    std::vector<Reading> readings;
    for (size_t m = 0; m < frames_.size(); ++m) {
      if (frames_[m].empty()) continue;
      std::vector<PageEntry>& words = entries.emplace_back();
      for (const uint64_t frame : frames_[m]) {
        const uint64_t once = holders[frame] == 1 ? procfs::kPagemapMappedOnce : 0;
        words.emplace_back(procfs::kPagemapPresent | once | frame);
      }
      const MemberIndex parent = m == 0 ? Verdict::kNobody : MemberIndex();
      readings.push_back({MemberIndex(m), nullptr, first_look_ && m != 0, parent, m == 0, false});
    }
    for (size_t i = 0; i < readings.size(); ++i) readings[i].entries = entries[i].data();
    judgement_.Clear();
    const double begin = CpuMilliseconds();
    ledger_.Compare(WindowIndex(0), readings, {}, comparison_);
    FrameFacts facts;
    facts.Assign({}, {}, {});
    ledger_.Commit(WindowIndex(0), readings, facts, comparison_, judgement_, sharing_);
    return CpuMilliseconds() - begin;
  }
  size_t verdicts() const { return judgement_.verdicts.size(); }

 private:
  LedgerBudget budget_;
  Ledger ledger_;
  std::vector<std::vector<uint64_t>> frames_;  // by member; empty: it ended
  uint64_t next_frame_ = 1 << 20;
  bool first_look_ = false;
  Comparison comparison_;
  Judgement judgement_;
  WindowSharing sharing_;
};

struct Situation {
  std::string name;
  std::function<void(Window&)> before;  // a pass that is not measured
  std::function<void(Window&)> change;
  uint64_t ledger_limit_bytes = ~uint64_t{0};
};

void PrintTo(const Situation& situation, std::ostream* out) { *out << situation.name; }

class LedgerCostTest : public testing::TestWithParam<Situation> {
 protected:
  // Keeps freed memory: page faults would cost more than the measured work.
  static void SetUpTestSuite() {
    mallopt(M_MMAP_THRESHOLD, 1 << 30);  // NOLINT(concurrency-mt-unsafe): one thread
    mallopt(M_TRIM_THRESHOLD, 1 << 30);  // NOLINT(concurrency-mt-unsafe)
  }

  static double Milliseconds(size_t members) {
    constexpr int kRounds = 7;
    double least = std::numeric_limits<double>::infinity();
    for (int round = 0; round < kRounds; ++round) {
      Window window(members, GetParam().ledger_limit_bytes);
      GetParam().before(window);
      window.Commit();
      GetParam().change(window);
      least = std::min(least, window.Commit());
      EXPECT_GT(window.verdicts(), 40U);
    }
    return least;
  }
};

// Both numbers of members fit the caches. Beyond the caches a page costs ten times as much.
TEST_P(LedgerCostTest, GrowsWithTheMembers) {
  const double few = Milliseconds(25);
  const double many = Milliseconds(200);
  std::printf("25 members: %.2f ms, 200 members: %.2f ms\n", few, many);
  EXPECT_LT(many, 24 * few) << "8 times the members would cost 64 times as much by their square";
}

void Nothing(Window& /*window*/) {}
void ParentWritesATenth(Window& window) {
  for (size_t page = 0; page < kPages; page += 10) window.Write(0, page);
}
void AllWriteATenth(Window& window) {
  for (size_t member = 0; member < window.members(); ++member) {
    for (size_t page = 0; page < kPages; page += 10) window.Write(member, page);
  }
}
void PairsShareATenth(Window& window) {
  for (size_t member = 1; member < window.members(); member += 2) {
    for (size_t page = 0; page < kPages; page += 10) window.ShareBetween(member - 1, member, page);
  }
}

INSTANTIATE_TEST_SUITE_P(Situations, LedgerCostTest,
                         testing::Values(Situation{"ParentWrites", Nothing, ParentWritesATenth},
                                         Situation{"ParentWritesAndFramesWereDropped", Nothing, ParentWritesATenth, 0},
                                         Situation{"AllWrite", Nothing, AllWriteATenth},
                                         Situation{"NewcomersHavePagesOfTheirOwn", AllWriteATenth,
                                                   [](Window& window) {
                                                     window.first_look(true);
                                                     AllWriteATenth(window);
                                                   }},
                                         Situation{"HalfEnd", Nothing,
                                                   [](Window& window) {
                                                     ParentWritesATenth(window);
                                                     for (size_t member = 1; member < window.members(); member += 2)
                                                       window.End(member);
                                                   }},
                                         Situation{"PairsShare", PairsShareATenth,
                                                   [](Window& window) {
                                                     for (size_t page = 0; page < kPages; page += 10)
                                                       window.Write(1, page);
                                                   }}),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace cow::memory
