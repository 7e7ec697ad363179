#include "collectors/base/result.h"

#include <array>
#include <cerrno>
#include <cstddef>
#include <system_error>
#include <utility>

namespace cow {

std::string_view ErrorKindName(ErrorKind kind) {
  constexpr std::array<std::string_view, 5> kNames{"gone", "denied", "malformed", "too_large", "io"};
  return kNames.at(static_cast<size_t>(kind));
}

std::string Error::ToString() const {
  std::string message = path;
  if (!detail.empty()) message += ": " + detail;
  if (error_number != 0) {
    const std::string reason = std::generic_category().message(error_number);
    message += detail.empty() ? ": " + reason : " (" + reason + ")";
  }
  return message;
}

Error Error::FromErrno(std::string path, int error_number) {
  ErrorKind kind = ErrorKind::kIo;
  if (error_number == ENOENT || error_number == ESRCH) kind = ErrorKind::kGone;
  if (error_number == EACCES || error_number == EPERM) kind = ErrorKind::kDenied;
  return {kind, std::move(path), error_number, {}};
}

Error Error::Malformed(std::string path, std::string detail) {
  return {ErrorKind::kMalformed, std::move(path), 0, std::move(detail)};
}

Error Error::TooLarge(std::string path, std::string detail) {
  return {ErrorKind::kTooLarge, std::move(path), 0, std::move(detail)};
}

}  // namespace cow
