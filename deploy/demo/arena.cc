#include "deploy/demo/arena.h"

#include <sys/mman.h>
#include <unistd.h>

#include <bitset>
#include <cerrno>
#include <cstring>
#include <new>
#include <numeric>

#include "deploy/demo/system.h"

namespace cow::demo {
namespace {

constexpr uint8_t kNoFrame = 255;  // of a slot without a process
// Bounds the cost of a tick if few pages are shared.
constexpr size_t kMaxVisitsPerTick = 8192;

void* MapShared(size_t bytes) {
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) {
    Fail("shared memory");
  }
  return memory;
}

// Writes to the page. True if that broke it.
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
  uint8_t fresh = 0;  // a number is always free: there are more numbers than processes
  while (held.test(fresh)) {
    ++fresh;
  }
  frames[slot] = fresh;
  return true;
}

}  // namespace

Lock::Lock(Books& books) : mutex_(books.lock) {
  const int status = pthread_mutex_lock(&mutex_);
  if (status == EOWNERDEAD) {
    pthread_mutex_consistent(&mutex_);  // a worker was killed between a write and its record
  } else if (status != 0) {
    errno = status;
    Fail("lock");
  }
}

Walk::Walk(size_t pages, uint64_t seed) : pages_(pages) {
  seed = (seed + 1) * 0x9E3779B97F4A7C15;
  seed ^= seed >> 31U;
  position_ = seed % pages;
  stride_ = 1 + (seed >> 20U) % pages;
  while (std::gcd(stride_, pages) != 1) {
    ++stride_;
  }
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
  madvise(heap, heap_bytes, MADV_NOHUGEPAGE);  // fails only if the kernel has no huge pages
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

void RecordFork(const Arena& arena, size_t slot) {
  for (size_t page = 0; page < arena.pages; ++page) {
    uint8_t* frames = arena.frames + page * arena.slots;
    frames[slot] = frames[0];
  }
}

void RecordEnd(const Arena& arena, size_t slot) {
  for (size_t page = 0; page < arena.pages; ++page) {
    arena.frames[page * arena.slots + slot] = kNoFrame;
  }
}

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

}  // namespace cow::demo
