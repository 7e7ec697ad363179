#include "tests/live/recording.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <new>
#include <numeric>

#include "collectors/procfs/root.h"
#include "tests/support/privileges.h"

namespace cow::test {

SharedPages::SharedPages(size_t pages) : page_bytes_(static_cast<size_t>(sysconf(_SC_PAGESIZE))), pages_(pages) {
  const size_t bytes = pages * page_bytes_;
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  madvise(memory, bytes, MADV_NOHUGEPAGE);
  memory_ = static_cast<char*>(memory);
  Write(0, pages);
}

SharedPages::~SharedPages() { munmap(memory_, pages_ * page_bytes_); }

void SharedPages::Write(size_t first, size_t count) const {
  for (size_t page = first; page < first + count; ++page) {
    volatile char& byte = *At(page);
    byte = static_cast<char>(byte + 1);
  }
}

std::optional<size_t> SharedPages::Find(uint64_t address) const {
  const auto start = reinterpret_cast<uintptr_t>(memory_);
  if (address < start || address >= start + pages_ * page_bytes_) return std::nullopt;
  return (address - start) / page_bytes_;
}

void RecordingTest::SetUp() {
  if (const std::string why = WhyNoPerformanceEvents(); !why.empty()) GTEST_SKIP() << why;
}

void RecordingTest::Open(const faults::FaultRecorder::Options& options) {
  auto recorder = faults::FaultRecorder::Open(procfs::Root(), options);
  ASSERT_TRUE(recorder) << recorder.error().ToString();
  recorder_.emplace(std::move(*recorder));
}

void RecordingTest::Add(pid_t pid) {
  const auto added = recorder().Add(pid);
  ASSERT_TRUE(added) << added.error().ToString();
}

const std::vector<faults::Record>& RecordingTest::TakeAll() {
  recorder().DrainAll(records_);
  return records_;
}

std::vector<size_t> RecordingTest::PagesOf(const SharedPages& memory, pid_t pid) const {
  std::vector<size_t> pages;
  for (const auto& fault : Of<faults::FaultRecord>(pid)) {
    if (const auto page = memory.Find(fault.address)) pages.push_back(*page);
  }
  std::sort(pages.begin(), pages.end());
  return pages;
}

void RecordingTest::ExpectOrderOfTime() const {
  EXPECT_TRUE(std::is_sorted(records_.begin(), records_.end(), [](const auto& one, const auto& other) {
    return faults::TimeOf(one) < faults::TimeOf(other);
  }));
}

std::vector<size_t> Range(size_t first, size_t count) {
  std::vector<size_t> numbers(count);
  std::iota(numbers.begin(), numbers.end(), first);
  return numbers;
}

}  // namespace cow::test
