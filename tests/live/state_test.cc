// Compares the gauges with arithmetic and with the kernel's own sums.
#include <fcntl.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <numeric>
#include <string>

#include "tests/live/live.h"

namespace cow::live {
namespace {

constexpr const char* kAnonPrivate = "cow_resident_bytes{backing=anon,sharing=private}";
constexpr const char* kAnonShared = "cow_resident_bytes{backing=anon,sharing=shared}";
constexpr const char* kZeroBase = "cow_zero_page_bytes{size=base}";
constexpr const char* kZeroHuge = "cow_zero_page_bytes{size=huge}";

class StateTest : public LiveTest {
 protected:
  // Until they are written back, pages of a newly built program are dirty, and smaps counts them as private if one
  // process maps them.
  void SetUp() override {
    LiveTest::SetUp();
    const std::string path = "/proc/" + std::to_string(workload().Pid()) + "/exe";
    const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    fsync(file);
    close(file);
  }

  void ExpectKernelsAccount(const Sample& sample, const std::vector<pid_t>& pids) {
    const AnonymousMemory memory = CountAnonymousMemory(pids);
    EXPECT_EQ(sample.Pages(kAnonPrivate), static_cast<double>(memory.private_pages));
    EXPECT_EQ(sample.Pages(kAnonShared), static_cast<double>(memory.shared_pages));
    EXPECT_EQ(sample.Pages("cow_shared_bytes"), static_cast<double>(memory.shared_pages));
    EXPECT_EQ(sample.Pages(kExposure), static_cast<double>(memory.exposure_pages));
    EXPECT_EQ(sample.Pages("cow_footprint_bytes"), static_cast<double>(memory.footprint_pages));
    const auto sum = [&pids](std::string_view field) {
      return std::accumulate(pids.begin(), pids.end(), uint64_t{0},
                             [&](uint64_t total, pid_t pid) { return total + SumOfSmaps(pid, field); });
    };
    EXPECT_EQ(sample.At(kAnonPrivate) + sample.At(kAnonShared), static_cast<double>(sum("Anonymous")));
    EXPECT_EQ(sample.At(kAnonPrivate), static_cast<double>(sum("Private_Dirty")));
  }
};

TEST_F(StateTest, ZeroPagesOfOneProcess) {
  if (const std::string reason = WhyNoZeroPage(); !reason.empty()) GTEST_SKIP() << reason;
  workload().Map(0, "z", 1000);
  const Sample before = Pass();
  Do("read 0 z 100 300");
  const Sample after = Pass();
  EXPECT_EQ(Change(before, after).Pages(kZeroBase), 300);
  EXPECT_EQ(Change(before, after).Pages(kZeroHuge), 0);
  EXPECT_EQ(Change(before, after).Pages(kAnonPrivate), 0);
}

// The window is read because of the files; the area between them is not walked.
TEST_F(StateTest, ZeroPagesBetweenFilesOfOneProcess) {
  if (const std::string reason = WhyNoZeroPage(); !reason.empty()) GTEST_SKIP() << reason;
  const auto map_file = [this](const std::string& name) {
    Do("mapfile 0 " + name + " /proc/self/exe 4 private");
    return workload().Address(0, name) / HugePageBytes();
  };
  std::string name = "f";
  uint64_t last_window = map_file(name);
  for (uint64_t first_window = ~uint64_t{0}; first_window != last_window;) {  // until everything is in one window
    ASSERT_LT(name.size(), 4U);
    first_window = last_window;
    workload().Map(0, "z" + name, 30);
    last_window = map_file(name += 'f');
  }
  const Sample before = Pass();
  Do("read 0 z" + name.substr(1) + " 0 30");
  const Sample after = Pass();
  EXPECT_EQ(Change(before, after).Pages(kZeroBase), 30);
  EXPECT_EQ(Change(before, after).Pages("cow_footprint_bytes"), 0);
}

TEST_F(StateTest, ZeroPagesOfAFamily) {
  if (const std::string reason = WhyNoZeroPage(); !reason.empty()) GTEST_SKIP() << reason;
  workload().Map(0, "z", 1000);
  workload().Map(0, "a", 100);
  Do("write 0 a 0 50");
  Do("read 0 a 50 50");  // in an area with other pages, fork copies entries of the zero page too
  const std::string child = std::to_string(Fork());
  Idle(0);
  Idle(std::stoi(child));
  const Sample before = Pass();
  EXPECT_EQ(before.Pages(kZeroBase), 100);
  Do("read " + child + " z 0 200");
  Do("read 0 z 0 70");
  const Sample after = Pass();
  const Change change(before, after);
  EXPECT_EQ(change.Pages(kZeroBase), 270);
  EXPECT_EQ(change.Pages(kExposure), 0);
  EXPECT_EQ(change.Pages(kAnonShared), 0);
  // A write to it copies no page that a fork shared.
  Do("write " + child + " z 0 200");
  const Sample written = Pass();
  EXPECT_EQ(Change(after, written).BreaksOfAllSides(), 0);
  EXPECT_EQ(Change(after, written).Pages(kZeroBase), -200);
}

TEST_F(StateTest, HugeZeroPage) {
  if (const std::string reason = WhyNoHugeZeroPage(); !reason.empty()) GTEST_SKIP() << reason;
  const size_t window = HugePageBytes() / PageBytes();
  workload().Map(0, "z", 3 * window, "huge");
  const Sample before = Pass();
  Do("read 0 z 0 2 " + std::to_string(window));
  const Sample alone = Pass();
  EXPECT_EQ(Change(before, alone).Of(kZeroHuge), 2 * static_cast<double>(HugePageBytes()));
  EXPECT_EQ(Change(before, alone).Of(kZeroBase), 0);
  const int child = Fork();
  Idle(child);
  const Sample forked = Pass();
  Do("read " + std::to_string(child) + " z " + std::to_string(2 * window) + " 1");
  const Sample after = Pass();
  EXPECT_EQ(Change(forked, after).Of(kZeroHuge), static_cast<double>(HugePageBytes()));
  EXPECT_EQ(Change(forked, after).Pages(kExposure), 0);
  if (WhyNoPagemapScan(after).empty()) {
    EXPECT_EQ(after.At("cow_huge_page_bytes{backing=anon,mapped=pmd}"), 0);
  }
  // In pagemap it looks like a file page.
  EXPECT_LT(Change(forked, after).Of("cow_resident_bytes{backing=file,sharing=shared}"),
            static_cast<double>(HugePageBytes()));
}

TEST_F(StateTest, PrivateFilePages) {
  const std::string path = ::testing::TempDir() + "/cow_live_pages";
  std::ofstream(path) << std::string(4 * PageBytes(), 'x');
  const Sample before = Pass();
  Do("mapfile 0 f " + path + " 4 private");
  Do("write 0 f 0 1");
  Do("write 0 f 2 1");
  Do("read 0 f 3 1");
  Do("dontneed 0 f 1 1");  // the kernel also maps neighbours of a page that is read
  const Sample after = Pass();
  EXPECT_EQ(Change(before, after).Pages("cow_private_file_bytes{state=copied}"), 2);
  EXPECT_EQ(Change(before, after).Pages("cow_private_file_bytes{state=original}"), 1);
  std::filesystem::remove(path);
}

TEST_F(StateTest, OneProcessIsAllPrivate) {
  workload().Map(0, "a", 2000);
  Do("write 0 a 0 1500");
  const Sample sample = Pass();
  EXPECT_EQ(sample.At(kExposure), 0);
  ExpectKernelsAccount(sample, {workload().Pid()});
}

TEST_F(StateTest, SharingFollowsArithmetic) {
  workload().Map(0, "a", 3000);
  Do("write 0 a 0 3000");
  const std::string child = std::to_string(Fork());
  const std::string grandchild = std::to_string(workload().Fork(std::stoi(child)).id);
  for (const int id : {0, std::stoi(child), std::stoi(grandchild)}) Idle(id);
  const Sample before = Pass();
  Do("write " + child + " a 0 100");        // two keep the original: exposure −1 per page
  Do("write " + grandchild + " a 50 100");  // 50 of them have lost their last sharer
  const Sample after = Pass();
  const Change change(before, after);
  EXPECT_EQ(change.Pages(kExposure), -200);
  EXPECT_EQ(change.Pages("cow_footprint_bytes"), 200);
  // One process has its own copies of pages 0 to 49 and 100 to 149; of 50 to 99 all three have their own.
  EXPECT_EQ(change.Pages("cow_shared_bytes"), -(50 * 1 + 50 * 3 + 50 * 1));
  EXPECT_EQ(change.Pages(kAnonPrivate), 250);
  ExpectKernelsAccount(after,
                       {workload().Pid(), workload().Pid(std::stoi(child)), workload().Pid(std::stoi(grandchild))});
}

TEST_F(StateTest, KernelsAccountAfterManySteps) {
  if (const std::string reason = WhyNoHugePages(); reason.empty()) {
    workload().Map(0, "t", 4 * HugePageBytes() / PageBytes(), "huge");
    Do("write 0 t 0 " + std::to_string(4 * HugePageBytes() / PageBytes()));
  }
  workload().Map(0, "a", 5000);
  Do("write 0 a 0 5000 ");
  std::vector<int> ids{0};
  for (int i = 0; i < 6; ++i) {
    ids.push_back(Fork(ids.at(ids.size() / 2)));
    const std::string first = std::to_string(i * 100);
    Do("write " + std::to_string(ids.at(ids.size() / 3)) + " a " + first + " 250");
    Do("write " + std::to_string(ids.back()) + " a " + first + " 60 7");
    if (i == 2) Do("remap " + std::to_string(ids.at(1)) + " a");
    if (i == 3) Do("dontneed " + std::to_string(ids.at(2)) + " a 1000 500");
    if (i == 4) Do("read " + std::to_string(ids.at(2)) + " a 1000 100");
    if (WhyNoHugePages().empty()) Do("write " + std::to_string(ids.back()) + " t " + std::to_string(i * 300) + " 3");
    std::vector<pid_t> pids;
    pids.reserve(ids.size());
    for (const int id : ids) pids.push_back(workload().Pid(id));
    SCOPED_TRACE("step " + std::to_string(i));
    ExpectKernelsAccount(Pass(), pids);
  }
}

}  // namespace
}  // namespace cow::live
