// A prefork server's memory, without the server: a parent fills a heap, forks workers, and then all of them write to
// pages they still share, at a steady pace. The program knows what each of its writes does and publishes the sums, so
// what an observer counts from outside can be held against the truth.
//
// What is exact. Each page of the heap has, per process, the number of the frame that this process maps ("frame" as the
// kernel means it, the numbers are ours). A write to a frame that others hold too is a break: the writer gets a frame
// of its own. A write by the last holder, or to a frame of one's own, is none. One lock serialises the look at the
// holders, the write and the bookkeeping; forks and the ends of workers hold it too. So the order of our records is the
// order of the kernel's page faults, and breaks are exact in total and by side at any moment at which the lock is free;
// a truth line is such a moment.
//
// What is not in the count: the few pages of stack, .data and .bss that every forked process breaks besides the heap.
// What can spoil it: killing a worker from outside (its pages count as held until the parent reaps it, at most one tick
// later, and one break may be lost), and an observer that holds an ended worker's address space through a read
// (fractions of a millisecond).
//
// Memory: the heap is private anonymous, without huge pages. All books are in shared mappings, so that keeping them
// breaks nothing. After start nothing is allocated.
//
// A worker whose walk has touched every page of the heap is replaced by a new fork of the parent, one at a time like a
// prefork server's max_requests. The first ones start at different points of their walk, so that they end evenly spread
// and sharing never vanishes.
#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bitset>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <new>
#include <numeric>
#include <string_view>

namespace {

constexpr int kExitFailed = 1;
constexpr int kExitUsage = 2;
constexpr size_t kMaxWorkers = 200;
constexpr uint8_t kNoFrame = 255;  // of a slot without a process
constexpr int64_t kNanosecondsPerSecond = 1'000'000'000;
constexpr int64_t kTickNanoseconds = 20'000'000;
constexpr int64_t kTicksPerSecond = kNanosecondsPerSecond / kTickNanoseconds;
constexpr size_t kMaxVisitsPerTick =
    8192;  // pages looked at, so that a walk over pages that are not shared stays cheap

struct Settings {
  int64_t heap_mib = 256;
  int64_t workers = 4;
  int64_t child_pages_per_second = 150;
  int64_t parent_pages_per_second = 100;
  int64_t seconds = 0;  // 0: until a signal
  int64_t truth_interval_ms = 100;
  const char* truth_file = nullptr;
};

struct NumberOption {
  std::string_view name;
  int64_t Settings::*value;
  int64_t least;
  int64_t most;
};

constexpr std::array kNumberOptions{
    NumberOption{"--heap-mib", &Settings::heap_mib, 1, 1 << 20},
    NumberOption{"--workers", &Settings::workers, 1, kMaxWorkers},
    NumberOption{"--child-pages-per-second", &Settings::child_pages_per_second, 0, 1'000'000},
    NumberOption{"--parent-pages-per-second", &Settings::parent_pages_per_second, 0, 1'000'000},
    NumberOption{"--seconds", &Settings::seconds, 0, 1'000'000'000},
    NumberOption{"--truth-interval-ms", &Settings::truth_interval_ms, 20, 3'600'000},
};

constexpr const char* kHelp =
    "Usage: cow_demo [OPTION]...\n"
    "\n"
    "A parent and its forked workers write to the memory they share, at a steady pace, and count what that breaks.\n"
    "\n"
    "  --heap-mib=N                  shared heap in MiB (256)\n"
    "  --workers=N                   forked workers, 1 to 200 (4)\n"
    "  --child-pages-per-second=N    pages each worker breaks per second (150)\n"
    "  --parent-pages-per-second=N   pages the parent breaks per second (100)\n"
    "  --seconds=N                   end after this time; 0: at SIGTERM or SIGINT (0)\n"
    "  --truth-file=PATH             write lines of \"unix_time_seconds parent_breaks child_breaks forks\" to PATH,\n"
    "                                which is emptied first; the three counts are sums since the start\n"
    "  --truth-interval-ms=N         time between two of them (100)\n"
    "  --help                        this text\n"
    "\n"
    "The breaks are of the heap's pages. Each fork breaks a few more pages of stack and data in parent and child.\n";

// What all processes share. Read and written with the lock held only.
struct Books {
  pthread_mutex_t lock;
  uint64_t parent_breaks;
  uint64_t child_breaks;
  uint64_t forks;
  uint64_t reuses;  // writes by the last holder, which copy nothing
  std::array<bool, kMaxWorkers + 1> finished;
};

struct Arena {
  size_t page_bytes;
  size_t pages;
  size_t slots;  // processes: the parent is 0, its workers follow
  unsigned char* heap;
  Books* books;
  uint8_t* frames;  // [page * slots + slot]: which frame of the page the process of this slot maps
};

struct Truth {
  int64_t unix_nanoseconds;
  uint64_t parent_breaks;
  uint64_t child_breaks;
  uint64_t forks;
};

volatile sig_atomic_t stop_requested = 0;

extern "C" void RequestStop(int /*signal*/) { stop_requested = 1; }

[[noreturn]] void Fail(const char* what) {
  std::fprintf(stderr, "cow_demo: %s: %s\n", what, strerrordesc_np(errno));
  _exit(kExitFailed);
}

int64_t Now(clockid_t clock) {
  timespec now{};
  clock_gettime(clock, &now);
  return int64_t{now.tv_sec} * kNanosecondsPerSecond + now.tv_nsec;
}

// Returns early at a signal.
void SleepUntil(int64_t deadline) {
  const timespec when{.tv_sec = deadline / kNanosecondsPerSecond, .tv_nsec = deadline % kNanosecondsPerSecond};
  clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &when, nullptr);
}

class Lock {
 public:
  explicit Lock(Books& books) : mutex_(books.lock) {
    const int status = pthread_mutex_lock(&mutex_);
    if (status == EOWNERDEAD) {
      pthread_mutex_consistent(&mutex_);  // a worker was killed between a write and its record
    } else if (status != 0) {
      errno = status;
      Fail("lock");
    }
  }
  ~Lock() { pthread_mutex_unlock(&mutex_); }
  Lock(const Lock&) = delete;
  Lock& operator=(const Lock&) = delete;

