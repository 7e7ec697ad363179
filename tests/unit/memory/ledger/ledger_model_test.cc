// Compares the ledger with a model that knows every physical page of a random fork tree.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <iterator>
#include <map>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "tests/unit/memory/ledger/ledger_driver.h"

namespace cow::memory {
namespace {

constexpr uint64_t kPages = 64;
constexpr size_t kPagesPerWindow = 32;
constexpr size_t kMaxMembers = 8;
// The first frames of the zones that pages come from: below 16 TiB, across it and beyond.
constexpr std::array<uint64_t, 3> kZones{1000, (uint64_t{1} << 32U) - 500, uint64_t{1} << 44U};
constexpr uint64_t kZoneFrames = 2 * kPages * kMaxMembers;

unsigned Seed() {
  const char* given = std::getenv("COW_TEST_SEED");  // NOLINT(concurrency-mt-unsafe): one thread
  return given != nullptr ? static_cast<unsigned>(std::strtoul(given, nullptr, 10)) : std::random_device()();
}

// The parameter is the ledger's limit in bytes.
class LedgerModelTest : public testing::TestWithParam<uint64_t> {
 protected:
  LedgerModelTest() : driver_(kPagesPerWindow, GetParam()), seed_(Seed()), random_(seed_) {
    for (const uint64_t first : kZones) {
      for (uint64_t frame = first; frame < first + kZoneFrames; ++frame) free_.insert(frame);
    }
    driver_.Add(0);
    members_.push_back(0);
    for (uint64_t page = 0; page < kPages / 2; ++page) Write(0, page);
    driver_.Pass();
    breaks_.clear();
    unshared_.clear();
  }

  uint64_t Below(uint64_t limit) { return std::uniform_int_distribution<uint64_t>(0, limit - 1)(random_); }

  void Release(uint64_t frame, UnshareCause cause) {
    const uint64_t rest = --holders_[frame];
    if (rest == 1) ++unshared_[cause];
    if (rest == 0) free_.insert(frame);
  }

  // Chooses the zone of new pages for this step.
  void ChooseZone() {
    const uint64_t first = kZones[Below(std::size(kZones))];
    next_free_ = first + Below(kZoneFrames);
    free_in_order_ = Below(2) == 0;
  }

  // Returns consecutive or scattered frames.
  uint64_t Allocate() {
    auto found = free_.lower_bound(next_free_);
    if (found == free_.end()) found = free_.begin();
    const uint64_t frame = *found;
    free_.erase(found);
    next_free_ = frame + 1 + (free_in_order_ ? 0 : Below(50));
    return frame;
  }

  void Write(Slot slot, uint64_t page) {
    auto& tables = driver_.At(slot).tables;
    const auto found = tables.find(page);
    const bool present = found != tables.end() && found->second.Frame().number() != kTestZeroFrame;
    if (present && holders_[found->second.Frame().number()] == 1) {
      driver_.MarkExclusive(found->second.Frame().number(), true);
      return;
    }
    const uint64_t frame = Allocate();
    if (present) {
      ++breaks_[slot];
      --holders_[found->second.Frame().number()];
    }
    holders_[frame] = 1;
    driver_.MarkExclusive(frame, true);
    driver_.Map(slot, page, frame);
  }

  void Drop(Slot slot, uint64_t page) {
    auto& tables = driver_.At(slot).tables;
    const auto found = tables.find(page);
    if (found == tables.end()) return;
    if (found->second.Frame().number() != kTestZeroFrame) Release(found->second.Frame().number(), UnshareCause::kUnmap);
    tables.erase(found);
  }

  void ReadHole(Slot slot, uint64_t page) {
    if (!driver_.At(slot).tables.contains(page)) driver_.Map(slot, page, kTestZeroFrame);
  }

  void Fork(Slot parent) {
    if (members_.size() == kMaxMembers) return;
    Slot slot = 0;
    while (std::find(members_.begin(), members_.end(), slot) != members_.end() ||
           driver_.ledger.IsDeparting(MemberIndex(slot))) {
      ++slot;
    }
    for (const auto& [page, entry] : driver_.Fork(parent, slot).tables) {
      if (entry.Frame().number() == kTestZeroFrame) continue;
      ++holders_[entry.Frame().number()];
      driver_.MarkExclusive(entry.Frame().number(), false);
    }
    members_.push_back(slot);
  }

  void Exit(Slot slot) {
    if (members_.size() == 1) return;
    for (const auto& [page, entry] : driver_.At(slot).tables) {
      if (entry.Frame().number() != kTestZeroFrame) Release(entry.Frame().number(), UnshareCause::kExit);
    }
    driver_.Exit(slot);
    std::erase(members_, slot);
  }

  // Moves a page into a hole, as mremap does: a page moved over a shared one looks like a copy.
  void MoveRun(Slot slot, uint64_t first, uint64_t last, uint64_t offset) {
    const auto before = driver_.At(slot).tables;
    for (uint64_t page = first; page < last; ++page) {
      const uint64_t to = (page + offset) % kPages;
      if (before.contains(page) && !before.contains(to)) driver_.Move(slot, page, to);
    }
  }

