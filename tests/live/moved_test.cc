// Pages at different addresses in different members (mremap): one frame, wherever it is mapped.
#include <malloc.h>
#include <sys/types.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

#include "collectors/procfs/root.h"
#include "collectors/procfs/statm.h"
#include "tests/live/live.h"
#include "tests/support/pass_control.h"

namespace cow::live {
namespace {

constexpr size_t kMovedPages = 1024;

// Parameter: scan.full_every in minutes; 0 reads every member in every pass.
class MovedTest : public LiveTest, public ::testing::WithParamInterface<int> {
 protected:
  MovedTest() : LiveTest(std::chrono::minutes(GetParam())) {}

  void Fill() {
    workload().Map(0, "a", kMovedPages);
    Write(0, "a", 0, kMovedPages);
  }
  void Move(int id) { Do("remap " + std::to_string(id) + " a"); }

  // Maps fresh memory at the old address of the member's moved pages. After the move "place" names that address.
  void FillHole(int id) {
    Do("remapfixed " + std::to_string(id) + " place 0 " + std::to_string(kMovedPages));
    Write(id, "place", 0, kMovedPages);
  }

  // Checks that the shared memory equals what the page tables of all members show.
  void ExpectTrue(const Sample& sample, const std::vector<int>& members) {
    std::vector<pid_t> pids;
    pids.reserve(members.size());
    for (const int id : members) pids.push_back(workload().Pid(id));
    const AnonymousMemory truth = CountAnonymousMemory(pids);
    EXPECT_EQ(sample.Pages(kFootprint), static_cast<double>(truth.footprint_pages));
    EXPECT_EQ(sample.Pages(kExposure), static_cast<double>(truth.exposure_pages));
    EXPECT_EQ(sample.Pages("cow_shared_bytes"), static_cast<double>(truth.shared_pages));
    EXPECT_EQ(sample.Pages(kUnmatched), 0);
  }
};

INSTANTIATE_TEST_SUITE_P(FullEvery, MovedTest, ::testing::Values(0, 60));

TEST_P(MovedTest, TwoGroupsAtTwoAddressesHoldOnePage) {
  Fill();
  const int mover = Fork();
  Move(mover);
  const int with_mover = Fork(mover);
  const int with_root = Fork();
  for (const int id : {0, mover, with_mover, with_root}) Idle(id);
  const Sample first = Pass();
  ExpectTrue(first, {0, mover, with_mover, with_root});
  const Sample second = Pass();
  ExpectTrue(second, {0, mover, with_mover, with_root});
  ExpectNoVerdict(Change(first, second));
  Write(mover, "a", 0, 30);
  Write(with_root, "a", 10, 40);
  const Sample written = Pass();
  ExpectTrue(written, {0, mover, with_mover, with_root});
  EXPECT_EQ(Change(second, written).Pages(kAnonBreaks), 70);
  EXPECT_EQ(Change(second, written).Of(kUnknownBreaks), 0);
  Do("kill " + std::to_string(with_mover));
  const Sample ended = Pass();
  ExpectTrue(ended, {0, mover, with_root});
  EXPECT_EQ(Change(written, ended).BreaksOfAllSides(), 0);
}

TEST_P(MovedTest, ThreeGroupsAtThreeAddressesHoldOnePage) {
  Fill();
  std::vector<int> members{0};
  for (int group = 0; group < 2; ++group) {
    const int mover = Fork();
    Move(mover);
    members.push_back(mover);
    members.push_back(Fork(mover));
  }
  members.push_back(Fork());
  for (const int id : members) Idle(id);
  const Sample first = Pass();
  ExpectTrue(first, members);
  const Sample second = Pass();
  ExpectTrue(second, members);
  ExpectNoVerdict(Change(first, second));
  for (const int id : members) Write(id, "a", static_cast<size_t>(id) * 50, 50);
  const Sample written = Pass();
  ExpectTrue(written, members);
  EXPECT_EQ(Change(second, written).Pages(kAnonBreaks), 50 * static_cast<double>(members.size()));
  EXPECT_EQ(Change(second, written).Of(kUnknownBreaks), 0);
}

TEST_P(MovedTest, LaterForksJoinTheirParentsPlace) {
  Fill();
  const int mover = Fork();
  for (const int id : {0, mover}) Idle(id);
  Pass();
  Move(mover);
  const int with_mover = Fork(mover);
  const int with_root = Fork();
  for (const int id : {0, mover, with_mover, with_root}) Idle(id);
  const Sample first = Pass();
  ExpectTrue(first, {0, mover, with_mover, with_root});
  const int late = Fork(with_mover);
  const int latest = Fork(with_root);
  for (const int id : {0, mover, with_mover, with_root, late, latest}) Idle(id);
  const Sample second = Pass();
  ExpectTrue(second, {0, mover, with_mover, with_root, late, latest});
  Write(late, "a", 0, 100);
  Write(0, "a", 100, 100);
  const Sample written = Pass();
  ExpectTrue(written, {0, mover, with_mover, with_root, late, latest});
  EXPECT_EQ(Change(second, written).Pages(kAnonBreaks), 200);
  EXPECT_EQ(Change(second, written).Of(kUnknownBreaks), 0);
}

TEST_P(MovedTest, MoveThereAndBack) {
  Fill();
  const int mover = Fork();
  const int other = Fork();
  const std::string id = std::to_string(mover);
  workload().Map(mover, "place", kMovedPages, "none");
  for (const int each : {0, mover, other}) Idle(each);
  Sample before = Pass();
  for (int move = 0; move < 3; ++move) {
    Do("remap " + id + " a place");
    const Sample after = Pass();
    ExpectTrue(after, {0, mover, other});
    ExpectNoVerdict(Change(before, after));
    before = after;
  }
  Write(mover, "a", 0, 100);
  Write(0, "a", 50, 100);
  const Sample written = Pass();
  ExpectTrue(written, {0, mover, other});
  EXPECT_EQ(Change(before, written).Pages(kAnonBreaks), 200);
}

// The virtual size and all other change signals are unchanged.
TEST_P(MovedTest, MoveOntoAReservationOfEqualSize) {
  Fill();
  workload().Map(0, "place", kMovedPages, "none");
  const int mover = Fork();
  for (const int id : {0, mover}) Idle(id);
  const Sample before = Pass();
  ExpectTrue(before, {0, mover});
  const std::string id = std::to_string(mover);
  Do("remap " + id + " a place");
  const Sample moved = Pass();
  ExpectTrue(moved, {0, mover});
  ExpectNoVerdict(Change(before, moved));
  FillHole(mover);
  const Sample filled = Pass();
  ExpectTrue(filled, {0, mover});
  ExpectNoVerdict(Change(moved, filled));
}

// No signal of the mover shows the move; a relative's page shows it, because it has no partner any more.
TEST_P(MovedTest, MoveWithoutAnySignal) {
  Fill();
  const int mover = Fork();
  for (const int id : {0, mover}) Idle(id);
  const Sample before = Pass();
  ExpectTrue(before, {0, mover});
  Do("remap " + std::to_string(mover) + " a -");
  const Sample unnoticed = Pass();
  ExpectTrue(unnoticed, {0, mover});
  ExpectNoVerdict(Change(before, unnoticed));
  Write(0, "a", 600, 1);
  const Sample written = Pass();
  ExpectTrue(written, {0, mover});
  EXPECT_EQ(Change(unnoticed, written).Of(kParentBreaks), 1);
  EXPECT_EQ(Change(unnoticed, written).BreaksOfAllSides(), 1);
  EXPECT_EQ(Change(unnoticed, written).UnsharedPages(), 0);
}

// The hole is filled before the next look.
TEST_P(MovedTest, FreshMemoryInTheHoleOfAnUnseenMove) {
  Fill();
  workload().Map(0, "place", kMovedPages, "none");
  const int mover = Fork();
  const int other = Fork();
  for (const int id : {0, mover, other}) Idle(id);
  const Sample before = Pass();
  const std::string id = std::to_string(mover);
  Do("remap " + id + " a place");
  FillHole(mover);
  const Sample filled = Pass();
  ExpectTrue(filled, {0, mover, other});
  ExpectNoVerdict(Change(before, filled));
  Write(mover, "a", 0, 10);
  const Sample written = Pass();
  ExpectTrue(written, {0, mover, other});
  EXPECT_EQ(Change(filled, written).Of(kChildBreaks), 10);
}

TEST_P(MovedTest, MoveOntoAReservationMadeForIt) {
  Fill();
  const int mover = Fork();
  for (const int id : {0, mover}) Idle(id);
  const Sample before = Pass();
  const std::string id = std::to_string(mover);
  workload().Map(mover, "place", kMovedPages, "none");
  Do("remap " + id + " a place");
  const Sample moved = Pass();
  ExpectTrue(moved, {0, mover});
  ExpectNoVerdict(Change(before, moved));
  Write(0, "a", 5, 1);
  const Sample written = Pass();
  ExpectTrue(written, {0, mover});
  EXPECT_EQ(Change(moved, written).Of(kParentBreaks), 1);
  FillHole(mover);
  const Sample filled = Pass();
  ExpectTrue(filled, {0, mover});
  ExpectNoVerdict(Change(written, filled));
}

// Workers write, and the parent moves the block that they share: measures the exporter's memory for them.
class MovedMemoryTest : public LiveTest {
 protected:
  static constexpr int kWorkers = 40;
  static constexpr double kMebibyte = 1 << 20;

