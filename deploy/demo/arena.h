// The shared heap of cow_demo, and the books about it: which process holds which page, and how many pages were broken.
//
// Frames have our own numbers, one set per page. The books are in shared mappings, so keeping them breaks no page.
// Hold the lock to read or write them, and during a fork.
#pragma once

#include <pthread.h>

#include <array>
#include <cstddef>
#include <cstdint>

#include "deploy/demo/arguments.h"

namespace cow::demo {

// Shared by all processes. Hold `lock` to read or write the rest.
struct Books {
  pthread_mutex_t lock;
  uint64_t parent_breaks;
  uint64_t child_breaks;
  uint64_t forks;
  uint64_t reuses;  // writes that copied nothing
  std::array<bool, kMaxWorkers + 1> finished;
};

struct Arena {
  size_t page_bytes;
  size_t pages;
  size_t slots;  // one per process: 0 is the parent, the workers follow
  unsigned char* heap;
  Books* books;
  uint8_t* frames;  // [page * slots + slot]: the frame that the process of this slot maps
};

// Holds the books' lock. Takes it over if its holder was killed.
class Lock {
 public:
  explicit Lock(Books& books);
  ~Lock() { pthread_mutex_unlock(&mutex_); }
  Lock(const Lock&) = delete;
  Lock& operator=(const Lock&) = delete;

 private:
  pthread_mutex_t& mutex_;
};

// Visits all pages in an order that depends on the seed: position, position + stride, … modulo the number of pages. The
// stride is coprime to that number.
class Walk {
 public:
  Walk(size_t pages, uint64_t seed);

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

// Maps and fills the heap.
Arena MakeArena(const Settings& settings);

// Makes the worker in `slot` hold the parent's frames. Call it right after the fork, with the lock held.
void RecordFork(const Arena& arena, size_t slot);
// Releases the frames of an ended worker. Call it with the lock held.
void RecordEnd(const Arena& arena, size_t slot);

// Writes to the next pages of the walk until `wanted` pages are broken. Returns how many are. Ends after a limited
// number of writes, and once the walk has made `last_visit` visits. Call it with the lock held.
int64_t BreakPages(const Arena& arena, size_t slot, Walk& walk, int64_t wanted, size_t last_visit);

}  // namespace cow::demo
