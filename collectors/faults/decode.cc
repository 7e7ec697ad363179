#include "collectors/faults/decode.h"

#include <linux/perf_event.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

namespace cow::faults {
namespace {

// Reads fields one after the other. Once a field does not fit, all later ones are zero and `complete` is false.
class Fields {
 public:
  explicit Fields(std::span<const std::byte> bytes) : rest_(bytes) {}

  bool complete() const { return complete_; }

  std::span<const std::byte> Bytes(uint64_t count) {
    if (count > rest_.size()) {
      complete_ = false;
      rest_ = {};
      return {};
    }
    const auto bytes = rest_.first(static_cast<size_t>(count));
    rest_ = rest_.subspan(bytes.size());
    return bytes;
  }
  template <class T>
  T Next() {
    T value{};
    const auto bytes = Bytes(sizeof(T));
    if (!bytes.empty()) std::memcpy(&value, bytes.data(), sizeof(T));
    return value;
  }
  std::vector<uint64_t> Words(uint64_t count) {
    if (count > rest_.size() / sizeof(uint64_t)) count = rest_.size() / sizeof(uint64_t) + 1;
    const auto bytes = Bytes(count * sizeof(uint64_t));
    std::vector<uint64_t> words(bytes.size() / sizeof(uint64_t));
    if (!words.empty()) std::memcpy(words.data(), bytes.data(), bytes.size());
    return words;
  }
  // The text up to the first NUL of what is left.
  std::string Text() {
    const auto bytes = Bytes(rest_.size());
    const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    return std::string(text.substr(0, text.find('\0')));
  }