 private:
  pthread_mutex_t& mutex_;
};

void* MapShared(size_t bytes) {
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) {
    Fail("shared memory");
  }
  return memory;
}

Arena MakeArena(const Settings& settings) {
  Arena arena{};
  arena.page_bytes = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  arena.pages = (static_cast<size_t>(settings.heap_mib) << 20) / arena.page_bytes;
  arena.slots = static_cast<size_t>(settings.workers) + 1;

  const size_t heap_bytes = arena.pages * arena.page_bytes;
  void* heap = mmap(nullptr, heap_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (heap == MAP_FAILED) {
    Fail("heap");
  }
  madvise(heap, heap_bytes, MADV_NOHUGEPAGE);  // fails only where there are no huge pages
  arena.heap = static_cast<unsigned char*>(heap);
  for (size_t page = 0; page < arena.pages; ++page) {
    std::memcpy(arena.heap + page * arena.page_bytes, &page, sizeof(page));
    arena.heap[page * arena.page_bytes + sizeof(page)] = 1;  // no page is all zero
  }

  arena.books = new (MapShared(sizeof(Books))) Books{};
  pthread_mutexattr_t attributes;
  pthread_mutexattr_init(&attributes);
  pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
  pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
  pthread_mutex_init(&arena.books->lock, &attributes);
  pthread_mutexattr_destroy(&attributes);

  arena.frames = static_cast<uint8_t*>(MapShared(arena.pages * arena.slots));
  std::memset(arena.frames, kNoFrame, arena.pages * arena.slots);
  for (size_t page = 0; page < arena.pages; ++page) {
    arena.frames[page * arena.slots] = 0;
  }
  return arena;
}

// All pages in an order of one's own: position, position + stride, … modulo the number of pages, to which stride is
// coprime.
class Walk {
 public:
  Walk(size_t pages, uint64_t seed) : pages_(pages) {
    seed = (seed + 1) * 0x9E3779B97F4A7C15;
    seed ^= seed >> 31U;
    position_ = seed % pages;
    stride_ = 1 + (seed >> 20U) % pages;
    while (std::gcd(stride_, pages) != 1) {
      ++stride_;
    }
  }

  size_t Next() {
    const size_t page = position_;
    position_ = (position_ + stride_) % pages_;
    ++visited_;
    return page;
  }
  [[nodiscard]] size_t Visited() const { return visited_; }

 private:
  size_t pages_;
  size_t position_;
  size_t stride_;
  size_t visited_ = 0;
};

// How many pages are owed by now, at a steady rate. What could not be spent is kept for one second.
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

// Absolute deadlines, so that the time a tick takes does not slow the pace; after a stop the lost time is not made up
// for.
class Ticker {
 public:
  void Wait() {
    next_ = std::max(next_ + kTickNanoseconds, Now(CLOCK_MONOTONIC) - kNanosecondsPerSecond);
    SleepUntil(next_);
  }

 private:
  int64_t next_ = Now(CLOCK_MONOTONIC);
};

// Writes to the page and says whether that broke it. The lock is held.
bool WritePage(const Arena& arena, size_t slot, size_t page) {
  uint8_t* frames = arena.frames + page * arena.slots;
  std::bitset<256> held;
  for (size_t other = 0; other < arena.slots; ++other) {
    if (other != slot) {
      held.set(frames[other]);
    }
  }
  volatile unsigned char* byte = arena.heap + page * arena.page_bytes + sizeof(page);
  *byte = static_cast<unsigned char>(slot + 2);
  if (!held.test(frames[slot])) {
    return false;
  }
  uint8_t fresh = 0;  // one is always free: there are more numbers than processes
  while (held.test(fresh)) {
    ++fresh;
  }
  frames[slot] = fresh;
  return true;
}

// Visits the next pages of the walk until `wanted` are broken; returns how many are. The lock is held.
int64_t BreakPages(const Arena& arena, size_t slot, Walk& walk, int64_t wanted, size_t last_visit) {
  int64_t broken = 0;
  for (size_t visits = 0; broken < wanted && visits < kMaxVisitsPerTick && walk.Visited() < last_visit; ++visits) {
    if (WritePage(arena, slot, walk.Next())) {
      ++broken;
    } else {
      ++arena.books->reuses;
    }
  }
  return broken;
}

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
    pause();  // until the parent replaces this worker
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
  // The lock is held.
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
      std::signal(SIGINT, SIG_IGN);  // a terminal sends it to all; the parent ends its workers
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
    for (size_t page = 0; page < arena_.pages; ++page) {
      uint8_t* frames = arena_.frames + page * arena_.slots;
      frames[slot] = frames[0];
    }
  }

  // The process is reaped. The lock is held.
  void ForgetWorker(size_t slot) {
    workers_.at(slot) = 0;
    for (size_t page = 0; page < arena_.pages; ++page) {
      arena_.frames[page * arena_.slots + slot] = kNoFrame;
    }
  }

  // One that has finished its walk is replaced per tick, and all that ended for other reasons. The lock is held.
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
      // Nobody writes any more from here on, so the last line is the final truth.
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

