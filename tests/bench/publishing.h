// What a publish costs the reader: both texts of a snapshot, and its sealed file for the front.
#pragma once

#include <chrono>
#include <cstddef>

namespace cow::bench {

struct PublishResult {
  size_t text_bytes = 0;              // in the format of Prometheus
  std::chrono::nanoseconds render{};  // CPU time; the least of all rounds
  std::chrono::nanoseconds write{};   // likewise
};

// Publishes made-up gauges, counters and a histogram for each of `groups` groups, about as many series as a group with
// a family has. One thread.
PublishResult Publish(size_t groups, size_t rounds);

}  // namespace cow::bench
