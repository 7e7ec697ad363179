#include "deploy/demo/parent.h"

#include <pthread.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <ctime>

#include "deploy/demo/system.h"

namespace cow::demo {
namespace {

constexpr int64_t kTickNanoseconds = 20'000'000;
constexpr int64_t kTicksPerSecond = kNanosecondsPerSecond / kTickNanoseconds;

struct Truth {
  int64_t unix_nanoseconds;
  uint64_t parent_breaks;
  uint64_t child_breaks;
  uint64_t forks;
};

volatile sig_atomic_t stop_requested = 0;

// Computes how many pages are due at a steady rate. Keeps unspent pages for one second.
class Pace {
 public:
  explicit Pace(int64_t per_second) : per_second_(per_second) {}
  int64_t Tick() {
    credit_ = std::min(credit_ + per_second_, per_second_ * kTicksPerSecond);
    return credit_ / kTicksPerSecond;
  }
  void Spend(int64_t pages) { credit_ -= pages * kTicksPerSecond; }

 private:
  int64_t per_second_;
  int64_t credit_ = 0;
};

// Waits for absolute deadlines, so that slow ticks do not slow the pace. Does not catch up after a stop.
class Ticker {
 public:
  void Wait() {
    next_ = std::max(next_ + kTickNanoseconds, Now(CLOCK_MONOTONIC) - kNanosecondsPerSecond);
    SleepUntil(next_);
  }

 private:
  int64_t next_ = Now(CLOCK_MONOTONIC);
};

[[noreturn]] void RunWorker(const Arena& arena, const Settings& settings, size_t slot, Walk walk,
                            size_t pages_to_visit) {
  Pace pace(settings.child_pages_per_second);
  Ticker ticker;
  for (bool finished = false; !finished;) {
    ticker.Wait();
    const int64_t wanted = pace.Tick();
    if (wanted == 0) {
      continue;
    }
    const Lock lock(*arena.books);
    const int64_t broken = BreakPages(arena, slot, walk, wanted, pages_to_visit);
    pace.Spend(broken);
    arena.books->child_breaks += static_cast<uint64_t>(broken);
    finished = walk.Visited() >= pages_to_visit;
    arena.books->finished.at(slot) = finished;
  }
  for (;;) {
    pause();  // the parent replaces this worker
  }
}

class Parent {
 public:
  Parent(const Arena& arena, const Settings& settings, int truth_file)
      : arena_(arena), settings_(settings), truth_file_(truth_file) {}

  void Run() {
    {
      const Lock lock(*arena_.books);
      for (size_t slot = 1; slot < arena_.slots; ++slot) {
        StartWorker(slot, arena_.pages * slot / (arena_.slots - 1));
      }
    }
    const int64_t start = Now(CLOCK_MONOTONIC);
    const int64_t end = settings_.seconds == 0 ? INT64_MAX : start + settings_.seconds * kNanosecondsPerSecond;
    const int64_t truth_interval = settings_.truth_interval_ms * 1'000'000;
    int64_t next_truth = start;
    Walk walk(arena_.pages, 0);
    Pace pace(settings_.parent_pages_per_second);
    Ticker ticker;
    for (;;) {
      const int64_t now = Now(CLOCK_MONOTONIC);
      if (now >= next_truth) {
        WriteTruth(ReadTruth());
        next_truth = std::max(next_truth + truth_interval, now);
      }
      if (stop_requested != 0 || now >= end) {
        break;
      }
      ticker.Wait();
      const int64_t wanted = pace.Tick();
      const Lock lock(*arena_.books);
      const int64_t broken = BreakPages(arena_, 0, walk, wanted, SIZE_MAX);
      pace.Spend(broken);
      arena_.books->parent_breaks += static_cast<uint64_t>(broken);
      ReplaceWorkers();
    }
    Stop();
  }

