#include "collectors/engine.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cmath>
#include <iterator>
#include <limits>
#include <map>
#include <mutex>
#include <optional>
#include <random>
#include <set>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <utility>

#include "collectors/cell_layout.h"
#include "collectors/collector.h"
#include "collectors/fork_watch.h"
#include "collectors/group_rules.h"
#include "collectors/groups.h"
#include "collectors/label.h"
#include "collectors/memory/families.h"
#include "collectors/memory/half_to_all.h"
#include "collectors/memory/process_table.h"
#include "collectors/memory/scanner.h"
#include "collectors/mode_notices.h"
#include "collectors/procfs/cgroup.h"
#include "collectors/procfs/cmdline.h"
#include "collectors/procfs/ksm.h"
#include "collectors/procfs/process_list.h"
#include "collectors/procfs/status.h"
#include "collectors/procfs/system.h"
#include "collectors/sample_estimate.h"
#include "collectors/scan_order.h"
#include "collectors/worker_threads.h"

namespace cow::collectors {
namespace {

using memory::Family;
using memory::FamilyView;
using memory::Member;
using memory::WindowView;
using procfs::ErrorKind;
using prometheus::MetricType;
using SystemTime = std::chrono::system_clock::time_point;
using SteadyClock = std::chrono::steady_clock;

constexpr std::array<std::string_view, 4> kUnreadReasons{"denied", "gone", "budget", "malformed"};
enum UnreadReason : size_t { kDenied, kGone, kBudget, kMalformed };

double Seconds(SystemTime time) { return std::chrono::duration<double>(time.time_since_epoch()).count(); }

procfs::PageGeometry ReadGeometry(const procfs::Root& root) {
  const auto geometry = procfs::ReadPageGeometry(root);
  if (!geometry) throw std::runtime_error(geometry.error().ToString());
  return *geometry;
}

// Descriptors for files of processes: the other half is for page tables of families and for connections.
size_t KeptFiles() {
  return std::min<uint64_t>(memory::ProcessTable::kMaxKeptFiles, procfs::RaiseDescriptorLimit() / 2);
}

// One enabled collector and its part of the cells.
struct Slot {
  std::string_view name;
  bool stand_in = false;  // of a collector that is not enabled
  std::shared_ptr<Collector> collector;
  bool awaits_pass = false;  // made while others had been at work: its sums are not whole yet
  size_t first_gauge = 0;
  size_t first_counter = 0;
  SteadyClock::duration spent{};       // in the current pass
  bool failed = false;                 // in the current pass
  SteadyClock::duration last_spent{};  // in the last completed pass
  bool last_failed = false;
};

// The latest reading of one window.
struct WindowCells {
  std::vector<int32_t> gauges;  // base pages
  uint32_t present_pages = 0;
  SystemTime read_at;
  uint64_t pass = 0;
};

// The memory of a cgroup, for all families in it.
struct CgroupOfPath {
  std::optional<procfs::CgroupMemory> memory;
  uint64_t read = 0;  // pass that read it
  uint64_t used = 0;  // pass that asked for it last
};

// Of the members since they were read: what their page tables would show. Of those that were not, all there were.
uint64_t FaultsSinceRead(const Family& family) {
  uint64_t faults = 0;
  for (const auto& member : family.members) {
    const procfs::Stat& stat = member->process->stat;
    const uint64_t before = member->read_at ? member->read_at->minor_faults + member->read_at->major_faults : 0;
    faults += stat.minor_faults + stat.major_faults - before;
  }
  return faults;
}

uint64_t RandomSeed() {
  std::random_device random;
  return uint64_t{random()} << 32U | random();
}

// What the engine keeps of a family.
struct FamilyState {
  std::string name;                 // by the rules
  std::string group_name;           // cut to a label; where there was no room for it, `group` is the overflow's
  bool labelled = false;            // `name`, and what describes the root: made labels of the length in force
  bool judged = false;              // by the rules in force
  bool left_out = false;            // by the rules: neither scanned nor exported
  bool baseline = false;            // it was left out, and no pass was completed since: nothing is counted yet
  Group* group = nullptr;           // of the pass under way
  std::string_view exported_as;     // its name
  std::pair<pid_t, uint64_t> root;  // pid and start time of the root that named the group
  uint64_t described = 0;           // since_pass of the root when it was described
  std::string root_comm;
  uint32_t root_uid = 0;
  SteadyClock::time_point user_due;                   // when it is asked for though nothing of the root changed
  std::unordered_map<uint64_t, WindowCells> windows;  // of families that are walked window by window
  std::vector<int64_t> window_sum;                    // over `windows`
  std::vector<int64_t> family_cells;                  // of the last completed pass that read it
  std::vector<int64_t> pass_cells;                    // of the last completed pass
  WindowCells lonely;                                 // a process without relatives: its windows in one
  WindowCells lonely_pending;                         // of the pass under way
  SampleEstimate sampled;                             // of families of which a sample is read: window_sum's, and pages
  uint64_t unwalked_pages = 0;                        // of the last completed pass
  uint64_t resident_pages = 0;                        // of the members, by the kernel's sums, at the pass under way
  uint64_t unread_pages = 0;
  std::array<uint64_t, kUnreadReasons.size()> unread{};
  std::array<bool, memory::kModes> modes{};
  bool scan_known = true;
  bool completed = false;  // a pass was
  SystemTime read_at;      // end of the last completed pass
  SystemTime verified_at;  // when nothing was found to have changed since
  SystemTime first_start;  // of the oldest forked child
  bool has_child = false;
  size_t processes = 0;
  size_t members = 0;
  std::string exe;
  procfs::CgroupNames names;
  std::string cgroup_path;
  std::optional<procfs::CgroupMemory> cgroup_memory;
  size_t ledger_bytes = 0;
  size_t looks_bytes = 0;  // at the end of the last pass over it
  uint64_t pass = 0;
};

}  // namespace

class Engine::Impl {
 public:
  Impl(procfs::Root root, EngineOptions options, std::span<const Registration> registry)
      : root_(std::move(root)),
        options_(std::move(options)),
        geometry_(ReadGeometry(root_)),
        table_(root_, options_.max_processes, KeptFiles()),
        scanner_(root_, geometry_, options_.threads),
        workers_(scanner_.threads()),
        sample_seed_(options_.sample_seed ? *options_.sample_seed : RandomSeed()),
        scan_counters_(scanner_.threads()),
        families_(geometry_, scanner_.zero_frame(), options_.ledger_bytes),
        rules_(options_.groups),
        groups_(options_.max_groups, 0),
        registry_(registry) {
    Install(MakeSlots(options_));
    if (const auto boot_time = procfs::ReadBootTimeSeconds(root_)) boot_time_ = *boot_time;
    ticks_ = static_cast<double>(procfs::ReadClockTicksPerSecond(root_));
    if (const auto listed = procfs::ListProcesses(root_); !listed) throw std::runtime_error(listed.error().ToString());
  }