  MovedMemoryTest() : LiveTest(std::chrono::minutes(60)) {
    const char* mebibytes = std::getenv("COW_MOVED_MEBIBYTES");  // NOLINT(concurrency-mt-unsafe)
    if (mebibytes != nullptr) pages_ = std::strtoull(mebibytes, nullptr, 10) * 256;
  }

  static double ResidentMebibytes() {
    const auto statm = procfs::ReadStatm(procfs::Root(), getpid());
    return static_cast<double>(statm->resident_pages * PageBytes()) / kMebibyte;
  }

  // Returns the highest memory of this process since its peak was reset.
  static double PeakMebibytes() {
    std::ifstream status("/proc/self/status");
    double kibibytes = 0;
    for (std::string word; status >> word;) {
      if (word == "VmHWM:") status >> kibibytes;
    }
    return kibibytes / 1024;
  }

  Sample PassAndMeasure(const char* step) {
    Sample sample = Pass();
    std::printf("%-9s resident %.1f MiB", step, ResidentMebibytes());
    for (const auto& [series, value] : sample.values()) {
      if (series.starts_with("cow_exporter_memory_bytes") && value > kMebibyte / 8) {
        std::printf(", %s %.1f MiB", series.substr(25).c_str(), value / kMebibyte);
      }
    }
    std::printf("\n");
    return sample;
  }

