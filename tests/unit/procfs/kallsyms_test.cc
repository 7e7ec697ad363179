#include "collectors/procfs/kallsyms.h"

#include <gtest/gtest.h>

#include "tests/support/fixture_tree.h"

namespace cow::procfs {
namespace {

Result<KernelSymbols> Parse(std::string_view text) {
  const test::FixtureTree tree;
  tree.WriteFile("kallsyms", text);
  return KernelSymbols::Read(Root(tree.path()));
}

std::string Find(const KernelSymbols& symbols, uint64_t address) {
  const auto name = symbols.Find(address);
  return name ? name->function + "|" + name->module : "none";
}

TEST(KallsymsTest, FindsFunctionsUntilTheNextSymbol) {
  const auto symbols = Parse(
      "ffffffff81000100 T first\n"
      "ffffffff81000200 t second\n"
      "ffffffff81000200 T alias\n"
      "ffffffff81000300 D data\n"
      "ffffffffc0000000 t in_module\t[nf_tables]\n"
      "ffffffffc0000100 T last_of_module\t[nf_tables]\n"
      "ffffffffc0200000 t in_other\t[xfs]\n");
  ASSERT_TRUE(symbols) << symbols.error().ToString();
  EXPECT_EQ(Find(*symbols, 0xffffffff810000ff), "none");
  EXPECT_EQ(Find(*symbols, 0xffffffff81000100), "first|");
  EXPECT_EQ(Find(*symbols, 0xffffffff810001ff), "first|");
  EXPECT_EQ(Find(*symbols, 0xffffffff81000200), "second|");
  EXPECT_EQ(Find(*symbols, 0xffffffff81000300), "none");
  EXPECT_EQ(Find(*symbols, 0xffffffffc00000ff), "in_module|nf_tables");
  // Nothing tells where the last function of a module ends.
  EXPECT_EQ(Find(*symbols, 0xffffffffc0000100), "none");
  EXPECT_EQ(Find(*symbols, 0xffffffffc0200000), "none");
}

TEST(KallsymsTest, HiddenAddressesAreDenied) {
  const auto symbols = Parse("0000000000000000 T first\n0000000000000000 T second\n");
  ASSERT_FALSE(symbols);
  EXPECT_EQ(symbols.error().kind, ErrorKind::kDenied);
}

TEST(KallsymsTest, OtherTextIsMalformed) {
  for (const char* text : {"xyz T first\n", "ffffffff81000100 first\n", "\n"}) {
    const auto symbols = Parse(text);
    ASSERT_FALSE(symbols) << text;
    EXPECT_EQ(symbols.error().kind, ErrorKind::kMalformed) << text;
  }
}

TEST(KallsymsTest, ReadsThisKernel) {
  const auto symbols = KernelSymbols::Read(Root());
  if (!symbols) {  // without rights
    EXPECT_EQ(symbols.error().kind, ErrorKind::kDenied) << symbols.error().ToString();
    return;
  }
  EXPECT_FALSE(symbols->Find(0));
  EXPECT_FALSE(symbols->Find(~uint64_t{0}));
}

}  // namespace
}  // namespace cow::procfs
