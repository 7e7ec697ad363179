// /proc/PID/status.
#include "collectors/procfs/status.h"
#include "tests/fuzz/bytes.h"
#include "tests/fuzz/check.h"

using cow::fuzz::Check;
namespace procfs = cow::procfs;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto status = procfs::ParseStatus(cow::fuzz::Text(data, size), "status");
  if (!status) return 0;
  Check(status->rss_anon_bytes.value_or(0) % 1024 == 0, "sizes are whole kB");
  return 0;
}
