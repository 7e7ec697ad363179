// The error type of the readers of kernel files.
//
// On a live host processes end, deny access and forge their files, so the error of one process is a value and never an
// exception. An error carries the path of its file. All types are plain values; use them in any thread.
#pragma once

#include <string>
#include <string_view>
#include <tl/expected.hpp>

namespace cow {

enum class ErrorKind {
  kGone,       // the process or its address space ended: ENOENT, ESRCH, or an empty pagemap read
  kDenied,     // EACCES or EPERM: a capability is missing, or hidepid hides the process
  kMalformed,  // the text is not what the kernel writes
  kTooLarge,   // the file exceeds the limit for one process
  kIo,         // any other failure of open, read or ioctl
};

// Returns "gone", "denied", "malformed", "too_large" or "io", the values of the label `reason`.
std::string_view ErrorKindName(ErrorKind kind);

struct Error {
  ErrorKind kind = ErrorKind::kIo;
  std::string path;      // the file that was read
  int error_number = 0;  // errno, or 0
  std::string detail;    // the wrong value and the reason; empty if errno is sufficient

  // Returns one line for the log: "PATH: detail (strerror)".
  std::string ToString() const;

  // Chooses the kind by `error_number`.
  static Error FromErrno(std::string path, int error_number);
  static Error Malformed(std::string path, std::string detail);
  static Error TooLarge(std::string path, std::string detail);
};

template <class T>
using Result = tl::expected<T, Error>;

}  // namespace cow
