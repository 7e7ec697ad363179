// What the kernel's perf events tell about page faults, and about forks, execs, exits and executable mappings of the
// same processes. Plain values; use them in any thread.
//
// Times are CLOCK_MONOTONIC in nanoseconds. Process and thread ids are those of this process' PID namespace.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

namespace cow::faults {

// The user's registers and the top of the user's stack at the moment of a fault, to unwind it.
struct StackCopy {
  // x86-64: ax, bx, cx, dx, si, di, bp, sp, ip, r8 to r15. arm64: x0 to x29, lr, sp, pc.
  std::vector<uint64_t> registers;
  std::string bytes;  // from the stack pointer upwards

  bool operator==(const StackCopy&) const = default;
};

// A minor page fault.
struct FaultRecord {
  uint64_t time_ns = 0;
  pid_t pid = 0;
  pid_t tid = 0;
  uint64_t address = 0;            // that the instruction touched
  uint64_t ip = 0;                 // the instruction
  bool in_kernel = false;          // the instruction is the kernel's: a system call touched the page
  std::vector<uint64_t> chain;     // return addresses of user code, innermost first; empty without kFramePointers
  std::optional<StackCopy> stack;  // set with kDwarf, unless the thread runs 32-bit code

  bool operator==(const FaultRecord&) const = default;
};

// A new process, or a new thread of a process.
struct ForkRecord {
  uint64_t time_ns = 0;
  pid_t pid = 0;
  pid_t tid = 0;
  pid_t parent = 0;         // the process that called fork; `pid` itself if this is a thread
  pid_t parent_thread = 0;  // its thread that called fork or clone
  bool is_thread = false;

  bool operator==(const ForkRecord&) const = default;
};

// A process replaced its program. All its mappings are gone; a MapRecord of each new one follows.
struct ExecRecord {
  uint64_t time_ns = 0;
  pid_t pid = 0;

  bool operator==(const ExecRecord&) const = default;
};

// A thread ended.
struct ExitRecord {
  uint64_t time_ns = 0;
  pid_t pid = 0;
  pid_t tid = 0;

  bool operator==(const ExitRecord&) const = default;
};

// A process mapped executable memory.
struct MapRecord {
  uint64_t time_ns = 0;
  pid_t pid = 0;
  uint64_t start = 0;
  uint64_t length_bytes = 0;
  uint64_t file_offset = 0;
  // The kernel tells either the file's build ID (raw bytes) or its device and inode. What it does not tell is 0 or
  // empty.
  uint64_t device_major = 0;
  uint64_t device_minor = 0;
  uint64_t inode = 0;
  std::string build_id;
  std::string path;  // as the process sees it; "//anon", "[vdso]" and the like if it is no file

  bool operator==(const MapRecord&) const = default;
};

using Record = std::variant<FaultRecord, ForkRecord, ExecRecord, ExitRecord, MapRecord>;

uint64_t TimeOf(const Record& record);

}  // namespace cow::faults
