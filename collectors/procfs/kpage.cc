#include "collectors/procfs/kpage.h"

#include <sys/types.h>

#include <array>
#include <cstddef>
#include <limits>

namespace cow::procfs {
namespace {

constexpr size_t kWordBytes = sizeof(uint64_t);
constexpr uint64_t kRunWords = 512;
// Reading an unneeded word of a run costs a fifth of a separate read. Across a wider gap two reads are cheaper.
constexpr uint64_t kGapFrames = 32;
constexpr uint64_t kLastFrame = std::numeric_limits<off_t>::max() / kWordBytes - kRunWords;

}  // namespace

Result<KpageFile> KpageFile::OpenFlags(const Root& root) { return Open(root, root.ProcPath("kpageflags")); }
Result<KpageFile> KpageFile::OpenCounts(const Root& root) { return Open(root, root.ProcPath("kpagecount")); }

Result<KpageFile> KpageFile::Open(const Root& root, std::string path) {
  return KernelFile::Open(root, std::move(path)).map([](KernelFile&& file) { return KpageFile(std::move(file)); });
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
    const auto wanted = std::as_writable_bytes(std::span(buffer)).first(wanted_bytes);
    size_t bytes = 0;
    while (bytes < wanted_bytes) {
      const auto read = file_.Read(wanted.subspan(bytes), first.number() * kWordBytes + bytes);
      if (!read) return tl::unexpected(read.error());
      ++reads;
      if (*read == 0) break;  // beyond the last frame of the machine
      bytes += *read;
    }
    for (; i < run_end; ++i) {
      const auto index = static_cast<size_t>(frames[i] - first);
      words[i] = index < bytes / kWordBytes ? buffer[index] : 0;
    }
  }
  return {};
}

}  // namespace cow::procfs
