// Reports of ended tasks: the attributes of a netlink message, and the struct in them.
#include <cstddef>
#include <cstring>
#include <span>
#include <vector>

#include "collectors/netlink/taskstats.h"
#include "tests/fuzz/check.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  const auto task = cow::netlink::DecodeTaskStats(bytes);
  cow::fuzz::Check(!task || size >= 416, "a struct is complete");
  // Attributes are aligned, as libnl's buffers are.
  std::vector<std::max_align_t> aligned(size / sizeof(std::max_align_t) + 1);
  if (size != 0) std::memcpy(aligned.data(), data, size);
  const auto end = cow::netlink::DecodeTaskEnd(std::as_bytes(std::span(aligned)).first(size));
  cow::fuzz::Check(!end || size >= 416, "a report holds a struct");
  return 0;
}
