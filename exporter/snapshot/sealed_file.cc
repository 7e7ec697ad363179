#include "exporter/snapshot/sealed_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <stdexcept>
#include <system_error>

namespace cow::exporter {
namespace {

constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;

[[noreturn]] void Fail(const char* what) { throw std::system_error(errno, std::generic_category(), what); }

}  // namespace

procfs::FileDescriptor MakeSealedFile(std::span<const std::string_view> parts) {
  procfs::FileDescriptor file(memfd_create("cow_exporter", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (file.get() < 0) Fail("memfd_create");
  for (std::string_view part : parts) {
    while (!part.empty()) {
      const ssize_t count = write(file.get(), part.data(), part.size());
      if (count < 0 && errno == EINTR) continue;
      if (count <= 0) Fail("memfd write");
      part.remove_prefix(static_cast<size_t>(count));
    }
  }
  if (fcntl(file.get(), F_ADD_SEALS, kSeals | F_SEAL_SEAL) != 0) Fail("memfd seal");
  return file;
}

SealedFileMapping::SealedFileMapping(int descriptor) {
  const int seals = fcntl(descriptor, F_GET_SEALS);
  if (seals < 0 || (seals & kSeals) != kSeals) throw std::runtime_error("the file is not sealed");
  struct stat info {};
  if (fstat(descriptor, &info) != 0) Fail("fstat");
  const auto size = static_cast<size_t>(info.st_size);
  if (size == 0) return;
  const void* memory = mmap(nullptr, size, PROT_READ, MAP_SHARED, descriptor, 0);
  if (memory == MAP_FAILED) Fail("mmap");  // NOLINT(performance-no-int-to-ptr): the system's own constant
  bytes_ = {static_cast<const char*>(memory), size};
}

SealedFileMapping::~SealedFileMapping() {
  // munmap takes no pointer to const.
  if (!bytes_.empty()) munmap(const_cast<char*>(bytes_.data()), bytes_.size());  // NOLINT
}

}  // namespace cow::exporter
