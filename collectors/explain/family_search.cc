#include "collectors/explain/family_search.h"

#include <unistd.h>

#include <algorithm>
#include <optional>
#include <set>
#include <string_view>
#include <tuple>

#include "collectors/groups/groups.h"
#include "collectors/memory/process/process_table.h"
#include "collectors/procfs/cgroup.h"
#include "collectors/procfs/cmdline.h"

namespace cow::explain {
namespace {

constexpr size_t kMaxCommBytes = 15;  // TASK_COMM_LEN in include/linux/sched.h, without its NUL

// Ways to have a name, the best first.
enum class Fit { kComm, kProgram, kBeginning, kNone };

std::string_view ProgramName(std::string_view exe) {
  constexpr std::string_view kDeleted = " (deleted)";
  if (exe.ends_with(kDeleted)) exe.remove_suffix(kDeleted.size());
  return exe.substr(exe.rfind('/') + 1);
}

Fit FitOf(const memory::Process& process, std::string_view name) {
  const std::string_view comm = process.stat.comm;
  if (comm == name.substr(0, kMaxCommBytes)) return Fit::kComm;
  if (ProgramName(process.exe) == name) return Fit::kProgram;
  return comm.starts_with(name) ? Fit::kBeginning : Fit::kNone;
}

FoundFamily Describe(const procfs::Root& root, const memory::Family& family, const memory::Process& process) {
  FoundFamily found;
  found.pid = process.pid;
  found.comm = process.stat.comm;
  found.command_line = procfs::ReadCommandLine(root, process.memory).value_or("");
  found.processes = family.members.size() + family.aliases.size();
  for (const auto& member : family.members) found.resident_bytes += member->process->ResidentBytes();
  return found;
}

FamilySearch Finish(std::vector<FoundFamily> families, const std::set<std::string>& names) {
  std::stable_sort(families.begin(), families.end(), [](const FoundFamily& a, const FoundFamily& b) {
    return std::tie(a.processes, a.resident_bytes) > std::tie(b.processes, b.resident_bytes);
  });
  return {std::move(families), {names.begin(), names.end()}};
}

}  // namespace

FamilySearch FindByName(const procfs::Root& root, const memory::Lineage& lineage, const std::string& name) {
  std::set<std::string> names;
  std::vector<FoundFamily> families;
  Fit best = Fit::kBeginning;
  for (const auto& family : lineage.families()) {
    const memory::Process* nearest = nullptr;
    Fit fit = Fit::kNone;
    for (const auto& member : family->members) {
      const memory::Process& process = *member->process;
      if (process.pid == getpid()) continue;
      names.insert(process.stat.comm);
      if (const Fit of_member = FitOf(process, name); of_member < fit) {
        fit = of_member;
        nearest = &process;
      }
    }
    if (nearest == nullptr || fit > best) continue;
    if (fit < best) families.clear();
    best = fit;
    families.push_back(Describe(root, *family, *nearest));
  }
  return Finish(std::move(families), names);
}

FamilySearch FindByGroup(const procfs::Root& root, const memory::Lineage& lineage, const std::string& group,
                         collectors::GroupRules& rules, size_t label_bytes) {
  std::set<std::string> names;
  std::vector<FoundFamily> families;
  for (const auto& family : lineage.families()) {
    if (family->members.empty()) continue;
    const memory::Process& process = *family->members.front()->process;
    if (process.pid == getpid()) continue;
    const std::string path = process.cgroups.NamingPath();
    collectors::GroupSubject subject;
    subject.comm = process.stat.comm;
    subject.exe = process.exe;
    subject.uid = process.status.effective_uid;
    subject.cgroup_path = path;
    subject.names = procfs::ParseCgroupPath(path);
    subject.read_command_line = [&root, &process]() -> std::optional<std::string> {
      auto text = procfs::ReadCommandLine(root, process.memory);
      if (!text) return std::nullopt;
      return std::move(*text);
    };
    const collectors::GroupVerdict verdict = rules.Judge(subject);
    if (!verdict.name) continue;
    const std::string label = collectors::GroupLabel(*verdict.name, label_bytes);
    names.insert(label);
    if (label == group) families.push_back(Describe(root, *family, process));
  }
  return Finish(std::move(families), names);
}

}  // namespace cow::explain
