// The messages between the Symbolizer and its process, over a SOCK_SEQPACKET socket: a head of fixed size, then bytes,
// and at most one descriptor. The process may have been taken over by a hostile file, so the Symbolizer checks what it
// receives. Use one end from one thread.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "collectors/procfs/file_descriptor.h"

namespace cow::symbols {

enum class MessageType : uint32_t {
  // To the process.
  kFile = 1,      // number: of a file; descriptor: the file
  kMap,           // number: of a JIT's map; descriptor: the map, which replaces an older one of that number
  kForget,        // number: of a file
  kForgetMap,     // number: of a map
  kName,          // number: of a file; value: offset in it. Answered by kNamed
  kMapName,       // number: of a map; value: address. Answered by kNamed
  kLayout,        // number: of a layout; bytes: LayoutEntry…, the mappings for kUnwind
  kForgetLayout,  // number: of a layout. kForget does the same to all
  kUnwind,        // number: of a layout; value: how many registers; bytes: registers, stack. Answered by kFrames
  kDebugFile,     // answers kWantDebugFile; without a descriptor if there is none
  // From the process.
  kReady,          // it has confined itself
  kNamed,          // status; value: virtual address; number: bytes of the build ID; bytes: build ID, name
  kFrames,         // bytes: program counters
  kWantDebugFile,  // number: of the file; bytes: build ID
};

enum class NameStatus : uint32_t {
  kNoFile = 0,  // not an ELF file that holds code, or no such map
  kNoAddress,   // no code at this offset
  kNoFunction,  // no function at this address; value is set
  kFunction,
};

struct MessageHead {
  MessageType type = MessageType::kReady;
  NameStatus status = NameStatus::kNoFile;
  uint64_t number = 0;
  uint64_t value = 0;
};

struct LayoutEntry {
  uint64_t file = 0;  // its number
  uint64_t start = 0;
  uint64_t end = 0;
  uint64_t file_offset = 0;
};

struct Message {
  MessageHead head;
  std::string bytes;
  procfs::FileDescriptor descriptor;
};

// Above the largest copy of a stack (64 KiB) with its registers.
inline constexpr size_t kMaxMessageBytes = size_t{128} << 10U;

enum class Transfer { kDone, kLate, kClosed };

// Connected ends, closed on exec. Throws std::system_error.
std::pair<procfs::FileDescriptor, procfs::FileDescriptor> MakeChannel();

using Deadline = std::chrono::steady_clock::time_point;
inline constexpr Deadline kNoDeadline = Deadline::max();

// kClosed also if the socket fails, or if the bytes exceed kMaxMessageBytes. `descriptor` -1: none.
Transfer Send(const procfs::FileDescriptor& channel, const MessageHead& head, std::string_view bytes, int descriptor,
              Deadline deadline);

// kClosed also if what came is no message.
Transfer Receive(const procfs::FileDescriptor& channel, Message& message, Deadline deadline);

}  // namespace cow::symbols
