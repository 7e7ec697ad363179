#include "collectors/procfs/stat.h"

#include <array>
#include <concepts>
#include <cstddef>

#include "collectors/base/text.h"

namespace cow::procfs {
namespace {

constexpr uint32_t kKernelThreadFlag = 0x00200000;  // PF_KTHREAD

// Field numbers as in proc(5), which counts from 1. The first field after the name is 3.
constexpr size_t kFirstField = 3;
constexpr size_t kLastField = 47;
constexpr size_t kLastFieldBeforeLinux33 = 44;

// The fields after the name, by their numbers.
class Fields : public text::NumberFields {
 public:
  Fields(std::string_view text, const std::string& path) : NumberFields(path) {
    for (; count_ < fields_.size(); ++count_) {
      fields_[count_] = text::NextField(text);
      if (fields_[count_].empty()) break;
    }
  }

  size_t Last() const { return kFirstField + count_ - 1; }
  std::string_view Text(size_t number) const { return fields_[number - kFirstField]; }
  template <std::integral T>
  void Get(size_t number, std::string_view name, T& value) {
    NumberFields::Get(name, Text(number), value);
  }

 private:
  std::array<std::string_view, kLastField - kFirstField + 1> fields_;
  size_t count_ = 0;
};

}  // namespace

bool Stat::IsKernelThread() const { return (flags & kKernelThreadFlag) != 0; }

bool Stat::HasNoMemory() const {
  constexpr uint32_t kExiting = 0x4;  // PF_EXITING
  return IsZombie() || ((flags & kExiting) != 0 && virtual_bytes == 0);
}

void Stat::TakeMemoryFrom(const Stat& thread) {
  virtual_bytes = thread.virtual_bytes;
  start_code = thread.start_code;
  end_code = thread.end_code;
  start_stack = thread.start_stack;
  start_data = thread.start_data;
  end_data = thread.end_data;
  start_brk = thread.start_brk;
}

bool Stat::LayoutKnown() const { return start_code > 1 && start_stack != 0; }

Result<Stat> ReadStat(const Root& root, TaskId task) {
  const std::string path = root.ProcPath(task, "stat");
  return ReadTextFile(root, path).and_then([&](const std::string& text) { return ParseStat(text, path); });
}

Result<Stat> ParseStat(std::string_view text, const std::string& path) {
  // The name may contain blanks, newlines and parentheses. No field after it contains a parenthesis.
  const size_t open = text.find('(');
  const size_t close = text.rfind(')');
  if (open == std::string_view::npos || close == std::string_view::npos || close < open) {
    return tl::unexpected(Error::Malformed(path, "comm is missing in " + text::Quote(text)));
  }
  Stat stat;
  const std::string_view pid_text = text::Trim(text.substr(0, open));
  const auto pid = text::NumberField<pid_t>(path, "pid", pid_text);
  if (!pid) return tl::unexpected(pid.error());
  if (*pid <= 0) return tl::unexpected(text::BadField(path, "pid", pid_text));
  stat.pid = *pid;
  stat.comm = text.substr(open + 1, close - open - 1);

  Fields fields(text::FirstLine(text.substr(close + 1)), path);
  if (fields.Text(3).empty()) return tl::unexpected(text::MissingField(path, "state"));
  if (fields.Text(3).size() != 1) return tl::unexpected(text::BadField(path, "state", fields.Text(3)));
  stat.state = fields.Text(3).front();
  fields.Get(4, "ppid", stat.ppid);
  fields.Get(9, "flags", stat.flags);
  fields.Get(10, "minflt", stat.minor_faults);
  fields.Get(12, "majflt", stat.major_faults);
  uint64_t children_major_faults = 0;
  fields.Get(11, "cminflt", stat.children_faults);
  fields.Get(13, "cmajflt", children_major_faults);
  stat.children_faults += children_major_faults;
  fields.Get(20, "num_threads", stat.num_threads);
  fields.Get(22, "starttime", stat.start_time_ticks);
  fields.Get(23, "vsize", stat.virtual_bytes);
  fields.Get(26, "startcode", stat.start_code);
  fields.Get(27, "endcode", stat.end_code);
  fields.Get(28, "startstack", stat.start_stack);
  if (fields.Last() != kLastFieldBeforeLinux33) {
    fields.Get(45, "start_data", stat.start_data);
    fields.Get(46, "end_data", stat.end_data);
    fields.Get(47, "start_brk", stat.start_brk);
  }
  if (fields.error()) return tl::unexpected(*fields.error());
  if (stat.ppid < 0) return tl::unexpected(text::BadField(path, "ppid", fields.Text(4)));
  if (stat.num_threads < 0) return tl::unexpected(text::BadField(path, "num_threads", fields.Text(20)));
  return stat;
}

}  // namespace cow::procfs
