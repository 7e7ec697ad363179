#include "exporter/log/told_once.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cstddef>
#include <optional>
#include <string>

namespace cow::exporter {
namespace {

const ToldOnce::Clock::time_point kStart{std::chrono::hours{5}};

TEST(ToldOnceTest, EachOnce) {
  ToldOnce told;
  EXPECT_EQ(told.ToTell("a", kStart), "a");
  EXPECT_EQ(told.ToTell("b", kStart), "b");
  EXPECT_EQ(told.ToTell("a", kStart), std::nullopt);
  told.Forget();
  EXPECT_EQ(told.ToTell("a", kStart), "a");
}

// An hour after the first, all are.
TEST(ToldOnceTest, AgainAfterAnHour) {
  ToldOnce told;
  const auto later = kStart + ToldOnce::kMemory;
  EXPECT_EQ(told.ToTell("a", kStart), "a");
  EXPECT_EQ(told.ToTell("b", later - std::chrono::seconds{1}), "b");
  EXPECT_EQ(told.ToTell("a", later - std::chrono::seconds{1}), std::nullopt);
  EXPECT_EQ(told.ToTell("a", later), "a");
  EXPECT_EQ(told.ToTell("b", later), "b");
  EXPECT_EQ(told.ToTell("a", later + std::chrono::seconds{1}), std::nullopt);
}

TEST(ToldOnceTest, SaysOnceThatThereAreTooMany) {
  ToldOnce told;
  for (size_t i = 0; i < ToldOnce::kMaxReasons; ++i)
    EXPECT_EQ(told.ToTell(std::to_string(i), kStart), std::to_string(i));
  EXPECT_EQ(told.ToTell("1", kStart), std::nullopt);
  EXPECT_EQ(told.ToTell("a", kStart), "too many reasons: new ones are not told for up to an hour");
  EXPECT_EQ(told.ToTell("a", kStart), std::nullopt);
  EXPECT_EQ(told.ToTell("b", kStart), std::nullopt);
  EXPECT_EQ(told.ToTell("b", kStart + ToldOnce::kMemory), "b");
}

}  // namespace
}  // namespace cow::exporter
