#include "collectors/writers/report.h"

#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <vector>

namespace cow::writers {
namespace {

symbols::Symbol Code(const std::string& function, const std::string& object, uint64_t offset = 0) {
  symbols::Symbol code;
  code.kind = object == "[kernel]" ? symbols::Symbol::Kind::kKernel : symbols::Symbol::Kind::kUser;
  if (!function.empty()) code.function = function;
  code.object = object;
  code.offset = offset;
  return code;
}

Writer Of(std::vector<symbols::Symbol> frames, uint64_t pages) {
  return {std::move(frames), Side::kChild, memory::MappingKind::kAnon, pages, pages};
}

TEST(MergeCallers, MergesPlacesOfOneFunction) {
  Report report;
  report.writers = {Of({Code("f", "/bin/a", 5)}, 9), Of({Code("f", "/bin/a", 7)}, 3)};
  const auto merged = MergeCallers(report);
  ASSERT_EQ(merged.size(), 1U);
  EXPECT_EQ(merged[0].pages, 12U);
  EXPECT_EQ(merged[0].code().offset, 5U);
}

TEST(MergeCallers, KeepsPlacesOfUnknownFunctionsApart) {
  Report report;
  report.writers = {Of({Code("", "/bin/a", 5)}, 9), Of({Code("", "/bin/a", 7)}, 3)};
  EXPECT_EQ(MergeCallers(report).size(), 2U);
}

TEST(MergeCallers, CopyingServesItsCaller) {
  const auto copy = Code("memcpy", "/lib/libc.so.6");
  Report report;
  report.writers = {Of({copy, Code("f", "/bin/a"), Code("main", "/bin/a")}, 5),
                    Of({copy, Code("f", "/bin/a"), Code("other", "/bin/a")}, 4), Of({copy, Code("g", "/bin/a")}, 3)};
  const auto merged = MergeCallers(report);
  ASSERT_EQ(merged.size(), 2U);
  EXPECT_EQ(merged[0].pages, 9U);
  EXPECT_EQ(*merged[0].frames.back().function, "f");
  EXPECT_EQ(*merged[1].frames.back().function, "g");
}

TEST(PurposeOf, KernelServesTheSystemCall) {
  const Writer writer = Of({Code("copy_to_user", "[kernel]"), Code("read", "/lib/libc.so.6"), Code("f", "/bin/a")}, 1);
  EXPECT_EQ(*PurposeOf(writer).function, "read");
}

TEST(PurposeOf, CodeWithoutKnownCallersStandsForItself) {
  EXPECT_EQ(*PurposeOf(Of({Code("memcpy", "/lib/libc.so.6")}, 1)).function, "memcpy");
  EXPECT_EQ(*PurposeOf(Of({Code("f", "/bin/a"), Code("g", "/bin/a")}, 1)).function, "f");
}

}  // namespace
}  // namespace cow::writers
