// Reads a text file of the kernel line by line, through a buffer of fixed size.
//
// A process decides how long its files and their lines are: its mappings, its mounts, the length of their paths. This
// reader bounds both: it keeps the first bytes of each line, skips the rest, and fails if the file is too long. Errors
// carry the path of the file. Not thread-safe.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "collectors/base/result.h"
#include "collectors/procfs/file_descriptor.h"
#include "collectors/procfs/root.h"

namespace cow::procfs {

class LineReader {
 public:
  struct Limits {
    uint64_t max_bytes = 0;     // of the whole file; if it is longer, Next fails with kTooLarge
    size_t max_line_bytes = 0;  // bytes kept of one line
  };

  static Result<LineReader> Open(const Root& root, std::string path, Limits limits);

  // Returns the next line without its newline, cut after max_line_bytes; empty at the end of the file. The line is
  // valid until the next call. The last line may lack a newline.
  Result<std::optional<std::string_view>> Next();

  const std::string& path() const { return file_.path; }

 private:
  static constexpr size_t kBufferBytes = 16384;

  LineReader(KernelFile file, Limits limits) : file_(std::move(file)), limits_(limits) {}
  // Reads more of the file. Returns false at its end.
  Result<bool> Fill();
  void Keep(std::string_view part);

  KernelFile file_;
  Limits limits_;
  std::unique_ptr<std::array<char, kBufferBytes>> buffer_ = std::make_unique<std::array<char, kBufferBytes>>();
  size_t next_ = 0;  // index in buffer_ of the first byte not yet returned
  size_t used_ = 0;
  uint64_t bytes_ = 0;  // read so far
  std::string line_;    // a line that began before the current buffer
};

}  // namespace cow::procfs