  bool RunPass(PassControl& control) {
    control_ = &control;
    const auto begin = SteadyClock::now();
    if (!table_.Update()) return false;
    ++pass_;
    pass_begin_ = std::chrono::system_clock::now();
    groups_.BeginPass();
    memory::PassOptions pass_options{options_.full_every, show_all_, options_.sample_above_bytes, sample_seed_};
    for (Slot& slot : slots_) {
      if (slot.failed) pass_options.show_all = true;  // it has sums missing
      if (!slot.awaits_pass && slot.collector->needs().member_sums) pass_options.count_breaks = true;
      slot.spent = {};
      slot.failed = false;
    }
    families_.Update(table_, scanner_.probe());
    ReadHostSaved();
    scanner_.BeginPass();
    const auto gone = table_.unreadable().find(ErrorKind::kGone);
    const size_t nameless = table_.unreadable().size() - (gone == table_.unreadable().end() ? 0 : 1);
    if (table_.over_limit() + nameless > 0) groups_.Find(Groups::kOverflow, begin);
    if (const auto denied = table_.unreadable().find(ErrorKind::kDenied); denied != table_.unreadable().end())
      notices_.NoteNameless(Groups::kOverflow, denied->second);
    for (const std::string& name : rules_.fixed_names()) {
      groups_.Find(LabelValue(name, options_.label_value_length), begin);
    }
    for (const auto& family : families_.families()) Assign(*family, begin);
    skipped_members_ = 0;
    all_is_read_ = true;
    if (!ScanAll(TakeDue(pass_options), pass_options)) return false;
    for (const auto& family : families_.families()) {
      if (!control_->Continue()) return false;
      ShowPass(*family);
    }
    std::erase_if(states_, [this](const auto& item) {
      if (item.second.pass == pass_) return false;
      for (Slot& slot : slots_) {
        Guard(slot, [&] { slot.collector->OnFamilyGone(item.first); });
      }
      return true;
    });
    for (Slot& slot : slots_) {
      Guard(slot, [&] { slot.collector->OnPassEnd(); });
      slot.last_spent = slot.spent;
      slot.last_failed = slot.failed;
      slot.awaits_pass = false;
    }
    show_all_ = false;
    std::erase_if(cgroups_, [this](const auto& item) { return item.second.used != pass_; });
    groups_.EndPass(begin, SteadyClock::now());
    skipped_processes_ = skipped_members_;
    ++(skipped_members_ == 0 && all_is_read_ ? full_passes_ : incremental_passes_);
    return true;
  }

  void Reconfigure(EngineOptions options);
  std::vector<CollectedFamilies> Collect() const;
  std::vector<FamilySummary> Families() const;
  std::vector<ModeNotice> TakeNotices() { return notices_.Take(); }
  std::chrono::nanoseconds HelperCpuTime() const { return workers_.CpuTime(); }

  bool NewForks() {
    if (!fork_watch_) {
      auto events = netlink::OpenProcEvents(root_);
      fork_watch_.emplace(root_, events ? std::move(*events) : nullptr);
    }
    return fork_watch_->Look(table_);
  }

 private:
  class ScanThread;

  // The sums of one group over its families.
  struct GroupState {
    std::vector<int64_t> gauges;
    std::vector<double> variances;  // of those that are estimates
    const Group* group = nullptr;
    size_t processes = 0;
    size_t families = 0;
    std::array<bool, memory::kModes> modes{};
    bool scan_known = true;
    std::array<uint64_t, kUnreadReasons.size()> unread{};
    uint64_t covered_pages = 0;
    uint64_t known_pages = 0;
    std::optional<SystemTime> oldest_read;
    std::optional<SystemTime> oldest_child;
    std::vector<const FamilyState*> members;
    bool has_unseen = false;  // a family that no pass was completed over

    bool Has(memory::Mode mode) const { return modes.at(static_cast<size_t>(mode)); }
    bool HasUnreadable() const { return Has(memory::Mode::kNoPagemap) || Has(memory::Mode::kNone); }
    // Some page table was, or there is none to be read.
    bool Readable() const {
      return !HasUnreadable() || Has(memory::Mode::kFull) || Has(memory::Mode::kNoKpage) ||
             Has(memory::Mode::kNoFrames);
    }
  };

  template <class Call>
  void Guard(Slot& slot, Call&& call) {
    const auto begin = SteadyClock::now();
    try {
      call();
    } catch (const std::exception& error) {  // one that fails costs its own metrics only
      slot.failed = true;
      notices_.NoteFailure(slot.name, error.what());
    } catch (...) {
      slot.failed = true;
      notices_.NoteFailure(slot.name, "unknown");
    }
    slot.spent += SteadyClock::now() - begin;
  }

  // Shows something of a family to each collector, with its part of the zeroed scratch and of the group's counters.
  template <class Call>
  void ShowEach(const FamilyState& state, Call&& call) {
    std::fill(scratch_.begin(), scratch_.end(), 0);
    for (Slot& slot : slots_) {
      Group& group = slot.awaits_pass || state.baseline ? left_out_ : *state.group;
      const Tally tally{std::span(scratch_).subspan(slot.first_gauge, slot.collector->gauges()),
                        std::span(group.counters).subspan(slot.first_counter, slot.collector->counters()),
                        state.exported_as};
      Guard(slot, [&] { call(*slot.collector, tally); });
    }
  }

  // What the options ask for; a collector that is there already is taken over, with what it remembers.
  std::vector<Slot> MakeSlots(const EngineOptions& options);
  std::shared_ptr<Collector> FindOrMake(const Registration& entry, bool stand_in, const EngineOptions& options);
  // Lays the slots out, and with them the cells that there are.
  void Install(std::vector<Slot> slots);
  void Assign(Family& family, SteadyClock::time_point now);
  void ReadUser(const Family& family, FamilyState& state, SteadyClock::time_point now);
  void Judge(const memory::Process& root, FamilyState& state);
  void Leave(Family& family, FamilyState& state);
  void DescribeRoot(const memory::Process& root, FamilyState& state) const;
  const std::optional<procfs::CgroupMemory>& MemoryOfCgroup(const std::string& path, const procfs::Cgroups& cgroups);
  void ShowPass(const Family& family);
  // Those to be scanned in this pass, in this order. The others are as they were.
  std::vector<Family*> TakeDue(const memory::PassOptions& options);
  // False if the pass was abandoned.
  bool ScanAll(const std::vector<Family*>& due, const memory::PassOptions& options);
  void OnWindow(const WindowView& view);
  void OnUnchanged(const Family& family, uint64_t window);
  void OnNotDrawn(const Family& family, uint64_t window);
  void FinishSample(const FamilyView& view, FamilyState& state) const;
  void OnFamily(const FamilyView& view);
  void OnEnd(const Family& family, const Member& member);
  void ReadHostSaved();
  SystemTime StartOf(const memory::Process& process) const;  // the boot time must be known
  std::map<std::string, GroupState> SumGroups() const;
  void AddFamily(const FamilyState& state, SystemTime horizon, GroupState& group) const;
  void PublishGroups(const std::map<std::string, GroupState>& groups, MetricWriter& writer) const;
  void PublishKnowledge(const std::map<std::string, GroupState>& groups, MetricWriter& writer) const;
  static void PublishInfo(const std::map<std::string, GroupState>& groups, MetricWriter& writer);
  void PublishSelf(MetricWriter& writer) const;

