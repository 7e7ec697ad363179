// /proc/PID/stat.
#include "collectors/procfs/stat.h"
#include "tests/fuzz/bytes.h"
#include "tests/fuzz/check.h"

using cow::fuzz::Check;
namespace procfs = cow::procfs;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text = cow::fuzz::Text(data, size);
  const auto stat = procfs::ParseStat(text, "stat");
  if (!stat) return 0;
  Check(text.find(stat->comm) != std::string_view::npos, "the name is part of the text");
  static_cast<void>(stat->IsKernelThread());
  static_cast<void>(stat->HasNoMemory());
  static_cast<void>(stat->LayoutKnown());
  return 0;
}
