// A recorder of page faults, and memory whose pages a child writes one by one.
#pragma once

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/types.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <new>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "collectors/faults/fault_recorder.h"
#include "tests/support/child_process.h"

namespace cow::test {

// Private memory of this process. Every page is written, so a child that writes one breaks sharing: one minor fault.
class SharedPages {
 public:
  explicit SharedPages(size_t pages);
  ~SharedPages();
  SharedPages(const SharedPages&) = delete;
  SharedPages& operator=(const SharedPages&) = delete;

  size_t pages() const { return pages_; }
  char* At(size_t page) const { return memory_ + page * page_bytes_; }
  // Writes pages [first, first + count).
  void Write(size_t first, size_t count) const;
  // The page of an address; empty if it is elsewhere.
  std::optional<size_t> Find(uint64_t address) const;

 private:
  size_t page_bytes_;
  size_t pages_;
  char* memory_;
};

// A number that a process and its children share.
class SharedCounter {
 public:
  SharedCounter()
      : value_(static_cast<std::atomic<size_t>*>(
            mmap(nullptr, sizeof(*value_), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0))) {
    if (value_ == MAP_FAILED) throw std::bad_alloc();
  }
  ~SharedCounter() { munmap(value_, sizeof(*value_)); }
  SharedCounter(const SharedCounter&) = delete;
  SharedCounter& operator=(const SharedCounter&) = delete;

  std::atomic<size_t>& operator*() const { return *value_; }

 private:
  std::atomic<size_t>* value_;
};

class RecordingTest : public testing::Test {
 protected:
  void SetUp() override;

  void Open(const faults::FaultRecorder::Options& options = {});
  faults::FaultRecorder& recorder() { return *recorder_; }
  void Add(pid_t pid);
  // Takes all records so far.
  const std::vector<faults::Record>& TakeAll();
  const std::vector<faults::Record>& records() const { return records_; }

  template <class Body>
  std::vector<Body> Of(pid_t pid) const {
    std::vector<Body> bodies;
    for (const faults::Record& record : records_) {
      const auto* body = std::get_if<Body>(&record);
      if (body != nullptr && body->pid == pid) bodies.push_back(*body);
    }
    return bodies;
  }
  // The pages of `memory` that faults of a process touched, in ascending order.
  std::vector<size_t> PagesOf(const SharedPages& memory, pid_t pid) const;
  void ExpectOrderOfTime() const;

 private:
  std::optional<faults::FaultRecorder> recorder_;
  std::vector<faults::Record> records_;
};

// first, first + 1, … of `count` numbers.
std::vector<size_t> Range(size_t first, size_t count);

}  // namespace cow::test
