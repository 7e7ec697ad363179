// Reads a text file of the kernel line by line, through a buffer of fixed size.
//
// The files of a process grow with what the process does: its mappings, its mounts, the length of their paths. This
// reader bounds both: of each line it keeps the first bytes and skips the rest, and it gives up on a file that is
// longer than it may be. Errors carry the path of the file. Used by one thread at a time.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "collectors/base/result.h"
#include "collectors/procfs/file_descriptor.h"
#include "collectors/procfs/root.h"

namespace cow::procfs {

class LineReader {
 public:
  struct Limits {
    uint64_t max_bytes = 0;     // of the whole file: beyond it Next fails with kTooLarge
    size_t max_line_bytes = 0;  // kept of one line
  };

  static Result<LineReader> Open(const Root& root, std::string path, Limits limits);

  // The next line without its newline, cut after max_line_bytes, valid until the next call; empty at the end of the
  // file. A last line may lack the newline.
  Result<std::optional<std::string_view>> Next();

  const std::string& path() const { return path_; }

 private:
  static constexpr size_t kBufferBytes = 16384;

  LineReader(FileDescriptor descriptor, std::string path, Limits limits, std::shared_ptr<Interposer> interposer);
  // False at the end of the file.
  Result<bool> Fill();
  void Keep(std::string_view part);

  FileDescriptor descriptor_;
  std::string path_;
  Limits limits_;
  std::shared_ptr<Interposer> interposer_;
  std::unique_ptr<std::array<char, kBufferBytes>> buffer_;
  size_t next_ = 0;  // in the buffer: the first byte not yet returned
  size_t used_ = 0;
  uint64_t bytes_ = 0;  // read so far
  std::string line_;    // of a line that began in an earlier part of the file
};

}  // namespace cow::procfs
