// Clients that scrape repeatedly, each over its own persistent connection, as Prometheus does.
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

// Requests /metrics of 127.0.0.1:port from this many concurrent threads. Throws std::runtime_error unless each answer
// has status 200 and a length.
ScrapeResult Scrape(uint16_t port, size_t clients, std::chrono::milliseconds duration);

}  // namespace cow::bench