[[noreturn]] void FailUsage(std::string_view what, std::string_view argument) {
  std::fprintf(stderr, "cow_demo: %.*s: %.*s\nTry cow_demo --help.\n", static_cast<int>(what.size()), what.data(),
               static_cast<int>(argument.size()), argument.data());
  _exit(kExitUsage);
}

void SetOption(Settings& settings, std::string_view argument, std::string_view name, const char* value) {
  if (name == "--truth-file") {
    if (*value == '\0') {
      FailUsage("empty path", argument);
    }
    settings.truth_file = value;
    return;
  }
  const auto* option = std::find_if(kNumberOptions.begin(), kNumberOptions.end(),
                                    [&](const NumberOption& candidate) { return candidate.name == name; });
  if (option == kNumberOptions.end()) {
    FailUsage("unknown option", argument);
  }
  const std::string_view text(value);
  int64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error == std::errc::result_out_of_range) {
    FailUsage("number out of range", argument);
  }
  if (error != std::errc() || end != text.data() + text.size()) {
    FailUsage("not a whole number", argument);
  }
  if (number < option->least || number > option->most) {
    FailUsage("number out of range", argument);
  }
  settings.*(option->value) = number;
}

Settings ParseArguments(int count, char** arguments) {
  Settings settings;
  for (int i = 1; i < count; ++i) {
    const std::string_view argument(arguments[i]);
    if (argument == "--help") {
      std::fputs(kHelp, stdout);
      std::fflush(stdout);
      _exit(0);
    }
    const size_t equals = argument.find('=');
    if (argument.substr(0, 2) != "--") {
      FailUsage("unexpected argument", argument);
    }
    if (equals != std::string_view::npos) {
      SetOption(settings, argument, argument.substr(0, equals), arguments[i] + equals + 1);
    } else if (i + 1 < count) {
      SetOption(settings, argument, argument, arguments[i + 1]);
      ++i;
    } else {
      FailUsage("unknown option, or without its value", argument);
    }
  }
  return settings;
}

}  // namespace

int main(int count, char** arguments) {
  const Settings settings = ParseArguments(count, arguments);
  int truth_file = -1;
  if (settings.truth_file != nullptr) {
    truth_file = open(settings.truth_file, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0644);
    if (truth_file < 0) {
      Fail(settings.truth_file);
    }
  }
  prctl(PR_SET_NAME, "cow_demo");
  struct sigaction action {};
  action.sa_handler = RequestStop;
  action.sa_flags = SA_RESTART;  // ends sleeps early all the same, but not the wait for a worker
  sigaction(SIGTERM, &action, nullptr);
  sigaction(SIGINT, &action, nullptr);

  const Arena arena = MakeArena(settings);
  std::printf("cow_demo: pid %jd, %jd workers on %zu shared pages of %zu bytes\n", intmax_t{getpid()},
              intmax_t{settings.workers}, arena.pages, arena.page_bytes);
  std::fflush(stdout);
  Parent(arena, settings, truth_file).Run();
  std::fflush(stdout);
  return 0;
}
