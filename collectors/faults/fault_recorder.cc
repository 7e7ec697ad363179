#include "collectors/faults/fault_recorder.h"

#include <poll.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <iterator>
#include <limits>
#include <optional>
#include <string>
#include <thread>
#include <type_traits>
#include <variant>

#include "collectors/base/monotonic_clock.h"
#include "collectors/procfs/process_list.h"
#include "collectors/procfs/stat.h"
#include "collectors/procfs/system.h"

namespace cow::faults {
namespace {

constexpr uint64_t kHoldBackNanoseconds = std::chrono::nanoseconds(FaultRecorder::kHoldBack).count();
constexpr size_t kReservedDescriptors = 64;  // for everything else that the process opens
// Each walk watches the threads that it finds, so a walk that finds new ones was overtaken by a thread that nothing
// watched. Only threads that live for less than a walk overtake several.
constexpr int kMaxWalks = 64;

size_t FindMaxDescriptors(size_t wanted) {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return wanted;
  const size_t left = limit.rlim_cur > kReservedDescriptors ? limit.rlim_cur - kReservedDescriptors : 0;
  return wanted == 0 ? left : std::min(wanted, left);
}

// Finds what the kernel accepts: EINVAL tells that it does not know a field, EACCES that kernel code is hidden.
Result<PerfAbilities> FindAbilities(const procfs::Root& root, const FaultRecorder::Options& options, int cpu) {
  int error_number = 0;
  for (const bool kernel_faults : {true, false}) {
    for (const auto& [build_ids, lost_counts] :
         {std::pair(true, true), std::pair(true, false), std::pair(false, true), std::pair(false, false)}) {
      const PerfAbilities abilities{kernel_faults, build_ids, lost_counts};
      const auto event = OpenEvent(FaultAttributes(options.stacks, options.one_in, abilities), getpid(), cpu);
      if (event) return abilities;
      error_number = event.error().error_number;
      if (error_number != EINVAL && error_number != E2BIG) break;
    }
    if (error_number != EACCES && error_number != EPERM) break;
  }
  return tl::unexpected(ExplainOpenError(root, error_number));
}

Result<std::vector<PerfRing>> OpenRings(const procfs::Root& root, const std::vector<int>& processors,
                                        size_t bytes_of_all, const perf_event_attr& like) {
  const auto page_bytes = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  size_t data_bytes = std::bit_floor(std::max(bytes_of_all / processors.size(), page_bytes));
  while (true) {
    std::vector<PerfRing> rings;
    std::optional<Error> error;
    for (const int cpu : processors) {
      auto ring = PerfRing::Open(cpu, data_bytes, like);
      if (!ring) {
        error = ring.error();
        break;
      }
      rings.push_back(std::move(*ring));
    }
    if (!error) return rings;
    // EPERM: more than kernel.perf_event_mlock_kb and the limit of locked memory. ENOMEM: more than there is.
    const bool too_large = error->error_number == EPERM || error->error_number == ENOMEM;
    if (too_large && data_bytes > page_bytes) {
      data_bytes /= 2;
      continue;
    }
    if (error->error_number == EPERM) {
      error->detail =
          "the limit of locked memory (kernel.perf_event_mlock_kb, RLIMIT_MEMLOCK) leaves no room for rings";
    }
    if (error->error_number == EMFILE) error = ExplainOpenError(root, EMFILE);
    return tl::unexpected(std::move(*error));
  }
}

// If several events record one fault, newer kernels stamp it once, for the first of them: all records are the same.
bool IsSameFault(const RingRecord& one, const RingRecord& other) {
  const auto* fault = std::get_if<FaultRecord>(&one.body);
  const auto* other_fault = std::get_if<FaultRecord>(&other.body);
  return fault != nullptr && other_fault != nullptr && fault->time_ns == other_fault->time_ns &&
         fault->tid == other_fault->tid && fault->address == other_fault->address && fault->ip == other_fault->ip;
}

}  // namespace

Result<FaultRecorder> FaultRecorder::Open(procfs::Root root, const Options& options) {
  if (const auto own = procfs::RequireOwnPids(root); !own) return tl::unexpected(own.error());
  const auto processors = procfs::ReadOnlineProcessors(root);
  if (!processors) return tl::unexpected(processors.error());
  const auto abilities = FindAbilities(root, options, processors->front());
  if (!abilities) return tl::unexpected(abilities.error());
  auto rings =
      OpenRings(root, *processors, options.ring_bytes, FaultAttributes(options.stacks, options.one_in, *abilities));
  if (!rings) return tl::unexpected(rings.error());
  return FaultRecorder(std::move(root), options, *abilities, std::move(*rings));
}

FaultRecorder::FaultRecorder(procfs::Root root, const Options& options, const PerfAbilities& abilities,
                             std::vector<PerfRing> rings)
    : root_(std::move(root)),
      stacks_(options.stacks),
      abilities_(abilities),
      attributes_(FaultAttributes(options.stacks, options.one_in, abilities)),
      max_descriptors_(FindMaxDescriptors(options.max_descriptors)),
      descriptors_(rings.size()) {
  for (PerfRing& ring : rings) rings_.push_back({std::move(ring), 0});
}

Result<void> FaultRecorder::Add(std::span<const pid_t> pids) {
  unwatched_threads_ = 0;
  std::optional<Error> first_error;
  const auto keep = [&first_error](const Error& error) {
    if (!first_error) first_error = error;
  };
  std::vector<pid_t> changing(pids.begin(), pids.end());
  for (int walk = 0; !changing.empty(); ++walk) {
    if (walk == kMaxWalks) {
      keep({ErrorKind::kIo, root_.ProcPath(changing.front(), "task"), 0,
            "threads begin and end faster than they can be watched"});
      break;
    }
    std::vector<std::pair<pid_t, std::vector<pid_t>>> listed;
    for (const pid_t pid : changing) {
      auto threads = procfs::ListThreads(root_, pid, std::numeric_limits<size_t>::max());
      if (threads) listed.emplace_back(pid, std::move(*threads));
      // A process that ends while its threads are listed is no error.
      if (!threads && (walk == 0 || threads.error().kind != ErrorKind::kGone)) keep(threads.error());
    }
    // The records that precede the lists tell which of these threads are watched.
    if (!watched_.empty()) {
      const uint64_t now = MonotonicNs();
      std::this_thread::sleep_for(kHoldBack);
      Collect(now);
    }
    changing.clear();
    for (const auto& [pid, threads] : listed) {
      const auto found = WatchThreads(pid, threads);
      if (!found) keep(found.error());
      if (found && *found == Walk::kChanged) changing.push_back(pid);
    }
  }
  if (first_error) return tl::unexpected(std::move(*first_error));
  return {};
}

Result<FaultRecorder::Walk> FaultRecorder::WatchThreads(pid_t pid, const std::vector<pid_t>& threads) {
  Walk walk = Walk::kNothingNew;
  std::optional<Error> too_many;
  for (const pid_t tid : threads) {
    if (filter_.IsWatched(tid)) continue;
    const auto stat = procfs::ReadStat(root_, procfs::TaskId(pid, tid));
    if (stat && stat->HasNoMemory()) continue;
    const Identity identity(tid, stat ? stat->start_time_ticks : 0);
    if (stat && watched_.contains(identity)) continue;
    const auto opened = stat ? WatchThread(identity) : tl::unexpected(stat.error());
    if (opened || opened.error().kind == ErrorKind::kGone) {
      walk = Walk::kChanged;
      continue;
    }
    if (opened.error().kind != ErrorKind::kTooLarge) return tl::unexpected(opened.error());
    ++unwatched_threads_;
    too_many = opened.error();
  }
  if (too_many) return tl::unexpected(std::move(*too_many));
  return walk;
}

Result<void> FaultRecorder::WatchThread(const Identity& thread) {
  if (descriptors_ + rings_.size() > max_descriptors_) {
    return tl::unexpected(Error::TooLarge(
        "perf_event_open", "each thread needs a descriptor on each of " + std::to_string(rings_.size()) +
                               " CPUs, and the limit of open files leaves " + std::to_string(max_descriptors_)));
  }
  Watched watched;
  watched.root = next_root_++;
  for (const Ring& ring : rings_) {
    if (const auto opened = OpenOnCpu(ring.ring, thread.first, watched); !opened) {
      const int error_number = opened.error().error_number;
      if (error_number == ESRCH) return tl::unexpected(opened.error());
      Error error = ExplainOpenError(root_, error_number);
      if (error_number == EMFILE || error_number == ENFILE) error.kind = ErrorKind::kTooLarge;
      return tl::unexpected(std::move(error));
    }
  }
  for (const uint64_t id : watched.event_ids) root_of_event_[id] = watched.root;
  descriptors_ += watched.events.size();
  filter_.Forget(thread.first);
  watched_.insert_or_assign(thread, std::move(watched));
  return {};
}

Result<void> FaultRecorder::OpenOnCpu(const PerfRing& ring, pid_t tid, Watched& watched) const {
  auto event = OpenEvent(attributes_, tid, ring.cpu());
  if (!event) return tl::unexpected(event.error());
  uint64_t id = 0;
  if (ioctl(event->get(), PERF_EVENT_IOC_ID, &id) != 0) return tl::unexpected(Error::FromErrno("perf event", errno));
  if (const auto redirected = ring.Redirect(*event); !redirected) return tl::unexpected(redirected.error());
  watched.events.push_back(std::move(*event));
  watched.event_ids.push_back(id);
  return {};
}

void FaultRecorder::Drain(std::vector<Record>& records) {
  Collect(MonotonicNs() - kHoldBackNanoseconds);
  MoveReadyTo(records);
}

void FaultRecorder::DrainAll(std::vector<Record>& records) {
  const uint64_t now = MonotonicNs();
  std::this_thread::sleep_for(kHoldBack);
  Collect(now);
  MoveReadyTo(records);
}

void FaultRecorder::MoveReadyTo(std::vector<Record>& records) {
  records.insert(records.end(), std::make_move_iterator(ready_.begin()), std::make_move_iterator(ready_.end()));
  ready_.clear();
}

void FaultRecorder::Collect(uint64_t until_ns) {
  // Events that have hung up before the rings are read write no more records.
  const std::vector<Identity> ended = some_ended_ ? FindEnded() : std::vector<Identity>();
  some_ended_ = false;
  for (Ring& ring : rings_) Read(ring);
  Close(ended);
  std::stable_sort(waiting_.begin(), waiting_.end(),
                   [](const Waiting& one, const Waiting& other) { return one.time_ns < other.time_ns; });
  const auto end = std::partition_point(waiting_.begin(), waiting_.end(),
                                        [until_ns](const Waiting& each) { return each.time_ns <= until_ns; });
  for (auto each = waiting_.begin(); each != end; ++each) {
    const auto next = std::next(each);
    if (next != end && IsSameFault(each->record, next->record)) {
      next->root = kUnknownRoot;
      ++doubles_;
    } else {
      Give(*each);
    }
  }
  waiting_.erase(waiting_.begin(), end);
  filter_.EndRound();
}

void FaultRecorder::Read(Ring& ring) {
  bytes_.clear();
  decoded_.clear();
  ring.ring.Take(bytes_);
  const uint64_t now = MonotonicNs();
  malformed_ += DecodeRing(bytes_, stacks_, decoded_);
  for (RingRecord& record : decoded_) {
    const auto root = root_of_event_.find(record.event_id);
    uint64_t time_ns = record.time_ns();
    if (root != root_of_event_.end()) {
      ring.last_ns = time_ns;
    } else {
      // Another observer's stamp, perhaps by another clock.
      time_ns = std::clamp(time_ns, ring.last_ns, std::max(ring.last_ns, now));
      ++foreign_stamps_;
    }
    waiting_.push_back({std::move(record), time_ns, root == root_of_event_.end() ? kUnknownRoot : root->second});
  }
}

void FaultRecorder::Give(Waiting& waiting) {
  if (const auto* lost = std::get_if<LostRecord>(&waiting.record.body)) {
    lost_in_rings_ += lost->count;
    filter_.Forget();
    some_ended_ = true;
    return;
  }
  if (std::holds_alternative<ThrottleRecord>(waiting.record.body)) {
    ++throttled_;
    return;
  }
  if (!filter_.Accept(waiting.record, waiting.root)) {
    ++doubles_;
    return;
  }
  if (std::holds_alternative<ExitRecord>(waiting.record.body)) some_ended_ = true;
  std::visit(
      [this, &waiting]<class Body>(Body& body) {
        body.time_ns = waiting.time_ns;
        if constexpr (std::is_constructible_v<Record, Body>) ready_.emplace_back(std::move(body));
      },
      waiting.record.body);
}

// An event reports a hang-up when its thread and all threads that inherited it have ended.
std::vector<FaultRecorder::Identity> FaultRecorder::FindEnded() const {
  std::vector<Identity> ended;
  std::vector<pollfd> polled;
  for (const auto& [identity, watched] : watched_) {
    polled.clear();
    for (const auto& event : watched.events) polled.push_back({event.get(), 0, 0});
    if (poll(polled.data(), polled.size(), 0) != static_cast<int>(polled.size())) continue;
    if (std::all_of(polled.begin(), polled.end(), [](const pollfd& each) { return (each.revents & POLLHUP) != 0; })) {
      ended.push_back(identity);
    }
  }
  return ended;
}

void FaultRecorder::Close(const std::vector<Identity>& ended) {
  for (const Identity& identity : ended) {
    const auto entry = watched_.find(identity);
    if (entry == watched_.end()) continue;
    for (const auto& event : entry->second.events) lost_by_closed_ += ReadLostCount(event);
    for (const uint64_t id : entry->second.event_ids) root_of_event_.erase(id);
    descriptors_ -= entry->second.events.size();
    watched_.erase(entry);
  }
}

bool FaultRecorder::Wait(std::chrono::milliseconds timeout) {
  if (std::any_of(rings_.begin(), rings_.end(), [](const Ring& each) { return each.ring.HalfFull(); })) return true;
  std::vector<pollfd> polled;
  for (const Ring& each : rings_) polled.push_back({each.ring.descriptor(), POLLIN, 0});
  return poll(polled.data(), polled.size(), static_cast<int>(timeout.count())) > 0;
}

uint64_t FaultRecorder::lost() const {
  uint64_t lost = lost_by_closed_;
  for (const auto& [identity, watched] : watched_) {
    for (const auto& event : watched.events) lost += ReadLostCount(event);
  }
  return (abilities_.lost_counts ? lost : lost_in_rings_) + malformed_;
}

size_t FaultRecorder::ring_bytes() const {
  size_t bytes = 0;
  for (const Ring& each : rings_) bytes += each.ring.data_bytes();
  return bytes;
}

}  // namespace cow::faults
