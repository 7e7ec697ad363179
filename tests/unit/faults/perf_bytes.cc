#include "tests/unit/faults/perf_bytes.h"

#include <linux/perf_event.h>

namespace cow::test {

PerfBytes& PerfBytes::AddText(std::string_view text) {
  for (const char c : text) Add(c);
  do {
    Add('\0');
  } while (body_.size() % 8 != 0);
  return *this;
}

PerfBytes& PerfBytes::AddTrailer(const Moment& moment) {
  return Add(moment.pid).Add(moment.tid).Add(moment.time_ns).Add(moment.event);
}

PerfBytes& PerfBytes::End(uint32_t type, uint16_t misc) {
  perf_event_header header{};
  header.type = type;
  header.misc = misc;
  header.size = static_cast<uint16_t>(sizeof(header) + body_.size());
  const auto bytes = std::as_bytes(std::span(&header, 1));
  bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
  bytes_.insert(bytes_.end(), body_.begin(), body_.end());
  body_.clear();
  return *this;
}

PerfBytes& PerfBytes::Fault(const Moment& moment, uint64_t ip, uint64_t address, bool in_kernel) {
  Add(moment.event).Add(ip).Add(moment.pid).Add(moment.tid).Add(moment.time_ns).Add(address);
  return End(PERF_RECORD_SAMPLE, in_kernel ? PERF_RECORD_MISC_KERNEL : PERF_RECORD_MISC_USER);
}

PerfBytes& PerfBytes::Fork(const Moment& moment, pid_t pid, pid_t tid) {
  Add(pid).Add(moment.pid).Add(tid).Add(moment.tid).Add(moment.time_ns);
  return AddTrailer(moment).End(PERF_RECORD_FORK);
}

PerfBytes& PerfBytes::Exit(const Moment& moment) {
  Add(moment.pid).Add(pid_t{1}).Add(moment.tid).Add(pid_t{1}).Add(moment.time_ns);
  return AddTrailer(moment).End(PERF_RECORD_EXIT);
}

PerfBytes& PerfBytes::Exec(const Moment& moment, std::string_view name) {
  return Add(moment.pid)
      .Add(moment.tid)
      .AddText(name)
      .AddTrailer(moment)
      .End(PERF_RECORD_COMM, PERF_RECORD_MISC_COMM_EXEC);
}

PerfBytes& PerfBytes::Lost(const Moment& moment, uint64_t count) {
  return Add(moment.event).Add(count).AddTrailer(moment).End(PERF_RECORD_LOST);
}

}  // namespace cow::test