 private:
  std::span<const std::byte> rest_;
  bool complete_ = true;
};

using Body = decltype(RingRecord::body);

#if defined(__x86_64__)
constexpr size_t kRegisters = 17;
#elif defined(__aarch64__)
constexpr size_t kRegisters = 33;
#else
#error "the registers of this architecture are unknown"
#endif

std::optional<StackCopy> ReadStack(Fields& fields) {
  StackCopy stack;
  const auto abi = fields.Next<uint64_t>();
  if (abi != PERF_SAMPLE_REGS_ABI_NONE) stack.registers = fields.Words(kRegisters);
  const auto room = fields.Next<uint64_t>();
  if (room != 0) {
    const auto bytes = fields.Bytes(room);
    const uint64_t used = std::min<uint64_t>(fields.Next<uint64_t>(), bytes.size());
    stack.bytes.assign(reinterpret_cast<const char*>(bytes.data()), static_cast<size_t>(used));
  }
  if (abi != PERF_SAMPLE_REGS_ABI_64) return std::nullopt;
  return stack;
}

// Markers tell whose addresses follow. Only the user's are requested, but if another observer records the same fault,
// the chain may be the one that it requested.
void KeepUserPart(std::vector<uint64_t>& chain) {
  bool is_user = true;
  std::erase_if(chain, [&is_user](uint64_t address) {
    const bool is_marker = address >= static_cast<uint64_t>(PERF_CONTEXT_MAX);
    if (is_marker) is_user = address == static_cast<uint64_t>(PERF_CONTEXT_USER);
    return is_marker || !is_user;
  });
}

std::optional<RingRecord> ReadFault(const perf_event_header& header, Fields fields, Stacks stacks) {
  RingRecord record;
  FaultRecord fault;
  record.event_id = fields.Next<uint64_t>();
  fault.ip = fields.Next<uint64_t>();
  fault.pid = fields.Next<pid_t>();
  fault.tid = fields.Next<pid_t>();
  fault.time_ns = fields.Next<uint64_t>();
  fault.address = fields.Next<uint64_t>();
  fault.in_kernel = (header.misc & PERF_RECORD_MISC_CPUMODE_MASK) == PERF_RECORD_MISC_KERNEL;
  if (stacks == Stacks::kFramePointers) {
    fault.chain = fields.Words(fields.Next<uint64_t>());
    KeepUserPart(fault.chain);
  }
  if (stacks == Stacks::kDwarf) fault.stack = ReadStack(fields);
  if (!fields.complete()) return std::nullopt;
  record.writer = fault.tid;
  record.writer_pid = fault.pid;
  record.body = std::move(fault);
  return record;
}

std::optional<Body> ReadFork(Fields& fields) {
  ForkRecord fork;
  fork.pid = fields.Next<pid_t>();
  fork.parent = fields.Next<pid_t>();
  fork.tid = fields.Next<pid_t>();
  fork.parent_thread = fields.Next<pid_t>();
  fork.is_thread = fork.pid == fork.parent;
  return fork;
}

std::optional<Body> ReadExit(Fields& fields) {
  ExitRecord exit;
  exit.pid = fields.Next<pid_t>();
  fields.Next<pid_t>();  // parent
  exit.tid = fields.Next<pid_t>();
  return exit;
}

std::optional<Body> ReadName(const perf_event_header& header, Fields& fields) {
  if ((header.misc & PERF_RECORD_MISC_COMM_EXEC) == 0) return std::nullopt;
  return ExecRecord{0, fields.Next<pid_t>()};
}

std::optional<Body> ReadMap(const perf_event_header& header, Fields& fields) {
  constexpr size_t kMaxBuildId = 20;
  MapRecord map;
  map.pid = fields.Next<pid_t>();
  fields.Next<pid_t>();  // thread
  map.start = fields.Next<uint64_t>();
  map.length_bytes = fields.Next<uint64_t>();
  map.file_offset = fields.Next<uint64_t>();
  if ((header.misc & PERF_RECORD_MISC_MMAP_BUILD_ID) != 0) {
    const size_t size = std::min<size_t>(fields.Next<uint8_t>(), kMaxBuildId);
    fields.Bytes(3);
    const auto id = fields.Bytes(kMaxBuildId);
    map.build_id.assign(reinterpret_cast<const char*>(id.data()), std::min(size, id.size()));
  } else {
    map.device_major = fields.Next<uint32_t>();
    map.device_minor = fields.Next<uint32_t>();
    map.inode = fields.Next<uint64_t>();
    fields.Next<uint64_t>();  // generation
  }
  fields.Next<uint32_t>();  // protection
  fields.Next<uint32_t>();  // flags
  map.path = fields.Text();
  return map;
}

std::optional<Body> ReadBody(const perf_event_header& header, Fields& fields) {
  switch (header.type) {
    case PERF_RECORD_FORK:
      return ReadFork(fields);
    case PERF_RECORD_EXIT:
      return ReadExit(fields);
    case PERF_RECORD_COMM:
      return ReadName(header, fields);
    case PERF_RECORD_MMAP2:
      return ReadMap(header, fields);
    case PERF_RECORD_LOST:
      fields.Next<uint64_t>();  // event
      return LostRecord{0, fields.Next<uint64_t>()};
    case PERF_RECORD_LOST_SAMPLES:
      return LostRecord{0, fields.Next<uint64_t>()};
    case PERF_RECORD_THROTTLE:
      return ThrottleRecord{};
    default:
      return std::nullopt;
  }
}

// All records but faults end with the writer, the time and the event.
constexpr size_t kTrailerBytes = 2 * sizeof(uint32_t) + 2 * sizeof(uint64_t);

// Decodes one record without its header. Returns false if it is malformed.
bool Decode(const perf_event_header& header, std::span<const std::byte> bytes, Stacks stacks,
            std::vector<RingRecord>& records) {
  if (header.type == PERF_RECORD_SAMPLE) {
    auto fault = ReadFault(header, Fields(bytes), stacks);
    if (!fault) return false;
    records.push_back(std::move(*fault));
    return true;
  }
  if (bytes.size() < kTrailerBytes) return false;
  Fields fields(bytes.first(bytes.size() - kTrailerBytes));
  auto body = ReadBody(header, fields);
  if (!fields.complete()) return false;
  if (!body) return true;
  RingRecord record;
  Fields trailer(bytes.last(kTrailerBytes));
  record.writer_pid = trailer.Next<pid_t>();
  record.writer = trailer.Next<pid_t>();
  const auto time_ns = trailer.Next<uint64_t>();
  record.event_id = trailer.Next<uint64_t>();
  record.body = std::move(*body);
  std::visit([time_ns](auto& each) { each.time_ns = time_ns; }, record.body);
  records.push_back(std::move(record));
  return true;
}

}  // namespace

uint64_t TimeOf(const Record& record) {
  return std::visit([](const auto& each) { return each.time_ns; }, record);
}

uint64_t RingRecord::time_ns() const {
  return std::visit([](const auto& each) { return each.time_ns; }, body);
}

void CopyFromRing(std::span<const std::byte> ring, uint64_t tail, uint64_t head, std::vector<std::byte>& bytes) {
  const uint64_t waiting = head - tail;
  if (ring.empty() || waiting > ring.size()) return;
  const size_t start = static_cast<size_t>(tail) & (ring.size() - 1);
  const size_t to_end = std::min<size_t>(static_cast<size_t>(waiting), ring.size() - start);
  const auto first = ring.subspan(start, to_end);
  const auto second = ring.first(static_cast<size_t>(waiting) - to_end);
  bytes.insert(bytes.end(), first.begin(), first.end());
  bytes.insert(bytes.end(), second.begin(), second.end());
}

uint64_t DecodeRing(std::span<const std::byte> bytes, Stacks stacks, std::vector<RingRecord>& records) {
  uint64_t malformed = 0;
  while (!bytes.empty()) {
    perf_event_header header{};
    if (bytes.size() < sizeof(header)) return malformed + 1;
    std::memcpy(&header, bytes.data(), sizeof(header));
    if (header.size < sizeof(header) || header.size > bytes.size()) return malformed + 1;
    const auto body = bytes.first(header.size).subspan(sizeof(header));
    if (!Decode(header, body, stacks, records)) ++malformed;
    bytes = bytes.subspan(header.size);
  }
  return malformed;
}

}  // namespace cow::faults
