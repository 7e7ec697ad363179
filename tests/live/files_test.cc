// Private and shared mappings of files, shared memory and memfds.
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>

#include "tests/live/live.h"

namespace cow::live {
namespace {

constexpr const char* kCopied = "cow_private_file_bytes{state=copied}";
constexpr const char* kOriginal = "cow_private_file_bytes{state=original}";
constexpr const char* kFileBreaks = "cow_break_bytes_total{mapping=file}";
constexpr const char* kShmemBreaks = "cow_break_bytes_total{mapping=shmem}";

class FilesTest : public LiveTest {
 protected:
  // A file of `pages` pages that is deleted at the end.
  std::string MakeFile(size_t pages) {
    path_ = ::testing::TempDir() + "/cow_live_snapshot" + std::to_string(getpid());
    std::ofstream(path_) << std::string(pages * PageBytes(), 'x');
    return path_;
  }
  void TearDown() override {
    if (!path_.empty()) std::filesystem::remove(path_);
  }

 private:
  std::string path_;
};

// The pages of a process' private file mappings, from its page table.
struct FilePages {
  uint64_t copied = 0;
  uint64_t original = 0;
  uint64_t copied_read_only = 0;  // relocated at the start, then protected (RELRO)
};

FilePages CountFilePages(pid_t pid) {
  constexpr uint64_t kPresent = uint64_t{1} << 63;
  constexpr uint64_t kFile = uint64_t{1} << 61;
  FilePages pages;
  std::ifstream maps("/proc/" + std::to_string(pid) + "/maps");
  for (std::string line; std::getline(maps, line);) {
    std::istringstream words(line);
    std::string range;
    std::string permissions;
    std::string offset;
    std::string device;
    std::string inode;
    std::string path;
    words >> range >> permissions >> offset >> device >> inode >> path;
    if (permissions.at(3) != 'p' || path.empty() || path.front() != '/') continue;
    const uint64_t start = std::stoull(range, nullptr, 16);
    const uint64_t end = std::stoull(range.substr(range.find('-') + 1), nullptr, 16);
    for (const uint64_t entry : ReadPagemap(pid, start, (end - start) / PageBytes())) {
      if ((entry & kPresent) == 0) continue;
      const bool copied = (entry & kFile) == 0;
      pages.copied += copied ? 1U : 0U;
      pages.original += copied ? 0U : 1U;
      pages.copied_read_only += copied && permissions.at(1) == '-' ? 1U : 0U;
    }
  }
  return pages;
}

// .data, .got and RELRO of the program and its libraries: the loader copied them before the fork, so the fork shares
// them.
TEST_F(FilesTest, RelocatedDataIsSharedByFork) {
  const FilePages alone = CountFilePages(workload().Pid());
  ASSERT_GT(alone.copied_read_only, 0U) << "no RELRO: nothing is tested";
  const Sample one = Pass();
  EXPECT_EQ(one.Pages(kCopied), static_cast<double>(alone.copied));
  EXPECT_EQ(one.Pages(kOriginal), static_cast<double>(alone.original));
  const int child = ForkWarm();
  const Sample two = Pass();
  const FilePages parents = CountFilePages(workload().Pid());
  const FilePages childs = CountFilePages(workload().Pid(child));
  EXPECT_EQ(two.Pages(kCopied), static_cast<double>(parents.copied + childs.copied));
  EXPECT_EQ(two.Pages(kOriginal), static_cast<double>(parents.original + childs.original));
  EXPECT_EQ(childs.copied_read_only, alone.copied_read_only);
  // RELRO is never written again, so all of it is exposure.
  EXPECT_GE(two.Pages(kExposure), static_cast<double>(alone.copied_read_only));
  const AnonymousMemory memory = CountAnonymousMemory({workload().Pid(), workload().Pid(child)});
  EXPECT_EQ(two.Pages(kExposure), static_cast<double>(memory.exposure_pages));
}

// A snapshot that is mapped MAP_PRIVATE and then forked: the fork shares the parent's copies; untouched pages belong to
// the page cache.
TEST_F(FilesTest, SnapshotRestoredPrivately) {
  const std::string path = MakeFile(200);
  Do("mapfile 0 f " + path + " 200 private");
  const Sample mapped = Pass();
  Do("read 0 f 0 200");
  const Sample read = Pass();
  EXPECT_EQ(Change(mapped, read).Pages(kOriginal), 200);
  EXPECT_EQ(Change(mapped, read).Pages(kCopied), 0);
  Write(0, "f", 0, 80);
  const Sample written = Pass();
  EXPECT_EQ(Change(read, written).Pages(kCopied), 80);
  EXPECT_EQ(Change(read, written).Pages(kOriginal), -80);
  EXPECT_EQ(Change(read, written).BreaksOfAllSides(), 0);

  const int child = ForkWarm();
  Do("read " + std::to_string(child) + " f 80 120");
  const Sample before = Pass();
  Write(child, "f", 0, 30);    // copies that the fork shared
  Write(child, "f", 100, 40);  // pages of the page cache
  Write(0, "f", 150, 20);
  const Sample after = Pass();
  const Change change(before, after);
  EXPECT_EQ(change.Pages(kFileBreaks), 30);
  EXPECT_EQ(change.Of(kChildBreaks), 30);
  EXPECT_EQ(change.BreaksOfAllSides(), 30);
  EXPECT_EQ(change.Pages(kExposure), -30);
  EXPECT_EQ(change.Pages(kFootprint), 30 + 40 + 20);
  EXPECT_EQ(change.Pages(kCopied), 40 + 20);
  EXPECT_EQ(change.Pages(kOriginal), -40 - 20);
  EXPECT_EQ(change.UnsharedPages(), 0);
  EXPECT_EQ(change.Pages(kUnattributed), 0);
  // A dropped private file page belongs to the page cache again.
  Do("dontneed " + std::to_string(child) + " f 30 10");
  Do("read " + std::to_string(child) + " f 30 10");
  const Sample dropped = Pass();
  EXPECT_EQ(Change(after, dropped).Pages(Unshared("unmap")), 10);
  EXPECT_EQ(Change(after, dropped).BreaksOfAllSides(), 0);
  EXPECT_EQ(Change(after, dropped).Pages(kExposure), -10);
}

TEST_F(FilesTest, SharedMemoryNeverBreaks) {
  const std::string path = MakeFile(100);
  workload().Map(0, "s", 100, "shared");
  Do("memfd 0 m 100 shared");
  Do("mapfile 0 f " + path + " 100 shared");
  for (const char* name : {"s", "m", "f"}) Write(0, name, 0, 100);
  const int child = ForkWarm();
  for (const char* name : {"s", "m", "f"}) Do("read " + std::to_string(child) + " " + name + " 0 100");
  const Sample before = Pass();
  EXPECT_GE(before.Pages("cow_resident_bytes{backing=shmem,sharing=shared}"), 400);
  for (const char* name : {"s", "m", "f"}) {
    Write(child, name, 0, 60);
    Write(0, name, 40, 60);
  }
  const Sample after = Pass();
  ExpectNoVerdict(Change(before, after));
  EXPECT_EQ(Change(before, after).Pages(kExposure), 0);
  EXPECT_EQ(Change(before, after).Pages(kFootprint), 0);
  EXPECT_EQ(after.At(kUnmatched), 0);
  for (const char* name : {"s", "m", "f"}) Do("unmap " + std::to_string(child) + " " + name + " 0 100");
  ExpectNoVerdict(Change(after, Pass()));
}

TEST_F(FilesTest, PrivateMemfdIsCopied) {
  Do("memfd 0 m 100 private");
  Write(0, "m", 0, 60);
  const int child = ForkWarm();
  const Sample before = Pass();
  Write(child, "m", 0, 25);
  Write(child, "m", 80, 10);  // holes of the file until now
  Write(0, "m", 40, 10);
  const Sample after = Pass();
  const Change change(before, after);
  EXPECT_EQ(change.Pages(kShmemBreaks), 35);
  EXPECT_EQ(change.Of(kChildBreaks), 25);
  EXPECT_EQ(change.Of(kParentBreaks), 10);
  EXPECT_EQ(change.Pages(kExposure), -35);
  EXPECT_EQ(change.Pages(kFootprint), 45);
  EXPECT_EQ(change.UnsharedPages(), 0);
  EXPECT_EQ(change.Pages(kUnattributed), 0);
}

// A filesystem without a device in its own directory.
class Mounted {
 public:
  Mounted(std::string path, const char* type) : path_(std::move(path)) {
    std::filesystem::create_directory(path_);
    if (mount("none", path_.c_str(), type, 0, nullptr) != 0) path_.clear();
  }
  ~Mounted() {
    if (path_.empty()) return;
    umount2(path_.c_str(), MNT_DETACH);
    std::filesystem::remove(path_);
  }
  Mounted(const Mounted&) = delete;
  Mounted& operator=(const Mounted&) = delete;

