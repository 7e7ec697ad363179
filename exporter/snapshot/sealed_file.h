// Bytes in memory that one process hands to another by a descriptor: a memfd that is sealed, so that nobody can change
// or shrink it once another process maps it.
//
// Any thread.
#pragma once

#include <memory>
#include <span>
#include <string_view>

#include "collectors/procfs/file_descriptor.h"

namespace cow::exporter {

// Writes `parts` one after another. Throws std::system_error.
procfs::FileDescriptor MakeSealedFile(std::span<const std::string_view> parts);

// A mapping of a whole sealed file. The descriptor may be closed afterwards.
class SealedFileMapping {
 public:
  // Throws std::runtime_error if the file is not sealed, and std::system_error if it can't be mapped.
  explicit SealedFileMapping(int descriptor);
  ~SealedFileMapping();
  SealedFileMapping(const SealedFileMapping&) = delete;
  SealedFileMapping& operator=(const SealedFileMapping&) = delete;

  [[nodiscard]] std::string_view Bytes() const { return bytes_; }

 private:
  std::string_view bytes_;
};

}  // namespace cow::exporter
