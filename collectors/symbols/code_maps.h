// Which file of code each watched process maps where, from /proc/PID/maps at the start, then from records of forks,
// execs and executable mappings in the order of their times.
//
// Keeps a descriptor of each mapped file from the moment that it is first seen, so that a library that is unmapped, a
// binary that is unlinked, and a file of another mount namespace can be read later. Descriptors, files and mappings are
// bounded; what did not fit is counted, and its code has no names.
//
// Use from one thread. CodeFiles are immutable but for their use counts; they may outlive the CodeMaps.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "collectors/base/result.h"
#include "collectors/procfs/mapped_file.h"
#include "collectors/procfs/root.h"

namespace cow::symbols {

struct CodeFile {
  uint64_t number = 0;                // unique in one CodeMaps
  procfs::FileDescriptor descriptor;  // not valid: it could not be opened, or is no file, as [vdso]
  procfs::FileIdentity identity;      // of the descriptor
  std::string path;                   // as the process named it
  std::string build_id;               // raw, as the kernel told; empty: unknown
  pid_t seen_in = 0;                  // a process that mapped it; a separate debug file may lie below its root
};

// Code at one moment. Refers to the file that was mapped then.
struct CodeLocation {
  enum class Kind {
    kFile,       // `file` is set
    kAnonymous,  // memory that is no file: a JIT
    kKernel,
    kUnknown,  // no executable mapping is known there
  };
  Kind kind = Kind::kUnknown;
  pid_t pid = 0;
  pid_t mapped_by = 0;   // the process that mapped it: `pid` or an ancestor, whose names hold here too
  uint64_t address = 0;  // virtual
  uint64_t offset = 0;   // in the file
  std::shared_ptr<const CodeFile> file;
};

struct Mapping {
  uint64_t start = 0;
  uint64_t end = 0;
  uint64_t file_offset = 0;
  pid_t mapped_by = 0;
  std::shared_ptr<const CodeFile> file;  // null: anonymous
};

// A record of a new executable mapping. Device and inode are 0 if unknown, `build_id` is raw.
struct NewMapping {
  pid_t pid = 0;
  uint64_t start = 0;
  uint64_t length_bytes = 0;
  uint64_t file_offset = 0;
  uint64_t inode = 0;
  std::string build_id;
  std::string path;  // "//anon", "[vdso]" and the like if it is no file
};

class CodeMaps {
 public:
  struct Limits {
    size_t descriptors = 512;
    size_t files = 8192;
    size_t mappings = 1U << 18U;  // of all processes; what processes share since a fork counts once
  };
  struct Refused {
    uint64_t unreadable_files = 0;  // could not be opened, or are not what the process maps
    uint64_t beyond_limits = 0;     // files without a descriptor and mappings, because of the limits
  };

  explicit CodeMaps(procfs::Root root = procfs::Root()) : CodeMaps(std::move(root), Limits()) {}
  CodeMaps(procfs::Root root, Limits limits) : root_(std::move(root)), limits_(limits) {}

  // Reads the mappings that the process has now.
  Result<void> Add(pid_t pid);
  // The child has the mappings of its parent. Ignores parents that are not watched.
  void Fork(pid_t child, pid_t parent);
  void Exec(pid_t pid);
  void Map(const NewMapping& mapping);
  // Forgets a process, not its files.
  void Exit(pid_t pid);

  CodeLocation Locate(pid_t pid, uint64_t address) const;
  static CodeLocation Kernel(uint64_t address) { return {CodeLocation::Kind::kKernel, 0, 0, address, 0, nullptr}; }

  // The mappings of a process by address; null if it is not watched. The same pointer means the same mappings.
  using Mappings = std::shared_ptr<const std::vector<Mapping>>;
  Mappings MappingsOf(pid_t pid) const;

  const Refused& refused() const { return refused_; }
  size_t descriptors() const { return descriptors_->open; }
  const procfs::Root& root() const { return root_; }

 private:
  // What the kernel tells about a mapped file. Two mappings with the same name are of one file.
  struct FileName {
    uint64_t inode = 0;
    std::string path;
    std::string build_id;
    // NOLINTNEXTLINE(modernize-use-nullptr): mistaken by clang-tidy 14
    auto operator<=>(const FileName&) const = default;
  };
  struct Descriptors {
    size_t open = 0;
  };

  std::shared_ptr<const CodeFile> FileOf(const NewMapping& mapping);
  Result<procfs::RegularFile> Open(const NewMapping& mapping) const;
  std::shared_ptr<const CodeFile> Keep(CodeFile file);
  // True if the process may have that many mappings.
  bool HasRoomFor(pid_t pid, size_t mappings) const;

  procfs::Root root_;
  Limits limits_;
  std::unordered_map<pid_t, Mappings> processes_;
  std::map<procfs::FileIdentity, std::weak_ptr<const CodeFile>> by_identity_;
  std::map<FileName, std::weak_ptr<const CodeFile>> by_name_;
  std::shared_ptr<Descriptors> descriptors_ = std::make_shared<Descriptors>();
  uint64_t next_number_ = 1;
  Refused refused_;
};

}  // namespace cow::symbols
