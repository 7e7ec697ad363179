// A token bucket over all requests: it is full at first, each request takes a token, and one comes back each interval.
// Any thread.
#pragma once

#include <chrono>
#include <mutex>
#include <optional>

#include "config/web_config.h"

namespace cow::exporter {

class RateLimiter {
 public:
  using Clock = std::chrono::steady_clock;

  // From now on; a bucket of other numbers than before begins full. None: no limit.
  void Set(const std::optional<config::RateLimit>& limit, Clock::time_point now = Clock::now());

  // Nothing if the request may pass; else the time until one may.
  std::optional<std::chrono::nanoseconds> Take(Clock::time_point now = Clock::now());

 private:
  std::mutex mutex_;
  std::optional<config::RateLimit> limit_;
  double tokens_ = 0;
  Clock::time_point filled_at_;
};

}  // namespace cow::exporter
