#include "collectors/procfs/kpage.h"

#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <limits>
#include <utility>

namespace cow::procfs {
namespace {

constexpr size_t kWordBytes = sizeof(uint64_t);
constexpr uint64_t kRunWords = 512;
// Reading an unneeded word of a run costs a fifth of a separate read. Across a wider gap two reads are cheaper.
constexpr uint64_t kGapFrames = 32;
constexpr uint64_t kLastFrame = std::numeric_limits<off_t>::max() / kWordBytes - kRunWords;

}  // namespace

KpageFile::KpageFile(FileDescriptor descriptor, std::string path, std::shared_ptr<Interposer> interposer)
    : descriptor_(std::move(descriptor)), path_(std::move(path)), interposer_(std::move(interposer)) {}

Result<KpageFile> KpageFile::OpenFlags(const Root& root) { return Open(root, root.ProcPath("kpageflags")); }

Result<KpageFile> KpageFile::OpenCounts(const Root& root) { return Open(root, root.ProcPath("kpagecount")); }

Result<KpageFile> KpageFile::Open(const Root& root, std::string path) {
  auto descriptor = OpenReadOnly(root, path);
  if (!descriptor) return tl::unexpected(descriptor.error());
  return KpageFile(std::move(*descriptor), std::move(path), root.interposer());
}

Result<void> KpageFile::Read(std::span<const Pfn> frames, std::span<uint64_t> words, uint64_t& reads) const {
  std::array<uint64_t, kRunWords> buffer;
  for (size_t i = 0; i < frames.size();) {
    const Pfn first = frames[i];
    if (first.number() > kLastFrame) {
      words[i++] = 0;
      continue;
    }
    size_t run_end = i + 1;  // index past the last frame of the run
    while (run_end < frames.size() && frames[run_end] - frames[run_end - 1] <= kGapFrames &&
           frames[run_end] - first < kRunWords) {
      ++run_end;
    }
    const size_t wanted_bytes = static_cast<size_t>(frames[run_end - 1] - first + 1) * kWordBytes;
    size_t bytes = 0;
    while (bytes < wanted_bytes) {
      if (auto error = Intercept(interposer_, Access::kRead, path_)) return tl::unexpected(std::move(*error));
      ++reads;
      const ssize_t count = pread(descriptor_.get(), reinterpret_cast<char*>(buffer.data()) + bytes,
                                  wanted_bytes - bytes, static_cast<off_t>(first.number() * kWordBytes + bytes));
      if (count < 0) {
        if (errno == EINTR) continue;
        return tl::unexpected(Error::FromErrno(path_, errno));
      }
      if (count == 0) break;  // beyond the last frame of the machine
      bytes += static_cast<size_t>(count);
    }
    for (; i < run_end; ++i) {
      const auto index = static_cast<size_t>(frames[i] - first);
      words[i] = index < bytes / kWordBytes ? buffer[index] : 0;
    }
  }
  return {};
}

}  // namespace cow::procfs
