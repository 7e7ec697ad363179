#include "collectors/procfs/auxiliary_vector.h"

#include <elf.h>
#include <gtest/gtest.h>
#include <sys/auxv.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string_view>

#include "tests/support/fixture_tree.h"

namespace cow::procfs {
namespace {

template <class Word, size_t N>
std::string_view BytesOf(const std::array<Word, N>& words) {
  return {reinterpret_cast<const char*>(words.data()), sizeof(words)};  // NOLINT: bytes of words
}

TEST(AuxiliaryVectorTest, FindsValuesBeforeTheEnd) {
  const std::array<uint64_t, 9> words{
      AT_SYSINFO_EHDR, 0x7ffc00001000, AT_ENTRY, 0x55d0c0de0000, AT_SECURE, 0, AT_NULL, 0, 9};
  const AuxiliaryVector vector(BytesOf(words));
  EXPECT_EQ(vector.Find(AT_ENTRY), 0x55d0c0de0000U);
  EXPECT_EQ(vector.Find(AT_SECURE), 0U);
  EXPECT_FALSE(vector.Find(AT_RANDOM));
  EXPECT_FALSE(vector.Find(AT_NULL));
}

TEST(AuxiliaryVectorTest, WordsOfA32BitProgram) {
  const std::array<uint32_t, 8> words{AT_SYSINFO_EHDR, 0xf7f10000, AT_ENTRY, 0x8049000, AT_SECURE, 0, AT_NULL, 0};
  const AuxiliaryVector vector(BytesOf(words));
  EXPECT_EQ(vector.Find(AT_SYSINFO_EHDR), 0xf7f10000U);
  EXPECT_EQ(vector.Find(AT_ENTRY), 0x8049000U);
  EXPECT_EQ(vector.Find(AT_SECURE), 0U);
}

TEST(AuxiliaryVectorTest, WhatIsCutOffHasNoValue) {
  const std::array<uint64_t, 3> words{AT_PAGESZ, 4096, AT_ENTRY};
  const AuxiliaryVector vector(BytesOf(words));
  EXPECT_EQ(vector.Find(AT_PAGESZ), 4096U);
  EXPECT_FALSE(vector.Find(AT_ENTRY));
  EXPECT_FALSE(AuxiliaryVector("").Find(AT_ENTRY));
  EXPECT_FALSE(AuxiliaryVector("x").Find(AT_ENTRY));
}

TEST(AuxiliaryVectorTest, OfThisProcess) {
  const Root root;
  const auto vector = ReadAuxiliaryVector(root, root.ProcPath("self/auxv"));
  ASSERT_TRUE(vector) << vector.error().ToString();
  for (const uint64_t type : std::initializer_list<uint64_t>{AT_ENTRY, AT_PHDR, AT_RANDOM, AT_PAGESZ}) {
    EXPECT_EQ(vector->Find(type), getauxval(type)) << type;
  }
}

TEST(AuxiliaryVectorTest, FileThatCannotBeRead) {
  const test::FixtureTree tree;
  EXPECT_EQ(ReadAuxiliaryVector(Root(tree.path()), tree.path() + "/10/auxv").error().kind, ErrorKind::kGone);
}

}  // namespace
}  // namespace cow::procfs
