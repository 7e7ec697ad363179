#include "exporter/sandbox/landlock.h"

#include <fcntl.h>
#include <linux/landlock.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <system_error>

#include "collectors/procfs/file_descriptor.h"
#include "exporter/sandbox/own_threads.h"
#include "exporter/sandbox/throw_errno.h"

namespace cow::exporter {
namespace {

// struct landlock_ruleset_attr of Linux 6.12. Older headers lack the later fields and older kernels take fewer bytes.
struct RulesetAttributes {
  uint64_t files = 0;
  uint64_t network = 0;
  uint64_t scoped = 0;
};

constexpr uint64_t kExecute = LANDLOCK_ACCESS_FS_EXECUTE;
constexpr uint64_t kReadFile = LANDLOCK_ACCESS_FS_READ_FILE;
constexpr uint64_t kReadDirectory = LANDLOCK_ACCESS_FS_READ_DIR;
constexpr uint64_t kRemoveFile = LANDLOCK_ACCESS_FS_REMOVE_FILE;

// The number of file rights in each version: 13 at first, then REFER, TRUNCATE and, in version 5, IOCTL_DEV.
constexpr std::array kFileRights{13, 14, 15, 15, 16};
constexpr uint64_t kAllTcp = 3;     // BIND_TCP and CONNECT_TCP
constexpr uint64_t kAllScopes = 3;  // ABSTRACT_UNIX_SOCKET and SIGNAL

size_t AttributeBytes(int version) {
  if (version >= 6) return sizeof(RulesetAttributes);
  return version >= 4 ? offsetof(RulesetAttributes, scoped) : offsetof(RulesetAttributes, network);
}

RulesetAttributes EverythingOf(int version) {
  RulesetAttributes attributes;
  const auto known = std::min(static_cast<size_t>(version), kFileRights.size());
  attributes.files = (uint64_t{1} << static_cast<unsigned>(kFileRights.at(known - 1))) - 1;
  if (version >= 4) attributes.network = kAllTcp;
  if (version >= 6) attributes.scoped = kAllScopes;
  return attributes;
}

void AddRule(int ruleset, int parent, uint64_t rights) {
  landlock_path_beneath_attr rule{};
  rule.parent_fd = parent;
  rule.allowed_access = rights;
  if (syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) != 0)
    ThrowErrno("landlock_add_rule");
}

void AddRule(int ruleset, const std::string& path, uint64_t rights) {
  const procfs::FileDescriptor parent(open(path.c_str(), O_PATH | O_CLOEXEC));
  if (!parent.valid()) return;
  struct stat status {};
  if (fstat(parent.get(), &status) != 0) ThrowErrno("fstat");
  // A rule for a file must not contain rights of directories.
  if (!S_ISDIR(status.st_mode)) rights &= kExecute | kReadFile;
  AddRule(ruleset, parent.get(), rights);
}

}  // namespace

int LandlockVersion() {
  const auto version = syscall(SYS_landlock_create_ruleset, nullptr, 0, LANDLOCK_CREATE_RULESET_VERSION);
  return static_cast<int>(std::max<decltype(version)>(version, 0));
}

void EnterLandlockDomain(const LandlockRules& rules) {
  RequireOneThread();
  const int version = LandlockVersion();
  if (version == 0) throw std::system_error(ENOSYS, std::generic_category(), "Landlock");
  const RulesetAttributes attributes = EverythingOf(version);
  const procfs::FileDescriptor ruleset(
      static_cast<int>(syscall(SYS_landlock_create_ruleset, &attributes, AttributeBytes(version), 0)));
  if (!ruleset.valid()) ThrowErrno("landlock_create_ruleset");
  for (const std::string& path : rules.readable) AddRule(ruleset.get(), path, kExecute | kReadFile | kReadDirectory);
  for (const std::string& path : rules.removable) AddRule(ruleset.get(), path, kRemoveFile);
  if (rules.program >= 0) AddRule(ruleset.get(), rules.program, kExecute | kReadFile);
  if (syscall(SYS_landlock_restrict_self, ruleset.get(), 0) != 0) ThrowErrno("landlock_restrict_self");
}

}  // namespace cow::exporter
