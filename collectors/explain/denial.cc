#include "collectors/explain/denial.h"

#include <linux/capability.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstdio>
#include <string_view>
#include <vector>

#include "collectors/base/text.h"
#include "collectors/procfs/mountinfo.h"
#include "collectors/procfs/system.h"

namespace cow::explain {
namespace {

constexpr std::string_view kInitialUserNamespace = "user:[4026531837]";  // include/linux/proc_ns.h

void ReadFour(std::string_view value, std::array<uint32_t, 4>& ids) {
  for (uint32_t& id : ids) id = text::ParseNumber<uint32_t>(text::NextField(value)).value_or(0);
}

uint64_t ReadMask(std::string_view value) { return text::ParseNumber<uint64_t>(text::Trim(value), 16).value_or(0); }

std::optional<Credentials> ReadCredentials(const procfs::Root& root, const std::string& path) {
  const auto status = procfs::ReadTextFile(root, path);
  if (!status) return std::nullopt;
  Credentials credentials;
  std::string_view rest = *status;
  std::string_view line;
  while (text::NextLine(rest, line)) {
    std::string_view value = line;
    const std::string_view key = text::CutAt(value, ':');
    if (key == "Uid") ReadFour(value, credentials.users);
    if (key == "Gid") ReadFour(value, credentials.groups);
    if (key == "CapPrm") credentials.permitted = ReadMask(value);
    if (key == "CapEff") credentials.effective = ReadMask(value);
  }
  return credentials;
}

std::string FindHidepid(std::string_view options) {
  constexpr std::string_view kOption = "hidepid=";
  while (!options.empty()) {
    const std::string_view option = text::CutAt(options, ',');
    if (option.starts_with(kOption)) return std::string(option.substr(kOption.size()));
  }
  return "";
}

// False if a file can't be read.
template <class Read>
bool Differ(const procfs::Root& root, pid_t pid, const std::string& file, Read&& read) {
  const auto own = read(root, root.ProcPath("self/" + file));
  const auto other = read(root, root.ProcPath(pid, file));
  return own && other && *own != *other;
}

bool IsOutsideUserNamespace(const procfs::Root& root, pid_t pid) {
  const auto own = procfs::ReadLink(root, root.ProcPath("self/ns/user"));
  if (!own || *own == kInitialUserNamespace) return false;
  const auto read = [](const procfs::Root& of, const std::string& path) { return procfs::ReadTextFile(of, path); };
  return Differ(root, pid, "ns/user", &procfs::ReadLink) || Differ(root, pid, "uid_map", read);
}

bool Has(const std::optional<Credentials>& own, unsigned capability) {
  return own && (own->effective & uint64_t{1} << capability) != 0;
}

bool AllAre(const std::array<uint32_t, 4>& ids, uint32_t id) {
  return std::all_of(ids.begin(), ids.begin() + 3, [id](uint32_t each) { return each == id; });
}

std::string Ids(const std::array<uint32_t, 4>& ids) {
  if (AllAre(ids, ids[0])) return std::to_string(ids[0]);
  return std::to_string(ids[0]) + " (effective: " + std::to_string(ids[1]) + ", saved: " + std::to_string(ids[2]) + ")";
}

std::string Hex(uint64_t mask) {
  std::array<char, 20> digits{};
  std::snprintf(digits.data(), digits.size(), "0x%llx", static_cast<unsigned long long>(mask));
  return digits.data();
}

// Returns what makes the kernel ask for CAP_SYS_PTRACE; empty if nothing was found.
std::string WhyPtrace(const DenialFacts& facts) {
  if (!facts.own || !facts.target) return "";
  const Credentials& own = *facts.own;
  const Credentials& target = *facts.target;
  if (!AllAre(target.users, own.users[3])) {
    return "it runs as user " + Ids(target.users) + " and this program as user " + std::to_string(own.users[3]);
  }
  if (!AllAre(target.groups, own.groups[3])) {
    return "it runs as group " + Ids(target.groups) + " and this program as group " + std::to_string(own.groups[3]);
  }
  if (facts.owner && *facts.owner != target.users[1]) {
    return "it is not dumpable (its files in /proc belong to user " + std::to_string(*facts.owner) + ")";
  }
  if (const uint64_t more = target.permitted & ~own.effective; more != 0) {
    return "it has capabilities that this program lacks (" + Hex(more) + ")";
  }
  return "";
}

}  // namespace

// The last mount on a mount point hides the earlier ones.
std::string ReadHidepid(const procfs::Root& root) {
  std::string hidepid;
  auto mounts = procfs::MountinfoReader::OpenSelf(root);
  while (mounts) {
    const auto mount = mounts->Next();
    if (!mount || *mount == nullptr) break;
    if ((*mount)->mount_point == root.procfs()) hidepid = FindHidepid((*mount)->super_options);
  }
  return hidepid == "0" || hidepid == "off" ? "" : hidepid;
}

DenialFacts ReadDenialFacts(const procfs::Root& root, pid_t pid, const Error& error) {
  DenialFacts facts;
  facts.file = error.path.substr(error.path.rfind('/') + 1);
  facts.own = ReadCredentials(root, root.ProcPath("self/status"));
  facts.target = ReadCredentials(root, root.ProcPath(pid, "status"));
  struct stat entry {};
  if (stat(error.path.c_str(), &entry) == 0) facts.owner = entry.st_uid;
  facts.hidepid = ReadHidepid(root);
  facts.outside_user_namespace = IsOutsideUserNamespace(root, pid);
  if (const auto modules = procfs::ReadTextFile(root, root.SysPath("kernel/security/lsm"))) {
    facts.modules = text::Trim(*modules);
  }
  return facts;
}

std::string DescribeDenial(const DenialFacts& facts) {
  if (!facts.target && !facts.hidepid.empty()) {
    return "/proc is mounted with hidepid=" + facts.hidepid + ", which hides processes of other users";
  }
  const bool is_owner = facts.own && facts.owner && *facts.owner == facts.own->users[3];
  std::string lacking = Has(facts.own, CAP_SYS_PTRACE) ? "" : "CAP_SYS_PTRACE";
  if (facts.file == "pagemap" && !is_owner && !Has(facts.own, CAP_DAC_READ_SEARCH) &&
      !Has(facts.own, CAP_DAC_OVERRIDE)) {
    lacking += lacking.empty() ? "CAP_DAC_READ_SEARCH" : " and CAP_DAC_READ_SEARCH";
  }
  const std::string why = WhyPtrace(facts);
  if (!lacking.empty() && !why.empty()) return why + ", without " + lacking;
  if (facts.outside_user_namespace) {
    return "it is in another user namespace, where this program's capabilities do not count";
  }
  if (!facts.own || !facts.target) return "its status can't be read, so the reason is unknown";
  std::string text = "users, groups and capabilities allow it, so a security module denies it";
  if (!facts.modules.empty()) text += " (active: " + facts.modules + ")";
  return text;
}

}  // namespace cow::explain
