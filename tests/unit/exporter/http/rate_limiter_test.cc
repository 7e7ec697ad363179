#include "exporter/http/rate_limiter.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <optional>
#include <thread>
#include <vector>

namespace cow::exporter {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

const RateLimiter::Clock::time_point kStart{seconds{1000}};

TEST(RateLimiterTest, NoLimitAtFirst) {
  RateLimiter limiter;
  for (int i = 0; i < 1000; ++i) EXPECT_FALSE(limiter.Take(kStart));
}

TEST(RateLimiterTest, ABurstThenOnePerInterval) {
  RateLimiter limiter;
  limiter.Set(config::RateLimit{seconds{2}, 3}, kStart);
  for (int i = 0; i < 3; ++i) EXPECT_FALSE(limiter.Take(kStart));
  EXPECT_EQ(limiter.Take(kStart), seconds{2});
  EXPECT_EQ(limiter.Take(kStart + milliseconds{500}), milliseconds{1500});
  EXPECT_FALSE(limiter.Take(kStart + seconds{2}));
  EXPECT_EQ(limiter.Take(kStart + seconds{2}), seconds{2});
  // Unused tokens accumulate up to the size of the bucket.
  for (int i = 0; i < 3; ++i) EXPECT_FALSE(limiter.Take(kStart + seconds{100}));
  EXPECT_TRUE(limiter.Take(kStart + seconds{100}));
  // An earlier time from another thread removes no tokens.
  EXPECT_TRUE(limiter.Take(kStart + seconds{99}));
}

TEST(RateLimiterTest, AChangedLimitStartsFull) {
  RateLimiter limiter;
  const config::RateLimit limit{seconds{1}, 1};
  limiter.Set(limit, kStart);
  EXPECT_FALSE(limiter.Take(kStart));
  limiter.Set(limit, kStart);  // a reload without a change of the limit
  EXPECT_TRUE(limiter.Take(kStart));
  limiter.Set(config::RateLimit{seconds{1}, 2}, kStart);
  EXPECT_FALSE(limiter.Take(kStart));
  EXPECT_FALSE(limiter.Take(kStart));
  EXPECT_TRUE(limiter.Take(kStart));
  limiter.Set(std::nullopt, kStart);
  EXPECT_FALSE(limiter.Take(kStart));
}

TEST(RateLimiterTest, ThreadsShareOneBucket) {
  RateLimiter limiter;
  limiter.Set(config::RateLimit{std::chrono::hours{1}, 100});
  std::atomic<int> passed = 0;
  {
    std::vector<std::jthread> threads;
    threads.reserve(4);
    for (int thread = 0; thread < 4; ++thread) {
      threads.emplace_back([&] {
        for (int i = 0; i < 100; ++i) passed += limiter.Take() ? 0 : 1;
      });
    }
  }
  EXPECT_EQ(passed, 100);
}

}  // namespace
}  // namespace cow::exporter
