// Decodes the records of a perf ring (include/uapi/linux/perf_event.h, PERF_RECORD_*). Pure; checks every length.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <variant>
#include <vector>

#include "collectors/faults/record.h"

namespace cow::faults {

// What a fault's record holds besides address and instruction.
enum class Stacks {
  kNone,
  kFramePointers,  // the user's call chain, as frame pointers tell it
  kDwarf,          // a copy of the user's registers and of the top of the stack
};

// The kernel dropped records because the ring was full.
struct LostRecord {
  uint64_t time_ns = 0;
  uint64_t count = 0;

  bool operator==(const LostRecord&) const = default;
};

// The kernel stopped an event for the rest of a timer tick because it was too fast.
struct ThrottleRecord {
  uint64_t time_ns = 0;

  bool operator==(const ThrottleRecord&) const = default;
};

struct RingRecord {
  uint64_t event_id = 0;  // of the event that this program opened; an inherited event has its parent's
  pid_t writer = 0;       // the thread that ran when the kernel wrote the record
  pid_t writer_pid = 0;   // its process
  std::variant<FaultRecord, ForkRecord, ExecRecord, ExitRecord, MapRecord, LostRecord, ThrottleRecord> body;

  uint64_t time_ns() const;
};

// Copies bytes [tail, head) of a ring. Positions count from the ring's start and never wrap; the ring's size is a power
// of two. Copies nothing if the positions are further apart than the ring is long.
void CopyFromRing(std::span<const std::byte> ring, uint64_t tail, uint64_t head, std::vector<std::byte>& bytes);

// Appends the records in `bytes` of events that PerfAttributes(stacks, …) describes. Skips records of other types.
// Returns the number of records that are malformed; what follows one with an impossible length is unreadable and
// counts as one.
uint64_t DecodeRing(std::span<const std::byte> bytes, Stacks stacks, std::vector<RingRecord>& records);

}  // namespace cow::faults
