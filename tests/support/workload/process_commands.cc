// Commands that make, change and end processes and threads; cow_workload.cc describes them.
#include <fcntl.h>
#include <grp.h>
#include <linux/sched.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <ctime>

#include "tests/support/workload/member.h"

namespace cow::workload {
namespace {

// ---- Threads

void* SleepForever(void* /*unused*/) {
  for (;;) {
    pause();
  }
}

// Returns 0 or the error.
int StartThread(void* (*run)(void*), void* argument) {
  pthread_t thread{};
  const int error = pthread_create(&thread, nullptr, run, argument);
  if (error == 0) {
    pthread_detach(thread);
  }
  return error;
}

void Threads(const Call& call) {
  const auto count = ParseNumber<int>(call.words[2], 1000);
  if (!count) {
    return call.Error("bad number of threads");
  }
  for (int i = 0; i < *count; ++i) {
    errno = StartThread(SleepForever, nullptr);
    if (errno != 0) {
      return call.SystemError("pthread_create");
    }
  }
  call.Done();
}

void* WriteInThread(void* argument) {
  const auto& range = *static_cast<const Range*>(argument);
  for (size_t i = 0; i < range.count; ++i) {
    const uintptr_t page = range.first + i * range.stride;
    *static_cast<volatile char*>(Pointer(range.address + page * control->page_bytes)) = 1;
  }
  return nullptr;
}

void ThreadWrite(const Call& call) {
  const Mapping* mapping = FindMapping(call, call.words[2]);
  if (mapping == nullptr) {
    return;
  }
  auto range = ParseRange(call, *mapping, 3);
  if (!range) {
    return;
  }
  pthread_t thread{};
  errno = pthread_create(&thread, nullptr, WriteInThread, &*range);
  if (errno != 0) {
    return call.SystemError("pthread_create");
  }
  pthread_join(thread, nullptr);
  call.Done();
}

// The body of one thread of `writers`; its state is in memory shared with all members.
struct Writing {
  Member* member = nullptr;
  uintptr_t address = 0;
  size_t pages = 0;
  size_t first = 0;
  size_t step = 0;  // from one page to the next, modulo `pages`
  size_t count = 0;
  timespec pause{};
};

void* WriteSlowly(void* argument) {
  const Writing& writing = *static_cast<Writing*>(argument);
  size_t page = writing.first;
  for (size_t i = 0; i < writing.count; ++i) {
    *static_cast<volatile unsigned char*>(Pointer(writing.address + page * control->page_bytes)) = 1;
    page = (page + writing.step) % writing.pages;
    nanosleep(&writing.pause, nullptr);
  }
  --writing.member->writers;
  return nullptr;
}

void Writers(const Call& call) {
  // A prime that divides no size in the tests, so consecutive writes go to different windows.
  constexpr size_t kStride = 7919;
  constexpr int64_t kMicrosecond = 1000;
  const Mapping* mapping = FindMapping(call, call.words[2]);
  if (mapping == nullptr) {
    return;
  }
  const auto threads = ParseNumber<size_t>(call.words[3], 16);
  const auto pause = ParseNumber<int64_t>(call.words[4], 999'999);
  if (!threads || *threads == 0 || !pause || mapping->pages % *threads != 0 || mapping->pages % kStride == 0) {
    return call.Error("bad number of threads or microseconds, or of pages for these threads");
  }
  void* memory = mmap(nullptr, *threads * sizeof(Writing), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) {
    return call.SystemError("mmap");
  }
  auto* writings = static_cast<Writing*>(memory);
  const size_t each = mapping->pages / *threads;
  for (size_t i = 0; i < *threads; ++i) {
    writings[i] = {&call.Me(),
                   mapping->address,
                   mapping->pages,
                   i * each % mapping->pages * kStride % mapping->pages,
                   kStride,
                   each,
                   {.tv_sec = 0, .tv_nsec = *pause * kMicrosecond}};
    ++call.Me().writers;
    errno = StartThread(WriteSlowly, &writings[i]);
    if (errno != 0) {
      --call.Me().writers;
      return call.SystemError("pthread_create");
    }
  }
  call.Done();
}

// Continues as the member after its main thread has ended.
void* RunWithoutLeader(void* argument) {
  auto& me = *static_cast<Member*>(argument);
  while (!HasEnded(me.pid)) {
    SleepMillisecond();
  }
  RunMember(static_cast<int>(&me - control->members.data()), "ok");
}

void EndLeader(const Call& call) {
  if (call.self == kRoot) {
    return call.Error("the root's main thread reads the commands");
  }
  Member& me = call.Me();
  me.leaderless = true;
  errno = StartThread(RunWithoutLeader, &me);
  if (errno != 0) {
    me.leaderless = false;
    return call.SystemError("pthread_create");
  }
  syscall(SYS_exit, 0);  // ends this thread only; pthread_exit would load a library to unwind with
}

// ---- Processes

void Name(const Call& call) {
  Text<16> name;
  name.Add(call.words[2].substr(0, 15)).Add(std::string_view("\0", 1));
  prctl(PR_SET_NAME, name.View().data());
  call.Done();
}

void SetUser(const Call& call) {
  const auto user = ParseNumber<uid_t>(call.words[2], UINT32_MAX);
  if (!user) {
    return call.Error("bad user");
  }
  if (setgroups(0, nullptr) != 0 || setgid(*user) != 0 || setuid(*user) != 0) {
    return call.SystemError("setuid");
  }
  call.Done();
}

int SleepInProcess(void* /*unused*/) {
  SleepForever(nullptr);
  return 0;
}

void Share(const Call& call) {
  constexpr size_t kStackBytes = size_t{64} << 10;
  void* stack = mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (stack == MAP_FAILED) {
    return call.SystemError("mmap");
  }
  const int parent = call.words[0] == "sharesibling" ? CLONE_PARENT : 0;
  const int pid = clone(SleepInProcess, static_cast<char*>(stack) + kStackBytes, CLONE_VM | parent | SIGCHLD, nullptr);
  if (pid < 0) {
    return call.SystemError("clone");
  }
  call.Ok().Add(" ").AddNumber(static_cast<uint64_t>(pid));
}

// Reads fields of /proc/self/stat by their numbers (proc(5)). False with errno on failure.
bool ReadOwnStat(std::array<uint64_t, 53>& fields) {
  std::array<char, 1024> text{};
  const int file = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
  const ssize_t length = read(file, text.data(), text.size());
  close(file);
  if (length <= 0) {
    return false;
  }
  std::string_view rest(text.data(), static_cast<size_t>(length));
  rest.remove_prefix(std::min(rest.rfind(')') + 2, rest.size()));
  for (size_t field = 3; field < fields.size() && !rest.empty(); ++field) {
    const std::string_view word = rest.substr(0, rest.find(' '));
    std::from_chars(word.data(), word.data() + word.size(), fields.at(field));
    rest.remove_prefix(std::min(word.size() + 1, rest.size()));
  }
  return true;
}

void Relayout(const Call& call) {
  const auto bytes = ParseNumber<uint64_t>(call.words[3], uint64_t{1} << 30);
  std::array<uint64_t, 53> stat{};
  if (!bytes || !ReadOwnStat(stat)) {
    return call.Error("bad number of bytes, or no /proc/self/stat");
  }
  prctl_mm_map map{};
  map.start_code = stat[26];
  map.end_code = stat[27];
  map.start_stack = stat[28];
  map.start_data = stat[45];
  map.end_data = stat[46];
  map.start_brk = stat[47];
  map.brk = static_cast<uint64_t>(syscall(SYS_brk, 0));
  map.arg_start = stat[48];
  map.arg_end = stat[49];
  map.env_start = stat[50];
  map.env_end = stat[51];
  map.exe_fd = ~uint32_t{0};
  (call.words[2] == "code" ? map.start_code : map.start_stack) -= *bytes;
  if (prctl(PR_SET_MM, PR_SET_MM_MAP, &map, sizeof(map), 0) != 0) {
    return call.SystemError("PR_SET_MM_MAP");
  }
  call.Done();
}

// Makes the process end with the root, like the members.
[[noreturn]] void SleepToTheEnd() {
  pollfd event{control->lifeline[0], POLLIN, 0};
  while (poll(&event, 1, -1) <= 0) {
  }
  _exit(0);
}

void Crowd(const Call& call) {
  const auto count = ParseNumber<int>(call.words[2], 2000);
  if (!count) {
    return call.Error("bad number of processes");
  }
  for (int i = 0; i < *count; ++i) {
    const pid_t pid = fork();
    if (pid == 0) {
      SleepToTheEnd();
    }
    if (pid < 0) {
      return call.SystemError("fork");
    }
  }
  call.Done();
}

void Vfork(const Call& call) {
  if (call.self == kRoot) {
    return call.Error("the root must go on reading commands");
  }
  Member& me = call.Me();
  me.answered = true;
  const pid_t pid = vfork();  // NOLINT(clang-analyzer-security.insecureAPI.vfork): its memory is what is wanted
  if (pid == 0) {
    // NOLINTNEXTLINE(clang-analyzer-unix.Vfork): it answers in place of the member, which waits, and never returns
    call.Ok().Add(" ").AddNumber(static_cast<uint64_t>(getpid()));
    send(me.sockets[1], me.reply.View().data(), me.reply.View().size(), MSG_NOSIGNAL);
    SleepToTheEnd();
  }
  if (pid < 0) {
    me.answered = false;
    return call.SystemError("vfork");
  }
  waitpid(pid, nullptr, 0);
}

// The rest of the line is not needed: end the word here.
const char* EndWord(const Call& call, size_t index) {
  const std::string_view word = call.words[index];
  call.Me().line.at(static_cast<size_t>(word.data() - call.Me().line.data()) + word.size()) = '\0';
  return word.data();
}

// Like fork; -1 with errno.
pid_t ForkWithPid(pid_t pid) {
  clone_args arguments{};
  arguments.exit_signal = SIGCHLD;
  arguments.set_tid = Address(&pid);
  arguments.set_tid_size = 1;
  return static_cast<pid_t>(syscall(SYS_clone3, &arguments, sizeof(arguments)));
}

pid_t ForkIntoNamespaces() {
  return static_cast<pid_t>(syscall(SYS_clone, CLONE_NEWPID | CLONE_NEWNS | SIGCHLD, 0, 0, 0, 0));
}

// Mounts a procfs of this PID namespace, visible in this mount namespace only.
bool MountProc(const char* directory) {
  return mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
         mount("proc", directory, "proc", 0, nullptr) == 0;
}

// Waits for the end of a child. If SIGCHLD is ignored, the kernel reaps the child and the status counts as 0.
bool AwaitChild(pid_t pid, int& status) {
  status = 0;
  return waitpid(pid, &status, 0) == pid || errno == ECHILD;
}

// The child's side of a fork.
[[noreturn]] void RunForked(const Call& call, int id) {
  const std::string_view how = call.words[0];
  if (how == "forkdouble") {
    const pid_t inner = fork();
    if (inner != 0) {
      _exit(inner < 0 ? 1 : 0);
    }
  }
  if (how == "forkns") {
    if (!MountProc(EndWord(call, 2))) {
      send(MemberAt(id).sockets[1], "e", 1, MSG_NOSIGNAL);
      _exit(1);
    }
  } else {
    MemberAt(id).pid = getpid();  // in its own namespace it has another pid
  }
  RunMember(id, "r");
}

void Fork(const Call& call) {
  if (control->member_count == kMaxMembers) {
    return call.Error("too many members");
  }
  const std::string_view how = call.words[0];
  const bool orphan = how == "forkdouble";
  const auto wanted = how == "forkat" ? ParseNumber<pid_t>(call.words[2], INT32_MAX) : std::optional<pid_t>(0);
  if (!wanted) {
    return call.Error("bad PID");
  }
  const int id = static_cast<int>(control->member_count);
  Member& member = MemberAt(id);
  member.mapping_count = call.Me().mapping_count;
  member.mappings = call.Me().mappings;
  member.heap_pieces = call.Me().heap_pieces;
  member.block = call.Me().block;
  member.parent = orphan ? kNobody : call.self;

  pid_t pid = 0;
  if (how == "forkat") {
    pid = ForkWithPid(*wanted);
  } else if (how == "forkns") {
    pid = ForkIntoNamespaces();
  } else {
    pid = fork();
  }
  if (pid == 0) {
    RunForked(call, id);
  }
  int status = 0;
  if (pid < 0 || (orphan && (!AwaitChild(pid, status) || status != 0))) {
    return call.SystemError("fork");
  }
  // The child reports when it has started, so its start is complete when the command answers.
  char ready = 0;
  if (recv(member.sockets[0], &ready, 1, 0) != 1 || ready != 'r') {
    return call.Error("the child could not start");
  }
  if (how == "forkns") {
    member.pid = pid;
  }
  ++control->member_count;
  call.Ok().Add(" ").AddNumber(static_cast<uint64_t>(id)).Add(" ").AddNumber(static_cast<uint64_t>(member.pid));
}

// Runs a program that ends at once, and waits for it. `ignoring`: ignore SIGCHLD from here on.
void Run(const Call& call) {
  const bool ignoring = call.words.size() > 2;
  if (ignoring && call.words[2] != "ignoring") {
    return call.Error("bad word");
  }
  if (ignoring) {
    signal(SIGCHLD, SIG_IGN);
  }
  const pid_t pid = fork();
  if (pid == 0) {
    execl("/bin/true", "true", nullptr);
    _exit(1);
  }
  int status = 0;
  if (pid < 0 || !AwaitChild(pid, status) || status != 0) {
    return call.SystemError("run");
  }
  call.Done();
}

void KeepOverExec(int descriptor, bool keep) { fcntl(descriptor, F_SETFD, keep ? 0 : FD_CLOEXEC); }

// Formats a number as an argument of fixed length.
void SetArgument(Text<16>& argument, int number) {
  for (int digit = 1000; digit > number && digit > 1; digit /= 10) {
    argument.Add("0");
  }
  argument.AddNumber(static_cast<uint64_t>(number)).Add(std::string_view("\0", 1));
}

// Uses a path and arguments of the root's length, so that without ASLR the layout equals the root's.
void ExecAs(const Call& call, const char* what, int first, int second) {
  std::array<Text<16>, 2> numbers;
  SetArgument(numbers[0], first);
  SetArgument(numbers[1], second);
  const auto* path = static_cast<const char*>(Pointer(getauxval(AT_EXECFN)));
  // The new image answers after the exec.
  execl(path, "cow_workload", what, numbers[0].View().data(), numbers[1].View().data(), nullptr);
  call.SystemError("exec");
}

void Survive(const Call& call) {
  constexpr unsigned kSeconds = 60;
  call.Me().survives = true;
  alarm(kSeconds);
  call.Done();
}

void Exec(const Call& call) {
  const std::array descriptors{call.Me().sockets[1], control->lifeline[0]};
  for (const int descriptor : descriptors) {
    KeepOverExec(descriptor, true);
  }
  ExecAs(call, "--idle", descriptors[0], descriptors[1]);
  for (const int descriptor : descriptors) {
    KeepOverExec(descriptor, false);
  }
}

void ReExec(const Call& call) {
  const auto keep_all = [](bool keep) {
    KeepOverExec(control->file, keep);
    KeepOverExec(control->lifeline[0], keep);
    for (const Member& member : control->members) {
      for (const int descriptor : member.sockets) KeepOverExec(descriptor, keep);
    }
  };
  keep_all(true);
  ExecAs(call, "--back", control->file, call.self);
  keep_all(false);
}

void Exit(const Call& call) {
  call.Done();
  send(call.Me().sockets[1], call.Me().reply.View().data(), call.Me().reply.View().size(), MSG_NOSIGNAL);
  _exit(0);
}

// _reap ID PID; only the root sends it.
void Reap(const Call& call) {
  const auto pid = ParseNumber<pid_t>(call.words[2], INT32_MAX);
  int status = 0;
  if (!pid || !AwaitChild(*pid, status)) {
    return call.SystemError("waitpid");
  }
  call.Done();
}

constexpr std::array kCommands{
    Command{"threadwrite", 5, 6, ThreadWrite},
    Command{"survive", 2, 2, Survive},
    Command{"threads", 3, 3, Threads},
    Command{"writers", 5, 5, Writers},
    Command{"leaderexit", 2, 2, EndLeader},
    Command{"name", 3, 3, Name},
    Command{"setuid", 3, 3, SetUser},
    Command{"share", 2, 2, Share},
    Command{"sharesibling", 2, 2, Share},
    Command{"relayout", 4, 4, Relayout},
    Command{"crowd", 3, 3, Crowd},
    Command{"vfork", 2, 2, Vfork},
    Command{"fork", 2, 2, Fork},
    Command{"forkdouble", 2, 2, Fork},
    Command{"forkat", 3, 3, Fork},
    Command{"forkns", 3, 3, Fork},
    Command{"run", 2, 3, Run},
    Command{"exec", 2, 2, Exec},
    Command{"reexec", 2, 2, ReExec},
    Command{"_exit", 2, 2, Exit},
    Command{"_reap", 3, 3, Reap},
};

}  // namespace

std::span<const Command> ProcessCommands() { return kCommands; }

}  // namespace cow::workload
