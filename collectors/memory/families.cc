#include "collectors/memory/families.h"

#include <algorithm>
#include <utility>

namespace cow::memory {
namespace {

// Families that one process is compared with in one pass: without ASLR any number of strangers look alike.
constexpr size_t kMaxProbes = 16;
constexpr uint64_t kMaxProbeWait = 64;  // passes between two comparisons of processes that were found unrelated

// Oldest first, parents before their children. `process_of` gives the process of an item.
template <class Item, class ProcessOf>
void SortByAge(std::vector<Item>& items, const ProcessOf& process_of) {
  std::sort(items.begin(), items.end(), [&](const Item& a, const Item& b) {
    return std::pair(process_of(a).start_ticks, process_of(a).pid) <
           std::pair(process_of(b).start_ticks, process_of(b).pid);
  });
  // Pids wrap around: within one clock tick a child may have the smaller one.
  for (size_t i = 0; i < items.size(); ++i) {
    for (size_t j = i + 1; j < items.size() && process_of(items[j]).start_ticks == process_of(items[i]).start_ticks;
         ++j) {
      if (process_of(items[i]).IsChildOf(process_of(items[j]))) std::swap(items[i], items[j]);
    }
  }
}

}  // namespace

ChangeSignals ChangeSignals::Of(const Process& process) {
  const procfs::Status& status = process.status;
  return {process.stat.minor_faults,         process.stat.major_faults,         process.stat.virtual_bytes,
          status.rss_anon_bytes.value_or(0), status.rss_file_bytes.value_or(0), status.rss_shmem_bytes.value_or(0),
          status.swap_bytes.value_or(0),     status.hugetlb_bytes.value_or(0)};
}

Member* Family::FindSlot(Slot slot) const {
  for (const auto* list : {&members, &ended}) {
    for (const auto& member : *list) {
      if (member->slot == slot) return member.get();
    }
  }
  return nullptr;
}

Families::Families(procfs::PageGeometry geometry, uint64_t zero_frame, uint64_t ledger_limit_bytes)
    : geometry_(geometry), zero_frame_(zero_frame), budget_{ledger_limit_bytes, 0} {}

void Families::Update(const ProcessTable& table, FrameProbe& probe) {
  families_.remove_if([](const auto& family) { return family->members.empty() && family->ended.empty(); });
  // Most updates of most hosts find the processes of the one before.
  const bool same_processes = table.version() == table_version_ && overtaken_.empty();
  if (!same_processes) ListLayouts(table);
  // Those who are compared first change from pass to pass, because not all are compared in one.
  for (auto& [layout, processes] : by_layout_) std::rotate(processes.begin(), processes.begin() + 1, processes.end());
  overtaken_ = EndMembers(table, same_processes, probe);
  if (family_of_.size() < table.processes().size()) PlaceNewcomers(table, probe);
  ProbeAgain(table, probe);
}

void Families::ListLayouts(const ProcessTable& table) {
  table_version_ = table.version();
  by_layout_.clear();
  for (const auto& [pid, process] : table.processes()) {
    if (process->layout) by_layout_[*process->layout].push_back(process.get());
  }
  alike_.clear();
  for (auto& [layout, processes] : by_layout_) {
    if (processes.size() < 2) continue;
    alike_.insert(processes.begin(), processes.end());
    std::rotate(processes.begin(), processes.begin() + static_cast<std::ptrdiff_t>(table.pass() % processes.size()),
                processes.end());
  }
}

void Families::PlaceNewcomers(const ProcessTable& table, FrameProbe& probe) {
  std::vector<std::shared_ptr<Process>> newcomers;
  for (const auto& [pid, process] : table.processes()) {
    if (!family_of_.contains(pid) && !overtaken_.contains(pid)) newcomers.push_back(process);
  }
  SortByAge(newcomers, [](const auto& process) -> const Process& { return *process; });
  for (const auto& process : newcomers) Place(process, table, probe);
}

std::set<pid_t> Families::EndMembers(const ProcessTable& table, bool same_processes, FrameProbe& probe) {
  std::set<pid_t> overtaken;
  const auto is_current = [&](const Process& process) {
    if (same_processes) return true;
    const auto found = table.processes().find(process.pid);
    return found != table.processes().end() && found->second.get() == &process && !process.executed;
  };
  for (const auto& family : families_) {
    for (auto& member : family->members) {
      const bool dead_descriptor =
          member->pagemap && !member->pagemap->Alive(geometry_.PageOf(member->process->stat.start_stack));
      if (is_current(*member->process)) {
        if (!dead_descriptor) continue;
        // Where layouts are random an exec shows in the table, unless it came later. Else it may be the same program's.
        if (probe.LayoutIsRandom(*member->process) || !probe.OpenPagemap(*member->process)) {
          overtaken.insert(member->process->pid);
        }
      }
      member->ended = true;
      family->ledger.Depart(member->slot);
      family_of_.erase(member->process->pid);
      candidates_.erase(member->process->pid);
      family->ended.push_back(std::move(member));
      family->membership_changed = true;
    }
    std::erase(family->members, nullptr);
    std::erase_if(family->aliases, [&](const auto& alias) {
      const bool stays = is_current(*alias) && family->root() != nullptr &&
                         probe.SameMemory(*alias, *family->root()->process).value_or(false);
      if (stays) return false;
      family_of_.erase(alias->pid);
      family->membership_changed = true;
      return true;
    });
  }
  return overtaken;
}

void Families::Place(const std::shared_ptr<Process>& process, const ProcessTable& table, FrameProbe& probe) {
  const auto parent = table.processes().find(process->stat.ppid);
  if (process->layout && parent != table.processes().end() && process->IsChildOf(*parent->second) &&
      process->layout == parent->second->layout) {
    const auto family = family_of_.find(parent->first);
    if (family != family_of_.end() && probe.SameMemory(*process, *parent->second).value_or(false)) {
      family->second->aliases.push_back(process);
      family->second->membership_changed = true;
      family_of_[process->pid] = family->second;
      return;
    }
  }
  Family* family = FindRelatives(*process, table, probe);
  if (family == nullptr) {
    families_.push_back(std::make_unique<Family>(next_id_++, geometry_.PagesPerWindow(), zero_frame_, &budget_));
    family = families_.back().get();
  }
  Join(*family, process, probe);
}

Family* Families::FindRelatives(const Process& process, const ProcessTable& table, FrameProbe& probe) {
  if (!process.layout || by_layout_[*process.layout].size() < 2) return nullptr;
  const auto parent = table.processes().find(process.stat.ppid);
  if (parent != table.processes().end() && process.IsChildOf(*parent->second) &&
      process.layout == parent->second->layout && family_of_.contains(parent->first)) {
    if (probe.LayoutIsRandom(process) || probe.ShareFrame(process, *parent->second)) return family_of_[parent->first];
  }
  return FindByFrames(process, probe);
}

Family* Families::FindByFrames(const Process& process, FrameProbe& probe) {
  std::set<const Family*> refuted;
  for (const Process* other : by_layout_[*process.layout]) {
    const auto family = family_of_.find(other->pid);
    if (other->pid == process.pid || family == family_of_.end()) continue;
    if (const auto own = family_of_.find(process.pid); own != family_of_.end() && own->second == family->second)
      continue;
    if (refuted.size() == kMaxProbes) break;
    if (!refuted.insert(family->second).second) continue;
    if (probe.ShareFrame(process, *other)) return family->second;
  }
  return nullptr;
}

void Families::ProbeAgain(const ProcessTable& table, FrameProbe& probe) {
  for (auto item = families_.begin(); item != families_.end();) {
    Family& family = **item;
    ++item;
    if (family.members.size() != 1 || !family.ended.empty() || !family.aliases.empty()) continue;
    if (!alike_.contains(family.members.front()->process.get())) continue;
    const std::shared_ptr<Process> process = family.members.front()->process;
    Candidate& candidate = candidates_[process->pid];
    if (candidate.next_probe == 0) candidate.next_probe = table.pass() + 1;
    if (table.pass() < candidate.next_probe) continue;
    candidate.wait = std::min(candidate.wait * 2, kMaxProbeWait);
    candidate.next_probe = table.pass() + candidate.wait;
    Family* relatives = FindByFrames(*process, probe);
    if (relatives == nullptr) continue;
    candidates_.erase(process->pid);
    family_of_.erase(process->pid);
    const uint64_t break_pages = family.members.front()->break_pages;
    families_.remove_if([&family](const auto& other) { return other.get() == &family; });
    Join(*relatives, process, probe).break_pages = break_pages;
  }
}

Member& Families::Join(Family& family, const std::shared_ptr<Process>& process, FrameProbe& probe) {
  auto member = std::make_unique<Member>();
  member->process = process;
  while (family.FindSlot(member->slot) != nullptr || family.ledger.IsDeparting(member->slot)) ++member->slot;
  bool parent_is_member = false;
  for (const auto& other : family.members) {
    if (process->IsChildOf(*other->process)) {
      member->parent = other->slot;
      parent_is_member = true;
      other->read_at.reset();  // what it had of its own is shared now
    }
    if (other->process->IsChildOf(*process)) other->parent = member->slot;
  }
  if (!parent_is_member) {
    for (const auto& other : family.members) other->read_at.reset();
  }
  Member* joined = member.get();
  const Member* root_before = family.root();
  member->first_look = !process->baseline;
  family.members.push_back(std::move(member));
  family.membership_changed = true;
  family_of_[process->pid] = &family;
  if (root_before == nullptr) return *joined;
  SortByAge(family.members, [](const auto& each) -> const Process& { return *each->process; });
  // Of two, the younger is the fork, whichever was seen first.
  const Slot fork = (family.root() == joined ? root_before : joined)->slot;
  Member& forked = *family.FindSlot(fork);
  if (!forked.process->baseline && !forked.forked) {
    forked.forked = true;
    forked.first_look = true;
    ++family.forks;
  }
  for (const auto& each : family.members) {
    if (each->pagemap) continue;
    auto pagemap = probe.OpenPagemap(*each->process);
    if (pagemap) {
      each->pagemap = std::move(*pagemap);
    } else {
      each->unread = pagemap.error();
    }
  }
  return *joined;
}

void Families::Settle(Family& family, const std::function<void(const Family&, const Member&)>& on_end) {
  for (const auto& member : family.members) member->first_look = false;
  std::erase_if(family.ended, [&](const auto& member) {
    if (!family.members.empty() && family.ledger.IsDeparting(member->slot)) return false;
    on_end(family, *member);
    for (const auto& child : family.members) {
      if (child->parent == member->slot) child->parent = Verdict::kNobody;  // the slot may get a new holder
    }
    return true;
  });
  if (family.members.size() == 1 && family.ended.empty() && family.ledger.empty()) {
    family.members.front()->pagemap.reset();
    family.members.front()->mappings.reset();
    family.members.front()->huge_windows.clear();
    family.looks.Clear();
  }
}

void Families::Leave(Family& family) {
  family.ledger.Clear();
  family.looks.Clear();
  for (const auto& member : family.members) {
    member->read_at.reset();
    member->missed = true;
    member->mappings.reset();
    member->huge_windows.clear();
  }
  Settle(family, [](const Family& /*family*/, const Member& /*member*/) {});
}

}  // namespace cow::memory
