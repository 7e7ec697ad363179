#include "collectors/procfs/maps.h"

#include <gtest/gtest.h>

#include <string>

#include "tests/support/fixture_tree.h"

namespace cow::procfs {
namespace {

constexpr std::string_view kMaps =
    "55b5a3e4c000-55b5a3e4e000 r--p 00000000 fe:01 263                        /usr/bin/cat\n"
    "55b5a3e4e000-55b5a3e53000 r-xp 00002000 fe:01 263                        /usr/bin/cat\n"
    "55b5a4000000-55b5a4021000 rw-p 00000000 00:00 0                          [heap]\n"
    "7f0000000000-7f0000001000 rw-s 00001000 00:01 1024                       /memfd:a b\\012c (deleted)\n"
    "7f0000001000-7f0000002000 ---p 00000000 00:00 0 \n"
    "ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]\n";

TEST(MapsTest, ReadsEveryField) {
  const test::FixtureTree tree;
  tree.WriteFile("42/maps", kMaps);
  const auto vmas = ReadMaps(Root(tree.path()), 42);
  ASSERT_TRUE(vmas) << vmas.error().ToString();
  ASSERT_EQ(vmas->size(), 6U);
  const Vma& text = (*vmas)[1];
  EXPECT_EQ(text.start, 0x55b5a3e4e000U);
  EXPECT_EQ(text.end, 0x55b5a3e53000U);
  EXPECT_EQ(text.SizeBytes(), 0x5000U);
  EXPECT_TRUE(text.readable);
  EXPECT_FALSE(text.writable);
  EXPECT_TRUE(text.executable);
  EXPECT_FALSE(text.shared);
  EXPECT_EQ(text.offset_bytes, 0x2000U);
  EXPECT_EQ(text.device_major, 0xfeU);
  EXPECT_EQ(text.device_minor, 1U);
  EXPECT_EQ(text.inode, 263U);
  EXPECT_EQ(text.path, "/usr/bin/cat");
  EXPECT_EQ((*vmas)[2].path, "[heap]");
  EXPECT_TRUE((*vmas)[3].shared);
  EXPECT_EQ((*vmas)[3].path, "/memfd:a b\\012c (deleted)");
  EXPECT_EQ((*vmas)[4].path, "");
  EXPECT_FALSE((*vmas)[4].readable);
  EXPECT_EQ((*vmas)[5].start, 0xffffffffff600000U);
}

TEST(MapsTest, EmptyIsGone) {
  const test::FixtureTree tree;
  tree.WriteFile("42/maps", "");
  EXPECT_EQ(ReadMaps(Root(tree.path()), 42).error().kind, ErrorKind::kGone);
  EXPECT_EQ(ReadMaps(Root(tree.path()), 43).error().kind, ErrorKind::kGone);
}

TEST(MapsTest, Malformed) {
  const test::FixtureTree tree;
  for (const std::string_view bad : {
           "\n",
           "x",
           "1000\n",
           "1000-\n",
           "1000-2000\n",
           "1000-2000 rw-p\n",
           "1000-2000 rw-p 0\n",
           "1000-2000 rw-p 0 0:0\n",
           "1000-2000 rw-p 0 0 0\n",
           "1000-2000 rw-p 0 0:0 x\n",
           "1000-2000 rw-p 0 0:0 -1\n",
           "1000-2000 rwxq 0 0:0 0\n",
           "1000-2000 rwx 0 0:0 0\n",
           "1000-2000 rw-pp 0 0:0 0\n",
           "2000-1000 rw-p 0 0:0 0\n",
           "1000-1000 rw-p 0 0:0 0\n",
           "-1000-2000 rw-p 0 0:0 0\n",
           "10000000000000000-10000000000001000 rw-p 0 0:0 0\n",
           "1000-3000 rw-p 0 0:0 0\n2000-4000 rw-p 0 0:0 0\n",
           "4000-5000 rw-p 0 0:0 0\n2000-3000 rw-p 0 0:0 0\n",
           "1000-2000 rw-p 0 0:0 0\n3000-40",
       }) {
    tree.WriteFile("42/maps", bad);
    const auto vmas = ReadMaps(Root(tree.path()), 42);
    ASSERT_FALSE(vmas) << bad;
    EXPECT_EQ(vmas.error().kind, ErrorKind::kMalformed) << bad;
    EXPECT_EQ(vmas.error().path, tree.Path("42/maps"));
    EXPECT_FALSE(vmas.error().detail.empty());
  }
}

TEST(MapsTest, KeepsTheFirstBytesOfAPath) {
  const test::FixtureTree tree;
  const std::string path(50000, 'p');
  tree.WriteFile("42/maps", "1000-2000 rw-p 0 0:0 7    " + path + "\n2000-3000 rw-p 0 0:0 0 [heap]\n");
  const auto vmas = ReadMaps(Root(tree.path()), 42);
  ASSERT_TRUE(vmas) << vmas.error().ToString();
  ASSERT_EQ(vmas->size(), 2U);
  EXPECT_EQ(vmas->front().path, path.substr(0, kMaxPathBytes));
  EXPECT_EQ(vmas->back().path, "[heap]");
}

TEST(MapsTest, TooLarge) {
  const test::FixtureTree tree;
  std::string text;
  for (int i = 1; i <= 100; ++i) {
    const std::string hundreds = std::to_string(i);
    text.append(hundreds).append("000-").append(hundreds).append("800 rw-p 0 0:0 0\n");
  }
  tree.WriteFile("42/maps", text);
  const Root root(tree.path());
  EXPECT_EQ(ReadMaps(root, 42, {text.size(), 100}).value().size(), 100U);
  EXPECT_EQ(ReadMaps(root, 42, {text.size() - 1, 100}).error().kind, ErrorKind::kTooLarge);
  EXPECT_EQ(ReadMaps(root, 42, {text.size(), 99}).error().kind, ErrorKind::kTooLarge);
  // A reader that stops earlier does not parse the rest.
  auto reader = MapsReader::Open(root, 42, {text.size(), 1});
  Vma vma;
  EXPECT_TRUE(reader->Next(vma).value());
  EXPECT_EQ(vma.start, 0x1000U);
  EXPECT_EQ(reader->Next(vma).error().kind, ErrorKind::kTooLarge);
}

}  // namespace
}  // namespace cow::procfs
