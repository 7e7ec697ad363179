#include "exporter/log/log_once.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cstddef>
#include <optional>
#include <string>

namespace cow::exporter {
namespace {

const LogOnce::Clock::time_point kStart{std::chrono::hours{5}};

TEST(LogOnceTest, AdmitsEachReasonOnce) {
  LogOnce log_once;
  EXPECT_EQ(log_once.Admit("a", kStart), "a");
  EXPECT_EQ(log_once.Admit("b", kStart), "b");
  EXPECT_EQ(log_once.Admit("a", kStart), std::nullopt);
  log_once.Reset();
  EXPECT_EQ(log_once.Admit("a", kStart), "a");
}

// An hour after the first reason, all are admitted again.
TEST(LogOnceTest, AgainAfterAnHour) {
  LogOnce log_once;
  const auto later = kStart + LogOnce::kPeriod;
  EXPECT_EQ(log_once.Admit("a", kStart), "a");
  EXPECT_EQ(log_once.Admit("b", later - std::chrono::seconds{1}), "b");
  EXPECT_EQ(log_once.Admit("a", later - std::chrono::seconds{1}), std::nullopt);
  EXPECT_EQ(log_once.Admit("a", later), "a");
  EXPECT_EQ(log_once.Admit("b", later), "b");
  EXPECT_EQ(log_once.Admit("a", later + std::chrono::seconds{1}), std::nullopt);
}

TEST(LogOnceTest, SuppressesTooManyReasons) {
  LogOnce log_once;
  for (size_t i = 0; i < LogOnce::kMaxReasons; ++i)
    EXPECT_EQ(log_once.Admit(std::to_string(i), kStart), std::to_string(i));
  EXPECT_EQ(log_once.Admit("1", kStart), std::nullopt);
  EXPECT_EQ(log_once.Admit("a", kStart), "too many different reasons: further ones are suppressed for up to an hour");
  EXPECT_EQ(log_once.Admit("a", kStart), std::nullopt);
  EXPECT_EQ(log_once.Admit("b", kStart), std::nullopt);
  EXPECT_EQ(log_once.Admit("b", kStart + LogOnce::kPeriod), "b");
}

}  // namespace
}  // namespace cow::exporter
