#include "collectors/symbols/code_maps.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <string>

#include "tests/support/fixture_tree.h"
#include "tests/unit/symbols/target.h"

namespace cow::symbols {
namespace {

using Kind = CodeLocation::Kind;

NewMapping Anonymous(pid_t pid, uint64_t start, uint64_t bytes) { return {pid, start, bytes, 0, 0, {}, "//anon"}; }

// A process 100 below a fixture tree, whose files lie below its root.
class CodeMapsTest : public testing::Test {
 protected:
  NewMapping File(pid_t pid, uint64_t start, uint64_t bytes, const std::string& path, uint64_t offset = 0) {
    const std::string file = std::to_string(pid) + "/root" + path;
    tree_.WriteFile(file, path);
    struct stat status {};
    stat(tree_.Path(file).c_str(), &status);
    return {pid, start, bytes, offset, status.st_ino, {}, path};
  }

  test::FixtureTree tree_;
  procfs::Root root_{tree_.path()};
  CodeMaps maps_{root_};
};

TEST_F(CodeMapsTest, FindsOffsetsInFiles) {
  maps_.Map(File(100, 0x1000, 0x2000, "/bin/a", 0x5000));
  EXPECT_EQ(maps_.Locate(100, 0xfff).kind, Kind::kUnknown);
  EXPECT_EQ(maps_.Locate(100, 0x3000).kind, Kind::kUnknown);
  EXPECT_EQ(maps_.Locate(200, 0x1000).kind, Kind::kUnknown);
  const CodeLocation location = maps_.Locate(100, 0x2010);
  EXPECT_EQ(location.kind, Kind::kFile);
  EXPECT_EQ(location.offset, 0x6010U);
  EXPECT_EQ(location.file->path, "/bin/a");
  EXPECT_TRUE(location.file->descriptor.valid());
}

TEST_F(CodeMapsTest, NewMappingsReplaceOldOnesInPart) {
  maps_.Map(File(100, 0x1000, 0x3000, "/bin/a"));
  maps_.Map(File(100, 0x2000, 0x1000, "/bin/b"));
  EXPECT_EQ(maps_.Locate(100, 0x1fff).file->path, "/bin/a");
  EXPECT_EQ(maps_.Locate(100, 0x2000).file->path, "/bin/b");
  EXPECT_EQ(maps_.Locate(100, 0x3000).file->path, "/bin/a");
  EXPECT_EQ(maps_.Locate(100, 0x3000).offset, 0x2000U);
  maps_.Map(Anonymous(100, 0x800, 0x1000));
  EXPECT_EQ(maps_.Locate(100, 0x1000).kind, Kind::kAnonymous);
  EXPECT_EQ(maps_.Locate(100, 0x1800).offset, 0x800U);
}

TEST_F(CodeMapsTest, ChildrenInheritAndThenDiffer) {
  maps_.Map(File(100, 0x1000, 0x1000, "/bin/a"));
  maps_.Map(Anonymous(100, 0x9000, 0x1000));
  maps_.Fork(101, 100);
  maps_.Fork(103, 102);  // of a process that is not watched
  EXPECT_EQ(maps_.MappingsOf(101), maps_.MappingsOf(100));
  EXPECT_EQ(maps_.Locate(103, 0x1000).kind, Kind::kUnknown);
  EXPECT_EQ(maps_.Locate(101, 0x1000).file, maps_.Locate(100, 0x1000).file);
  EXPECT_EQ(maps_.Locate(101, 0x9000).mapped_by, 100);
  maps_.Map(File(101, 0x5000, 0x1000, "/bin/b"));
  EXPECT_EQ(maps_.Locate(101, 0x5000).kind, Kind::kFile);
  EXPECT_EQ(maps_.Locate(100, 0x5000).kind, Kind::kUnknown);
  maps_.Exec(101);
  EXPECT_EQ(maps_.Locate(101, 0x1000).kind, Kind::kUnknown);
  EXPECT_EQ(maps_.Locate(100, 0x1000).kind, Kind::kFile);
}

TEST_F(CodeMapsTest, ClosesWhatNobodyNeeds) {
  maps_.Map(File(100, 0x1000, 0x1000, "/bin/a"));
  maps_.Fork(101, 100);
  EXPECT_EQ(maps_.descriptors(), 1U);
  maps_.Exit(100);
  EXPECT_EQ(maps_.descriptors(), 1U);
  CodeLocation location = maps_.Locate(101, 0x1000);
  maps_.Exit(101);
  EXPECT_EQ(maps_.descriptors(), 1U);
  location = {};
  EXPECT_EQ(maps_.descriptors(), 0U);
}

TEST_F(CodeMapsTest, OpensEachFileOnce) {
  const NewMapping mapping = File(100, 0x1000, 0x1000, "/bin/a");
  maps_.Map(mapping);
  NewMapping second = mapping;
  second.start = 0x8000;
  maps_.Map(second);
  EXPECT_EQ(maps_.Locate(100, 0x1000).file, maps_.Locate(100, 0x8000).file);
  EXPECT_EQ(maps_.descriptors(), 1U);
}

TEST_F(CodeMapsTest, TakesNoOtherFileForTheMappedOne) {
  NewMapping mapping = File(100, 0x1000, 0x1000, "/bin/a");
  ++mapping.inode;
  maps_.Map(mapping);
  EXPECT_EQ(maps_.Locate(100, 0x1000).kind, Kind::kFile);
  EXPECT_FALSE(maps_.Locate(100, 0x1000).file->descriptor.valid());
  EXPECT_EQ(maps_.refused().unreadable_files, 1U);
}

TEST_F(CodeMapsTest, KeepsTheBuildIdThatTheKernelTold) {
  NewMapping mapping = File(100, 0x1000, 0x1000, "/bin/a");
  maps_.Map(mapping);
  mapping.start = 0x8000;
  mapping.inode = 0;
  mapping.build_id = "told";
  maps_.Map(mapping);
  EXPECT_EQ(maps_.Locate(100, 0x1000).file->build_id, "");
  EXPECT_EQ(maps_.Locate(100, 0x8000).file->build_id, "told");
}

TEST_F(CodeMapsTest, FindsAFileAgainWhoseProcessHasEnded) {
  NewMapping mapping = File(100, 0x1000, 0x1000, "/bin/a");
  maps_.Map(mapping);
  mapping.pid = 101;  // ended before its record came
  maps_.Map(mapping);
  EXPECT_EQ(maps_.Locate(101, 0x1000).file, maps_.Locate(100, 0x1000).file);
}

TEST_F(CodeMapsTest, BoundsDescriptorsAndMappings) {
  CodeMaps::Limits limits;
  limits.descriptors = 2;
  limits.mappings = 4;
  CodeMaps maps(root_, limits);
  for (uint64_t i = 0; i < 6; ++i) maps.Map(File(100, (i + 1) << 16U, 0x1000, "/lib/" + std::to_string(i)));
  EXPECT_EQ(maps.descriptors(), 2U);
  EXPECT_FALSE(maps.Locate(100, 3U << 16U).file->descriptor.valid());
  EXPECT_EQ(maps.Locate(100, 4U << 16U).kind, Kind::kFile);
  EXPECT_EQ(maps.Locate(100, 5U << 16U).kind, Kind::kUnknown);
  EXPECT_EQ(maps.refused().beyond_limits, 4U);  // two descriptors, two mappings
}

TEST_F(CodeMapsTest, DoesNotOpenWhatIsNoRegularFile) {
  tree_.MakeDirectory("100/root/bin");
  ASSERT_EQ(mkfifo(tree_.Path("100/root/bin/pipe").c_str(), 0600), 0);
  maps_.Map({100, 0x1000, 0x1000, 0, 0, {}, "/bin/pipe"});
  maps_.Map({100, 0x2000, 0x1000, 0, 0, {}, "/bin/../bin/pipe"});
  maps_.Map({100, 0x3000, 0x1000, 0, 0, {}, "[vdso]"});
  EXPECT_EQ(maps_.descriptors(), 0U);
  EXPECT_EQ(maps_.Locate(100, 0x3000).file->path, "[vdso]");
}

TEST(CodeMapsOfProcessTest, ReadsExecutableMappings) {
  CodeMaps maps;
  const test::Target target(test::TargetPath("pie"));
  ASSERT_TRUE(maps.Add(target.pid()));
  const CodeLocation location = maps.Locate(target.pid(), target.At("alpha"));
  ASSERT_EQ(location.kind, Kind::kFile);
  EXPECT_EQ(location.file->path, test::TargetPath("pie"));
  EXPECT_TRUE(location.file->descriptor.valid());
  for (const Mapping& each : *maps.MappingsOf(target.pid())) EXPECT_LT(each.start, each.end);
  EXPECT_EQ(maps.refused().unreadable_files, 0U);
  EXPECT_FALSE(maps.Add(0x7fffffff));
}

}  // namespace
}  // namespace cow::symbols