  procfs::Root root_;
  EngineOptions options_;
  procfs::PageGeometry geometry_;
  memory::ProcessTable table_;
  std::optional<ForkWatch> fork_watch_;  // of those who ask
  memory::Scanner scanner_;
  WorkerThreads workers_;
  uint64_t sample_seed_;
  // While more than one thread scans, held for all that follows and for every call of a collector or of control_.
  std::mutex mutex_;
  std::vector<memory::ScanCounters> scan_counters_;  // by thread, as of its last window
  bool abandoned_ = false;                           // the pass under way
  memory::Needs needs_;
  memory::Families families_;
  GroupRules rules_;
  std::map<std::string, uint64_t> unread_keys_;  // judgements in which a rule asked for it in vain
  Groups groups_;
  Group left_out_;  // where collectors count what is nobody's
  ModeNotices notices_;
  std::span<const Registration> registry_;
  // Of collectors that there are or were.
  std::map<std::string_view, std::shared_ptr<std::vector<uint64_t>>> totals_;
  std::vector<Slot> slots_;
  std::map<std::pair<std::string_view, bool>, size_t> first_counters_;  // of slots that there are or were
  bool show_all_ = false;                                               // some collector has to be shown everything
  size_t gauges_ = 0;
  size_t counters_ = 0;  // only grows: what was counted stays where it is
  std::vector<int64_t> scratch_;
  std::map<uint64_t, FamilyState> states_;  // by family
  std::optional<uint64_t> boot_time_;       // seconds since the epoch; hidden where procfs shows processes only
  double ticks_ = 100;
  uint64_t pass_ = 0;
  uint64_t full_passes_ = 0;
  uint64_t incremental_passes_ = 0;
  uint64_t skipped_processes_ = 0;  // in the last completed pass
  uint64_t skipped_members_ = 0;    // in the pass under way
  bool all_is_read_ = true;         // in it: no family was sampled
  SystemTime pass_begin_;
  std::unordered_map<std::string, CgroupOfPath> cgroups_;
  std::optional<double> host_saved_;  // bytes
  PassControl* control_ = nullptr;
};

std::shared_ptr<Collector> Engine::Impl::FindOrMake(const Registration& entry, bool stand_in,
                                                    const EngineOptions& options) {
  for (const Slot& slot : slots_) {
    if (slot.name == entry.name && slot.stand_in == stand_in) return slot.collector;
  }
  CollectorContext context{root_, geometry_, options.collector_options, nullptr};
  if (stand_in) return entry.make_stand_in(context);
  context.totals = totals_.try_emplace(entry.name, std::make_shared<std::vector<uint64_t>>()).first->second;
  return entry.make(context);
}

std::vector<Slot> Engine::Impl::MakeSlots(const EngineOptions& options) {
  std::vector<Slot> slots;
  const auto add = [&](const Registration& entry, bool stand_in) {
    Slot slot;
    slot.name = entry.name;
    slot.stand_in = stand_in;
    slot.collector = FindOrMake(entry, stand_in, options);
    slots.push_back(std::move(slot));
  };
  for (const std::string& name : options.collectors) {
    const auto entry =
        std::find_if(registry_.begin(), registry_.end(), [&name](const Registration& r) { return r.name == name; });
    if (entry == registry_.end()) throw std::invalid_argument("unknown collector: " + name);
    add(*entry, false);
  }
  for (const Registration& entry : registry_) {
    const bool enabled =
        std::find(options.collectors.begin(), options.collectors.end(), entry.name) != options.collectors.end();
    if (!enabled && entry.make_stand_in != nullptr) add(entry, true);
  }
  return slots;
}

void Engine::Impl::Install(std::vector<Slot> slots) {
  std::vector<CellMove> moves;
  gauges_ = 0;
  needs_ = {};
  for (Slot& slot : slots) {
    slot.first_gauge = gauges_;
    gauges_ += slot.collector->gauges();
    const auto [first, is_new] = first_counters_.try_emplace(std::pair(slot.name, slot.stand_in), counters_);
    slot.first_counter = first->second;
    if (is_new) counters_ += slot.collector->counters();
    needs_.Add(slot.collector->needs());
    const auto before = std::find_if(slots_.begin(), slots_.end(),
                                     [&slot](const Slot& old) { return old.collector == slot.collector; });
    if (before == slots_.end()) {
      slot.awaits_pass = pass_ != 0;
      continue;
    }
    moves.push_back({before->first_gauge, slot.first_gauge, slot.collector->gauges()});
    slot.awaits_pass = before->awaits_pass;
    slot.failed = before->failed;
    slot.last_spent = before->last_spent;
    slot.last_failed = before->last_failed;
  }
  slots_ = std::move(slots);
  scanner_.SetNeeds(needs_);
  groups_.GrowTo(counters_);
  left_out_.counters.resize(counters_, 0);
  scratch_.assign(gauges_, 0);
  const auto lay_out = [&](auto& cells) { cells = LaidOut(cells, gauges_, moves); };
  for (auto& [id, state] : states_) {
    for (auto& [number, window] : state.windows) lay_out(window.gauges);
    lay_out(state.window_sum);
    lay_out(state.family_cells);
    lay_out(state.pass_cells);
    if (!state.lonely.gauges.empty()) lay_out(state.lonely.gauges);
    state.sampled.LayOut(gauges_, moves);
    state.lonely_pending = WindowCells();
  }
}

void Engine::Impl::Reconfigure(EngineOptions options) {
  std::vector<Slot> slots = MakeSlots(options);
  std::optional<GroupRules> rules;
  if (options.groups != options_.groups) rules.emplace(options.groups);
  scanner_.GrowTo(options.threads);
  workers_.GrowTo(options.threads);
  // From here on nothing fails.
  scan_counters_.resize(scanner_.threads());
  const bool other_options = options.collector_options != options_.collector_options;
  const bool other_collectors = options.collectors != options_.collectors;
  if (other_options || other_collectors) {
    for (Slot& slot : slots) slot.collector->SetOptions(options.collector_options);
    Install(std::move(slots));
    show_all_ = true;
  }
  const bool other_labels = options.label_value_length != options_.label_value_length;
  // What is read whatever its signals say must not wait for as long as it would have.
  const bool full_sooner = options.full_every < options_.full_every;
  if (full_sooner) show_all_ = true;
  for (auto& [id, state] : states_) {
    if (rules) state.judged = false;
    if (rules || full_sooner) state.user_due = {};
    if (other_labels) state.labelled = false;
  }
  if (rules) rules_ = std::move(*rules);
  if (options.max_groups != options_.max_groups) groups_.SetLimit(options.max_groups, SteadyClock::now());
  table_.SetMaxProcesses(options.max_processes);
  families_.SetLedgerLimit(options.ledger_bytes);
  options_ = std::move(options);
}

void Engine::Impl::ReadHostSaved() {
  host_saved_.reset();
  if (!scanner_.capabilities().sees_every_process) return;
  const auto anon_pages = procfs::ReadAnonPagesBytes(root_);
  if (!anon_pages) return;
  double sum = 0;
  for (const auto& family : families_.families()) {
    for (const auto& member : family->members) sum += static_cast<double>(member->process->RssAnonBytes());
  }
  host_saved_ = sum - static_cast<double>(*anon_pages);
}

SystemTime Engine::Impl::StartOf(const memory::Process& process) const {
  const double seconds = static_cast<double>(*boot_time_) + static_cast<double>(process.start_ticks) / ticks_;
  return SystemTime(std::chrono::duration_cast<SystemTime::duration>(std::chrono::duration<double>(seconds)));
}

void Engine::Impl::DescribeRoot(const memory::Process& root, FamilyState& state) const {
  state.labelled = true;
  state.group_name = LabelValue(state.name, options_.label_value_length);
  state.exe = LabelValue(root.exe, options_.label_value_length);
  const procfs::CgroupNames names = procfs::ParseCgroupPath(root.cgroups.NamingPath());
  state.names.unit = LabelValue(names.unit, options_.label_value_length);
  state.names.container_id = LabelValue(names.container_id, options_.label_value_length);
  state.names.pod_uid = LabelValue(names.pod_uid, options_.label_value_length);
  state.cgroup_path = root.cgroups.MemoryPath();
}

// Read once in a pass. Most cgroups have no limit: these are asked again after some passes.
const std::optional<procfs::CgroupMemory>& Engine::Impl::MemoryOfCgroup(const std::string& path,
                                                                        const procfs::Cgroups& cgroups) {
  constexpr uint64_t kPassesWithoutLimit = 8;
  CgroupOfPath& cgroup = cgroups_[path];
  const bool is_new = cgroup.used == 0;
  cgroup.used = pass_;
  const bool limited = cgroup.memory && cgroup.memory->limit_bytes;
  if (is_new || pass_ >= cgroup.read + (limited ? 1 : kPassesWithoutLimit)) {
    cgroup.read = pass_;
    cgroup.memory.reset();
    if (auto memory = procfs::ReadCgroupMemory(root_, cgroups)) cgroup.memory = *memory;
  }
  return cgroup.memory;
}

// A change of the root's user moves no signal: what the table knows of a root that did nothing may be old.
void Engine::Impl::ReadUser(const Family& family, FamilyState& state, SteadyClock::time_point now) {
  memory::Process& root = *family.members.front()->process;
  if (now < state.user_due) return;
  state.user_due = now + memory::HalfToAll(options_.full_every, family.id);
  if (root.since_pass == table_.pass()) return;  // it was read just now
  if (const auto status = procfs::ReadStatus(root_, root.memory)) root.status.effective_uid = status->effective_uid;
}

// Puts a family into its group, before its windows are shown.
void Engine::Impl::Assign(Family& family, SteadyClock::time_point now) {
  FamilyState& state = states_[family.id];
  state.pass = pass_;
  state.ledger_bytes = family.ledger.MemoryBytes();
  state.resident_pages = 0;
  for (const auto& member : family.members) {
    state.resident_pages += member->process->ResidentBytes() / geometry_.page_bytes;
  }
  if (state.window_sum.empty()) {
    state.window_sum.assign(gauges_, 0);
    state.family_cells.assign(gauges_, 0);
    state.pass_cells.assign(gauges_, 0);
  }
  if (!family.members.empty()) {
    if (rules_.AskForUser()) ReadUser(family, state, now);
    const memory::Process& root = *family.members.front()->process;
    const std::pair identity(root.pid, root.start_ticks);
    const bool other_user = rules_.AskForUser() && root.status.effective_uid != state.root_uid;
    const bool is_other = identity == state.root &&
                          (root.stat.comm != state.root_comm || root.since_pass != state.described || other_user);
    const bool was_left_out = state.left_out;
    if (!state.judged || is_other) Judge(root, state);
    if (was_left_out && !state.left_out) {
      Leave(family, state);
      state.baseline = true;
    }
    if (identity != state.root || root.since_pass != state.described || !state.labelled) DescribeRoot(root, state);
    state.root = identity;
    state.root_comm = root.stat.comm;
    state.root_uid = root.status.effective_uid;
    state.described = root.since_pass;
    if (!state.left_out) state.cgroup_memory = MemoryOfCgroup(state.cgroup_path, root.cgroups);
  }
  if (state.left_out) {
    state.group = &left_out_;
    state.exported_as = {};
    return;
  }
  const auto group = groups_.Find(state.group_name, now);
  state.group = &group->second;
  state.exported_as = group->first;
}

void Engine::Impl::Judge(const memory::Process& root, FamilyState& state) {
  const auto read_command_line = [this, &root]() -> std::optional<std::string> {
    auto text = procfs::ReadCommandLine(root_, root.memory);
    return text ? std::optional(std::move(*text)) : std::nullopt;
  };
  const std::string path = root.cgroups.NamingPath();
  const GroupVerdict verdict = rules_.Judge(
      {root.stat.comm, root.exe, root.status.effective_uid, path, procfs::ParseCgroupPath(path), read_command_line});
  state.judged = true;
  state.left_out = !verdict.name;
  if (verdict.name) {
    state.name = *verdict.name;
    state.group_name = LabelValue(state.name, options_.label_value_length);
  }
  if (verdict.unread_key.empty()) return;
  ++unread_keys_[verdict.unread_key];
  notices_.NoteUnreadKey(state.group_name, root.pid, verdict.unread_key);
}

// Nothing is kept of what it showed before.
void Engine::Impl::Leave(Family& family, FamilyState& state) {
  families_.Leave(family);
  state.windows.clear();
  for (auto* cells : {&state.window_sum, &state.family_cells, &state.pass_cells}) cells->assign(gauges_, 0);
  state.lonely = WindowCells();
  state.sampled.Clear();
  state.unwalked_pages = 0;
  state.completed = false;
  state.looks_bytes = 0;
}

// One thread's scanning: what it finds goes to the engine under the lock, which it needs only where it is not the only
// one.
class Engine::Impl::ScanThread : public memory::ScanObserver {
 public:
  ScanThread(Impl& engine, size_t thread) : engine_(engine), thread_(thread) {}

