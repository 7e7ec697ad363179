// The one channel for errors of the kernel-file readers.
//
// A process that ends, denies or lies is normal on a live host, so the error of one process is a value and never an
// exception. Errors carry the path they happened at. All types here are plain values without thread affinity.
#pragma once

#include <string>
#include <string_view>
#include <tl/expected.hpp>

namespace cow {

enum class ErrorKind {
  kGone,       // the process or its address space ended: ENOENT, ESRCH, or an empty pagemap read
  kDenied,     // EACCES or EPERM: a capability is missing, or hidepid hides the process
  kMalformed,  // the file was read and does not say what the kernel would write there
  kTooLarge,   // the file says more than is read of one process
  kIo,         // any other failure of open, read or ioctl
};

// "gone", "denied", "malformed", "too_large" or "io": the words used for the label `reason`.
std::string_view ErrorKindName(ErrorKind kind);

struct Error {
  ErrorKind kind = ErrorKind::kIo;
  std::string path;      // the file that was read
  int error_number = 0;  // errno, 0 where none applies
  std::string detail;    // what was wrong with which value; empty where errno says it all

  // "PATH: detail (strerror)": for logs, one line.
  std::string ToString() const;

  // Classifies `error_number` into a kind.
  static Error FromErrno(std::string path, int error_number);
  static Error Malformed(std::string path, std::string detail);
  static Error TooLarge(std::string path, std::string detail);
};

template <class T>
using Result = tl::expected<T, Error>;

}  // namespace cow
