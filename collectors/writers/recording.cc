#include "collectors/writers/recording.h"

#include <chrono>
#include <ctime>
#include <utility>
#include <variant>

namespace cow::writers {
namespace {

using symbols::CodeMaps;

// How long the thread waits for records or requests.
constexpr std::chrono::milliseconds kWait{20};
// Most faults that wait for Take; 32 bytes each.
constexpr size_t kMaxFaults = size_t{1} << 23;

std::chrono::nanoseconds ThreadTime() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec);
}

}  // namespace

Recording::Recording(procfs::Root root, procfs::PageGeometry geometry, faults::FaultRecorder recorder,
                     symbols::Symbolizer* unwinder)
    : geometry_(geometry),
      recorder_(std::move(recorder)),
      unwinder_(unwinder),
      maps_(std::move(root)),
      kernel_faults_(recorder_.records_kernel_faults()),
      thread_([this] { Run(); }) {}

Recording::~Recording() { Stop(); }

Result<void> Recording::Add(std::span<const pid_t> pids) {
  std::unique_lock lock(mutex_);
  to_add_.emplace(pids.begin(), pids.end());
  served_.wait(lock, [this] { return !to_add_; });
  return added_;
}

bool Recording::forked() const {
  const std::lock_guard lock(mutex_);
  return batch_.forked;
}

Recording::Batch Recording::Take() {
  std::unique_lock lock(mutex_);
  wants_all_ = true;
  served_.wait(lock, [this] { return !wants_all_; });
  return std::exchange(batch_, {});
}

uint64_t Recording::lost() const {
  const std::lock_guard lock(mutex_);
  return lost_;
}

void Recording::Stop() {
  if (!thread_.joinable()) return;
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  thread_.join();
}

void Recording::Run() {
  std::vector<faults::Record> records;
  std::unique_lock lock(mutex_);
  while (!stop_) {
    const bool all = wants_all_;
    const bool adds = to_add_.has_value();
    lock.unlock();
    if (!all && !adds) recorder_.Wait(kWait);
    records.clear();
    if (all) {
      recorder_.DrainAll(records);
    } else {
      recorder_.Drain(records);
    }
    Handle(records);
    lock.lock();
    Serve(lock, all);
  }
  lost_ = recorder_.lost();
  unwatched_threads_ = recorder_.unwatched_threads();
}

// Answers requests and hands over what was handled.
void Recording::Serve(std::unique_lock<std::mutex>& lock, bool all) {
  if (all) {
    lost_ = recorder_.lost();
    writers_.TakeNew(batch_.new_writers);
    const std::chrono::nanoseconds now = ThreadTime();
    batch_.cpu_time = now - std::exchange(reported_time_, now);
    wants_all_ = false;
  }
  batch_.faults.insert(batch_.faults.end(), handled_.faults.begin(), handled_.faults.end());
  batch_.forked = batch_.forked || handled_.forked;
  batch_.dropped += handled_.dropped;
  handled_ = {};
  if (batch_.faults.size() > kMaxFaults) {
    batch_.dropped += batch_.faults.size() - kMaxFaults;
    batch_.faults.resize(kMaxFaults);
  }
  if (to_add_) {
    const std::vector<pid_t> pids = *to_add_;
    lock.unlock();
    Result<void> added = recorder_.Add(pids);
    // Mappings are read after the events are open: a mapping made in between is in both.
    for (const pid_t pid : pids) {
      if (known_.insert(pid).second) static_cast<void>(maps_.Add(pid));
    }
    lock.lock();
    added_ = std::move(added);
    to_add_.reset();
  }
  served_.notify_all();
}

void Recording::Handle(const std::vector<faults::Record>& records) {
  for (const faults::Record& record : records) {
    std::visit([this](const auto& each) { Handle(each); }, record);
  }
}

void Recording::Handle(const faults::FaultRecord& fault) {
  if (strangers_.contains(fault.pid)) return;
  handled_.faults.push_back({fault.time_ns, fault.pid, geometry_.PageOf(fault.address), WriterOf(fault), false});
}

void Recording::Handle(const faults::ForkRecord& fork) {
  if (fork.is_thread) return;
  maps_.Fork(fork.pid, fork.parent);
  known_.insert(fork.pid);
  if (strangers_.contains(fork.parent)) {
    strangers_.insert(fork.pid);
  } else {
    strangers_.erase(fork.pid);
    handled_.forked = true;
  }
}

void Recording::Handle(const faults::ExecRecord& exec) {
  maps_.Exec(exec.pid);
  strangers_.insert(exec.pid);
}

void Recording::Handle(const faults::ExitRecord& exit) {
  if (exit.pid != exit.tid) return;
  maps_.Exit(exit.pid);
  known_.erase(exit.pid);
  strangers_.erase(exit.pid);
}

void Recording::Handle(const faults::MapRecord& map) {
  if (strangers_.contains(map.pid)) return;
  maps_.Map({map.pid, map.start, map.length_bytes, map.file_offset, map.inode, map.build_id, map.path});
}

WriterId Recording::WriterOf(const faults::FaultRecord& fault) {
  frames_.clear();
  if (fault.in_kernel) frames_.push_back(CodeMaps::Kernel(fault.ip));
  std::vector<uint64_t> unwound;
  if (fault.stack && unwinder_ != nullptr)
    unwound = unwinder_->Unwind(maps_, fault.pid, fault.stack->registers, fault.stack->bytes);
  const std::vector<uint64_t>& chain = fault.stack ? unwound : fault.chain;
  if (chain.empty() && !fault.in_kernel) frames_.push_back(maps_.Locate(fault.pid, fault.ip));
  for (size_t i = 0; i < chain.size(); ++i) {
    // A return address may be the first byte behind the calling function.
    frames_.push_back(maps_.Locate(fault.pid, i == 0 ? chain[i] : chain[i] - 1));
  }
  return writers_.NumberOf(frames_);
}

}  // namespace cow::writers
