#include "collectors/memory/process/layout_key.h"

#include <elf.h>

#include "collectors/procfs/auxiliary_vector.h"
#include "collectors/procfs/maps.h"

namespace cow::memory {
namespace {

// Since Linux 6.15 CAP_PERFMON, which CAP_SYS_ADMIN implies, opens auxv and maps of other users' processes, but neither
// exe nor the layout in stat (kernel/fork.c: may_access_mm).
std::optional<LayoutKey> LayoutOfVector(const procfs::Root& root, procfs::TaskId task) {
  const auto vector = procfs::ReadAuxiliaryVector(root, root.ProcPath(task, "auxv"));
  if (!vector) return std::nullopt;
  LayoutKey key;
  key.start_code = vector->Find(AT_ENTRY).value_or(0);
  key.end_code = vector->Find(AT_PHDR).value_or(0);
  key.start_data = vector->Find(AT_SYSINFO_EHDR).value_or(0);
  key.end_data = vector->Find(AT_BASE).value_or(0);
  key.start_stack = vector->Find(AT_RANDOM).value_or(0);  // 16 bytes on the stack
  if (key.start_code == 0 || key.start_stack == 0) return std::nullopt;
  return key;
}

}  // namespace

std::optional<LayoutKey> LayoutKey::Of(const procfs::Stat& stat) {
  if (!stat.LayoutKnown()) return std::nullopt;
  return LayoutKey{stat.start_code, stat.end_code, stat.start_data, stat.end_data, stat.start_brk, stat.start_stack};
}

bool LayoutKey::Resembles(const LayoutKey& other) const {
  return (start_stack != 0 && start_stack == other.start_stack) || (start_brk != 0 && start_brk == other.start_brk);
}

std::optional<LayoutKey> ReadLayout(const procfs::Root& root, const procfs::Stat& stat, procfs::TaskId task,
                                    LayoutSource source) {
  if (source == LayoutSource::kStat) {
    if (const auto layout = LayoutKey::Of(stat)) return layout;
  }
  return LayoutOfVector(root, task);
}

std::string ReadProgram(const procfs::Root& root, procfs::TaskId task) {
  const auto link = procfs::ReadLink(root, root.ProcPath(task, "exe"));
  if (link) return *link;
  if (link.error().kind != ErrorKind::kDenied) return "";
  const auto vector = procfs::ReadAuxiliaryVector(root, root.ProcPath(task, "auxv"));
  const uint64_t entry = vector ? vector->Find(AT_ENTRY).value_or(0) : 0;
  if (entry == 0) return "";
  auto vmas = procfs::MapsReader::Open(root, task);
  if (!vmas) return "";
  for (procfs::Vma vma; vmas->Next(vma).value_or(false);) {
    if (vma.end <= entry) continue;
    return vma.start <= entry && vma.inode != 0 ? vma.path : "";
  }
  return "";
}

}  // namespace cow::memory
