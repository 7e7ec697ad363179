// Divides the limit of open file descriptors. A pure function.
#pragma once

#include <cstddef>
#include <cstdint>

namespace cow::exporter {

// Returns how many connections the server may hold, at least 1. `limit` is RLIMIT_NOFILE. `needed` counts the
// descriptors for everything else: standard streams, listening sockets, channels, files. Each connection takes one. One
// more holds a new connection while another makes room, and one stays free.
constexpr size_t MaxConnections(uint64_t limit, size_t needed) {
  constexpr uint64_t kMost = 512;
  constexpr uint64_t kReserve = 2;
  if (limit <= needed + kReserve) return 1;
  const uint64_t free = limit - needed - kReserve;
  return static_cast<size_t>(free < kMost ? free : kMost);
}

// The share of one client: a quarter of `connections`, but at least 4.
constexpr size_t MaxConnectionsPerClient(size_t connections) {
  constexpr size_t kLeast = 4;
  const size_t quarter = connections / 4;
  if (connections < kLeast) return connections;
  return quarter < kLeast ? kLeast : quarter;
}

}  // namespace cow::exporter