 private:
  // Call it with the lock held.
  void StartWorker(size_t slot, size_t pages_to_visit) {
    const pid_t parent = getpid();
    sigset_t stop_signals;
    sigset_t before;
    sigemptyset(&stop_signals);
    sigaddset(&stop_signals, SIGTERM);
    sigaddset(&stop_signals, SIGINT);
    pthread_sigmask(SIG_BLOCK, &stop_signals, &before);
    const uint64_t seed = arena_.books->forks + 1;
    const pid_t pid = fork();
    if (pid == 0) {
      std::signal(SIGTERM, SIG_DFL);
      std::signal(SIGINT, SIG_IGN);  // a terminal sends it to all processes; the parent ends its workers
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      if (getppid() != parent) {
        _exit(0);
      }
      pthread_sigmask(SIG_SETMASK, &before, nullptr);
      RunWorker(arena_, settings_, slot, Walk(arena_.pages, seed), pages_to_visit);
    }
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    if (pid < 0) {
      Fail("fork");
    }
    workers_.at(slot) = pid;
    arena_.books->finished.at(slot) = false;
    ++arena_.books->forks;
    RecordFork(arena_, slot);
  }

  // Call it after the process was reaped, with the lock held.
  void ForgetWorker(size_t slot) {
    workers_.at(slot) = 0;
    RecordEnd(arena_, slot);
  }

  // Replaces at most one worker that has finished its walk, and all that ended for other reasons. Call it with the lock
  // held.
  void ReplaceWorkers() {
    for (size_t slot = 1; slot < arena_.slots; ++slot) {
      const bool ended = waitpid(workers_.at(slot), nullptr, WNOHANG) == workers_.at(slot);
      const bool finished = arena_.books->finished.at(slot);
      if (!ended && !finished) {
        continue;
      }
      if (!ended) {
        kill(workers_.at(slot), SIGKILL);
        waitpid(workers_.at(slot), nullptr, 0);
      }
      ForgetWorker(slot);
      StartWorker(slot, arena_.pages);
      if (finished) {
        return;
      }
    }
  }

  [[nodiscard]] Truth ReadTruth() const {
    const Lock lock(*arena_.books);
    return {.unix_nanoseconds = Now(CLOCK_REALTIME),
            .parent_breaks = arena_.books->parent_breaks,
            .child_breaks = arena_.books->child_breaks,
            .forks = arena_.books->forks};
  }

  void WriteTruth(const Truth& truth) const {
    if (truth_file_ < 0) {
      return;
    }
    std::array<char, 128> line;
    const int length = std::snprintf(
        line.data(), line.size(), "%jd.%06jd %ju %ju %ju\n", intmax_t{truth.unix_nanoseconds / kNanosecondsPerSecond},
        intmax_t{truth.unix_nanoseconds % kNanosecondsPerSecond / 1000}, uintmax_t{truth.parent_breaks},
        uintmax_t{truth.child_breaks}, uintmax_t{truth.forks});
    if (write(truth_file_, line.data(), static_cast<size_t>(length)) != length) {
      Fail("truth file");
    }
  }

  void Stop() {
    {
      // No process writes after this, so the last line is the final truth.
      const Lock lock(*arena_.books);
      for (size_t slot = 1; slot < arena_.slots; ++slot) {
        kill(workers_.at(slot), SIGKILL);
        waitpid(workers_.at(slot), nullptr, 0);
      }
    }
    const Truth truth = ReadTruth();
    WriteTruth(truth);
    std::printf("cow_demo: %ju pages broken by the parent, %ju by its workers, %ju writes without a copy, %ju forks\n",
                uintmax_t{truth.parent_breaks}, uintmax_t{truth.child_breaks}, uintmax_t{arena_.books->reuses},
                uintmax_t{truth.forks});
  }

  const Arena& arena_;
  const Settings& settings_;
  int truth_file_;
  std::array<pid_t, kMaxWorkers + 1> workers_{};
};

}  // namespace

void RequestStop() { stop_requested = 1; }

void RunParent(const Arena& arena, const Settings& settings, int truth_file) {
  Parent(arena, settings, truth_file).Run();
}

}  // namespace cow::demo