  // Every worker writes to its own part, and to one common part.
  double WriteEach(const std::vector<int>& workers, size_t round) {
    const size_t each = pages_ / 64;
    double breaks = 0;
    for (size_t i = 0; i < workers.size(); ++i) {
      Write(workers[i], "a", (round + i) * each % pages_, each);
      breaks += static_cast<double>(each);
    }
    return breaks;
  }

  size_t pages_ = 16384;  // 64 MiB
};

TEST_F(MovedMemoryTest, WritingWorkersOfAMovedBlock) {
  workload().Map(0, "a", pages_);
  Write(0, "a", 0, pages_);
  std::vector<int> workers;
  workers.reserve(kWorkers);
  for (int i = 0; i < kWorkers; ++i) workers.push_back(Fork());
  for (const int id : workers) Idle(id);
  Idle(0);
  // Excludes the memory that the test itself needs.
  CountAnonymousMemory({workload().Pid(0)});
  malloc_trim(0);
  std::ofstream("/proc/self/clear_refs") << "5" << std::flush;  // reset the peak
  const double begin = ResidentMebibytes();
  PassAndMeasure("forked");
  WriteEach(workers, 0);
  Sample before = PassAndMeasure("written");
  Do("remap 0 a");
  Sample after = PassAndMeasure("moved");
  EXPECT_EQ(Change(before, after).Pages(kExposure), 0);
  EXPECT_EQ(Change(before, after).Pages(kFootprint), 0);
  ExpectNoVerdict(Change(before, after));
  before = PassAndMeasure("again");
  EXPECT_EQ(Change(after, before).Pages(kExposure), 0);
  double breaks = WriteEach(workers, 20);
  after = PassAndMeasure("written");
  EXPECT_EQ(Change(before, after).Pages(kAnonBreaks), breaks);
  EXPECT_EQ(Change(before, after).Of(kUnknownBreaks), 0);
  EXPECT_EQ(Change(before, after).Pages(kExposure), -breaks);
  const size_t each = pages_ / 64;
  before = after;
  Write(0, "a", 63 * each, each);
  after = PassAndMeasure("parent");
  EXPECT_EQ(Change(before, after).Of(kParentBreaks), static_cast<double>(each));
  while (!workers.empty()) {
    for (int i = 0; i < 8 && !workers.empty(); ++i) {
      Do("kill " + std::to_string(workers.back()));
      workers.pop_back();
    }
    before = after;
    after = PassAndMeasure("killed");
    EXPECT_EQ(Change(before, after).BreaksOfAllSides(), 0);
    EXPECT_EQ(Change(before, after).Pages(kUnmatched), 0);
  }
  EXPECT_EQ(after.Pages(kExposure), 0);
  PassAndMeasure("alone");
  std::printf("%.1f MiB before, %.1f MiB at most, %.1f MiB in the end\n", begin, PeakMebibytes(), ResidentMebibytes());
  // As a share of the block, plus what any family of this size takes.
  EXPECT_LE(PeakMebibytes() - begin, 12 + 80.0 / 512 * static_cast<double>(pages_) / 256);
  // Includes the allocator's overhead: one page for each of a few hundred pieces.
  const double pages = 256.0 * static_cast<double>(PageBytes()) / (1 << 20);
  EXPECT_LE(ResidentMebibytes() - begin, 7 + pages) << "freed memory goes back to the system";
}

// The end of a pass over moved memory works in steps, whatever its size. Prints times and checks counts. A pass without
// moved pages takes 20 steps; families of other tests add to any pass.
TEST_F(MovedMemoryTest, EndsAPassInSteps) {
  constexpr int kMembers = 11;
  const uint64_t fewest = pages_ / 80;
  workload().Map(0, "a", pages_);
  Write(0, "a", 0, pages_);
  std::vector<int> children;
  children.reserve(kMembers);
  while (children.size() + 1 < kMembers) children.push_back(Fork());
  const auto watch = [&](const char* step) {
    test::StepWatch control;
    EXPECT_TRUE(TryPass(control));
    std::printf("%-9s %6lu steps, the longest %6.1f ms\n", step, control.steps(), control.longest().count());
    return control.steps();
  };
  watch("forked");
  watch("again");
  Do("remap 0 a");
  for (size_t i = 0; i < 3; ++i) Do("remap " + std::to_string(children[i]) + " a");
  EXPECT_GE(watch("moved"), fewest);
  for (const int child : children) Write(child, "a", static_cast<size_t>(child) * 50, 50);
  EXPECT_GE(watch("written"), fewest);
  for (size_t i = 0; i < 3; ++i) {
    Do("kill " + std::to_string(children.back()));
    children.pop_back();
  }
  EXPECT_GE(watch("killed"), fewest);
  const Sample after = Pass();
  EXPECT_EQ(after.Pages(kUnmatched), 0);
}

}  // namespace
}  // namespace cow::live
