// A token bucket for all requests. It starts full; each request takes a token, and each interval adds one. Any thread.
#pragma once

#include <chrono>
#include <mutex>
#include <optional>

#include "config/web_config.h"

namespace cow::exporter {

class RateLimiter {
 public:
  using Clock = std::chrono::steady_clock;

  // Sets the limit; none means no limit. A changed limit starts with a full bucket.
  void Set(const std::optional<config::RateLimit>& limit, Clock::time_point now = Clock::now());

  // Takes a token. Returns nothing if the request may pass, else the time until the next token.
  std::optional<std::chrono::nanoseconds> Take(Clock::time_point now = Clock::now());

 private:
  std::mutex mutex_;
  std::optional<config::RateLimit> limit_;
  double tokens_ = 0;
  Clock::time_point filled_at_;
};

}  // namespace cow::exporter
