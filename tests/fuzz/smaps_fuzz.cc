// /proc/PID/smaps and smaps_rollup.
#include "collectors/procfs/smaps.h"
#include "tests/fuzz/bytes.h"
#include "tests/fuzz/check.h"

using cow::fuzz::Check;
namespace procfs = cow::procfs;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text = cow::fuzz::Text(data, size);
  static_cast<void>(procfs::ParseSmapsRollup(text, "smaps_rollup"));
  const auto vmas = procfs::ParseSmaps(text, "smaps");
  if (!vmas) return 0;
  for (const procfs::SmapsVma& vma : *vmas) Check(vma.vma.end > vma.vma.start, "a mapping has a size");
  return 0;
}
