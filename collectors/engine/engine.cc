#include "collectors/engine/engine.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cmath>
#include <ctime>
#include <functional>
#include <iterator>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <string_view>
#include <tuple>
#include <unordered_map>
#include <utility>

#include "collectors/base/half_to_all.h"
#include "collectors/collector.h"
#include "collectors/engine/cell_layout.h"
#include "collectors/engine/engine_state.h"
#include "collectors/engine/fork_watch.h"
#include "collectors/engine/mode_notices.h"
#include "collectors/engine/publisher.h"
#include "collectors/engine/scan_order.h"
#include "collectors/engine/scan_queue.h"
#include "collectors/engine/worker_threads.h"
#include "collectors/groups/group_rules.h"
#include "collectors/groups/groups.h"
#include "collectors/groups/label.h"
#include "collectors/memory/family/families.h"
#include "collectors/memory/process/process_table.h"
#include "collectors/memory/scan/family_scan.h"
#include "collectors/memory/scan/memory_trim.h"
#include "collectors/memory/scan/scanner.h"
#include "collectors/procfs/cgroup.h"
#include "collectors/procfs/cmdline.h"
#include "collectors/procfs/ksm.h"
#include "collectors/procfs/process_list.h"
#include "collectors/procfs/status.h"
#include "collectors/procfs/system.h"

