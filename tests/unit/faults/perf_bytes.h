// Writes records as the kernel writes them into a perf ring.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace cow::test {

class PerfBytes {
 public:
  // Who runs, when, and whose event records it.
  struct Moment {
    pid_t pid = 0;
    pid_t tid = 0;
    uint64_t time_ns = 0;
    uint64_t event = 0;
  };

  template <class T>
  PerfBytes& Add(T value) {
    const auto bytes = std::as_bytes(std::span(&value, 1));
    body_.insert(body_.end(), bytes.begin(), bytes.end());
    return *this;
  }
  // Text, padded with zeros to a multiple of 8 bytes, at least one.
  PerfBytes& AddText(std::string_view text);
  PerfBytes& AddTrailer(const Moment& moment);
  // Ends the record: puts a header before what was added.
  PerfBytes& End(uint32_t type, uint16_t misc = 0);

  PerfBytes& Fault(const Moment& moment, uint64_t ip, uint64_t address, bool in_kernel = false);
  PerfBytes& Fork(const Moment& moment, pid_t pid, pid_t tid);
  PerfBytes& Exit(const Moment& moment);
  PerfBytes& Exec(const Moment& moment, std::string_view name);
  PerfBytes& Lost(const Moment& moment, uint64_t count);

  const std::vector<std::byte>& bytes() const { return bytes_; }

 private:
  std::vector<std::byte> body_;
  std::vector<std::byte> bytes_;
};

}  // namespace cow::test
