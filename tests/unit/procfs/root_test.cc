#include "collectors/procfs/root.h"

#include <fcntl.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "collectors/procfs/file_descriptor.h"
#include "collectors/procfs/kpage.h"
#include "collectors/procfs/pagemap.h"
#include "collectors/procfs/process_list.h"
#include "tests/support/fixture_tree.h"

namespace cow::procfs {
namespace {

TEST(RootTest, JoinsPaths) {
  const Root root;
  EXPECT_EQ(root.ProcPath("meminfo"), "/proc/meminfo");
  EXPECT_EQ(root.ProcPath(42, "maps"), "/proc/42/maps");
  EXPECT_EQ(root.ProcPath({42, 43}, "maps"), "/proc/42/task/43/maps");
  EXPECT_EQ(root.SysPath("kernel/mm"), "/sys/kernel/mm");
  EXPECT_EQ(Root("/host/proc/", "/host/sys//").ProcPath("stat"), "/host/proc/stat");
  EXPECT_EQ(Root("/host/proc/", "/host/sys//").SysPath("x"), "/host/sys/x");
  EXPECT_EQ(Root("/", "/").ProcPath("stat"), "/stat");
}

TEST(RootTest, ReadsFilesOfAnySize) {
  const test::FixtureTree tree;
  for (const size_t size : {0U, 1U, 2047U, 2048U, 2049U, 4096U, 8192U, 1000000U}) {
    std::string text(size, 'x');
    for (size_t i = 0; i < size; ++i) text[i] = static_cast<char>(i % 251);
    tree.WriteFile("file", text);
    EXPECT_EQ(ReadTextFile(Root(), tree.Path("file")).value(), text) << size;
  }
}

TEST(RootTest, ReadsKernelFilesLargerThanOneRead) {
  const auto text = ReadTextFile(Root(), "/proc/self/smaps");
  ASSERT_TRUE(text) << text.error().ToString();
  EXPECT_GT(text->size(), 8192U);
  EXPECT_EQ(text->back(), '\n');
}

TEST(RootTest, FilesThatAreTooLarge) {
  const test::FixtureTree tree;
  tree.WriteFile("file", std::string(5000, 'x'));
  EXPECT_EQ(ReadTextFile(Root(), tree.Path("file"), 5000).value().size(), 5000U);
  EXPECT_EQ(ReadTextFile(Root(), tree.Path("file"), 4999).error().kind, ErrorKind::kTooLarge);
  EXPECT_EQ(ReadTextFile(Root(), "/dev/zero").error().kind, ErrorKind::kTooLarge);
}

TEST(RootTest, FileErrorsCarryThePath) {
  const test::FixtureTree tree;
  const auto missing = ReadTextFile(Root(), tree.Path("missing"));
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().kind, ErrorKind::kGone);
  EXPECT_EQ(missing.error().path, tree.Path("missing"));
  EXPECT_EQ(missing.error().error_number, ENOENT);
  const auto directory = ReadTextFile(Root(), tree.path());
  ASSERT_FALSE(directory);
  EXPECT_EQ(directory.error().kind, ErrorKind::kIo);
}

// Records each access and makes a chosen one fail.
class Recorder : public Interposer {
 public:
  std::optional<Error> Before(Access access, const std::string& path) override {
    accesses.emplace_back(access, path);
    if (accesses.size() != fail_at) return std::nullopt;
    return Error{ErrorKind::kDenied, path, EACCES, "on purpose"};
  }
  std::vector<std::pair<Access, std::string>> accesses;
  size_t fail_at = 0;
};

TEST(RootTest, InterposerComesBeforeEachAccess) {
  const test::FixtureTree tree;
  tree.WriteFile("42/comm", "name\n");
  tree.Symlink("42/exe", "/bin/true");
  tree.WriteWords("42/pagemap", 0, std::vector<uint64_t>(4, 7));
  tree.WriteWords("kpageflags", 0, std::vector<uint64_t>(4, 8));
  const auto recorder = std::make_shared<Recorder>();
  const Root root(tree.path(), "/sys", recorder);
  const auto read_all = [&root] {
    const bool text = ReadTextFile(root, root.ProcPath(42, "comm")).has_value();
    const bool link = ReadLink(root, root.ProcPath(42, "exe")).has_value();
    const bool list = ListProcesses(root).has_value();
    const std::array<Pfn, 1> frame{};
    std::array<uint64_t, 1> words{};
    uint64_t reads = 0;
    const auto flags = KpageFile::OpenFlags(root);
    const bool frames = flags && flags->Read(frame, words, reads);
    const auto pagemap = Pagemap::Open(root, 42);
    std::array<PageEntry, 1> entries{};
    const bool pages = pagemap && pagemap->Read(PageNumber(), entries);
    return std::vector<bool>{text, link, list, frames, pages};
  };
  EXPECT_EQ(read_all(), std::vector<bool>(5, true));
  const std::string comm = root.ProcPath(42, "comm");
  const std::string flags = root.ProcPath("kpageflags");
  const std::string pagemap = root.ProcPath(42, "pagemap");
  const std::vector<std::pair<Access, std::string>> expected{{Access::kOpen, comm},
                                                             {Access::kRead, comm},
                                                             {Access::kRead, comm},  // the last read finds the end
                                                             {Access::kLink, root.ProcPath(42, "exe")},
                                                             {Access::kOpen, tree.path()},
                                                             {Access::kRead, tree.path()},
                                                             {Access::kOpen, flags},
                                                             {Access::kRead, flags},
                                                             {Access::kOpen, pagemap},
                                                             {Access::kRead, pagemap}};
  EXPECT_EQ(recorder->accesses, expected);
  for (size_t failing = 1; failing <= expected.size(); ++failing) {
    recorder->accesses.clear();
    recorder->fail_at = failing;
    const std::vector<bool> results = read_all();
    EXPECT_EQ(std::count(results.begin(), results.end(), false), 1) << failing;
  }
}

TEST(RootTest, ReadsLinksOfAnyLength) {
  const test::FixtureTree tree;
  for (const size_t length : {1U, 255U, 256U, 257U, 4000U}) {
    const std::string target(length, 't');
    tree.Symlink("link", target);
    EXPECT_EQ(ReadLink(Root(), tree.Path("link")).value(), target) << length;
  }
  EXPECT_EQ(ReadLink(Root(), tree.Path("missing")).error().kind, ErrorKind::kGone);
  tree.WriteFile("file", "");
  EXPECT_EQ(ReadLink(Root(), tree.Path("file")).error().kind, ErrorKind::kIo);
}

TEST(FileDescriptorTest, OwnsAndMoves) {
  auto opened = OpenReadOnly(Root(), "/proc/self/stat");
  ASSERT_TRUE(opened);
  EXPECT_NE(fcntl(opened->get(), F_GETFD) & FD_CLOEXEC, 0);
  const int fd = opened->get();
  {
    FileDescriptor moved(std::move(*opened));
    EXPECT_FALSE(opened->valid());  // NOLINT(bugprone-use-after-move): the test checks the moved-from state
    EXPECT_EQ(moved.get(), fd);
    FileDescriptor assigned;
    EXPECT_FALSE(assigned.valid());
    assigned = std::move(moved);
    EXPECT_EQ(assigned.get(), fd);
    EXPECT_NE(fcntl(fd, F_GETFD), -1);
  }
  EXPECT_EQ(fcntl(fd, F_GETFD), -1);
  EXPECT_EQ(errno, EBADF);
}

}  // namespace
}  // namespace cow::procfs
