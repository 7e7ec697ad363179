// Families that several threads scan at a time.
#include <array>
#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "tests/live/live.h"

namespace cow::live {
namespace {

constexpr size_t kFamilies = 3;
constexpr size_t kChildren = 3;
constexpr size_t kPages = 4000;

collectors::EngineOptions ThreeThreads() {
  collectors::EngineOptions options = DefaultOptions();
  options.threads = 3;
  return options;
}

class ThreadsTest : public LiveTest {
 protected:
  ThreadsTest() {
    for (size_t i = 0; i < kFamilies; ++i) {
      families_.push_back({group() + "." + std::to_string(i), nullptr, {}});
      families_.back().workload = StartWorkload(families_.back().group);
    }
  }

  struct Relatives {
    std::string group;
    std::unique_ptr<testing::Workload> workload;
    std::vector<int> ids;  // of all members
  };
  static void Idle(Relatives& family, int id) {
    family.workload->Do("stack " + std::to_string(id) + " " + std::to_string(kIdleStackPages));
  }
  static void Write(Relatives& family, int id, size_t first, size_t pages) {
    family.workload->Do("write " + std::to_string(id) + " a " + std::to_string(first) + " " + std::to_string(pages));
  }
  static void Share(Relatives& family) {
    family.workload->Map(0, "a", kPages);
    Write(family, 0, 0, kPages);
    family.ids = {0};
    for (size_t i = 0; i < kChildren; ++i) family.ids.push_back(family.workload->Fork().id);
    for (const int id : family.ids) Idle(family, id);
  }
  AnonymousMemory Count(const Relatives& family) const {
    std::vector<pid_t> pids;
    for (const int id : family.ids) pids.push_back(family.workload->Pid(id));
    return CountAnonymousMemory(pids);
  }
  // Runs one pass over the host and returns the values of each family.
  std::vector<Sample> PassOverAll() {
    PassOf(engine_, families_.front().group);
    std::vector<Sample> samples;
    for (const Relatives& family : families_) samples.emplace_back(test::CollectDeclared(engine_), family.group);
    return samples;
  }

  std::vector<Relatives> families_;
  collectors::Engine engine_{procfs::Root(), ThreeThreads()};
};

TEST_F(ThreadsTest, EachFamilyIsCountedExactly) {
  for (Relatives& family : families_) Share(family);
  std::vector<Sample> before = PassOverAll();
  for (size_t round = 0; round < 4; ++round) {
    // The parent and one child write to different stretches; the child changes with each round and family.
    const auto pages_of_parent = [round](size_t family) { return 100 + 10 * round + family; };
    const auto pages_of_child = [round](size_t family) { return 200 + 20 * round + 2 * family; };
    for (size_t i = 0; i < kFamilies; ++i) {
      Write(families_[i], 0, round * 1000, pages_of_parent(i));
      Write(families_[i], families_[i].ids[1 + (round + i) % kChildren], round * 1000 + 500, pages_of_child(i));
    }
    std::vector<Sample> after = PassOverAll();
    for (size_t i = 0; i < kFamilies; ++i) {
      SCOPED_TRACE("round " + std::to_string(round) + ", family " + std::to_string(i));
      const Change change(before[i], after[i]);
      EXPECT_EQ(change.Of(kParentBreaks), static_cast<double>(pages_of_parent(i)));
      EXPECT_EQ(change.Of(kChildBreaks), static_cast<double>(pages_of_child(i)));
      EXPECT_EQ(change.Of(kUnknownBreaks), 0);
      EXPECT_EQ(change.Pages(kAnonBreaks), static_cast<double>(pages_of_parent(i) + pages_of_child(i)));
      EXPECT_EQ(change.UnsharedPages(), 0);
      EXPECT_EQ(change.Pages(kUnattributed), 0);
      EXPECT_EQ(after[i].At("cow_scan_coverage_ratio"), 1);
      const AnonymousMemory memory = Count(families_[i]);
      EXPECT_EQ(after[i].Pages(kExposure), static_cast<double>(memory.exposure_pages));
      EXPECT_EQ(after[i].Pages(kFootprint), static_cast<double>(memory.footprint_pages));
    }
    before = std::move(after);
  }
  EXPECT_GT(engine_.HelperCpuTime().count(), 0);
}

}  // namespace
}  // namespace cow::live