namespace cow::collectors {
namespace {

using memory::Family;
using memory::FamilyView;
using memory::Member;
using memory::WindowView;

procfs::PageGeometry ReadGeometry(const procfs::Root& root) {
  const auto geometry = procfs::ReadPageGeometry(root);
  if (!geometry) throw std::runtime_error(geometry.error().ToString());
  return *geometry;
}

// Descriptors for files of processes: the other half is for page tables of families and for connections.
size_t KeptFiles() {
  return std::min<uint64_t>(memory::ProcessTable::kMaxKeptFiles, procfs::RaiseDescriptorLimit() / 2);
}

// Page faults since each member was last read; lifetime faults if never read.
uint64_t FaultsSinceRead(const Family& family) {
  uint64_t faults = 0;
  for (const auto& member : family.members) {
    const procfs::Stat& stat = member->process->stat;
    const uint64_t before = member->read_at ? member->read_at->minor_faults + member->read_at->major_faults : 0;
    const uint64_t now = stat.minor_faults + stat.major_faults;
    faults += now - std::min(now, before);
  }
  return faults;
}

// From the first look at a process to the second at its command line: servers rewrite it once they have started. Each
// later pause is twice as long, up to full_every.
constexpr std::chrono::seconds kFirstCommandLinePause{1};

// What a group is called. None of processes is the one that others are added up in.
std::string GroupLabel(std::string_view name, size_t max_bytes) {
  std::string label = LabelValue(name, max_bytes);
  if (label == Groups::kOverflow) label += '_';
  return label;
}

uint64_t PresentPages(const WindowView& view) {
  uint64_t present = 0;
  for (const memory::MemberWindow& member : view.members) {
    for (const memory::Segment& segment : member.segments) present += segment.tally.Present();
  }
  return present;
}

std::chrono::nanoseconds ThreadCpuTime() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec);
}

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
        scan_counters_(scanner_.threads()),
        families_(geometry_, scanner_.zero_frame(), options_.ledger_bytes),
        rules_(options_.groups),
        groups_(options_.max_groups, 0),
        registry_(registry) {
    Install(MakeCollectors(options_));
    if (options_.fork_events) {
      if (auto events = netlink::OpenProcEvents(root_)) scanner_.forks().Listen(std::move(*events));
    }
    if (const auto boot_time = procfs::ReadBootTimeSeconds(root_)) boot_time_ = *boot_time;
    ticks_ = static_cast<double>(procfs::ReadClockTicksPerSecond(root_));
    if (const auto listed = procfs::ListProcesses(root_); !listed) throw std::runtime_error(listed.error().ToString());
  }

  bool RunPass(PassControl& control) {
    try {
      return TryPass(control);
    } catch (...) {
      // What was under way is half done. All that is there now becomes baseline: nothing is counted twice.
      queue_.Fill({});
      families_.Forget(table_);
      families_forgotten_ = true;
      throw;
    }
  }

  bool TryPass(PassControl& control) {
    control_ = &control;
    // One that failed has sums missing, until a pass that shows all is complete.
    show_all_ = show_all_ || std::any_of(collectors_.begin(), collectors_.end(),
                                         [](const InstalledCollector& each) { return each.failed; });
    for (InstalledCollector& each : collectors_) each.failed = false;
    if (show_all_) DropScans();
    if (!BeginInterval(true)) return false;
    while (true) {
      if (!ScanAll() || !EndInterval()) return false;
      if (!RoundGoesOn()) break;
      // Where the processes can't be listed, those of the interval before stand.
      if (!BeginInterval(false) && control_->MustStop()) return false;
    }
    for (InstalledCollector& each : collectors_) each.awaits_pass = false;
    show_all_ = false;
    skipped_processes_ = skipped_members_;
    ++(skipped_members_ == 0 ? full_passes_ : incremental_passes_);
    return true;
  }

  void Reconfigure(EngineOptions options);
  std::vector<CollectedFamilies> Collect() const { return CollectFamilies(View()); }
  std::vector<FamilySummary> Families() const { return SummarizeFamilies(View()); }
  std::vector<ModeNotice> TakeNotices() { return notices_.Take(); }
  std::chrono::nanoseconds HelperCpuTime() const { return workers_.CpuTime(); }

  bool NewForks() {
    if (!fork_watch_) fork_watch_.emplace(root_, scanner_.forks().Relay());
    return fork_watch_->Look(table_);
  }

 private:
  class ScanThread;

  EngineView View() const {
    return {options_,
            geometry_,
            table_,
            scanner_,
            scan_counters_,
            families_.budget(),
            fork_watch_,
            groups_,
            unread_keys_,
            collectors_,
            gauges_,
            states_,
            pass_begin_,
            pass_,
            full_passes_,
            incremental_passes_,
            skipped_processes_,
            host_saved_};
  }

  template <class Call>
  void Guard(InstalledCollector& each, Call&& call) {
    const auto begin = SteadyClock::now();
    try {
      call();
    } catch (const std::exception& error) {  // one that fails costs its own metrics only
      each.failed = true;
      notices_.NoteFailure(each.name, error.what());
    } catch (...) {
      each.failed = true;
      notices_.NoteFailure(each.name, "unknown");
    }
    each.spent += SteadyClock::now() - begin;
  }

  // Shows something of a family to each collector, with its part of the zeroed scratch and of the group's counters.
  template <class Call>
  void ShowEach(const FamilyState& state, Call&& call) {
    std::fill(scratch_.begin(), scratch_.end(), 0);
    for (InstalledCollector& each : collectors_) {
      Group& group = each.awaits_pass || state.baseline ? left_out_ : *state.group;
      const Tally tally{std::span(scratch_).subspan(each.first_gauge, each.collector->gauges()),
                        std::span(group.counters).subspan(each.first_counter, each.collector->counters()),
                        state.exported_as};
      Guard(each, [&] { call(*each.collector, tally); });
    }
  }

  // Brings processes, families and groups up to date, and finds what is to be scanned. `first` of a pass. False if the
  // processes can't be listed.
  bool BeginInterval(bool first);
  // False if the pass was abandoned.
  bool EndInterval();
  // A family that the pass began with waits for its scan to be over.
  bool RoundGoesOn() const;
  void DropScans();
  bool TakeOut(Family& family, std::span<Member* const> gone, FamilyState& state);
  // Takes members that ended out of the sums. True if somebody joined or left.
  bool UpdateMembers(Family& family, FamilyState& state);
  void TellLongLooks();

  // Those that the interval under way did not assign to a group.
  void EndFamiliesThatAreGone() {
    std::erase_if(states_, [this](const auto& item) {
      if (item.second.pass == pass_) return false;
      for (InstalledCollector& each : collectors_) {
        Guard(each, [&] { each.collector->OnFamilyGone(item.first); });
      }
      return true;
    });
  }

  // What the options ask for; a collector that is there already is taken over, with what it remembers.
  std::vector<InstalledCollector> MakeCollectors(const EngineOptions& options);
  std::shared_ptr<Collector> FindOrMake(const Registration& entry, bool stand_in, const EngineOptions& options);
  // Lays the collectors out, and with them the cells that there are.
  void Install(std::vector<InstalledCollector> collectors);
  void Assign(Family& family, SteadyClock::time_point now);
  void JoinGroup(FamilyState& state);
  void ReadUser(const Family& family, FamilyState& state, SteadyClock::time_point now);
  // Reads it where it is due, and returns whether it is another one than before.
  bool CommandLineChanged(const Family& family, FamilyState& state, SteadyClock::time_point now);
  void Judge(const memory::Process& root, FamilyState& state);
  void Leave(Family& family, FamilyState& state);
  void DescribeRoot(const memory::Process& root, FamilyState& state) const;
  const std::optional<procfs::CgroupMemory>& MemoryOfCgroup(const std::string& path, const procfs::Cgroups& cgroups);
  void ShowPass(const Family& family);
  // Those to be scanned in this interval, in this order. The others are as they were.
  std::vector<Family*> TakeDue(bool first);
  // Until the interval is over or nobody waits. False if the pass was abandoned.
  bool ScanAll();
  void OnWindow(const WindowView& view);
  void OnUnchanged(const Family& family, uint64_t window, SystemTime read_at);
  void OnMoved(const Family& family, const memory::Judgement& judgement);
  void OnFamily(const FamilyView& view);
  void OnEnd(const Family& family, const Member& member);
  std::optional<double> ReadAnonPages() const;
  void SetHostSaved(std::optional<double> anon_before, std::optional<double> anon_after);
  SystemTime StartOf(const memory::Process& process) const;  // the boot time must be known

  procfs::Root root_;
  EngineOptions options_;
  procfs::PageGeometry geometry_;
  memory::ProcessTable table_;
  memory::Scanner scanner_;
  std::optional<ForkWatch> fork_watch_;  // of those who ask; reads the scanner's fork events
  WorkerThreads workers_;
  // While more than one thread scans, held for all that follows and for every call of a collector or of control_.
  std::mutex mutex_;
  std::vector<memory::ScanCounters> scan_counters_;  // by thread, as of its last window
  bool abandoned_ = false;                           // the pass under way
  bool interval_over_ = false;
  bool progressed_ = false;  // in the interval
  uint64_t interval_ = 0;    // under way
  ScanQueue queue_;
  memory::PassOptions pass_options_;
  std::chrono::nanoseconds scan_cpu_{0};  // of all scans so far
  memory::Needs needs_;
  memory::Families families_;
  memory::MemoryTrim trim_;
  GroupRules rules_;
  std::map<std::string, uint64_t> unread_keys_;  // judgements in which a rule asked for it in vain
  Groups groups_;
  Group left_out_;  // where collectors count what is nobody's
  ModeNotices notices_;
  std::span<const Registration> registry_;
  // Of collectors that there are or were.
  std::map<std::string_view, std::shared_ptr<std::vector<uint64_t>>> totals_;
  std::vector<InstalledCollector> collectors_;
  std::map<std::pair<std::string_view, bool>, size_t> first_counters_;  // of collectors that there are or were
  bool show_all_ = false;                                               // some collector has to be shown everything
  bool families_forgotten_ = false;                                     // what is published is still of those
  size_t gauges_ = 0;
  size_t counters_ = 0;  // only grows: what was counted stays where it is
  std::vector<int64_t> scratch_;
  std::map<uint64_t, FamilyState> states_;  // by family
  std::optional<uint64_t> boot_time_;       // seconds since the epoch; hidden where procfs shows processes only
  double ticks_ = 100;
  uint64_t pass_ = 0;   // counts intervals: each has a process list of its own
  uint64_t round_ = 0;  // counts calls of RunPass
  uint64_t full_passes_ = 0;
  uint64_t incremental_passes_ = 0;
  uint64_t skipped_processes_ = 0;  // in the last completed pass
  uint64_t skipped_members_ = 0;    // in the pass under way
  SystemTime pass_begin_;
  SystemTime interval_began_at_;  // before its list of processes was read
  std::unordered_map<std::string, CgroupOfPath> cgroups_;
  std::optional<double> host_saved_;  // bytes
  PassControl* control_ = nullptr;
};

