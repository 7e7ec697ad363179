#include "collectors/memory/family/looks.h"

#include <gtest/gtest.h>

#include <array>
#include <random>
#include <set>
#include <vector>

namespace cow::memory {
namespace {

constexpr size_t kPages = 512;

std::vector<PageEntry> RandomEntries(uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<PageEntry> entries(kPages);
  for (PageEntry& entry : entries) entry = PageEntry(random());
  return entries;
}

SegmentTally Tally(uint32_t anon) {
  SegmentTally tally;
  tally.anon = anon;
  return tally;
}

TEST(FingerprintTest, EqualEntriesHaveEqualOnes) {
  EXPECT_EQ(FingerprintOf(RandomEntries(1)), FingerprintOf(RandomEntries(1)));
  EXPECT_NE(FingerprintOf(RandomEntries(1)), FingerprintOf(RandomEntries(2)));
}

// Also of the highest bits, which say what kind of page it is, and of two entries that change alike.
TEST(FingerprintTest, EveryBitOfEveryEntryCounts) {
  std::vector<PageEntry> entries(kPages);
  std::set<uint64_t> seen{FingerprintOf(entries)};
  size_t made = 1;
  for (const size_t page : {size_t{0}, size_t{1}, size_t{4}, size_t{255}, kPages - 1}) {
    for (unsigned bit = 0; bit < 64; ++bit) {
      entries[page] = PageEntry(uint64_t{1} << bit);
      seen.insert(FingerprintOf(entries));
      entries[(page + 4) % kPages] = PageEntry(uint64_t{1} << bit);
      seen.insert(FingerprintOf(entries));
      entries[(page + 4) % kPages] = PageEntry();
      entries[page] = PageEntry();
      made += 2;
    }
  }
  EXPECT_EQ(seen.size(), made);
}

TEST(FingerprintTest, NumbersMixedInCount) {
  EXPECT_NE(MixFingerprint(1, 0), MixFingerprint(1, 1));
  EXPECT_NE(MixFingerprint(MixFingerprint(1, 2), 3), MixFingerprint(MixFingerprint(1, 3), 2));
  EXPECT_NE(MixFingerprint(0, 0), 0U);
}

TEST(LooksTest, KnowsWhatWasStored) {
  Looks looks;
  EXPECT_FALSE(looks.Has(WindowIndex(7), MemberIndex(0)));
  EXPECT_EQ(looks.Fingerprint(WindowIndex(7), MemberIndex(0)), 0U);
  EXPECT_TRUE(looks.Tallies(WindowIndex(7), MemberIndex(0)).empty());
  const std::array<SegmentTally, 2> tallies{Tally(3), Tally(4)};
  looks.Store(WindowIndex(7), MemberIndex(2), 99, tallies);
  EXPECT_TRUE(looks.Has(WindowIndex(7), MemberIndex(2)));
  EXPECT_FALSE(looks.Has(WindowIndex(7), MemberIndex(1)));
  EXPECT_EQ(looks.Fingerprint(WindowIndex(7), MemberIndex(2)), 99U);
  ASSERT_EQ(looks.Tallies(WindowIndex(7), MemberIndex(2)).size(), 2U);
  EXPECT_EQ(looks.Tallies(WindowIndex(7), MemberIndex(2))[1], Tally(4));
  EXPECT_EQ(looks.Count(WindowIndex(7)), 1U);
  EXPECT_EQ(looks.Windows(), std::vector<WindowIndex>{WindowIndex(7)});
}

TEST(LooksTest, SharedPagesAreNotKeptFromTheTally) {
  Looks looks;
  SegmentTally tally = Tally(3);
  tally.anon_shared = 2;
  looks.Store(WindowIndex(1), MemberIndex(0), 5, std::span(&tally, 1));
  EXPECT_EQ(looks.Tallies(WindowIndex(1), MemberIndex(0)).front().anon_shared, 0U);
}

TEST(LooksTest, ForgetsWhoWasNotShown) {
  Looks looks;
  const SegmentTally tally = Tally(1);
  for (MemberIndex slot; slot.number() < 3; ++slot)
    looks.Store(WindowIndex(4), slot, slot.number() + 1, std::span(&tally, 1));
  const std::array<MemberIndex, 2> shown{MemberIndex(0), MemberIndex(2)};
  looks.Retain(WindowIndex(4), shown);
  EXPECT_EQ(looks.Count(WindowIndex(4)), 2U);
  EXPECT_FALSE(looks.Has(WindowIndex(4), MemberIndex(1)));
  EXPECT_EQ(looks.Fingerprint(WindowIndex(4), MemberIndex(1)), 0U);
  looks.Retain(WindowIndex(4), {});
  EXPECT_TRUE(looks.Windows().empty());
  looks.Retain(WindowIndex(5), shown);
  EXPECT_TRUE(looks.Windows().empty());
}

TEST(LooksTest, EqualTalliesAreKeptOnce) {
  Looks looks;
  const std::vector<SegmentTally> tallies(8, Tally(1));
  looks.Store(WindowIndex(0), MemberIndex(0), 1, tallies);
  const size_t one = looks.MemoryBytes();
  for (MemberIndex slot(1); slot.number() < 64; ++slot) looks.Store(WindowIndex(0), slot, 1, tallies);
  EXPECT_LE(looks.MemoryBytes() - one, 64 * 24 * 2U) << "24 bytes a look, and room to grow";
  for (uint32_t round = 0; round < 100; ++round)
    looks.Store(WindowIndex(0), MemberIndex(0), round, std::vector<SegmentTally>(8, Tally(round)));
  EXPECT_LE(looks.MemoryBytes() - one, size_t{64} * 24 * 2 + one) << "what nobody shows any more is forgotten";
  looks.Clear();
  looks.Store(WindowIndex(0), MemberIndex(0), 1, tallies);
  EXPECT_LE(looks.MemoryBytes(), one);
}

}  // namespace
}  // namespace cow::memory
