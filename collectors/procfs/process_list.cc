#include "collectors/procfs/process_list.h"

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <limits>
#include <memory>
#include <string>
#include <string_view>

#include "collectors/base/text.h"
#include "collectors/procfs/file_descriptor.h"

namespace cow::procfs {
namespace {

struct CloseDirectory {
  void operator()(DIR* directory) const { closedir(directory); }
};

// Returns the first `max_ids` numeric names that the kernel lists in a directory, in ascending order.
Result<std::vector<pid_t>> ListIds(const Root& root, const std::string& path, size_t max_ids) {
  const auto descriptor = OpenReadOnly(root, path, O_DIRECTORY);
  if (!descriptor) return tl::unexpected(descriptor.error());
  const int own_descriptor = fcntl(descriptor->get(), F_DUPFD_CLOEXEC, 0);  // fdopendir takes ownership
  if (own_descriptor < 0) return tl::unexpected(Error::FromErrno(path, errno));
  const std::unique_ptr<DIR, CloseDirectory> directory(fdopendir(own_descriptor));
  if (directory == nullptr) {
    const int error_number = errno;
    close(own_descriptor);
    return tl::unexpected(Error::FromErrno(path, error_number));
  }
  if (auto error = Intercept(root.interposer(), Access::kRead, path)) return tl::unexpected(std::move(*error));
  std::vector<pid_t> pids;
  while (pids.size() < max_ids) {
    errno = 0;
    const dirent* entry = readdir(directory.get());  // NOLINT(concurrency-mt-unsafe): no other thread has this stream
    if (entry == nullptr) {
      if (errno != 0) return tl::unexpected(Error::FromErrno(path, errno));
      break;
    }
    if (entry->d_type != DT_DIR && entry->d_type != DT_UNKNOWN) continue;
    const std::string_view name(&entry->d_name[0]);
    if (name.starts_with('0')) continue;
    const auto pid = text::ParseNumber<pid_t>(name);
    if (pid && *pid > 0) pids.push_back(*pid);
  }
  std::sort(pids.begin(), pids.end());
  return pids;
}

}  // namespace

Result<std::vector<pid_t>> ListProcesses(const Root& root) {
  return ListIds(root, root.procfs().empty() ? "/" : root.procfs(), std::numeric_limits<size_t>::max());
}

Result<std::vector<pid_t>> ListThreads(const Root& root, pid_t pid, size_t max_threads) {
  return ListIds(root, root.ProcPath(pid, "task"), max_threads);
}

}  // namespace cow::procfs
