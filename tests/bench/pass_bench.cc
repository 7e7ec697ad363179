// What a pass costs, beside what the kernel itself takes to answer: 33 processes of 1 GiB that share one heap (another
// size with COW_BENCH_MEMBERS and COW_BENCH_MIB). In one run, interleaved:
//   bare_pagemap   a loop that reads the same pagemap entries and looks at none of them: the floor
//   smaps_rollup   what other exporters read
//   pass           this exporter's whole pass, every other process of the host included
//   pass_unchanged the same when no process has changed since the pass before
// `per_page` is CPU time per mapped page. The memory of the real program on the same processes is printed at the end.
//
// `reservation` is what one further process costs a pass that has reserved 1 TiB without access and 1 TiB without swap
// space (PROT_NONE, MAP_NORESERVE) and touched a page in each of 16 places of it: the difference of two passes, with
// and without it.
//
// A write to each 100th page in one child between passes (`pass_with_breaks`) shows what changes cost.
#include <benchmark/benchmark.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "collectors/engine.h"
#include "collectors/procfs/pagemap.h"
#include "collectors/procfs/root.h"
#include "collectors/procfs/smaps.h"
#include "collectors/procfs/status.h"
#include "collectors/procfs/system.h"

namespace {

using namespace cow;  // NOLINT(google-build-using-namespace): a benchmark names half of it

size_t FromEnvironment(const char* name, size_t otherwise) {
  const char* value = std::getenv(name);  // NOLINT(concurrency-mt-unsafe): before any thread
  return value == nullptr ? otherwise : std::strtoull(value, nullptr, 10);
}

// A parent and its forked children on one heap; they sleep until told to write.
class SharedHeap {
 public:
  SharedHeap(size_t members, size_t bytes) : bytes_(bytes) {
    if (pipe(ready_.data()) != 0 || pipe(go_.data()) != 0) std::abort();
    root_ = fork();
    if (root_ == 0) RunRoot(members);
    Await();
    const auto root = procfs::Root();
    for (size_t i = 0; i < members; ++i) {
      pid_t pid = 0;
      if (read(ready_[0], &pid, sizeof(pid)) != sizeof(pid)) std::abort();
      pids_.push_back(pid);
    }
  }
  ~SharedHeap() {
    kill(-root_, SIGKILL);
    waitpid(root_, nullptr, 0);
  }
  SharedHeap(const SharedHeap&) = delete;
  SharedHeap& operator=(const SharedHeap&) = delete;

  const std::vector<pid_t>& pids() const { return pids_; }
  uint64_t address() const { return address_; }
  size_t bytes() const { return bytes_; }

  // The last child writes one byte into each 100th page, and is done when this returns.
  void Write() {
    const char command = 'w';
    if (write(go_[1], &command, 1) != 1) std::abort();
    Await();
  }

 private:
  void Await() {
    if (read(ready_[0], &address_, sizeof(address_)) != sizeof(address_)) std::abort();
  }

  [[noreturn]] void RunRoot(size_t members) {
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    auto* heap = static_cast<char*>(
        mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0));
    if (heap == MAP_FAILED) _exit(1);
    const auto address = reinterpret_cast<uint64_t>(heap);
    if (write(ready_[1], &address, sizeof(address)) < 0) _exit(1);
    pid_t self = getpid();
    if (write(ready_[1], &self, sizeof(self)) < 0) _exit(1);
    for (size_t i = 1; i < members; ++i) {
      if (fork() != 0) continue;
      self = getpid();
      if (write(ready_[1], &self, sizeof(self)) < 0) _exit(1);
      const bool writes = i + 1 == members;
      char command = 0;
      while (writes && read(go_[0], &command, 1) == 1) {
        constexpr size_t kStride = size_t{100} * 4096;
        for (size_t offset = 0; offset < bytes_; offset += kStride) heap[offset] = static_cast<char>(heap[offset] + 1);
        if (write(ready_[1], &address, sizeof(address)) < 0) _exit(1);
      }
      for (;;) pause();
    }
    for (;;) pause();
  }

  size_t bytes_;
  std::array<int, 2> ready_{};
  std::array<int, 2> go_{};
  pid_t root_ = 0;
  uint64_t address_ = 0;
  std::vector<pid_t> pids_;
};

SharedHeap* heap = nullptr;

double MappedPages() {
  return static_cast<double>(heap->pids().size() * heap->bytes()) / static_cast<double>(sysconf(_SC_PAGESIZE));
}

void ReportPages(benchmark::State& state) {
  // CPU seconds per page, printed with an SI prefix: 31n is 31 ns.
  state.counters["per_page"] =
      benchmark::Counter(MappedPages(), benchmark::Counter::kIsIterationInvariantRate | benchmark::Counter::kInvert);
}

void BarePagemap(benchmark::State& state) {
  const auto geometry = procfs::ReadPageGeometry(procfs::Root()).value();
  std::vector<procfs::Pagemap> pagemaps;
  for (const pid_t pid : heap->pids()) pagemaps.push_back(procfs::Pagemap::Open(procfs::Root(), pid).value());
  std::vector<uint64_t> entries(geometry.PagesPerWindow());
  while (state.KeepRunning()) {
    for (uint64_t address = heap->address(); address < heap->address() + heap->bytes();
         address += geometry.huge_page_bytes) {
      for (const procfs::Pagemap& pagemap : pagemaps) {
        if (!pagemap.Read(geometry.PageOf(address), entries)) std::abort();
        benchmark::DoNotOptimize(entries.data());
      }
    }
  }
  ReportPages(state);
}

void SmapsRollup(benchmark::State& state) {
  while (state.KeepRunning()) {
    for (const pid_t pid : heap->pids()) benchmark::DoNotOptimize(procfs::ReadSmapsRollup(procfs::Root(), pid).value());
  }
  ReportPages(state);
}

