#include "collectors/base/steps.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <random>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace cow {
namespace {

Steps Append(std::string& text, char letter, int times) {
  for (int i = 0; i < times; ++i) {
    text += letter;
    co_await Rest();
  }
}

Steps AppendTwo(std::string& text) {
  text += '(';
  co_await Append(text, 'a', 2);
  text += ',';
  co_await Append(text, 'b', 0);
  co_await Rest();
  co_await Append(text, 'c', 1);
  text += ')';
}

Steps Nest(std::string& text, int depth) {
  if (depth > 0) co_await Nest(text, depth - 1);
  co_await Append(text, static_cast<char>('0' + depth), 1);
}

Steps Fail(bool at_once) {
  if (!at_once) co_await Rest();
  throw std::runtime_error("no memory");
}

Steps FailWithin(std::string& text) {
  try {
    co_await Fail(false);
  } catch (const std::runtime_error& error) {
    text += error.what();
  }
  co_await Fail(true);
}

TEST(StepsTest, RestsWhereInnerWorkRests) {
  std::string text;
  Steps steps = AppendTwo(text);
  EXPECT_EQ(text, "");
  std::vector<std::string> after;
  while (steps.Next()) after.push_back(text);
  EXPECT_EQ(after, (std::vector<std::string>{"(a", "(aa", "(aa,", "(aa,c"}));
  EXPECT_EQ(text, "(aa,c)");
}

TEST(StepsTest, NestsDeeply) {
  std::string text;
  Nest(text, 9).MakeAll();
  EXPECT_EQ(text, "0123456789");
}

TEST(StepsTest, ErrorsReachWhoAwaitsAndWhoDrives) {
  std::string text;
  Steps steps = FailWithin(text);
  EXPECT_TRUE(steps.Next());
  EXPECT_THROW(steps.Next(), std::runtime_error);
  EXPECT_EQ(text, "no memory");
}

TEST(StepsTest, CanBeMovedAndDestroyedBeforeItsEnd) {
  std::string text;
  {
    Steps first = AppendTwo(text);
    EXPECT_TRUE(first.Next());
    Steps second = std::move(first);
    EXPECT_TRUE(second.Next());
    second = Append(text, 'x', 1);
    EXPECT_TRUE(second.Next());
  }
  EXPECT_EQ(text, "(aax");
}

TEST(StepsTest, SortsAsSortDoes) {
  std::mt19937_64 random(7);
  for (const size_t count : {0U, 1U, 2U, 2048U, 2049U, 40'000U}) {
    for (const uint64_t different : {1U, 3U, 1000U, ~0U}) {
      std::vector<uint64_t> items(count);
      for (uint64_t& item : items) item = random() % different;
      std::vector<uint64_t> expected = items;
      std::sort(expected.begin(), expected.end(), std::greater<>());
      SortInSteps(std::span(items), std::greater<>()).MakeAll();
      EXPECT_EQ(items, expected) << count << " of " << different;
      SortInSteps(std::span(items)).MakeAll();
      std::reverse(expected.begin(), expected.end());
      EXPECT_EQ(items, expected) << count << " of " << different;
      SortUniqueInSteps(items).MakeAll();
      expected.erase(std::unique(expected.begin(), expected.end()), expected.end());
      EXPECT_EQ(items, expected);
    }
  }
}

// In every order of the items, each split yields parts of about half the size, so comparisons grow like n log n.
TEST(StepsTest, SortingTakesNoPatternBadly) {
  constexpr size_t kCount = 1 << 17;
  constexpr size_t kMost = 40 * kCount;  // more than 2 n log n
  struct Counting {
    size_t* compared;
    bool operator()(uint64_t a, uint64_t b) const {
      ++*compared;
      return a < b;
    }
  };
  std::vector<std::vector<uint64_t>> patterns(4, std::vector<uint64_t>(kCount));
  for (size_t i = 0; i < kCount; ++i) {
    patterns[0][i] = i;
    patterns[1][i] = kCount - i;
    patterns[2][i] = i % 512 * 100'000 + i / 512;      // interleaved windows
    patterns[3][i] = i < kCount / 2 ? i : kCount - i;  // up and down
  }
  for (std::vector<uint64_t>& items : patterns) {
    size_t compared = 0;
    size_t steps = 1;
    Steps sort = SortInSteps(std::span(items), Counting{&compared});
    while (sort.Next()) ++steps;
    EXPECT_LE(compared, kMost);
    EXPECT_GE(steps, 16U);
    EXPECT_TRUE(std::is_sorted(items.begin(), items.end()));
  }
}

}  // namespace
}  // namespace cow
