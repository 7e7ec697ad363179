// Behaves like a prefork server: a parent fills a heap and forks workers, then all of them write to shared pages at a
// steady pace. The program counts the breaks that its writes cause and publishes the sums, so tests can compare what an
// observer counts with the truth.
//
// Exactness. For each page of the heap the program records the frame that each process maps. A write to a frame with
// other holders is a break: the writer gets a frame of its own. A write by the last holder is none. One lock covers the
// look at the holders, the write and the record; forks and ends of workers hold it too. So the order of the records is
// the order of the kernel's page faults, and the counts of breaks, in total and by side, are exact whenever the lock is
// free. Each truth line is such a moment.
//
// Not counted: the few pages of stack, .data and .bss that every forked process breaks besides the heap. The counts can
// be wrong if something outside kills a worker (its pages count as held until the parent reaps it, at most one tick
// later, and one break may be lost), or if an observer keeps an ended worker's address space alive through a read
// (fractions of a millisecond).
//
// Memory: the heap is private anonymous memory without huge pages. All books are in shared mappings, so that keeping
// them breaks no page. The program allocates nothing after the start.
//
// The parent replaces a worker whose walk has touched every page of the heap, one at a time, like a prefork server with
// max_requests. The first workers make walks of different lengths, so that their ends are evenly spread and sharing
// never vanishes.
#include <fcntl.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <csignal>
#include <cstdint>
#include <cstdio>

#include "deploy/demo/arena.h"
#include "deploy/demo/arguments.h"
#include "deploy/demo/parent.h"
#include "deploy/demo/system.h"

namespace {

extern "C" void OnStopSignal(int /*signal*/) { cow::demo::RequestStop(); }

}  // namespace

int main(int count, char** arguments) {
  const cow::demo::Settings settings = cow::demo::ParseArguments(count, arguments);
  int truth_file = -1;
  if (settings.truth_file != nullptr) {
    truth_file = open(settings.truth_file, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0644);
    if (truth_file < 0) {
      cow::demo::Fail(settings.truth_file);
    }
  }
  prctl(PR_SET_NAME, "cow_demo");
  struct sigaction action {};
  action.sa_handler = OnStopSignal;
  action.sa_flags = SA_RESTART;  // a signal still ends a sleep early, but not the wait for a worker
  sigaction(SIGTERM, &action, nullptr);
  sigaction(SIGINT, &action, nullptr);

  const cow::demo::Arena arena = cow::demo::MakeArena(settings);
  std::printf("cow_demo: pid %jd, %jd workers on %zu shared pages of %zu bytes\n", intmax_t{getpid()},
              intmax_t{settings.workers}, arena.pages, arena.page_bytes);
  std::fflush(stdout);
  cow::demo::RunParent(arena, settings, truth_file);
  std::fflush(stdout);
  return 0;
}
