#include "collectors/symbols/symbolizer.h"

#include <gtest/gtest.h>
#include <unistd.h>

namespace cow::symbols {
namespace {

__attribute__((noinline)) int NamedFunction(int value) { return value * 3 + static_cast<int>(getpid()); }

TEST(SymbolizerTest, NamesAFunctionOfThisProgram) {
  Symbolizer symbolizer;
  CodeMaps maps;
  ASSERT_TRUE(maps.Add(getpid()));
  const auto address = reinterpret_cast<uint64_t>(&NamedFunction);
  const Symbol symbol = symbolizer.Resolve(maps.Locate(getpid(), address));
  EXPECT_EQ(symbol.kind, Symbol::Kind::kUser);
  EXPECT_EQ(symbol.function, "cow::symbols::(anonymous namespace)::NamedFunction(int)");
  EXPECT_FALSE(symbol.offset_is_file);
  EXPECT_TRUE(symbol.object.ends_with("/symbols_test")) << symbol.object;
  EXPECT_EQ(symbolizer.counts().restarts, 0U);
  EXPECT_EQ(NamedFunction(0), getpid());
  const Symbol libc = symbolizer.Resolve(maps.Locate(getpid(), reinterpret_cast<uint64_t>(&getpid)));
  EXPECT_EQ(libc.function, "getpid");
}

}  // namespace
}  // namespace cow::symbols