  // One member does one random thing to a run of pages.
  std::string Step(bool with_moves) {
    const Slot slot = members_[Below(members_.size())];
    const uint64_t first = Below(kPages);
    const uint64_t last = std::min(kPages, first + 1 + Below(8));
    const uint64_t choice = Below(with_moves ? 24 : 20);
    std::string text = std::to_string(slot);
    ChooseZone();
    if (choice == 0) {
      text += " exits";
      Exit(slot);
    } else if (choice < 4) {
      text += " forks";
      Fork(slot);
    } else {
      const uint64_t offset = Below(kPages);
      const char* what = choice < 14 ? " writes " : choice < 18 ? " drops " : choice < 20 ? " reads " : " moves ";
      text.append(what).append(std::to_string(first)).append(" to ").append(std::to_string(last));
      if (choice >= 20) text.append(" by ").append(std::to_string(offset));
      for (uint64_t page = first; page < last; ++page) {
        if (choice < 14) {
          Write(slot, page);
        } else if (choice < 18) {
          Drop(slot, page);
        } else if (choice < 20) {
          ReadHole(slot, page);
        }
      }
      if (choice >= 20) MoveRun(slot, first, last, offset);
    }
    return text;
  }

  int64_t ModelExposure() const {
    int64_t exposure = 0;
    for (const auto& [frame, holders] : holders_) exposure += holders > 1 ? static_cast<int64_t>(holders) - 1 : 0;
    return exposure;
  }
  int64_t ModelShared() const {
    int64_t shared = 0;
    for (const auto& [frame, holders] : holders_) shared += holders > 1 ? static_cast<int64_t>(holders) : 0;
    return shared;
  }

  LedgerDriver driver_;
  unsigned seed_;
  std::mt19937 random_;
  std::vector<Slot> members_;
  std::set<uint64_t> free_;
  uint64_t next_free_ = 0;
  bool free_in_order_ = true;
  std::map<uint64_t, uint64_t> holders_;  // by frame
  std::map<Slot, uint64_t> breaks_;
  std::map<UnshareCause, uint64_t> unshared_;
};

TEST_P(LedgerModelTest, OneStepBetweenPassesIsExact) {
  uint64_t breaks = 0;
  for (int step = 0; step < 6000; ++step) {
    breaks_.clear();
    unshared_.clear();
    const std::string what = Step(false);
    const PassResult pass = driver_.Pass();
    SCOPED_TRACE("COW_TEST_SEED=" + std::to_string(seed_) + " step " + std::to_string(step) + ": " + what);
    ASSERT_EQ(pass.breaks, breaks_);
    ASSERT_EQ(pass.unknown_breaks, 0U);
    ASSERT_EQ(pass.unshared, unshared_);
    ASSERT_EQ(pass.exposure_pages, ModelExposure());
    ASSERT_EQ(pass.shared_pages, ModelShared());
    ASSERT_EQ(pass.unmatched_pages, 0U);
    ASSERT_EQ(pass.unresolved_pages, 0U);
    ASSERT_TRUE(pass.unattributed.empty());
    ASSERT_EQ(driver_.ledger.MemoryBytes(), driver_.budget.used_bytes);
    breaks += pass.Breaks();
  }
  EXPECT_GT(breaks, 1000U) << "seed " << seed_;
}

// Partners of moved pages are found by their recorded frames, so these must fit the limit.
class LedgerMoveModelTest : public LedgerModelTest {};

TEST_P(LedgerMoveModelTest, MovesKeepBreaksAndExposureExact) {
  for (int step = 0; step < 3000; ++step) {
    breaks_.clear();
    unshared_.clear();
    const std::string what = Step(true);
    const PassResult pass = driver_.Pass();
    SCOPED_TRACE("COW_TEST_SEED=" + std::to_string(seed_) + " step " + std::to_string(step) + ": " + what);
    ASSERT_EQ(pass.breaks, breaks_);
    ASSERT_EQ(pass.unknown_breaks, 0U);
    ASSERT_EQ(pass.unshared, unshared_);
    ASSERT_EQ(pass.exposure_pages, ModelExposure());
    ASSERT_EQ(pass.shared_pages, ModelShared());
    ASSERT_EQ(pass.unmatched_pages, 0U);
  }
}

TEST_P(LedgerModelTest, SeveralStepsBetweenPassesKeepExposureExact) {
  for (int round = 0; round < 1500; ++round) {
    std::string what;
    for (int step = 0; step < 6; ++step) what += Step(false) + "; ";
    SCOPED_TRACE("COW_TEST_SEED=" + std::to_string(seed_) + " round " + std::to_string(round) + ": " + what);
    PassResult pass = driver_.Pass();
    ASSERT_EQ(pass.exposure_pages, ModelExposure());
    ASSERT_EQ(pass.shared_pages, ModelShared());
    pass = driver_.Pass();
    ASSERT_EQ(pass.verdicts, std::vector<std::string>{});
    ASSERT_EQ(pass.exposure_pages, ModelExposure());
  }
}

INSTANTIATE_TEST_SUITE_P(Frames, LedgerModelTest, testing::Values(~uint64_t{0}));
INSTANTIATE_TEST_SUITE_P(Frames, LedgerMoveModelTest, testing::Values(~uint64_t{0}));
INSTANTIATE_TEST_SUITE_P(BitsOnly, LedgerModelTest, testing::Values(uint64_t{0}));
// Depending on the tree, the frames of one window fit the limit, or none do.
INSTANTIATE_TEST_SUITE_P(SomeFrames, LedgerModelTest, testing::Values(uint64_t{450}, uint64_t{600}));

}  // namespace
}  // namespace cow::memory
