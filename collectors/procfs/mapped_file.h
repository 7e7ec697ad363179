// Opens files of another process: those that it maps, and those that it sees below its root directory. The process
// controls what lies there, so only regular files are opened, no open waits for anything, and no symbolic link is
// followed below a foreign root. Any thread.
//
// Errors: kGone also if there is no such file; kMalformed if it is not a regular file.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "collectors/base/result.h"
#include "collectors/procfs/file_descriptor.h"
#include "collectors/procfs/root.h"

namespace cow::procfs {

// Names the content of a regular file: two files with equal identities are one file that nobody changed in between.
struct FileIdentity {
  uint64_t device = 0;
  uint64_t inode = 0;
  uint64_t size_bytes = 0;
  int64_t changed_ns = 0;  // ctime
  uint32_t owner = 0;      // uid

  // NOLINTNEXTLINE(modernize-use-nullptr): mistaken by clang-tidy 14
  auto operator<=>(const FileIdentity&) const = default;
};

struct RegularFile {
  FileDescriptor descriptor;
  FileIdentity identity;
};

// Asks for the identity of an open file anew.
Result<FileIdentity> Identify(const FileDescriptor& file, const std::string& path);

// Opens the file that the process maps at [start, end), through /proc/PID/map_files. Finds unlinked files and files of
// other mount namespaces too. Needs CAP_CHECKPOINT_RESTORE or CAP_SYS_ADMIN. kGone: no mapping has these bounds.
Result<RegularFile> OpenMappedFile(const Root& root, pid_t pid, uint64_t start, uint64_t end);

// Opens the program of the process, also if it was unlinked: /proc/PID/exe.
Result<RegularFile> OpenProgram(const Root& root, pid_t pid);

// Opens an absolute path as the process sees it: below /proc/PID/root. Refuses symbolic links and "..".
Result<RegularFile> OpenBelowRoot(const Root& root, pid_t pid, std::string_view path);

// Opens a file of this process' own mount namespace. Follows symbolic links.
Result<RegularFile> OpenRegular(const Root& root, const std::string& path);

}  // namespace cow::procfs