  // 0 if it could not be mounted.
  dev_t Device() const {
    struct stat status {};
    return path_.empty() || stat(path_.c_str(), &status) != 0 ? 0 : status.st_dev;
  }

 private:
  std::string path_;
};

// The kernel reuses the device number of an unmounted filesystem for the next one of any type.
TEST_F(FilesTest, ADeviceNumberThatIsUsedAgainIsLearnedAnew) {
  const std::string directory = ::testing::TempDir() + "/cow_live_mount" + std::to_string(getpid());
  int files = 0;
  const auto breaks_in_a_file_of = [&](const char* type, dev_t& device) {
    const Mounted mounted(directory, type);
    device = mounted.Device();
    if (device == 0) return Sample();
    std::ofstream(directory + "/file") << std::string(20 * PageBytes(), 'x');
    const std::string name = type + std::to_string(++files);
    Do("mapfile 0 " + name + " " + directory + "/file 20 private");
    Write(0, name, 0, 20);
    const int child = ForkWarm();
    const Sample before = Pass();
    Write(child, name, 0, 10);
    Sample after = Pass();
    EXPECT_EQ(Change(before, after).Of(kChildBreaks), 10) << type;
    const bool is_shmem = std::string_view(type) == "tmpfs";
    EXPECT_EQ(Change(before, after).Pages(kShmemBreaks), is_shmem ? 10 : 0) << type;
    EXPECT_EQ(Change(before, after).Pages(kFileBreaks), is_shmem ? 0 : 10) << type;
    Do("kill " + std::to_string(child));
    Do("unmap 0 " + name + " 0 20");
    return after;
  };
  dev_t first = 0;
  dev_t second = 0;
  breaks_in_a_file_of("tmpfs", first);
  breaks_in_a_file_of("ramfs", second);
  if (first == 0 || first != second) GTEST_SKIP() << "the number was not given out again";
}

}  // namespace
}  // namespace cow::live
