#include "tests/support/workload/member.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <csignal>
#include <ctime>

namespace cow::workload {
namespace {

extern "C" void HandleFault(int signal) {
  const pid_t pid = getpid();
  for (Member& member : control->members) {
    if (member.pid == pid && member.guarded) {
      member.guarded = false;
      siglongjmp(member.fault, 1);
    }
  }
  std::signal(signal, SIG_DFL);  // the access is repeated and ends the process
}

[[gnu::noinline]] void TouchEach(Member& me, const Range& range, bool write) {
  me.next_byte = static_cast<unsigned char>(me.next_byte % 255 + 1);
  for (size_t i = 0; i < range.count; ++i) {
    me.touched_page = range.first + i * range.stride;
    volatile auto* place = static_cast<unsigned char*>(Pointer(range.address + me.touched_page * control->page_bytes));
    if (write) {
      *place = me.next_byte;
    } else {
      static_cast<void>(*place);
    }
  }
}

// Returns the state letter of /proc/PID/stat; 0 if there is no such process.
char ProcessState(pid_t pid) {
  Text<32> path;
  path.Add("/proc/").AddNumber(static_cast<uint64_t>(pid)).Add("/stat").Add(std::string_view("\0", 1));
  const int file = open(path.View().data(), O_RDONLY | O_CLOEXEC);
  if (file < 0) {
    return '\0';
  }
  std::array<char, 512> content{};
  const ssize_t length = read(file, content.data(), content.size());
  close(file);
  const std::string_view text(content.data(), length > 0 ? static_cast<size_t>(length) : 0);
  const size_t name_end = text.rfind(')');
  return name_end == std::string_view::npos || name_end + 2 >= text.size() ? '\0' : text[name_end + 2];
}

}  // namespace

Control* control = nullptr;

void SleepMillisecond() {
  const timespec millisecond{.tv_sec = 0, .tv_nsec = 1'000'000};
  nanosleep(&millisecond, nullptr);
}

bool HasEnded(pid_t pid) {
  const char state = ProcessState(pid);
  return state == '\0' || state == 'Z' || state == 'X';
}

bool HandleFaults() {
  struct sigaction action {};
  action.sa_handler = HandleFault;
  return sigaction(SIGSEGV, &action, nullptr) == 0 && sigaction(SIGBUS, &action, nullptr) == 0;
}

[[gnu::noinline]] bool TouchPages(Member& me, const Range& range, bool write) {
  if (sigsetjmp(me.fault, 1) != 0) {
    return false;
  }
  me.guarded = true;
  TouchEach(me, range, write);
  me.guarded = false;
  return true;
}

Mapping* FindMapping(const Call& call, std::string_view name) {
  Member& me = call.Me();
  const std::span mappings(me.mappings.data(), me.mapping_count);
  const auto found = std::find_if(mappings.begin(), mappings.end(),
                                  [&](const Mapping& mapping) { return mapping.name.View() == name; });
  if (found == mappings.end()) {
    call.Error("no such mapping");
    return nullptr;
  }
  return &*found;
}

std::optional<Range> ParseRange(const Call& call, const Mapping& mapping, size_t index) {
  const auto first = ParseNumber<size_t>(call.words[index], kMaxPages);
  const auto count = ParseNumber<size_t>(call.words[index + 1], kMaxPages);
  const auto stride =
      call.words.size() > index + 2 ? ParseNumber<size_t>(call.words[index + 2], kMaxPages) : std::optional<size_t>(1);
  if (!first || !count || !stride || *count == 0 || *stride == 0 || *first >= mapping.pages ||
      (mapping.pages - 1 - *first) / *stride < *count - 1) {
    call.Error("range is not within the mapping");
    return std::nullopt;
  }
  return Range{mapping.address, *first, *count, *stride};
}

}  // namespace cow::workload
