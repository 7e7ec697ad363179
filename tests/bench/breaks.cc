// The target of page faults that are recorded, and our recorder. Commands (commands.h):
//
//   cow_bench_breaks PAGES
//   fork          forks a child that shares PAGES pages; answers its pid
//   watch ONE_IN  records the child's faults from now on, one in ONE_IN, and reads them in a thread
//   write         the child writes each page once; answers the CPU time that took the child, in nanoseconds
//   end           ends the child and the recorder; answers "RECORDS LOST"
//
// The child runs on the last CPU, and all other threads on the first, if there are two.
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <ctime>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "collectors/faults/fault_recorder.h"
#include "collectors/procfs/root.h"
#include "tests/bench/commands.h"

namespace cow::bench {
namespace {

void Check(bool success, const char* what) {
  if (!success) throw std::system_error(errno, std::generic_category(), what);
}

void RunOn(size_t cpu) {
  cpu_set_t cpus;
  CPU_ZERO(&cpus);
  CPU_SET(cpu, &cpus);
  Check(sched_setaffinity(0, sizeof(cpus), &cpus) == 0, "sched_setaffinity");
}

// Reads the records of a process until it is destroyed.
class Watch {
 public:
  Watch(pid_t pid, uint32_t one_in) : recorder_(OpenRecorder(one_in)) {
    if (const auto added = recorder_.Add(pid); !added) throw std::runtime_error(added.error().ToString());
    reader_ = std::thread([this] {
      while (!end_) {
        recorder_.Wait(std::chrono::milliseconds(10));
        recorder_.Drain(records_);
        count_ += records_.size();
        records_.clear();
      }
    });
  }
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;
  ~Watch() { End(); }

  // Returns the numbers of records and of lost ones.
  std::pair<size_t, uint64_t> End() {
    end_ = true;
    if (reader_.joinable()) reader_.join();
    recorder_.DrainAll(records_);
    count_ += records_.size();
    records_.clear();
    return {count_, recorder_.lost()};
  }

 private:
  static faults::FaultRecorder OpenRecorder(uint32_t one_in) {
    auto recorder = faults::FaultRecorder::Open(procfs::Root(), {.one_in = one_in});
    if (!recorder) throw std::runtime_error(recorder.error().ToString());
    return std::move(*recorder);
  }

  faults::FaultRecorder recorder_;
  std::vector<faults::Record> records_;
  size_t count_ = 0;
  std::atomic<bool> end_ = false;
  std::thread reader_;
};

class Target {
 public:
  explicit Target(size_t pages) : pages_(pages), page_bytes_(static_cast<size_t>(sysconf(_SC_PAGESIZE))) {
    void* memory = mmap(nullptr, pages_ * page_bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    Check(memory != MAP_FAILED, "mmap");
    Check(madvise(memory, pages_ * page_bytes_, MADV_NOHUGEPAGE) == 0, "madvise");
    memory_ = static_cast<char*>(memory);
    WriteAll();
    Check(pipe(to_child_.data()) == 0 && pipe(from_child_.data()) == 0, "pipe");
    RunOn(0);
  }

  std::string Fork() {
    child_ = fork();
    Check(child_ >= 0, "fork");
    if (child_ == 0) RunChild();
    Receive(from_child_[0]);
    return std::to_string(child_);
  }
  std::string Record(uint32_t one_in) {
    watch_ = std::make_unique<Watch>(child_, one_in);
    return "";
  }
  std::string Write() {
    Send(to_child_[1], 0);
    return std::to_string(Receive(from_child_[0]));
  }
  std::string End() {
    kill(child_, SIGKILL);
    waitpid(child_, nullptr, 0);
    const auto [records, lost] = watch_ ? watch_->End() : std::pair<size_t, uint64_t>();
    watch_.reset();
    return std::to_string(records) + " " + std::to_string(lost);
  }

 private:
  static void Send(int descriptor, int64_t value) {
    Check(write(descriptor, &value, sizeof(value)) == sizeof(value), "write");
  }
  static int64_t Receive(int descriptor) {
    int64_t value = 0;
    Check(read(descriptor, &value, sizeof(value)) == sizeof(value), "read");
    return value;
  }
  static int64_t CpuNanoseconds() {
    timespec time{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return time.tv_sec * 1'000'000'000 + time.tv_nsec;
  }
  void WriteAll() const {
    for (size_t page = 0; page < pages_; ++page) {
      volatile char& byte = memory_[page * page_bytes_];
      byte = static_cast<char>(byte + 1);
    }
  }
  [[noreturn]] void RunChild() const {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    RunOn(static_cast<size_t>(sysconf(_SC_NPROCESSORS_ONLN)) - 1);
    Send(from_child_[1], 0);
    Receive(to_child_[0]);
    const int64_t begin = CpuNanoseconds();
    WriteAll();
    Send(from_child_[1], CpuNanoseconds() - begin);
    while (true) pause();
  }

  size_t pages_;
  size_t page_bytes_;
  char* memory_ = nullptr;
  std::array<int, 2> to_child_{};
  std::array<int, 2> from_child_{};
  pid_t child_ = 0;
  std::unique_ptr<Watch> watch_;
};

}  // namespace
}  // namespace cow::bench

int main(int argc, char** argv) {
  using cow::bench::Take;
  if (argc != 2) return 2;
  cow::bench::Target target(std::stoul(argv[1]));
  cow::bench::AnswerCommands([&](std::istream& words) -> std::string {
    const auto command = Take<std::string>(words);
    if (command == "fork") return target.Fork();
    if (command == "watch") return target.Record(Take<uint32_t>(words));
    if (command == "write") return target.Write();
    if (command == "end") return target.End();
    throw std::runtime_error("unknown command");
  });
  return 0;
}
