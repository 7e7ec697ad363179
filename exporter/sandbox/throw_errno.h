// Turns a failed system call into an exception. Any thread.
#pragma once

#include <cerrno>
#include <system_error>

namespace cow::exporter {

// Throws std::system_error with errno.
[[noreturn]] inline void ThrowErrno(const char* what) { throw std::system_error(errno, std::generic_category(), what); }

}  // namespace cow::exporter
