// The target of the benchmark: a parent and its forked children with one heap, which was written before the forks. They
// sleep between two commands.
//
//   cow_bench_family MEMBERS MIB small|huge
//
// Answers "ok ADDRESS BYTES PID…" once all processes run, the parent first. `huge` requests transparent huge pages,
// `small` forbids them. Commands (commands.h):
//   write COUNT           the last member writes to this many pages, spread over the heap; each call takes other pages
//                         until all were written
//   latency MILLISECONDS  the parent repeatedly maps 64 KiB, writes to the first page and unmaps them; answers
//                         "COUNT P50 P99 MAX STALLED" in nanoseconds. STALLED sums all rounds that took more than 1 ms:
//                         long waits are rare, so percentiles hide them
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <iostream>
#include <numeric>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "tests/bench/commands.h"

namespace cow::bench {
namespace {

constexpr size_t kHugePageBytes = size_t{2} << 20;
constexpr int kMadvPopulateWrite = 23;  // Linux 5.14

[[noreturn]] void Throw(const char* what) { throw std::system_error(errno, std::generic_category(), what); }

void Check(bool success, const char* what) {
  if (!success) Throw(what);
}

class Family {
 public:
  Family(size_t members, size_t bytes, bool huge) : bytes_(bytes) {
    Check(pipe(to_writer_.data()) == 0 && pipe(from_writer_.data()) == 0, "pipe");
    MapHeap(huge);
    pids_.push_back(getpid());
    for (size_t i = 1; i < members; ++i) Fork(i + 1 == members);
  }

  std::string Describe() const {
    std::string text = std::to_string(reinterpret_cast<uintptr_t>(heap_));
    text.append(" ").append(std::to_string(bytes_));
    for (const pid_t pid : pids_) text.append(" ").append(std::to_string(pid));
    return text;
  }

  void Write(size_t count) {
    if (pids_.size() == 1) return WritePages(count);
    Check(write(to_writer_[1], &count, sizeof(count)) == sizeof(count), "write");
    Check(read(from_writer_[0], &count, sizeof(count)) == sizeof(count), "the writer's answer");
  }

 private:
  void MapHeap(bool huge) {
    void* area = mmap(nullptr, bytes_ + kHugePageBytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    Check(area != MAP_FAILED, "mmap");
    const size_t behind = reinterpret_cast<uintptr_t>(area) % kHugePageBytes;
    heap_ = static_cast<char*>(area) + (behind == 0 ? 0 : kHugePageBytes - behind);
    Check(madvise(heap_, bytes_, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE) == 0, "madvise");
    Check(madvise(heap_, bytes_, kMadvPopulateWrite) == 0, "MADV_POPULATE_WRITE");
  }

  void Fork(bool writes) {
    const pid_t parent = getpid();
    const pid_t pid = fork();
    Check(pid >= 0, "fork");
    if (pid != 0) {
      pids_.push_back(pid);
      return;
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(1);
    size_t count = 0;
    while (writes && read(to_writer_[0], &count, sizeof(count)) == sizeof(count)) {
      WritePages(count);
      if (write(from_writer_[1], &count, sizeof(count)) != sizeof(count)) _exit(1);
    }
    for (;;) pause();
  }

  void WritePages(size_t count) {
    const size_t pages = bytes_ / page_bytes_;
    const size_t stride = std::max<size_t>(pages / count, 1);
    for (size_t i = 0; i < count; ++i) {
      volatile char& byte = heap_[(i * stride + writes_) % pages * page_bytes_];
      byte = static_cast<char>(byte + 1);
    }
    ++writes_;
  }

  size_t bytes_;
  size_t page_bytes_ = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  char* heap_ = nullptr;
  size_t writes_ = 0;  // calls of WritePages
  std::vector<pid_t> pids_;
  std::array<int, 2> to_writer_{};
  std::array<int, 2> from_writer_{};
};

std::string MeasureLatency(std::chrono::milliseconds duration) {
  using Clock = std::chrono::steady_clock;
  constexpr size_t kBytes = size_t{64} << 10;
  constexpr uint32_t kStallNanoseconds = 1'000'000;
  static std::vector<uint32_t> nanoseconds;
  nanoseconds.clear();
  const Clock::time_point end = Clock::now() + duration;
  for (Clock::time_point begin = Clock::now(); begin < end;) {
    auto* memory =
        static_cast<volatile char*>(mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    Check(memory != MAP_FAILED, "mmap");
    memory[0] = 1;
    Check(munmap(const_cast<char*>(memory), kBytes) == 0, "munmap");
    const Clock::time_point now = Clock::now();
    const auto took = std::chrono::duration_cast<std::chrono::nanoseconds>(now - begin).count();
    nanoseconds.push_back(static_cast<uint32_t>(std::min<int64_t>(took, UINT32_MAX)));
    begin = Clock::now();  // growth of the vector is not the target's time
  }
  std::sort(nanoseconds.begin(), nanoseconds.end());
  const size_t count = nanoseconds.size();
  const auto long_ones = std::upper_bound(nanoseconds.begin(), nanoseconds.end(), kStallNanoseconds);
  const auto stalled = std::accumulate(long_ones, nanoseconds.end(), uint64_t{0});
  std::string text = std::to_string(count);
  for (const size_t rank : {count / 2, count * 99 / 100, count - 1}) {
    text.append(" ").append(std::to_string(nanoseconds[rank]));
  }
  text.append(" ").append(std::to_string(stalled));
  return text;
}

int Run(size_t members, size_t mebibytes, std::string_view page_kind) {
  if (members == 0 || mebibytes == 0 || (page_kind != "small" && page_kind != "huge")) return 2;
  Family family(members, mebibytes << 20U, page_kind == "huge");
  std::cout << "ok " << family.Describe() << std::endl;
  AnswerCommands([&](std::istream& words) -> std::string {
    const auto command = Take<std::string>(words);
    if (command == "write") {
      family.Write(Take<size_t>(words));
      return "";
    }
    if (command == "latency") return MeasureLatency(std::chrono::milliseconds(Take<int>(words)));
    throw std::runtime_error("unknown command");
  });
  return 0;
}

}  // namespace
}  // namespace cow::bench

int main(int argc, char** argv) {
  try {
    if (argc != 4) throw std::invalid_argument("usage: cow_bench_family MEMBERS MIB small|huge");
    return cow::bench::Run(std::stoul(argv[1]), std::stoul(argv[2]), argv[3]);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "cow_bench_family: %s\n", error.what());
    return 1;
  }
}