  // False if the pass was abandoned.
  bool Scan(Family& family, const memory::PassOptions& options) {
    state_ = &engine_.states_.at(family.id);
    family_ = &family;
    state_->sampled.Begin();
    if (!engine_.scanner_.ScanFamily(family, options, *this, thread_)) return false;
    const auto lock = Lock();
    engine_.families_.Settle(family,
                             [this](const Family& owner, const Member& member) { engine_.OnEnd(owner, member); });
    TellProgress();
    state_->looks_bytes = family.looks.MemoryBytes() + family.sampling.MemoryBytes();
    return true;
  }

  void OnWindow(const WindowView& view) override {
    const auto lock = Lock();
    engine_.OnWindow(view);
  }
  void OnUnchanged(const Family& family, uint64_t window) override {
    const auto lock = Lock();
    engine_.OnUnchanged(family, window);
  }
  void OnNotDrawn(const Family& family, uint64_t window) override {
    const auto lock = Lock();
    engine_.OnNotDrawn(family, window);
  }
  void OnFamily(const FamilyView& view) override {
    const auto lock = Lock();
    engine_.OnFamily(view);
  }
  bool Continue() override {
    const auto lock = Lock();
    TellProgress();
    if (!engine_.abandoned_) engine_.abandoned_ = !engine_.control_->Continue();
    return !engine_.abandoned_;
  }

