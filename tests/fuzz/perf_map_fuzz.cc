// The map of a JIT: /tmp/perf-PID.map of another user.
#include <string_view>

#include "collectors/base/text.h"
#include "collectors/symbols/perf_map.h"
#include "tests/fuzz/bytes.h"
#include "tests/fuzz/check.h"

using cow::fuzz::Check;
namespace symbols = cow::symbols;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text = cow::fuzz::Text(data, size);
  const symbols::PerfMap map = symbols::PerfMap::Parse(text);
  std::string_view rest = text;
  std::string_view line;
  while (cow::text::NextLine(rest, line)) {
    const auto address = cow::text::ParseNumber<uint64_t>(cow::text::NextField(line), 16);
    const auto name = map.Find(address.value_or(0));
    if (!name) continue;
    Check(!name->empty() && name->size() <= symbols::PerfMap::kMaxNameBytes, "the name is bounded");
    Check(text.find(*name) != std::string_view::npos, "the name is in the text");
  }
  return 0;
}
