// Clients that scrape over and over, each on a connection of its own that it keeps, as Prometheus does.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>

namespace cow::bench {

struct ScrapeResult {
  size_t scrapes = 0;
  size_t body_bytes = 0;  // of the last answer
  std::chrono::nanoseconds p50{};
  std::chrono::nanoseconds p99{};
  std::chrono::nanoseconds max{};
};

// GET /metrics of 127.0.0.1:port by so many threads at once. Throws std::runtime_error where an answer is not status
// 200 with a length.
ScrapeResult Scrape(uint16_t port, size_t clients, std::chrono::milliseconds duration);

}  // namespace cow::bench