 private:
  std::unique_lock<std::mutex> Lock() {
    if (engine_.workers_.threads() == 1) return {};
    return std::unique_lock(engine_.mutex_);
  }
  // What Collect asks of those that scan.
  void TellProgress() {
    engine_.scan_counters_[thread_] = engine_.scanner_.counters(thread_);
    state_->ledger_bytes = family_->ledger.MemoryBytes();
  }

  Impl& engine_;
  const size_t thread_;
  const Family* family_ = nullptr;
  FamilyState* state_ = nullptr;
};

std::vector<Family*> Engine::Impl::TakeDue(const memory::PassOptions& options) {
  std::vector<std::pair<Staleness, Family*>> stale;
  for (const auto& family : families_.families()) {
    FamilyState& state = states_.at(family->id);
    if (state.left_out) {
      Leave(*family, state);
      continue;
    }
    const SystemTime now = std::chrono::system_clock::now();
    if (!family->members.empty() && !scanner_.IsDue(*family, options)) {
      skipped_members_ += family->members.size();
      state.verified_at = now;
      continue;
    }
    Staleness staleness{std::nullopt, FaultsSinceRead(*family), state.resident_pages, family->id};
    if (state.completed) staleness.age = now - std::max(state.read_at, state.verified_at);
    stale.emplace_back(staleness, family.get());
  }
  std::sort(stale.begin(), stale.end(), [](const auto& a, const auto& b) { return ReadBefore(a.first, b.first); });
  std::vector<Family*> due;
  due.reserve(stale.size());
  for (const auto& [staleness, family] : stale) due.push_back(family);
  return due;
}

bool Engine::Impl::ScanAll(const std::vector<Family*>& due, const memory::PassOptions& options) {
  for (size_t thread = 0; thread < scan_counters_.size(); ++thread) scan_counters_[thread] = scanner_.counters(thread);
  abandoned_ = false;
  std::atomic<size_t> next = 0;
  workers_.Run(std::min(due.size(), options_.threads), [&](size_t thread) {
    ScanThread scan(*this, thread);
    for (size_t i = next++; i < due.size(); i = next++) {
      if (!scan.Scan(*due[i], options)) return;
    }
  });
  return !abandoned_;
}

void Engine::Impl::ShowPass(const Family& family) {
  FamilyState& state = states_[family.id];
  std::vector<procfs::Result<procfs::KsmStat>> ksm;
  if (needs_.ksm_stat && !state.left_out) {
    ksm.reserve(family.members.size());
    for (const auto& member : family.members) ksm.push_back(procfs::ReadKsmStat(root_, member->process->pid));
  }
  const memory::PassView view{&family, ksm};
  ShowEach(state, [&view](Collector& collector, const Tally& tally) { collector.OnPass(view, tally); });
  state.pass_cells = scratch_;
  state.baseline = false;
}

void Engine::Impl::OnWindow(const WindowView& view) {
  FamilyState& state = states_[view.family->id];
  ShowEach(state, [&view](Collector& collector, const Tally& tally) { collector.OnWindow(view, tally); });
  uint64_t present = 0;
  for (const memory::MemberWindow& member : view.members) {
    for (const memory::Segment& segment : member.segments) present += segment.tally.Present();
  }
  const bool lonely = view.family->members.size() == 1;
  if (lonely && !view.sampled) {
    WindowCells& cells = state.lonely_pending;
    if (cells.pass != pass_) {
      cells = {std::vector<int32_t>(gauges_, 0), 0, view.read_at, pass_};
    }
    for (size_t i = 0; i < gauges_; ++i) cells.gauges[i] += static_cast<int32_t>(scratch_[i]);
    cells.present_pages += static_cast<uint32_t>(present);
    return;
  }
  WindowCells& cells = state.windows[view.window];
  cells.gauges.resize(gauges_, 0);
  if (view.stratum != memory::kCertain) {
    std::vector<int64_t> before(cells.gauges.begin(), cells.gauges.end());
    std::vector<int64_t> now(scratch_);
    before.push_back(cells.present_pages);
    now.push_back(static_cast<int64_t>(present));
    state.sampled.Add(view.stratum, now, before);
  }
  for (size_t i = 0; i < gauges_; ++i) {
    state.window_sum[i] += scratch_[i] - cells.gauges[i];
    cells.gauges[i] = static_cast<int32_t>(scratch_[i]);
  }
  cells.present_pages = static_cast<uint32_t>(present);
  cells.read_at = view.read_at;
  cells.pass = pass_;
}

void Engine::Impl::OnUnchanged(const Family& family, uint64_t window) {
  std::unordered_map<uint64_t, WindowCells>& windows = states_[family.id].windows;
  const auto known = windows.find(window);
  if (known == windows.end()) return;  // recorded, but nobody maps it
  known->second.read_at = std::chrono::system_clock::now();
  known->second.pass = pass_;
}

void Engine::Impl::OnNotDrawn(const Family& family, uint64_t window) {
  std::unordered_map<uint64_t, WindowCells>& windows = states_[family.id].windows;
  const auto known = windows.find(window);
  if (known != windows.end()) known->second.pass = pass_;
}

void Engine::Impl::FinishSample(const FamilyView& view, FamilyState& state) const {
  if (!view.sampled) {
    state.sampled.Clear();
    return;
  }
  std::vector<int64_t> known = state.window_sum;
  known.push_back(0);
  for (const auto& [number, cells] : state.windows) known.back() += cells.present_pages;
  state.sampled.Finish(view.strata, known);
}

void Engine::Impl::OnFamily(const FamilyView& view) {
  skipped_members_ += view.skipped;
  FamilyState& state = states_[view.family->id];
  const Family& family = *view.family;
  ShowEach(state, [&view](Collector& collector, const Tally& tally) { collector.OnFamily(view, tally); });
  state.family_cells = scratch_;
  // Windows that nobody maps any more.
  std::erase_if(state.windows, [&](const auto& item) {
    if (item.second.pass == pass_) return false;
    for (size_t i = 0; i < gauges_; ++i) state.window_sum[i] -= item.second.gauges[i];
    return true;
  });
  FinishSample(view, state);
  state.unwalked_pages = 0;
  all_is_read_ = all_is_read_ && view.strata.empty();
  const bool lonely = family.members.size() == 1 && state.windows.empty();
  if (lonely && state.lonely_pending.pass == pass_) {
    state.lonely = std::move(state.lonely_pending);
  } else {
    state.lonely = WindowCells();
  }
  state.lonely_pending = WindowCells();
  const uint64_t unwalked = view.unwalked.anon_bytes + view.unwalked.hugetlb_bytes + view.unwalked.swap_bytes;
  if (lonely) {
    state.lonely.present_pages += static_cast<uint32_t>(unwalked / geometry_.page_bytes);
  } else {
    state.unwalked_pages = unwalked / geometry_.page_bytes;
  }

  state.unread.fill(0);
  state.unread_pages = 0;
  state.has_child = false;
  for (const auto& member : family.members) {
    if (member->unread) {
      state.unread_pages += member->process->ResidentBytes() / geometry_.page_bytes;
      const ErrorKind kind = member->unread->kind;
      const size_t other = kind == ErrorKind::kMalformed || kind == ErrorKind::kIo ? kMalformed : kGone;
      ++state.unread.at(kind == ErrorKind::kDenied ? kDenied : other);
    }
    if (member.get() == family.root() || !boot_time_) continue;
    const SystemTime start = StartOf(*member->process);
    if (!state.has_child || start < state.first_start) state.first_start = start;
    state.has_child = true;
  }
  state.modes = view.modes;
  notices_.Note(state.group_name, family);
  state.scan_known = view.scan_known;
  state.completed = true;
  state.read_at = view.read_at;
  state.processes = family.members.size() + family.aliases.size();
  state.members = family.members.size();
}

void Engine::Impl::OnEnd(const Family& family, const Member& member) {
  const auto state = states_.find(family.id);
  if (state == states_.end()) return;
  ShowEach(state->second, [&](Collector& collector, const Tally& tally) { collector.OnEnd(family, member, tally); });
}

void Engine::Impl::AddFamily(const FamilyState& state, SystemTime horizon, GroupState& group) const {
  for (size_t i = 0; i < gauges_; ++i) {
    group.gauges[i] += state.sampled.empty() ? state.window_sum[i] : state.sampled.totals()[i];
    group.gauges[i] += state.family_cells[i] + state.pass_cells[i];
    if (!state.sampled.empty()) group.variances[i] += state.sampled.variances()[i];
    if (!state.lonely.gauges.empty()) group.gauges[i] += state.lonely.gauges[i];
  }
  const auto rest = [&](SystemTime read_at, uint64_t pages) {
    read_at = std::max(read_at, state.verified_at);
    group.known_pages += pages;
    if (read_at >= horizon) group.covered_pages += pages;
    if (!group.oldest_read || read_at < *group.oldest_read) group.oldest_read = read_at;
  };
  uint64_t seen = 0;
  for (const auto& [number, cells] : state.windows) {
    rest(cells.read_at, cells.present_pages);
    seen += cells.present_pages;
  }
  if (!state.sampled.empty()) {
    const auto estimated = static_cast<uint64_t>(state.sampled.totals().back());
    group.known_pages += estimated - std::min(estimated, seen);
    rest(state.read_at, state.unwalked_pages);
  }
  if (!state.completed && state.pass == pass_ && state.resident_pages != 0) {
    group.has_unseen = true;
    group.known_pages += state.resident_pages - std::min(state.resident_pages, seen);
  }
  uint64_t unread = 0;
  for (const uint64_t count : state.unread) unread += count;
  const bool lonely = state.completed && state.windows.empty() && state.members > unread;
  if (lonely) rest(state.read_at, state.lonely.present_pages);
  group.known_pages += state.unread_pages;
  group.processes += state.processes;
  group.families += state.members > 1 ? 1 : 0;
  for (size_t i = 0; i < memory::kModes; ++i) group.modes.at(i) = group.modes.at(i) || state.modes.at(i);
  group.scan_known = group.scan_known && state.scan_known;
  for (size_t i = 0; i < kUnreadReasons.size(); ++i) group.unread.at(i) += state.unread.at(i);
  if (state.has_child && (!group.oldest_child || state.first_start < *group.oldest_child)) {
    group.oldest_child = state.first_start;
  }
  if (state.members != 0) group.members.push_back(&state);
}

std::map<std::string, Engine::Impl::GroupState> Engine::Impl::SumGroups() const {
  std::map<std::string, GroupState> sums;
  for (const auto& [name, group] : groups_.all()) {
    if (!group.exported) continue;
    GroupState& state = sums[name];
    state.group = &group;
    state.gauges.assign(gauges_, 0);
    state.variances.assign(gauges_, 0);
  }
  const SystemTime horizon = std::min(pass_begin_, std::chrono::system_clock::now() - options_.interval);
  for (const auto& [id, state] : states_) {
    if (state.left_out) continue;
    auto found = sums.find(state.group_name);
    if (found == sums.end()) found = sums.find(Groups::kOverflow);
    if (found != sums.end()) AddFamily(state, horizon, found->second);
  }
  const auto other = sums.find(Groups::kOverflow);
  if (other != sums.end()) {
    other->second.unread.at(kBudget) += table_.over_limit();
    // One that ends while it is listed is nothing unusual; of the others nothing is known, not even a name.
    for (const auto& [kind, count] : table_.unreadable()) {
      if (kind != ErrorKind::kGone) other->second.unread.at(kind == ErrorKind::kDenied ? kDenied : kMalformed) += count;
    }
  }
  return sums;
}

void Engine::Impl::PublishGroups(const std::map<std::string, GroupState>& groups, MetricWriter& writer) const {
  writer.Begin("cow_processes", "Processes in the group at the last scan.", MetricType::Gauge);
  for (const auto& [name, state] : groups) writer.AddFor(name, {}, static_cast<double>(state.processes));
  writer.Begin("cow_families", "Families of two or more processes that descend from one another by fork.",
               MetricType::Gauge);
  for (const auto& [name, state] : groups) {
    if (state.Readable()) writer.AddFor(name, {}, static_cast<double>(state.families));
  }
  writer.Begin("cow_oldest_child_start_timestamp_seconds", "Start of the oldest living forked child.",
               MetricType::Gauge);
  for (const auto& [name, state] : groups) {
    if (state.oldest_child) writer.AddFor(name, {}, Seconds(*state.oldest_child));
  }
  // Of the roots' memory cgroup, where all roots of the group are in the same and it has a limit.
  const auto cgroup_of = [](const GroupState& state) -> const procfs::CgroupMemory* {
    const FamilyState* first = nullptr;
    for (const FamilyState* family : state.members) {
      if (first != nullptr && family->cgroup_path != first->cgroup_path) return nullptr;
      first = family;
    }
    const bool limited = first != nullptr && first->cgroup_memory && first->cgroup_memory->limit_bytes;
    return limited ? &*first->cgroup_memory : nullptr;
  };
  writer.Begin("cow_cgroup_memory_limit_bytes", "Memory limit of the root's cgroup, where it has one.",
               MetricType::Gauge);
  for (const auto& [name, state] : groups) {
    if (const auto* cgroup = cgroup_of(state)) writer.AddFor(name, {}, static_cast<double>(*cgroup->limit_bytes));
  }
  writer.Begin("cow_cgroup_memory_usage_bytes", "Memory charged to the root's cgroup, where it has a limit.",
               MetricType::Gauge);
  for (const auto& [name, state] : groups) {
    if (const auto* cgroup = cgroup_of(state)) writer.AddFor(name, {}, static_cast<double>(cgroup->usage_bytes));
  }
}

void Engine::Impl::PublishInfo(const std::map<std::string, GroupState>& groups, MetricWriter& writer) {
  writer.Begin("cow_group_info", "What is known of the group; a label that differs between its families is empty.",
               MetricType::Gauge);
  for (const auto& [name, state] : groups) {
    const auto common = [&members = state.members](auto&& field) {
      std::string value;
      for (const FamilyState* family : members) {
        if (family != members.front() && field(*family) != value) return std::string();
        value = field(*family);
      }
      return value;
    };
    writer.AddFor(name,
                  {{"unit", common([](const FamilyState& f) { return f.names.unit; })},
                   {"container_id", common([](const FamilyState& f) { return f.names.container_id; })},
                   {"pod_uid", common([](const FamilyState& f) { return f.names.pod_uid; })},
                   {"exe", common([](const FamilyState& f) { return f.exe; })}},
                  1);
  }
}

void Engine::Impl::PublishKnowledge(const std::map<std::string, GroupState>& groups, MetricWriter& writer) const {
  writer.Begin("cow_group_mode", "How much of the page tables could be seen; 1 for the modes in use.",
               MetricType::Gauge);
  for (const auto& [name, state] : groups) {
    for (size_t mode = 0; mode < memory::kModes; ++mode) {
      if (state.modes.at(mode))
        writer.AddFor(name, {{"mode", std::string(ModeName(static_cast<memory::Mode>(mode)))}}, 1);
    }
  }
  writer.Begin("cow_scan_coverage_ratio", "Share of the group's resident pages that the last values rest on.",
               MetricType::Gauge);
  for (const auto& [name, state] : groups) {
    if (state.members.empty() && !state.has_unseen) continue;
    const auto known = static_cast<double>(state.known_pages);
    writer.AddFor(name, {}, known == 0 ? 1 : static_cast<double>(state.covered_pages) / known);
  }
  if (options_.sample_above_bytes != 0 && options_.full_every.count() != 0) {
    writer.Begin("cow_sampled_standard_error_bytes",
                 "Standard error of the group's gauges, the largest of all: nonzero where a process is sampled.",
                 MetricType::Gauge);
    for (const auto& [name, state] : groups) {
      const double variance =
          state.variances.empty() ? 0 : *std::max_element(state.variances.begin(), state.variances.end());
      writer.AddFor(name, {}, std::sqrt(variance) * static_cast<double>(geometry_.page_bytes));
    }
  }
  writer.Begin("cow_scan_timestamp_seconds", "When the oldest part of the last values was read.", MetricType::Gauge);
  for (const auto& [name, state] : groups) {
    if (state.oldest_read) writer.AddFor(name, {}, Seconds(*state.oldest_read));
  }
  writer.Begin("cow_unread_processes", "Processes that are not in the sums, by reason.", MetricType::Gauge);
  for (const auto& [name, state] : groups) {
    for (size_t reason = 0; reason < kUnreadReasons.size(); ++reason) {
      writer.AddFor(name, {{"reason", std::string(kUnreadReasons.at(reason))}},
                    static_cast<double>(state.unread.at(reason)));
    }
  }
}

void Engine::Impl::PublishSelf(MetricWriter& writer) const {
  memory::ScanCounters counters;
  for (const memory::ScanCounters& of_thread : scan_counters_) counters.Add(of_thread);
  size_t ledger_bytes = 0;
  size_t looks_bytes = 0;
  for (const auto& [id, state] : states_) {
    ledger_bytes += state.pass == pass_ ? state.ledger_bytes : 0;
    looks_bytes += state.pass == pass_ ? state.looks_bytes : 0;
  }
  const memory::Capabilities& can = scanner_.capabilities();
  if (host_saved_) {
    writer.Begin(
        "cow_host_saved_bytes",
        "Anonymous memory that sharing saves on the whole host, by the kernel's own sums: RssAnon of all address "
        "spaces less AnonPages.",
        MetricType::Gauge);
    writer.Add({}, *host_saved_);
  }
  writer.Begin("cow_scan_pages_total", "Page-table entries read from pagemap.", MetricType::Counter);
  writer.Add({}, static_cast<double>(counters.pagemap_pages));
  writer.Begin("cow_scan_frame_words_total", "Words read from kpageflags and kpagecount.", MetricType::Counter);
  writer.Add({}, static_cast<double>(counters.frame_words));
  writer.Begin("cow_scan_calls_total", "System calls that read page tables, by file.", MetricType::Counter);
  writer.Add({{"file", "pagemap"}}, static_cast<double>(counters.pagemap_reads));
  writer.Add({{"file", "pagemap_scan"}}, static_cast<double>(counters.scan_calls));
  writer.Add({{"file", "kpage"}}, static_cast<double>(counters.frame_reads));
  writer.Begin("cow_scan_rests_total", "Sleeps that gave a process its rest between two windows.", MetricType::Counter);
  writer.Add({}, static_cast<double>(counters.rests));
  writer.Begin("cow_scan_windows_read_again_total", "Windows read again because their verdict was new.",
               MetricType::Counter);
  writer.Add({}, static_cast<double>(counters.windows_read_again));
  writer.Begin("cow_scan_unchanged_windows_total",
               "Windows that were not compared, because they read as at the look before.", MetricType::Counter);
  writer.Add({}, static_cast<double>(counters.windows_unchanged));
  writer.Begin("cow_scan_unstable_pages_total",
               "Pages that kept changing under the reads and were left for the next pass.", MetricType::Counter);
  writer.Add({}, static_cast<double>(counters.unstable_pages));
  writer.Begin("cow_scan_passes_total", "Completed passes: full ones read everything, incremental ones what changed.",
               MetricType::Counter);
  writer.Add({{"kind", "full"}}, static_cast<double>(full_passes_));
  writer.Add({{"kind", "incremental"}}, static_cast<double>(incremental_passes_));
  writer.Begin("cow_scan_skipped_processes",
               "Processes that the last pass did not read, because nothing of theirs had changed.", MetricType::Gauge);
  writer.Add({}, static_cast<double>(skipped_processes_));
  if (fork_watch_ && fork_watch_->has_events()) {
    writer.Begin("cow_fork_events_overruns_total",
                 "Times that the kernel's fork events came faster than they were taken, and processes were listed.",
                 MetricType::Counter);
    writer.Add({}, static_cast<double>(fork_watch_->overruns()));
  }
  writer.Begin("cow_ledger_bytes", "Memory of the records of shared pages.", MetricType::Gauge);
  writer.Add({}, static_cast<double>(ledger_bytes));
  writer.Begin("cow_scan_looks_bytes", "Memory of what each process showed at its latest look.", MetricType::Gauge);
  writer.Add({}, static_cast<double>(looks_bytes));
  writer.Begin("cow_groups_overflowed", "Groups beyond the limit, added up in group _other.", MetricType::Gauge);
  writer.Add({}, static_cast<double>(groups_.overflowed()));
  if (!unread_keys_.empty()) {
    writer.Begin("cow_group_keys_unread_total",
                 "Times that a rule of groups asked for what could not be read of a process: it did not match then.",
                 MetricType::Counter);
    for (const auto& [key, count] : unread_keys_) writer.Add({{"key", key}}, static_cast<double>(count));
  }
  writer.Begin("cow_scrape_collector_duration_seconds", "Time the collector took in the last pass.", MetricType::Gauge);
  for (const Slot& slot : slots_) {
    if (slot.stand_in) continue;
    writer.Add({{"collector", std::string(slot.name)}}, std::chrono::duration<double>(slot.last_spent).count());
  }
  writer.Begin("cow_scrape_collector_success", "Whether the collector succeeded in the last pass.", MetricType::Gauge);
  for (const Slot& slot : slots_) {
    if (!slot.stand_in) writer.Add({{"collector", std::string(slot.name)}}, slot.last_failed ? 0 : 1);
  }
  writer.Begin("cow_exporter_capability", "What the kernel and the exporter's rights allow.", MetricType::Gauge);
  const std::array<std::pair<const char*, bool>, 6> features{{{"all_processes", can.sees_every_process},
                                                              {"exclusive_marks", can.exclusive_marks},
                                                              {"frames", can.frames},
                                                              {"kpagecount", can.kpagecount},
                                                              {"kpageflags", can.kpageflags},
                                                              {"pagemap_scan", can.pagemap_scan}}};
  for (const auto& [feature, has] : features) writer.Add({{"feature", feature}}, has ? 1 : 0);
  if (fork_watch_) writer.Add({{"feature", "fork_events"}}, fork_watch_->has_events() ? 1 : 0);
  for (const Slot& slot : slots_) {
    if (const auto has = slot.collector->capability()) {
      writer.Add({{"feature", std::string(slot.name)}}, *has ? 1 : 0);
    }
  }
}

std::vector<CollectedFamilies> Engine::Impl::Collect() const {
  const auto is_empty = [](const prometheus::MetricFamily& family) { return family.metric.empty(); };
  std::vector<CollectedFamilies> collected;
  std::vector<prometheus::MetricFamily> own;
  MetricWriter writer(own);
  const std::map<std::string, GroupState> groups = SumGroups();
  PublishGroups(groups, writer);
  PublishInfo(groups, writer);
  PublishKnowledge(groups, writer);
  for (const Slot& slot : slots_) {
    CollectedFamilies& made = collected.emplace_back(CollectedFamilies{slot.stand_in ? "" : slot.name, {}});
    if (slot.failed || slot.last_failed || slot.awaits_pass) continue;
    std::vector<GroupSums> sums;
    for (const auto& [name, state] : groups) {
      const std::span<const int64_t> gauges(state.gauges);
      const std::span<const uint64_t> counters(state.group->counters);
      sums.push_back({name, gauges.subspan(slot.first_gauge, slot.collector->gauges()),
                      counters.subspan(slot.first_counter, slot.collector->counters()),
                      !state.Has(memory::Mode::kNoFrames), state.Readable(), state.scan_known, state.HasUnreadable()});
    }
    std::vector<prometheus::MetricFamily> families;
    MetricWriter made_writer(families);
    try {
      slot.collector->Publish(sums, made_writer);
    } catch (...) {
      continue;
    }
    std::erase_if(families, is_empty);
    made.families = std::move(families);
  }
  PublishSelf(writer);
  std::erase_if(own, is_empty);
  collected.push_back({"", std::move(own)});
  return collected;
}

std::vector<FamilySummary> Engine::Impl::Families() const {
  std::vector<FamilySummary> summaries;
  const auto bytes = [this](int64_t pages) {
    return static_cast<uint64_t>(std::max<int64_t>(pages, 0)) * geometry_.page_bytes;
  };
  for (const auto& [id, state] : states_) {
    if (state.processes < 2 || state.left_out) continue;
    FamilySummary summary{state.root.first, state.root_comm, state.group_name, state.processes, {}, {}, {}};
    GroupState sums;
    sums.gauges.assign(gauges_, 0);
    sums.variances.assign(gauges_, 0);
    AddFamily(state, SystemTime(), sums);
    const auto in_mode = [&modes = state.modes](memory::Mode mode) { return modes.at(static_cast<size_t>(mode)); };
    const bool readable =
        in_mode(memory::Mode::kFull) || in_mode(memory::Mode::kNoKpage) || in_mode(memory::Mode::kNoFrames);
    for (const Slot& slot : slots_) {
      if (!readable || slot.stand_in || slot.failed || slot.last_failed || slot.awaits_pass) continue;
      const std::span<const int64_t> gauges(sums.gauges);
      const auto memory = slot.collector->DescribeFamily(gauges.subspan(slot.first_gauge, slot.collector->gauges()));
      if (!memory) continue;
      summary.shared_bytes = bytes(memory->shared_pages);
      summary.private_bytes = bytes(memory->private_pages);
      if (!in_mode(memory::Mode::kNoFrames)) summary.exposure_bytes = bytes(memory->exposure_pages);
    }
    summaries.push_back(std::move(summary));
  }
  std::stable_sort(summaries.begin(), summaries.end(),
                   [](const auto& a, const auto& b) { return a.exposure_bytes > b.exposure_bytes; });
  return summaries;
}

Engine::Engine(procfs::Root root, EngineOptions options) : Engine(std::move(root), std::move(options), Registry()) {}
Engine::Engine(procfs::Root root, EngineOptions options, std::span<const Registration> registry)
    : impl_(std::make_unique<Impl>(std::move(root), std::move(options), registry)) {}
Engine::~Engine() = default;
bool Engine::RunPass(PassControl& control) { return impl_->RunPass(control); }
void Engine::Reconfigure(EngineOptions options) { impl_->Reconfigure(std::move(options)); }
std::chrono::nanoseconds Engine::HelperCpuTime() const { return impl_->HelperCpuTime(); }
bool Engine::NewForks() { return impl_->NewForks(); }
std::vector<FamilySummary> Engine::Families() const { return impl_->Families(); }
std::vector<CollectedFamilies> Engine::CollectByCollector() const { return impl_->Collect(); }
std::vector<prometheus::MetricFamily> Engine::Collect() const {
  std::vector<prometheus::MetricFamily> families;
  for (CollectedFamilies& made : impl_->Collect()) {
    families.insert(families.end(), std::make_move_iterator(made.families.begin()),
                    std::make_move_iterator(made.families.end()));
  }
  return families;
}
std::vector<ModeNotice> Engine::TakeNotices() { return impl_->TakeNotices(); }

}  // namespace cow::collectors
