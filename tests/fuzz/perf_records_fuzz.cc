// Records of the kernel's perf rings. The first byte chooses what a fault holds, and how the ring wraps.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <variant>
#include <vector>

#include "collectors/faults/decode.h"
#include "collectors/faults/root_filter.h"
#include "tests/fuzz/bytes.h"
#include "tests/fuzz/check.h"

using cow::fuzz::Check;

namespace {

// A ring that is wrapped at a quarter gives the bytes that were written.
std::vector<std::byte> ThroughRing(std::span<const std::byte> written) {
  constexpr size_t kRingBytes = 4096;
  const size_t size = std::min(written.size(), kRingBytes);
  const uint64_t tail = kRingBytes * 3 / 4;
  std::vector<std::byte> ring(kRingBytes);
  for (size_t i = 0; i < size; ++i) ring[(tail + i) % kRingBytes] = written[i];
  std::vector<std::byte> bytes;
  cow::faults::CopyFromRing(ring, tail, tail + size, bytes);
  Check(std::equal(bytes.begin(), bytes.end(), written.begin(), written.begin() + static_cast<ptrdiff_t>(size)),
        "a ring keeps its bytes");
  return bytes;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const auto stacks = static_cast<cow::faults::Stacks>(data[0] % 3);
  const std::vector<std::byte> bytes = ThroughRing(std::as_bytes(std::span(data + 1, size - 1)));
  std::vector<cow::faults::RingRecord> records;
  const uint64_t malformed = cow::faults::DecodeRing(bytes, stacks, records);
  Check((records.size() + malformed) * 8 <= bytes.size() + 8, "every record has a header");
  cow::faults::RootFilter filter;
  for (const auto& record : records) {
    if (const auto* fault = std::get_if<cow::faults::FaultRecord>(&record.body)) {
      Check(fault->chain.size() * 8 <= bytes.size(), "a call chain is part of its record");
      Check(!fault->stack || fault->stack->bytes.size() <= bytes.size(), "a stack is part of its record");
      Check(stacks != cow::faults::Stacks::kNone || (fault->chain.empty() && !fault->stack), "no stack unless asked");
    }
    const bool accepted = filter.Accept(record, record.event_id % 3);
    Check(accepted || !filter.Accept(record, record.event_id % 3), "a double stays one");
  }
  filter.EndRound();
  return 0;
}
