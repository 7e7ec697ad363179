#include "exporter/http/rate_limiter.h"

#include <algorithm>
#include <cmath>

namespace cow::exporter {

void RateLimiter::Set(const std::optional<config::RateLimit>& limit, Clock::time_point now) {
  const std::lock_guard lock(mutex_);
  if (limit == limit_) return;
  limit_ = limit;
  tokens_ = limit ? static_cast<double>(limit->burst) : 0;
  filled_at_ = now;
}

std::optional<std::chrono::nanoseconds> RateLimiter::Take(Clock::time_point now) {
  const std::lock_guard lock(mutex_);
  if (!limit_) return std::nullopt;
  const auto interval = static_cast<double>(limit_->interval.count());
  const std::chrono::nanoseconds since = std::max(now - filled_at_, Clock::duration{0});
  tokens_ = std::min(tokens_ + static_cast<double>(since.count()) / interval, static_cast<double>(limit_->burst));
  filled_at_ = std::max(filled_at_, now);
  if (tokens_ >= 1) {
    --tokens_;
    return std::nullopt;
  }
  return std::chrono::nanoseconds{std::llround((1 - tokens_) * interval)};
}

}  // namespace cow::exporter
