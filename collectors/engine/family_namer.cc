#include "collectors/engine/family_namer.h"

#include <algorithm>
#include <functional>
#include <utility>

#include "collectors/base/half_to_all.h"
#include "collectors/base/utf8.h"
#include "collectors/groups/groups.h"
#include "collectors/procfs/cmdline.h"
#include "collectors/procfs/status.h"

namespace cow::collectors {
namespace {

// Servers rewrite their command line after the start, so it is read again after this pause. Each later pause is twice
// as long, up to full_every.
constexpr std::chrono::seconds kFirstCommandLinePause{1};

size_t HashOf(const std::string& text) { return std::hash<std::string>()(text); }

}  // namespace

FamilyNamer::FamilyNamer(procfs::Root root, const GroupOptions& groups) : root_(std::move(root)), rules_(groups) {}

void FamilyNamer::SetLimits(size_t label_bytes, std::chrono::milliseconds full_every) {
  label_bytes_ = label_bytes;
  full_every_ = full_every;
}

std::vector<std::string> FamilyNamer::FixedLabels() const {
  std::vector<std::string> labels;
  for (const std::string& name : rules_.fixed_names()) labels.push_back(GroupLabel(name, label_bytes_));
  return labels;
}

void FamilyNamer::Update(const memory::Family& family, uint64_t table_pass, SteadyClock::time_point now,
                         FamilyNaming& naming, ModeNotices& notices) {
  if (rules_.AskForUser()) ReadUser(family, table_pass, now, naming);
  const memory::Process& root = *family.members.front()->process;
  const std::pair identity(root.pid, root.start_ticks);
  const bool other_user = rules_.AskForUser() && root.status.effective_uid != naming.root_uid;
  const bool is_other = identity == naming.root &&
                        (root.stat.comm != naming.root_comm || root.since_pass != naming.described || other_user);
  const bool judge_anew = !naming.judged || is_other;
  if (judge_anew) {
    naming.command_line_pause = kFirstCommandLinePause;
    naming.command_line_due = now + naming.command_line_pause;
  }
  // A new root's command line is only noted. The family keeps its group until the new root rewrites it.
  const bool is_rewritten =
      !judge_anew && naming.command_line && identity == naming.root && CommandLineChanged(family, now, naming);
  if (judge_anew || is_rewritten) {
    Judge(root, naming, notices);
  } else if (naming.command_line && identity != naming.root) {
    if (const auto text = procfs::ReadCommandLine(root_, root.memory)) naming.command_line = HashOf(*text);
  }
  if (identity != naming.root || root.since_pass != naming.described || !naming.labelled) Describe(root, naming);
  naming.root = identity;
  naming.root_comm = root.stat.comm;
  naming.root_uid = root.status.effective_uid;
  naming.described = root.since_pass;
}

// A change of the user moves no change signal, so the process table may have the old user.
void FamilyNamer::ReadUser(const memory::Family& family, uint64_t table_pass, SteadyClock::time_point now,
                           FamilyNaming& naming) {
  memory::Process& root = *family.members.front()->process;
  if (now < naming.user_due) return;
  naming.user_due = now + HalfToAll(full_every_, family.id);
  if (root.since_pass == table_pass) return;  // the table has just read it
  if (const auto status = procfs::ReadStatus(root_, root.memory)) root.status.effective_uid = status->effective_uid;
}

bool FamilyNamer::CommandLineChanged(const memory::Family& family, SteadyClock::time_point now, FamilyNaming& naming) {
  if (now < naming.command_line_due) return false;
  const SteadyClock::duration longest = HalfToAll(full_every_, family.id);
  naming.command_line_pause = std::min(naming.command_line_pause * 2, longest);
  naming.command_line_due = now + naming.command_line_pause;
  const auto text = procfs::ReadCommandLine(root_, family.members.front()->process->memory);
  return text && HashOf(*text) != naming.command_line;
}

void FamilyNamer::Judge(const memory::Process& root, FamilyNaming& naming, ModeNotices& notices) {
  naming.command_line.reset();
  const auto read_command_line = [this, &root, &naming]() -> std::optional<std::string> {
    auto text = procfs::ReadCommandLine(root_, root.memory);
    if (!text) return std::nullopt;
    naming.command_line = HashOf(*text);
    return std::move(*text);
  };
  const std::string path = root.cgroups.NamingPath();
  const GroupVerdict verdict = rules_.Judge(
      {root.stat.comm, root.exe, root.status.effective_uid, path, procfs::ParseCgroupPath(path), read_command_line});
  naming.judged = true;
  naming.left_out = !verdict.name;
  if (verdict.name) {
    naming.name = *verdict.name;
    naming.named = verdict.named;
    naming.group_name = GroupLabel(naming.name, label_bytes_);
  }
  if (verdict.unread_key.empty()) return;
  ++unread_keys_[verdict.unread_key];
  notices.NoteUnreadKey(naming.group_name, root.pid, verdict.unread_key);
}

void FamilyNamer::Describe(const memory::Process& root, FamilyNaming& naming) const {
  naming.labelled = true;
  naming.group_name = GroupLabel(naming.name, label_bytes_);
  naming.exe = LabelValue(root.exe, label_bytes_);
  const procfs::CgroupNames names = procfs::ParseCgroupPath(root.cgroups.NamingPath());
  naming.cgroup_names.unit = LabelValue(names.unit, label_bytes_);
  naming.cgroup_names.container_id = LabelValue(names.container_id, label_bytes_);
  naming.cgroup_names.pod_uid = LabelValue(names.pod_uid, label_bytes_);
  naming.cgroup_path = root.cgroups.MemoryPath();
}

// Most cgroups have no limit; they are read again after kPassesWithoutLimit passes only.
void FamilyNamer::UpdateCgroup(const memory::Process& root, uint64_t pass, FamilyNaming& naming) {
  constexpr uint64_t kPassesWithoutLimit = 8;
  CgroupOfPath& cgroup = cgroups_[naming.cgroup_path];
  const bool is_new = cgroup.used == 0;
  cgroup.used = pass;
  const bool limited = cgroup.memory && cgroup.memory->limit_bytes;
  if (is_new || pass >= cgroup.read + (limited ? 1 : kPassesWithoutLimit)) {
    cgroup.read = pass;
    cgroup.memory.reset();
    if (auto memory = procfs::ReadCgroupMemory(root_, root.cgroups)) cgroup.memory = *memory;
  }
  naming.cgroup_memory = cgroup.memory;
}

void FamilyNamer::EndPass(uint64_t pass) {
  std::erase_if(cgroups_, [pass](const auto& item) { return item.second.used != pass; });
}

}  // namespace cow::collectors