class Unhindered : public collectors::PassControl {
 public:
  bool Continue() override { return true; }
};

collectors::Engine MakeEngine(std::chrono::milliseconds full_every = std::chrono::milliseconds(0)) {
  collectors::EngineOptions options;
  options.full_every = full_every;
  for (const auto& info : collectors::AvailableCollectors()) {
    if (info.enabled_by_default) options.collectors.emplace_back(info.name);
  }
  return {procfs::Root(), options};
}

void Pass(benchmark::State& state) {
  collectors::Engine engine = MakeEngine();
  Unhindered control;
  engine.RunPass(control);  // the first look makes the ledger
  while (state.KeepRunning()) {
    if (!engine.RunPass(control)) std::abort();
  }
  ReportPages(state);
}

void PassUnchanged(benchmark::State& state) {
  collectors::Engine engine = MakeEngine(std::chrono::hours(1));
  Unhindered control;
  engine.RunPass(control);
  while (state.KeepRunning()) {
    if (!engine.RunPass(control)) std::abort();
  }
  ReportPages(state);
}

void FirstPass(benchmark::State& state) {
  Unhindered control;
  while (state.KeepRunning()) {
    collectors::Engine engine = MakeEngine();
    if (!engine.RunPass(control)) std::abort();
  }
  ReportPages(state);
}

void PassWithBreaks(benchmark::State& state) {
  collectors::Engine engine = MakeEngine();
  Unhindered control;
  engine.RunPass(control);
  while (state.KeepRunning()) {
    state.PauseTiming();
    heap->Write();
    state.ResumeTiming();
    if (!engine.RunPass(control)) std::abort();
  }
  ReportPages(state);
}

// Seconds of CPU of this thread.
double CpuSeconds() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

[[noreturn]] void ReserveAndSleep(int ready, bool reserve) {
  constexpr size_t kTebibyte = size_t{1} << 40;
  constexpr size_t kPlaces = 16;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (reserve) {
    constexpr int kFlags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    auto* sparse = static_cast<char*>(mmap(nullptr, kTebibyte, PROT_READ | PROT_WRITE, kFlags, -1, 0));
    if (sparse == MAP_FAILED || mmap(nullptr, kTebibyte, PROT_NONE, kFlags, -1, 0) == MAP_FAILED) _exit(1);
    for (size_t place = 0; place < kPlaces; ++place) sparse[kTebibyte / kPlaces * place] = 1;
  }
  if (write(ready, "r", 1) != 1) _exit(1);
  for (;;) pause();
}

// Two processes alike but for the reservation, in turn.
void Reservation(benchmark::State& state) {
  collectors::Engine engine = MakeEngine();
  Unhindered control;
  const auto pass_beside = [&](bool reserve) {
    std::array<int, 2> ready{};
    if (pipe(ready.data()) != 0) std::abort();
    const pid_t pid = fork();
    if (pid == 0) ReserveAndSleep(ready[1], reserve);
    char byte = 0;
    if (read(ready[0], &byte, 1) != 1) std::abort();
    engine.RunPass(control);
    const double begin = CpuSeconds();
    engine.RunPass(control);
    const double end = CpuSeconds();
    kill(pid, SIGKILL);
    waitpid(pid, nullptr, 0);
    close(ready[0]);
    close(ready[1]);
    return end - begin;
  };
  while (state.KeepRunning()) {
    const double plain = pass_beside(false);
    state.SetIterationTime(std::max(pass_beside(true) - plain, 1e-9));
  }
}

// Peak resident memory of the real program after some seconds of passes, in MiB.
double ExporterPeakMib() {
  const pid_t pid = fork();
  if (pid == 0) {
    const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    dup2(null, STDOUT_FILENO);
    dup2(null, STDERR_FILENO);
    execl(COW_EXPORTER_PATH, "cow_exporter", "--web.listen-address=127.0.0.1:0", "--scan.interval=1s",
          "--scan.max-cpu=0", static_cast<char*>(nullptr));
    _exit(127);
  }
  std::this_thread::sleep_for(std::chrono::seconds(8));
  std::ifstream status("/proc/" + std::to_string(pid) + "/status");
  double peak = 0;
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmHWM:")) peak = std::strtod(line.c_str() + 6, nullptr) / 1024;
  }
  kill(pid, SIGTERM);
  waitpid(pid, nullptr, 0);
  return peak;
}

BENCHMARK(BarePagemap)->Name("bare_pagemap")->Unit(benchmark::kMillisecond);
BENCHMARK(Pass)->Name("pass")->Unit(benchmark::kMillisecond);
BENCHMARK(PassUnchanged)->Name("pass_unchanged")->Unit(benchmark::kMillisecond);
BENCHMARK(SmapsRollup)->Name("smaps_rollup")->Unit(benchmark::kMillisecond);
BENCHMARK(Reservation)->Name("reservation")->Unit(benchmark::kMicrosecond)->UseManualTime()->Iterations(40);
BENCHMARK(FirstPass)->Name("first_pass")->Unit(benchmark::kMillisecond)->Iterations(2);
BENCHMARK(PassWithBreaks)->Name("pass_with_breaks")->Unit(benchmark::kMillisecond)->Iterations(3);

}  // namespace

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  SharedHeap processes(FromEnvironment("COW_BENCH_MEMBERS", 33), FromEnvironment("COW_BENCH_MIB", 1024) << 20);
  heap = &processes;
  benchmark::RunSpecifiedBenchmarks();
  std::printf("exporter's peak resident memory on these processes: %.1f MiB\n", ExporterPeakMib());
  heap = nullptr;
  return 0;
}