std::shared_ptr<Collector> Engine::Impl::FindOrMake(const Registration& entry, bool stand_in,
                                                    const EngineOptions& options) {
  for (const InstalledCollector& each : collectors_) {
    if (each.name == entry.name && each.stand_in == stand_in) return each.collector;
  }
  CollectorContext context{root_, geometry_, options.collector_options, nullptr};
  if (stand_in) return entry.make_stand_in(context);
  context.totals = totals_.try_emplace(entry.name, std::make_shared<std::vector<uint64_t>>()).first->second;
  return entry.make(context);
}

std::vector<InstalledCollector> Engine::Impl::MakeCollectors(const EngineOptions& options) {
  std::vector<InstalledCollector> collectors;
  const auto add = [&](const Registration& entry, bool stand_in) {
    InstalledCollector each;
    each.name = entry.name;
    each.stand_in = stand_in;
    each.collector = FindOrMake(entry, stand_in, options);
    collectors.push_back(std::move(each));
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
  return collectors;
}

void Engine::Impl::Install(std::vector<InstalledCollector> collectors) {
  std::vector<CellMove> moves;
  gauges_ = 0;
  needs_ = {};
  for (InstalledCollector& each : collectors) {
    each.first_gauge = gauges_;
    gauges_ += each.collector->gauges();
    const auto [first, is_new] = first_counters_.try_emplace(std::pair(each.name, each.stand_in), counters_);
    each.first_counter = first->second;
    if (is_new) counters_ += each.collector->counters();
    needs_.Add(each.collector->needs());
    const auto before = std::find_if(collectors_.begin(), collectors_.end(), [&each](const InstalledCollector& old) {
      return old.collector == each.collector;
    });
    if (before == collectors_.end()) {
      each.awaits_pass = pass_ != 0;
      if (std::string why = each.collector->limitation(); !why.empty()) notices_.NoteFailure(each.name, why);
      continue;
    }
    moves.push_back({before->first_gauge, each.first_gauge, each.collector->gauges()});
    each.awaits_pass = before->awaits_pass;
    each.failed = before->failed;
    each.last_spent = before->last_spent;
    each.last_failed = before->last_failed;
  }
  collectors_ = std::move(collectors);
  groups_.GrowTo(counters_);
  left_out_.counters.resize(counters_, 0);
  scratch_.assign(gauges_, 0);
  for (auto& [id, state] : states_) state.sums.LayOut(gauges_, moves);
}

void Engine::Impl::Reconfigure(EngineOptions options) {
  std::vector<InstalledCollector> collectors = MakeCollectors(options);
  std::optional<GroupRules> rules;
  if (options.groups != options_.groups) rules.emplace(options.groups);
  scanner_.GrowTo(options.threads);
  workers_.GrowTo(options.threads);
  // From here on nothing fails.
  scan_counters_.resize(scanner_.threads());
  const bool other_options = options.collector_options != options_.collector_options;
  const bool other_collectors = options.collectors != options_.collectors;
  if (other_options || other_collectors) {
    for (InstalledCollector& each : collectors) each.collector->SetOptions(options.collector_options);
    DropScans();
    Install(std::move(collectors));
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
  if (options.max_groups != options_.max_groups) groups_.SetLimit(options.max_groups);
  table_.SetMaxProcesses(options.max_processes);
  families_.SetLedgerLimit(options.ledger_bytes);
  if (options.interval.count() == 0) fork_watch_.reset();  // nobody asks any more
  options_ = std::move(options);
}

std::optional<double> Engine::Impl::ReadAnonPages() const {
  if (!scanner_.capabilities().sees_every_process) return std::nullopt;
  const auto bytes = procfs::ReadAnonPagesBytes(root_);
  if (!bytes) return std::nullopt;
  return static_cast<double>(*bytes);
}

// The processes are read one after another. What the host has as a whole must not have changed meanwhile for the
// difference to mean anything.
void Engine::Impl::SetHostSaved(std::optional<double> anon_before, std::optional<double> anon_after) {
  constexpr double kMaxChange = 0.01;
  host_saved_.reset();
  if (!anon_before || !anon_after) return;
  if (std::abs(*anon_after - *anon_before) > kMaxChange * std::max(*anon_before, *anon_after)) return;
  double sum = 0;
  for (const auto& family : families_.families()) {
    for (const auto& member : family->members) sum += static_cast<double>(member->process->RssAnonBytes());
  }
  const double saved = sum - (*anon_before + *anon_after) / 2;
  if (saved >= 0) host_saved_ = saved;
}

SystemTime Engine::Impl::StartOf(const memory::Process& process) const {
  const double seconds = static_cast<double>(*boot_time_) + static_cast<double>(process.start_ticks) / ticks_;
  return SystemTime(std::chrono::duration_cast<SystemTime::duration>(std::chrono::duration<double>(seconds)));
}

void Engine::Impl::DescribeRoot(const memory::Process& root, FamilyState& state) const {
  state.labelled = true;
  state.group_name = GroupLabel(state.name, options_.label_value_length);
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
  state.user_due = now + HalfToAll(options_.full_every, family.id);
  if (root.since_pass == table_.pass()) return;  // it was read just now
  if (const auto status = procfs::ReadStatus(root_, root.memory)) root.status.effective_uid = status->effective_uid;
}

// Finds the group that a family claims, before its windows are shown.
void Engine::Impl::Assign(Family& family, SteadyClock::time_point now) {
  const auto [item, is_new] = states_.try_emplace(family.id);
  FamilyState& state = item->second;
  state.pass = pass_;
  state.ledger_bytes = family.ledger.MemoryBytes();
  state.resident_pages = 0;
  for (const auto& member : family.members) {
    state.resident_pages += member->process->ResidentBytes() / geometry_.page_bytes;
  }
  if (is_new) state.sums.LayOut(gauges_, {});
  if (!family.members.empty()) {
    if (rules_.AskForUser()) ReadUser(family, state, now);
    const memory::Process& root = *family.members.front()->process;
    const std::pair identity(root.pid, root.start_ticks);
    const bool other_user = rules_.AskForUser() && root.status.effective_uid != state.root_uid;
    const bool is_other = identity == state.root &&
                          (root.stat.comm != state.root_comm || root.since_pass != state.described || other_user);
    const bool was_left_out = state.left_out;
    const bool judge_anew = !state.judged || is_other;
    if (judge_anew) {
      state.command_line_pause = kFirstCommandLinePause;
      state.command_line_due = now + state.command_line_pause;
    }
    // A new root's is only noted: the family keeps its group until it is rewritten.
    const bool is_rewritten =
        !judge_anew && state.command_line && identity == state.root && CommandLineChanged(family, state, now);
    if (judge_anew || is_rewritten) {
      Judge(root, state);
    } else if (state.command_line && identity != state.root) {
      if (const auto text = procfs::ReadCommandLine(root_, root.memory))
        state.command_line = std::hash<std::string>()(*text);
    }
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
  if (!state.left_out) groups_.Claim(state.group_name, {state.named, family.members.size() > 1});
}

// After the groups of all families are claimed.
void Engine::Impl::JoinGroup(FamilyState& state) {
  if (state.left_out) {
    state.group = &left_out_;
    state.exported_as = {};
    return;
  }
  const auto group = groups_.Find(state.group_name);
  state.group = &group->second;
  state.exported_as = group->first;
}

bool Engine::Impl::CommandLineChanged(const Family& family, FamilyState& state, SteadyClock::time_point now) {
  if (now < state.command_line_due) return false;
  const SteadyClock::duration longest = HalfToAll(options_.full_every, family.id);
  state.command_line_pause = std::min(state.command_line_pause * 2, longest);
  state.command_line_due = now + state.command_line_pause;
  const auto text = procfs::ReadCommandLine(root_, family.members.front()->process->memory);
  return text && std::hash<std::string>()(*text) != state.command_line;
}

void Engine::Impl::Judge(const memory::Process& root, FamilyState& state) {
  state.command_line.reset();
  const auto read_command_line = [this, &root, &state]() -> std::optional<std::string> {
    auto text = procfs::ReadCommandLine(root_, root.memory);
    if (!text) return std::nullopt;
    state.command_line = std::hash<std::string>()(*text);
    return std::move(*text);
  };
  const std::string path = root.cgroups.NamingPath();
  const GroupVerdict verdict = rules_.Judge(
      {root.stat.comm, root.exe, root.status.effective_uid, path, procfs::ParseCgroupPath(path), read_command_line});
  state.judged = true;
  state.left_out = !verdict.name;
  if (verdict.name) {
    state.name = *verdict.name;
    state.named = verdict.named;
    state.group_name = GroupLabel(state.name, options_.label_value_length);
  }
  if (verdict.unread_key.empty()) return;
  ++unread_keys_[verdict.unread_key];
  notices_.NoteUnreadKey(state.group_name, root.pid, verdict.unread_key);
}

// Nothing is kept of what it showed before.
void Engine::Impl::Leave(Family& family, FamilyState& state) {
  DropScan(family);
  families_.Leave(family);
  state.sums.Clear();
  state.unread_members.Clear();
  state.completed = false;
  state.looks_bytes = 0;
}

// One thread's scanning: what it finds goes to the engine under the lock, which it needs only where it is not the only
// one.
class Engine::Impl::ScanThread : public memory::ScanObserver {
 public:
  ScanThread(Impl& engine, size_t thread) : engine_(engine), thread_(thread) {}

  // A turn of so much CPU time, one window at least. True if the scan of the family is over.
  bool Scan(Family& family, ScanQueue::Nanoseconds turn) {
    state_ = &engine_.states_.at(family.id);
    family_ = &family;
    state_->served = engine_.pass_;
    turn_end_.reset();
    if (turn != ScanQueue::kNoLimit) turn_end_ = ThreadCpuTime() + turn;
    stepped_ = false;
    if (family.scan == nullptr) state_->sums.BeginScan();
    const std::chrono::nanoseconds cpu_before = ThreadCpuTime();
    const bool finished = engine_.scanner_.ScanFamily(family, engine_.pass_options_, *this, thread_);
    const auto lock = Lock();
    engine_.scan_cpu_ += ThreadCpuTime() - cpu_before;
    if (!finished) {
      engine_.abandoned_ = engine_.abandoned_ || engine_.control_->MustStop();
      return false;
    }
    engine_.families_.Settle(family,
                             [this](const Family& owner, const Member& member) { engine_.OnEnd(owner, member); });
    family.BookMemory();
    TellProgress();
    state_->looks_bytes = family.looks.MemoryBytes();
    // Where pages have moved, only another scan tells: of all members, in its next turn.
    if (family.must_read_all) return false;
    state_->round = 0;
    return true;
  }

  // Scans the next family that waits. False if there is none, or the interval is over.
  bool TakeTurn() {
    Family* family = nullptr;
    auto turn = ScanQueue::kNoLimit;
    {
      const auto lock = Lock();
      if (engine_.abandoned_ || engine_.interval_over_) return false;
      std::tie(family, turn) = engine_.queue_.Take(engine_.control_->Left());
    }
    if (family == nullptr) return false;
    const bool finished = Scan(*family, turn);
    const auto lock = Lock();
    engine_.queue_.Return(family, finished);
    return true;
  }

  void OnWindow(const WindowView& view) override {
    const auto lock = Lock();
    engine_.OnWindow(view);
  }
  void OnUnchanged(const Family& family, uint64_t window, SystemTime read_at) override {
    const auto lock = Lock();
    engine_.OnUnchanged(family, window, read_at);
  }
  void OnMoved(const Family& family, const memory::Judgement& judgement) override {
    const auto lock = Lock();
    engine_.OnMoved(family, judgement);
  }
  void OnFamily(const FamilyView& view) override {
    const auto lock = Lock();
    engine_.OnFamily(view);
  }
  bool Continue() override {
    const auto lock = Lock();
    TellProgress();
    if (engine_.abandoned_ || engine_.interval_over_) return false;
    if (stepped_ && turn_end_ && ThreadCpuTime() >= *turn_end_) return false;
    stepped_ = true;
    engine_.abandoned_ = !engine_.control_->Continue();
    // However short the intervals are, each has one step at least.
    engine_.interval_over_ = engine_.progressed_ && engine_.control_->Interval() != engine_.interval_;
    engine_.progressed_ = true;
    return !engine_.abandoned_ && !engine_.interval_over_;
  }
  bool MustStop() const override { return engine_.control_->MustStop(); }

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
  std::optional<std::chrono::nanoseconds> turn_end_;  // on the thread's CPU clock
  bool stepped_ = false;                              // in this turn
};

std::vector<Family*> Engine::Impl::TakeDue(bool first) {
  std::vector<std::pair<Staleness, Family*>> stale;
  std::vector<Family*> served;  // they had their turn in the interval before, and need another
  for (const auto& family : families_.families()) {
    if (control_->MustStop()) break;  // the scan that follows finds out
    FamilyState& state = states_.at(family->id);
    if (state.left_out) {
      Leave(*family, state);
      state.round = 0;
      continue;
    }
    const SystemTime now = std::chrono::system_clock::now();
    const bool due = family->members.empty() || family->scan != nullptr || scanner_.IsDue(*family, pass_options_);
    if (!due) {
      if (first) skipped_members_ += family->members.size();
      state.round = 0;
      state.verified_at = interval_began_at_;  // what it is judged by was read since
      continue;
    }
    if (first) state.round = round_;
    if (family->scan != nullptr && state.served + 1 == pass_) {
      served.push_back(family.get());
      continue;
    }
    Staleness staleness{std::nullopt, FaultsSinceRead(*family), state.resident_pages, family->id};
    if (state.completed) staleness.age = now - std::max(state.read_at, state.verified_at);
    stale.emplace_back(staleness, family.get());
  }
  std::sort(stale.begin(), stale.end(), [](const auto& a, const auto& b) { return ReadBefore(a.first, b.first); });
  std::vector<Family*> due;
  due.reserve(stale.size() + served.size());
  for (const auto& [staleness, family] : stale) due.push_back(family);
  due.insert(due.end(), served.begin(), served.end());
  return due;
}

bool Engine::Impl::ScanAll() {
  for (size_t thread = 0; thread < scan_counters_.size(); ++thread) scan_counters_[thread] = scanner_.counters(thread);
  workers_.Run(std::min(queue_.size(), options_.threads), [this](size_t thread) {
    ScanThread scan(*this, thread);
    while (scan.TakeTurn()) {
    }
  });
  return !abandoned_;
}

bool Engine::Impl::BeginInterval(bool first) {
  const auto begin = SteadyClock::now();
  interval_began_at_ = std::chrono::system_clock::now();
  abandoned_ = false;
  interval_over_ = false;
  progressed_ = false;
  interval_ = control_->Interval();
  const MayGoOn may_go_on = [this] { return !control_->MustStop(); };
  const auto anon_before = ReadAnonPages();
  scanner_.forks().BeforeUpdate();
  if (!table_.Update(may_go_on).value_or(false)) return false;
  scanner_.forks().AfterUpdate(table_);
  const auto anon_after = ReadAnonPages();
  if (!families_.Update(table_, scanner_.probe(), may_go_on)) return false;
  ++pass_;
  if (first) ++round_;
  if (first) skipped_members_ = 0;
  pass_options_ = {.full_every = options_.full_every, .show_all = show_all_, .needs = needs_};
  for (InstalledCollector& each : collectors_) {
    if (!each.awaits_pass && each.collector->needs().member_sums) pass_options_.count_breaks = true;
    each.spent = {};
  }
  SetHostSaved(anon_before, anon_after);
  scanner_.BeginPass();
  const auto gone = table_.unreadable().find(ErrorKind::kGone);
  const size_t nameless = table_.unreadable().size() - (gone == table_.unreadable().end() ? 0 : 1);
  if (const auto denied = table_.unreadable().find(ErrorKind::kDenied); denied != table_.unreadable().end())
    notices_.NoteNameless(Groups::kOverflow, denied->second);
  groups_.BeginPass(begin);
  for (const std::string& name : rules_.fixed_names()) {
    groups_.Claim(GroupLabel(name, options_.label_value_length), {.named = true});
  }
  bool changed = false;
  for (const auto& family : families_.families()) {
    if (control_->MustStop()) return false;
    Assign(*family, begin);
    changed = UpdateMembers(*family, states_.at(family->id)) || changed;
  }
  if (control_->MustStop()) return false;
  if (std::exchange(families_forgotten_, false)) EndFamiliesThatAreGone();
  groups_.Admit();
  if (table_.over_limit() + nameless > 0) groups_.Find(Groups::kOverflow);
  for (const auto& family : families_.families()) JoinGroup(states_.at(family->id));
  queue_.Fill(TakeDue(first));
  control_->Listed(changed);  // until now all that the interval before read is of the last one
  TellLongLooks();
  pass_begin_ = interval_began_at_;
  return true;
}

bool Engine::Impl::EndInterval() {
  for (const auto& family : families_.families()) {
    if (!control_->Continue()) return false;
    ShowPass(*family);
  }
  EndFamiliesThatAreGone();
  for (InstalledCollector& each : collectors_) {
    Guard(each, [&] { each.collector->OnPassEnd(); });
    each.last_spent = each.spent;
    each.last_failed = each.failed;
  }
  std::erase_if(cgroups_, [this](const auto& item) { return item.second.used != pass_; });
  trim_.AfterPass(families_.budget().used_bytes);
  return true;
}

bool Engine::Impl::RoundGoesOn() const {
  return std::any_of(states_.begin(), states_.end(), [this](const auto& item) { return item.second.round == round_; });
}

// Where a first look at a family takes several intervals, the log says so: until then its values rest on what is taken
// for unread children.
void Engine::Impl::TellLongLooks() {
  const auto left = control_->Left();
  if (left == ScanQueue::kNoLimit || left.count() <= 0) return;
  constexpr double kUsualNanosecondsPerPage = 60;
  constexpr uint64_t kEnoughPages = 1'000'000;
  uint64_t pages_read = 0;
  for (const memory::ScanCounters& counters : scan_counters_) pages_read += counters.pagemap_pages;
  const double per_page = pages_read < kEnoughPages
                              ? kUsualNanosecondsPerPage
                              : static_cast<double>(scan_cpu_.count()) / static_cast<double>(pages_read);
  for (const auto& [id, state] : states_) {
    if (state.pass != pass_ || state.left_out || state.unread_members.empty()) continue;
    double pages =
        state.unread_members.FadingShare(state.sums.fading_pages()) * static_cast<double>(state.sums.fading_pages());
    for (const UnreadMember& member : state.unread_members.List()) pages += static_cast<double>(member.ResidentPages());
    const double intervals = pages * per_page / static_cast<double>(left.count());
    if (intervals > 1) notices_.NoteLongLook(state.group_name, state.root.first, std::ceil(intervals));
  }
}

void Engine::Impl::DropScans() {
  for (const auto& family : families_.families()) DropScan(*family);
}

// Out of the family's sums. False if the pass was abandoned meanwhile.
bool Engine::Impl::TakeOut(Family& family, std::span<Member* const> gone, FamilyState& state) {
  if (gone.empty()) return true;
  if (family.members.empty()) {
    state.sums.Clear();
    state.unread_members.Clear();
    return true;
  }
  const auto show = [this, &state](const WindowView& view) {
    ShowEach(state, [&view](Collector& collector, const Tally& tally) { collector.OnWindow(view, tally); });
    state.sums.TakeOut(view.window, scratch_, PresentPages(view));
  };
  return scanner_.ShowDeparture(family, gone, show, [this] { return !control_->MustStop(); });
}

bool Engine::Impl::UpdateMembers(Family& family, FamilyState& state) {
  const size_t members_before = state.members;
  state.members = family.members.size();
  state.processes = family.members.size() + family.aliases.size();
  std::vector<Member*> gone;
  for (const auto& member : family.ended) {
    if (!member->taken_out) gone.push_back(member.get());
  }
  if (!state.left_out) {
    if (scanner_.IsOutdated(family)) DropScan(family);
    if (!TakeOut(family, gone, state)) return false;
  }
  for (Member* member : gone) member->taken_out = true;
  if (state.left_out) return false;
  const bool alone_before = state.sums.alone_pages() != 0;
  if (family.members.size() > 1) state.sums.BeginToFade();
  state.unread_members.Update(family, geometry_, alone_before && family.members.size() > 1);
  state.has_child = false;
  for (const auto& member : family.members) {
    if (member.get() == family.root() || !boot_time_) continue;
    const SystemTime start = StartOf(*member->process);
    if (!state.has_child || start < state.first_start) state.first_start = start;
    state.has_child = true;
  }
  return !gone.empty() || members_before != state.members;
}

void Engine::Impl::ShowPass(const Family& family) {
  FamilyState& state = states_[family.id];
  std::vector<Result<procfs::KsmStat>> ksm;
  if (needs_.ksm_stat && !state.left_out) {
    ksm.reserve(family.members.size());
    for (const auto& member : family.members) ksm.push_back(procfs::ReadKsmStat(root_, member->process->pid));
  }
  const memory::PassView view{&family, ksm};
  ShowEach(state, [&view](Collector& collector, const Tally& tally) { collector.OnPass(view, tally); });
  state.sums.SetPassCells(scratch_);
  if (state.completed) state.baseline = false;
}

void Engine::Impl::OnWindow(const WindowView& view) {
  FamilyState& state = states_[view.family->id];
  ShowEach(state, [&view](Collector& collector, const Tally& tally) { collector.OnWindow(view, tally); });
  // A first pass may take long, and what it has read is published meanwhile.
  if (!state.completed) {
    for (const auto& member : view.family->members) {
      if (!member->waits) state.modes.at(static_cast<size_t>(member->mode)) = true;
    }
    state.group->looked_at = true;
  }
  state.unread_members.OnWindow(view);
  state.sums.AddWindow(view.window, scratch_, PresentPages(view), view.read_at, view.alone);
}

void Engine::Impl::OnUnchanged(const Family& family, uint64_t window, SystemTime read_at) {
  states_[family.id].sums.Verify(window, read_at);
}

void Engine::Impl::OnMoved(const Family& family, const memory::Judgement& judgement) {
  ShowEach(states_[family.id],
           [&](Collector& collector, const Tally& tally) { collector.OnMoved(family, judgement, tally); });
}

void Engine::Impl::OnFamily(const FamilyView& view) {
  skipped_members_ += view.skipped;
  FamilyState& state = states_[view.family->id];
  const Family& family = *view.family;
  ShowEach(state, [&view](Collector& collector, const Tally& tally) { collector.OnFamily(view, tally); });
  const uint64_t unwalked = view.unwalked.anon_bytes + view.unwalked.hugetlb_bytes + view.unwalked.swap_bytes;
  state.sums.EndScan(scratch_, unwalked / geometry_.page_bytes, view.alone);
  state.unread_members.OnScanEnd(family, view.alone);

  state.unread.fill(0);
  state.unread_pages = 0;
  for (const auto& member : family.members) {
    if (!member->unread) continue;
    state.unread_pages += member->process->ResidentBytes() / geometry_.page_bytes;
    ++state.unread.at(ReasonOf(member->unread->kind));
  }
  state.modes = view.modes;
  state.group->looked_at = true;
  notices_.Note(state.group_name, family);
  state.scan_known = view.scan_known;
  state.completed = true;
  state.read_at = view.read_at;
}

void Engine::Impl::OnEnd(const Family& family, const Member& member) {
  const auto state = states_.find(family.id);
  if (state == states_.end()) return;
  ShowEach(state->second, [&](Collector& collector, const Tally& tally) { collector.OnEnd(family, member, tally); });
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
