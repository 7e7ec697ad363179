#include "collectors/memory/family/lineage.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "collectors/memory/family/age_order.h"

namespace cow::memory {
namespace {

// Most families that one process is compared with in one pass: without ASLR many unrelated processes have equal
// layouts.
constexpr size_t kMaxProbes = 16;
constexpr uint64_t kMaxProbeWait = 64;  // passes between two comparisons of processes that were found unrelated

const Process& ProcessOfMember(const std::unique_ptr<Member>& member) { return *member->process; }

// Opens the member's page table, or stores the error in `unread`.
void OpenPagemap(Member& member, FrameProbe& probe) {
  if (member.access.pagemap) return;
  auto pagemap = probe.OpenPagemap(*member.process);
  if (pagemap) {
    member.access.pagemap = std::move(*pagemap);
  } else {
    member.access.unread = pagemap.error();
  }
}

bool AreOne(const Process& a, const Process& b, FrameProbe& probe) {
  const auto comparison = probe.CompareMemory(a, b);
  if (comparison) return *comparison == std::strong_ordering::equal;
  return probe.SameMemory(a, b).value_or(false);
}

template <class Map>
void Rotate(Map& lists) {
  for (auto& [key, list] : lists) {
    if (list.size() > 1) std::rotate(list.begin(), list.begin() + 1, list.end());
  }
}

}  // namespace

Lineage::Lineage(procfs::PageGeometry geometry, Pfn zero_frame, uint64_t ledger_limit_bytes)
    : geometry_(geometry), zero_frame_(zero_frame), budget_{ledger_limit_bytes, 0} {}

bool Lineage::Update(const ProcessTable& table, FrameProbe& probe, const MayGoOn& may_go_on) {
  families_.remove_if([](const auto& family) { return family->members.empty() && family->ended.empty(); });
  // In most updates the processes are those of the previous one.
  const Circumstances now{table, probe, may_go_on, table.version() == table_version_ && overtaken_.empty()};
  if (table.version() != listed_version_) ListLayouts(table);
  // A pass compares only some of the processes, so it begins with others each time.
  Rotate(by_layout_);
  Rotate(by_address_);
  table_version_ = 0;
  if (!EndMembers(now)) return false;
  if (homes_.size() < table.processes().size() && !PlaceNewcomers(now)) return false;
  if (!ProbeAgain(now)) return false;
  table_version_ = table.version();
  return true;
}

void Lineage::ListLayouts(const ProcessTable& table) {
  listed_version_ = table.version();
  by_layout_.clear();
  by_address_.clear();
  for (const auto& [pid, process] : table.processes()) {
    if (!process->layout) continue;
    by_layout_[*process->layout].push_back(process.get());
    for (const uint64_t address : {process->layout->start_stack, process->layout->start_brk}) {
      if (address != 0) by_address_[address].push_back(process.get());
    }
  }
  alike_.clear();
  for (auto& [layout, processes] : by_layout_) {
    if (processes.size() < 2) continue;
    alike_.insert(processes.begin(), processes.end());
    std::rotate(processes.begin(), processes.begin() + static_cast<std::ptrdiff_t>(table.pass() % processes.size()),
                processes.end());
  }
  for (auto& [address, processes] : by_address_) {
    if (processes.size() > 1) alike_.insert(processes.begin(), processes.end());
  }
  std::erase_if(memory_order_, [this](const auto& item) {
    const auto alike = by_layout_.find(item.first);
    return alike == by_layout_.end() || alike->second.size() < 2;
  });
  for (auto& item : memory_order_) {
    std::erase_if(item.second, [&](const auto& process) {
      const auto found = table.processes().find(process->pid);
      return found == table.processes().end() || found->second != process || process->layout != item.first;
    });
  }
}

bool Lineage::PlaceNewcomers(const Circumstances& now) {
  std::vector<std::shared_ptr<Process>> newcomers;
  for (const auto& [pid, process] : now.table.processes()) {
    if (!homes_.contains(pid) && !overtaken_.contains(pid)) newcomers.push_back(process);
  }
  SortByAge(newcomers.begin(), newcomers.end(), [](const auto& process) -> const Process& { return *process; });
  for (const auto& process : newcomers) {
    if (!now.may_go_on()) return false;
    Place(process, now.probe);
  }
  return true;
}

bool Lineage::IsCurrent(const Process& process, const Circumstances& now) const {
  if (now.same_processes) return true;
  const auto found = now.table.processes().find(process.pid);
  return found != now.table.processes().end() && found->second.get() == &process;
}

// A process leaves its address space when it exits or calls exec. The pagemap descriptor dies with the address space,
// so it stays alive while another process is in it. Without a descriptor, only the layout shows an exec.
Lineage::Fate Lineage::FateOf(Member& member, const Circumstances& now) const {
  const Process& process = *member.process;
  if (!IsCurrent(process, now)) return Fate::kEnded;
  const bool other_layout = member.layout != process.layout;
  if (member.access.pagemap && !member.access.pagemap->Alive()) {
    // If layouts are random, an exec before the table's reading has changed the layout. If not, the new program may
    // have the same layout.
    const bool overtaken = !other_layout && (now.probe.LayoutIsRandom(process) || !now.probe.OpenPagemap(process));
    return overtaken ? Fate::kOvertaken : Fate::kEnded;
  }
  if (!other_layout) return Fate::kLives;
  const bool resembles = member.layout && process.layout && member.layout->Resembles(*process.layout);
  const bool lives = member.access.pagemap ? now.probe.HasPagemap(process, *member.access.pagemap).value_or(true)
                                           : resembles && now.probe.LayoutIsRandom(process);
  if (!lives) return Fate::kEnded;
  member.layout = process.layout;
  return Fate::kLives;
}

bool Lineage::EndMembers(const Circumstances& now) {
  overtaken_.clear();
  for (const auto& family : families_) {
    if (!now.may_go_on()) return false;
    bool order_changed = false;
    for (auto& member : family->members) {
      const Fate fate = FateOf(*member, now);
      if (fate == Fate::kLives) {
        if (!member->access.pagemap && family->members.size() > 1) OpenPagemap(*member, now.probe);
        continue;
      }
      const pid_t pid = member->process->pid;
      if (fate == Fate::kOvertaken) overtaken_.insert(pid);
      if (IsCurrent(*member->process, now)) ForgetOrder(*member);
      homes_.erase(pid);
      candidates_.erase(pid);
      family->membership_changed = true;
      if (TakeOver(*family, *member, now)) {
        order_changed = true;
        continue;
      }
      member->life.ended = true;
      family->ledger.Depart(member->slot);
      family->ended.push_back(std::move(member));
    }
    std::erase(family->members, nullptr);
    if (order_changed) SortByAge(family->members.begin(), family->members.end(), ProcessOfMember);
    EndAliases(*family, now);
  }
  return true;
}

// Removes the member's process from the order: it is in another address space now.
void Lineage::ForgetOrder(const Member& member) {
  const auto order = memory_order_.find(member.layout.value_or(LayoutKey()));
  if (order != memory_order_.end()) std::erase(order->second, member.process);
}

bool Lineage::TakeOver(Family& family, Member& member, const Circumstances& now) {
  const auto heir = std::find_if(family.aliases.begin(), family.aliases.end(), [&](const Alias& alias) {
    if (alias.slot != member.slot || !IsCurrent(*alias.process, now)) return false;
    if (member.access.pagemap) return now.probe.HasPagemap(*alias.process, *member.access.pagemap).value_or(false);
    return alias.process->layout == member.layout;
  });
  if (heir == family.aliases.end()) return false;
  member.process = heir->process;
  member.layout = member.process->layout;
  member.reads.signals.reset();
  member.reads.scanned_at.reset();
  family.aliases.erase(heir);
  homes_[member.process->pid] = {&family, member.slot, member.process.get()};
  if (const auto order = memory_order_.find(member.layout.value_or(LayoutKey())); order != memory_order_.end()) {
    bool certain = true;
    FindInOrder(order->second, member.process, now.probe, certain);
  }
  return true;
}

void Lineage::EndAliases(Family& family, const Circumstances& now) {
  std::erase_if(family.aliases, [&](const Alias& alias) {
    const Member* member = family.FindSlot(alias.slot);
    const bool stays = IsCurrent(*alias.process, now) && member != nullptr && !member->life.ended &&
                       AreOne(*alias.process, *member->process, now.probe);
    if (stays) return false;
    homes_.erase(alias.process->pid);
    family.membership_changed = true;
    return true;
  });
}

void Lineage::Place(const std::shared_ptr<Process>& process, FrameProbe& probe) {
  if (const Home* home = FindSameMemory(process, probe)) {
    AddAlias(*home, process);
    return;
  }
  Family* family = FindRelatives(*process, probe);
  if (family == nullptr) {
    families_.push_back(std::make_unique<Family>(next_id_++, geometry_.PagesPerWindow(), zero_frame_, &budget_));
    family = families_.back().get();
  }
  Join(*family, process, probe);
}

void Lineage::AddAlias(const Home& home, const std::shared_ptr<Process>& process) {
  Family& family = *home.family;
  family.aliases.push_back({process, home.slot});
  family.membership_changed = true;
  homes_[process->pid] = {&family, home.slot, process.get()};
}

const Lineage::Home* Lineage::FindParent(const Process& process) const {
  const auto parent = homes_.find(process.stat.ppid);
  return parent != homes_.end() && process.IsChildOf(*parent->second.process) ? &parent->second : nullptr;
}

const Lineage::Home* Lineage::FindSameMemory(const std::shared_ptr<Process>& process, FrameProbe& probe) {
  if (!process->layout) return nullptr;
  const std::vector<const Process*>& alike = by_layout_[*process->layout];
  if (alike.size() < 2) return nullptr;
  const auto home_of = [this](const Process* other) {
    const auto home = homes_.find(other->pid);
    return home == homes_.end() ? nullptr : &home->second;
  };
  bool certain = true;
  auto& order = memory_order_[*process->layout];
  if (order.empty()) {
    for (const Process* other : alike) {
      const Home* home = home_of(other);
      const Member* member = home == nullptr ? nullptr : home->family->FindSlot(home->slot);
      if (member != nullptr && member->process.get() == other) FindInOrder(order, member->process, probe, certain);
    }
  }
  if (const Process* same = FindInOrder(order, process, probe, certain)) return home_of(same);
  if (certain) return nullptr;
  size_t compared = 0;
  const auto is_same = [&](const Process* other) {
    return home_of(other) != nullptr && other != process.get() && other->layout == process->layout &&
           probe.SameMemory(*process, *other).value_or(false);
  };
  if (const Home* parent = FindParent(*process); parent != nullptr && is_same(parent->process)) return parent;
  for (const Process* other : alike) {
    // Processes in one address space almost always had the same size when the table read them.
    if (other->stat.virtual_bytes != process->stat.virtual_bytes) continue;
    if (++compared > kMaxProbes) break;
    if (is_same(other)) return home_of(other);
  }
  return nullptr;
}

// Searches the order and inserts `process` if no process has its address space. Sets `certain` to false if the kernel
// could not compare some process.
const Process* Lineage::FindInOrder(std::vector<std::shared_ptr<Process>>& order,
                                    const std::shared_ptr<Process>& process, FrameProbe& probe, bool& certain) {
  size_t first = 0;
  size_t last = order.size();
  while (first < last) {
    const size_t middle = first + (last - first) / 2;
    const auto comparison = probe.CompareMemory(*process, *order[middle]);
    if (!comparison) {
      certain = false;
      // A process that can't even be compared with itself is removed from the order.
      if (probe.CompareMemory(*order[middle], *order[middle])) return nullptr;
      order.erase(order.begin() + static_cast<std::ptrdiff_t>(middle));
      --last;
    } else if (*comparison == std::strong_ordering::equal) {
      return order[middle].get();
    } else {
      const bool is_before = *comparison == std::strong_ordering::less;
      (is_before ? last : first) = is_before ? middle : middle + 1;
    }
  }
  order.insert(order.begin() + static_cast<std::ptrdiff_t>(first), process);
  return nullptr;
}

Family* Lineage::FindRelatives(const Process& process, FrameProbe& probe) {
  if (!alike_.contains(&process)) return nullptr;
  const Home* parent = FindParent(process);
  if (parent != nullptr && parent->process->layout) {
    const LayoutKey& layout = *parent->process->layout;
    const bool certain = layout == *process.layout && probe.LayoutIsRandom(process);
    if (certain || (layout.Resembles(*process.layout) && probe.ShareFrame(process, *parent->process)))
      return parent->family;
  }
  return FindByFrames(process, probe);
}

Family* Lineage::FindByFrames(const Process& process, FrameProbe& probe) {
  std::set<const Family*> refuted;
  const auto own = homes_.find(process.pid);
  const auto probe_all = [&](const std::vector<const Process*>& others) -> Family* {
    for (const Process* other : others) {
      const auto home = homes_.find(other->pid);
      if (other->pid == process.pid || home == homes_.end()) continue;
      if (own != homes_.end() && own->second.family == home->second.family) continue;
      if (refuted.size() == kMaxProbes) return nullptr;
      if (!refuted.insert(home->second.family).second) continue;
      if (probe.ShareFrame(process, *other)) return home->second.family;
    }
    return nullptr;
  };
  if (Family* family = probe_all(by_layout_[*process.layout])) return family;
  for (const uint64_t address : {process.layout->start_stack, process.layout->start_brk}) {
    if (address == 0) continue;
    if (Family* family = probe_all(by_address_[address])) return family;
  }
  return nullptr;
}

bool Lineage::ProbeAgain(const Circumstances& now) {
  for (auto item = families_.begin(); item != families_.end();) {
    const auto current = item++;
    Family& family = **current;
    if (family.members.size() != 1 || !family.ended.empty() || !family.aliases.empty()) continue;
    if (!alike_.contains(family.members.front()->process.get())) continue;
    const std::shared_ptr<Process> process = family.members.front()->process;
    Candidate& candidate = candidates_[process->pid];
    const uint64_t pass = now.table.pass();
    if (candidate.next_probe == 0) candidate.next_probe = pass + 1;
    if (pass < candidate.next_probe) continue;
    if (!now.may_go_on()) return false;
    candidate.wait = std::min(candidate.wait * 2, kMaxProbeWait);
    candidate.next_probe = pass + candidate.wait;
    Family* relatives = FindByFrames(*process, now.probe);
    if (relatives == nullptr) continue;
    candidates_.erase(process->pid);
    homes_.erase(process->pid);
    const uint64_t break_pages = family.members.front()->life.broken_pages;
    families_.erase(current);
    Join(*relatives, process, now.probe).life.broken_pages = break_pages;
  }
  return true;
}

Member& Lineage::Insert(Family& family, std::unique_ptr<Member> member) {
  auto& members = family.members;
  Member& joined = *member;
  const Process& process = *joined.process;
  const auto begin =
      std::lower_bound(members.begin(), members.end(), process.start_ticks,
                       [](const auto& other, uint64_t ticks) { return other->process->start_ticks < ticks; });
  const auto end = std::upper_bound(begin, members.end(), process.start_ticks, [](uint64_t ticks, const auto& other) {
    return ticks < other->process->start_ticks;
  });
  // Newcomers arrive by age, so most of them go last.
  const bool is_last = begin == end || (*std::prev(end))->process->pid < process.pid;
  bool has_children = false;
  for (auto other = begin; other != members.end(); ++other) {
    if (!(*other)->process->IsChildOf(process)) continue;
    (*other)->parent = joined.slot;
    has_children = true;
  }
  const auto first = begin - members.begin();
  const auto size = end - begin + 1;
  members.insert(end, std::move(member));
  if (!is_last || has_children) {
    SortByAge(members.begin() + first, members.begin() + first + size, ProcessOfMember);
  }
  return joined;
}

Member& Lineage::Join(Family& family, const std::shared_ptr<Process>& process, FrameProbe& probe) {
  auto member = std::make_unique<Member>();
  member->process = process;
  member->layout = process->layout;
  member->reads.first_look = !process->baseline;
  family.TakeSlot(*member);
  const Home* home = FindParent(*process);
  Member* parent = home == nullptr || home->family != &family ? nullptr : family.FindSlot(home->slot);
  member->reads.waits = family.being_scanned;
  if (parent != nullptr) {
    member->parent = parent->slot;
    parent->reads.ReadAgain();
  } else {
    for (const auto& other : family.members) other->reads.ReadAgain();
  }
  const Member* root_before = family.root();
  Member& joined = Insert(family, std::move(member));
  family.membership_changed = true;
  homes_[process->pid] = {&family, joined.slot, process.get()};
  if (root_before == nullptr) return joined;
  // If the newcomer is older than the root, the former root is the fork.
  const MemberIndex fork = (family.root() == &joined ? root_before : &joined)->slot;
  Member& forked = *family.FindSlot(fork);
  if (!forked.process->baseline && !forked.life.forked) {
    forked.life.forked = true;
    forked.reads.first_look = true;
    ++family.forks;
  }
  OpenPagemap(joined, probe);
  if (family.members.size() == 2) OpenPagemap(*family.FindSlot(root_before->slot), probe);
  return joined;
}

std::vector<std::unique_ptr<Member>> Lineage::Settle(Family& family) {
  std::vector<std::unique_ptr<Member>> settled;
  for (auto& member : family.ended) {
    if (!family.members.empty() && family.ledger.IsDeparting(member->slot)) continue;
    family.FreeSlot(member->slot);
    settled.push_back(std::move(member));
  }
  std::erase(family.ended, nullptr);
  for (const auto& member : family.members) {
    member->reads.first_look = member->reads.first_look && member->reads.waits;
    member->reads.looked_until = WindowIndex();
    // The slot of an ended parent may be reused.
    if (member->parent != Verdict::kNobody && family.FindSlot(member->parent) == nullptr)
      member->parent = Verdict::kNobody;
  }
  if (family.members.size() == 1 && family.ended.empty() && family.ledger.empty()) {
    family.members.front()->access.pagemap.reset();
    family.members.front()->access.mappings.reset();
    family.members.front()->access.huge_windows.clear();
    family.looks.Clear();
  }
  return settled;
}

void Lineage::Forget(const ProcessTable& table) noexcept {
  homes_.clear();
  families_.clear();
  by_layout_.clear();
  by_address_.clear();
  alike_.clear();
  memory_order_.clear();
  overtaken_.clear();
  candidates_.clear();
  table_version_ = 0;  // no table with a process has it
  listed_version_ = 0;
  for (const auto& [pid, process] : table.processes()) process->baseline = true;
}

void Lineage::Leave(Family& family) {
  family.ledger.Clear();
  family.looks.Clear();
  for (const auto& member : family.members) {
    member->reads.signals.reset();
    member->life.missed = true;
    member->access.mappings.reset();
    member->access.huge_windows.clear();
  }
  Settle(family);
  family.BookMemory();
}

}  // namespace cow::memory
