// Creates known page-table situations step by step. Reads one command per line from standard input. Answers each with
// one line on standard output, "ok …" or "error REASON", when the command is done.
//
// Members are the processes: 0 is the program itself (the root); `fork` makes the others. ID is a member, NAME a
// mapping of that member (a forked child has the same names), FIRST a page of it. Numbers are decimal, pages are base
// pages.
//
// clang-format off
//   map ID NAME PAGES [KIND]          new mapping with PROT_NONE guards around; answers ADDRESS. KIND: default (private
//                                     anonymous, the kernel's choice of page size), aligned (to 2 MiB), nohuge, huge
//                                     (aligned and MADV_HUGEPAGE), noreserve, none (PROT_NONE), shared, hugetlb (PAGES
//                                     fill whole huge pages)
//   mapfile ID NAME PATH PAGES private|shared
//   memfd ID NAME PAGES private|shared [hugetlb]  maps a memfd of its own
//   shm ID NAME PAGES [hugetlb]       maps shared memory of System V
//   write ID NAME FIRST COUNT [STRIDE]  writes one byte to each of COUNT pages, STRIDE (1) pages apart
//   read ID NAME FIRST COUNT [STRIDE]
//   dontneed ID NAME FIRST COUNT
//   madvise ID NAME ADVICE FIRST COUNT  ADVICE is the kernel's number
//   unmap ID NAME FIRST COUNT
//   remap ID NAME [ONTO]              mremap to a new place, or onto a mapping of equal size; answers ADDRESS. ONTO
//                                     names the hole afterwards. With - as ONTO the virtual size does not change
//   remapfixed ID NAME FIRST COUNT    munmap, then a fresh private anonymous mapping at the same place
//   collapse ID NAME                  MADV_COLLAPSE on all of it (the kernel refuses it for `nohuge`)
//   mlock ID NAME FIRST COUNT [onfault]
//   mlockall ID                       locks current and future memory
//   uffdwp ID NAME FIRST COUNT        write-protects its pages with userfaultfd; the kernel lifts that at a write
//   pin ID NAME FIRST COUNT           registers them as a buffer of an io_uring, which pins them
//   brk ID PAGES [NAME]               grows the heap by sbrk and writes to it; answers ADDRESS
//   brkshrink ID PAGES                gives back the last pages of the heap
//   heap ID BYTES                     malloc in small pieces, written to, never freed
//   malloc ID NAME PAGES              malloc in one piece, written to; NAME are its whole pages; answers ADDRESS
//   realloc ID NAME PAGES             realloc of it; answers ADDRESS
//   stack ID PAGES                    writes to PAGES pages below the current end of the stack
//   threads ID COUNT                  starts threads that sleep
//   writers ID NAME COUNT MICROSECONDS  starts threads that together write to each page once, in an order that jumps,
//                                     and sleep after each write; `writing` shows when they are done
//   writing ID                        answers the number of threads that still write
//   threadwrite ID NAME FIRST COUNT   like write, by a thread that ends after it
//   leaderexit ID                     ends the main thread; another thread continues as the member
//   name ID TEXT                      sets the name of the process
//   fork ID                           answers NEW-ID PID
//   forkdouble ID                     likewise through a process in between, which ends: the child is an orphan
//   forkat ID PID                     the child gets this PID
//   forkns ID DIRECTORY               the child is in its own PID namespace, with a procfs at DIRECTORY
//   crowd ID COUNT                    forks COUNT sleeping processes that are not members
//   vfork ID                          makes a sleeping process by vfork; answers PID. The member takes commands again
//                                     once that process was killed
//   survive ID                        ends a minute from now instead of with the root
//   share ID                          starts a sleeping process in the same memory (CLONE_VM); answers PID
//   sharesibling ID                   likewise, with the member's parent as its parent (CLONE_PARENT)
//   relayout ID code|stack BYTES      lowers the start of code or stack in the kernel's record (PR_SET_MM_MAP)
//   run ID [ignoring]                 runs a program by fork and exec and waits for its end; `ignoring` makes the member
//                                     ignore SIGCHLD first, permanently
//   exec ID                           becomes a fresh process image that only sleeps and takes no commands
//   reexec ID                         becomes a fresh process image that takes commands; it has no named mappings
//   setuid ID UID                     drops root, with all groups
//   exit ID [zombie], kill ID [zombie]  ends a member; its parent reaps it, except with `zombie`
//   reap ID                           makes the parent reap a zombie
//   pid ID                            answers PID
//   addr ID NAME                      answers ADDRESS PAGES
//   subreaper                         the root becomes the reaper of orphans
//   quit                              ends all members; so does the end of standard input
// clang-format on
//
// Each member gets its commands through a socket pair. All pairs are made before the first fork, so members of any
// depth have one. All state, including line buffers and tables of mappings, is in one shared mapping (Control).
// Commands use no stdio and do not allocate: a command itself dirties only a page or two of the member's stack and
// libc's errno, the same ones each time. Members end with the root, unless `survive` was called: they watch a pipe that
// only the root can write to.
#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <climits>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <new>
#include <optional>
#include <span>
#include <string_view>

#include "tests/support/workload/member.h"

namespace cow::workload {
namespace {

constexpr int kEndPolls = 5000;  // milliseconds to wait for a process to end

size_t SplitWords(std::string_view line, std::array<std::string_view, kMaxWords>& words) {
  size_t count = 0;
  while (!line.empty() && count < kMaxWords) {
    const size_t start = line.find_first_not_of(' ');
    if (start == std::string_view::npos) {
      break;
    }
    line.remove_prefix(start);
    words.at(count) = line.substr(0, line.find(' '));
    line.remove_prefix(words.at(count).size());
    ++count;
  }
  return count;
}

// Executes the line of the member, in the member, and stores the answer in its reply.
void Execute(int self, size_t length) {
  Member& me = MemberAt(self);
  std::array<std::string_view, kMaxWords> words;
  const size_t count = SplitWords({me.line.data(), length}, words);
  const Call call{self, {words.data(), count}};
  me.reply.Clear();
  for (const std::span<const Command> commands : {MemoryCommands(), ProcessCommands()}) {
    const auto command = std::find_if(commands.begin(), commands.end(), [&](const Command& candidate) {
      return count > 0 && candidate.name == words[0];
    });
    if (command == commands.end()) {
      continue;
    }
    if (count < command->least_words || count > command->most_words) {
      return call.Error("wrong number of arguments");
    }
    return command->execute(call);
  }
  call.Error("unknown command");
}

// ---- The root

void AwaitEnd(pid_t pid) {
  for (int i = 0; i < kEndPolls && !HasEnded(pid); ++i) {
    SleepMillisecond();
  }
}

void MarkEnded(int id) {
  MemberAt(id).state = State::kZombie;
  for (Member& other : control->members) {
    if (other.parent == id) {
      other.parent = kNobody;
    }
  }
}

// Makes the member execute the line, and copies its answer into the root's reply.
void Request(int id, std::string_view line) {
  const Call root{kRoot, {}};
  Member& member = MemberAt(id);
  if (id == kRoot) {
    std::memcpy(member.line.data(), line.data(), line.size());
    return Execute(kRoot, line.size());
  }
  send(member.sockets[0], line.data(), line.size(), MSG_NOSIGNAL);
  pollfd event{member.sockets[0], POLLIN, 0};
  bool ended = false;
  while (poll(&event, 1, ended ? 0 : 100) <= 0) {
    if (ended) {  // and nothing is left to read
      MarkEnded(id);
      return root.Error("the member died");
    }
    ended = HasEnded(member.pid) && !member.leaderless;
  }
  std::array<char, kMaxLine> answer;
  const ssize_t length = recv(member.sockets[0], answer.data(), answer.size(), 0);
  MemberAt(kRoot).reply.Clear();
  MemberAt(kRoot).reply.Add({answer.data(), length > 0 ? static_cast<size_t>(length) : 0});
}

// Makes the parent of an ended member reap it, or the root as subreaper. Other processes reap their own orphans.
void ReapMember(int id) {
  const Call root{kRoot, {}};
  Member& member = MemberAt(id);
  const bool orphan = member.parent == kNobody || MemberAt(member.parent).state != State::kRunning;
  if (orphan && control->subreaper) {
    waitpid(member.pid, nullptr, 0);  // fails if it was adopted before
  }
  if (orphan) {
    root.Done();
  } else {
    Text<64> line;
    line.Add("_reap ")
        .AddNumber(static_cast<uint64_t>(member.parent))
        .Add(" ")
        .AddNumber(static_cast<uint64_t>(member.pid));
    Request(member.parent, line.View());
  }
  member.state = State::kGone;
}

// exit ID [zombie], kill ID [zombie]
void EndMember(const Call& call, int id) {
  Member& member = MemberAt(id);
  const bool zombie = call.words.size() > 2;
  if (id == kRoot || (zombie && call.words[2] != "zombie")) {
    return call.Error("the root ends by quit, the only option is zombie");
  }
  if (call.words[0] == "exit" && member.state == State::kRunning) {
    Request(id, "_exit 0");
  } else if (call.words[0] == "kill" && (member.state == State::kRunning || member.state == State::kExeced)) {
    kill(member.pid, SIGKILL);
  } else {
    return call.Error("the member takes no commands");
  }
  AwaitEnd(member.pid);
  MarkEnded(id);
  call.Me().reply.Clear();
  if (!HasEnded(member.pid)) {
    call.Error("the member did not end");
  } else if (zombie) {
    call.Done();
  } else {
    ReapMember(id);
  }
}

void FindAddress(const Call& call, int id) {
  Member& member = MemberAt(id);
  const auto* found = std::find_if(member.mappings.begin(), member.mappings.begin() + member.mapping_count,
                                   [&](const Mapping& mapping) { return mapping.name.View() == call.words[2]; });
  if (found == member.mappings.begin() + member.mapping_count) {
    return call.Error("no such mapping");
  }
  call.Ok().Add(" ").AddAddress(found->address).Add(" ").AddNumber(found->pages);
}

// Executes one line of input and stores the answer in the root's reply.
void HandleLine(std::string_view line) {
  std::array<std::string_view, kMaxWords> words;
  const size_t count = SplitWords(line, words);
  const Call call{kRoot, {words.data(), count}};
  call.Me().reply.Clear();
  if (count == 1 && words[0] == "subreaper") {
    control->subreaper = prctl(PR_SET_CHILD_SUBREAPER, 1) == 0;
    return control->subreaper ? call.Done() : call.SystemError("prctl");
  }
  if (count < 2 || words[0].substr(0, 1) == "_") {
    return call.Error("unknown command, or without a member");
  }
  const auto id = ParseNumber<int>(words[1], static_cast<int>(control->member_count) - 1);
  if (!id) {
    return call.Error("no such member");
  }
  Member& member = MemberAt(*id);
  if (words[0] == "pid") {
    call.Ok().Add(" ").AddNumber(static_cast<uint64_t>(member.pid));
  } else if (words[0] == "writing") {
    call.Ok().Add(" ").AddNumber(static_cast<uint64_t>(member.writers.load()));
  } else if (words[0] == "addr" && count == 3) {
    FindAddress(call, *id);
  } else if (words[0] == "exit" || words[0] == "kill") {
    EndMember(call, *id);
  } else if (words[0] == "reap") {
    if (member.state != State::kZombie) {
      return call.Error("not a zombie");
    }
    ReapMember(*id);
  } else if (member.state != State::kRunning || (*id == kRoot && words[0] == "exec")) {
    call.Error("the member takes no commands");
  } else {
    Request(*id, line);
    if (words[0] == "exec" && call.Me().reply.View() == "ok") {
      member.state = State::kExeced;
    }
  }
}

bool WriteAll(std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = write(STDOUT_FILENO, text.data(), text.size());
    if (written <= 0) {
      return false;
    }
    text.remove_prefix(static_cast<size_t>(written));
  }
  return true;
}

// False to end.
bool Answer(std::string_view line) {
  Text<kMaxLine>& reply = MemberAt(kRoot).reply;
  if (line == "quit") {
    reply.Clear();
    reply.Add("ok");
  } else {
    HandleLine(line);
  }
  reply.Add("\n");
  return WriteAll(reply.View()) && line != "quit";
}

void RunRoot() {
  auto& input = control->input;
  for (;;) {
    const std::string_view pending(input.data(), control->input_length);
    const size_t end = pending.find('\n');
    if (end != std::string_view::npos) {
      if (!Answer(pending.substr(0, end))) {
        return;
      }
      control->input_length -= end + 1;
      std::memmove(input.data(), input.data() + end + 1, control->input_length);
      continue;
    }
    if (control->input_length == input.size()) {
      WriteAll("error line too long\n");
      return;
    }
    const ssize_t length =
        read(STDIN_FILENO, input.data() + control->input_length, input.size() - control->input_length);
    if (length <= 0) {
      return;
    }
    control->input_length += static_cast<size_t>(length);
  }
}

void* MapControl(int file) { return mmap(nullptr, sizeof(Control), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0); }

bool Initialise() {
  const int file = memfd_create("cow_workload", MFD_CLOEXEC);
  if (file < 0 || ftruncate(file, sizeof(Control)) != 0) {
    return false;
  }
  void* memory = MapControl(file);
  if (memory == MAP_FAILED) {
    return false;
  }
  control = new (memory) Control;
  control->file = file;
  control->page_bytes = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  control->huge_page_bytes = control->page_bytes / sizeof(uint64_t) * control->page_bytes;  // one page of table entries
  if (pipe2(control->lifeline.data(), O_CLOEXEC) != 0) {
    return false;
  }
  for (Member& member : control->members) {
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, member.sockets.data()) != 0) {
      return false;
    }
  }
  MemberAt(kRoot).pid = getpid();
  MemberAt(kRoot).state = State::kRunning;
  return HandleFaults();
}

// The life of an exec'ed member: reports, then sleeps until the root ends.
int Idle(int socket, int lifeline) {
  prctl(PR_SET_NAME, "cow_idle");
  std::signal(SIGCHLD, SIG_IGN);  // the kernel reaps its former children
  send(socket, "ok", 2, MSG_NOSIGNAL);
  close(socket);
  pollfd event{lifeline, POLLIN, 0};
  while (poll(&event, 1, -1) <= 0) {
  }
  return 0;
}

// The life of a re-exec'ed member: finds the shared state and continues.
int ComeBack(int file, int self) {
  void* memory = MapControl(file);
  if (memory == MAP_FAILED) {
    return 1;
  }
  control = static_cast<Control*>(memory);
  fcntl(control->file, F_SETFD, FD_CLOEXEC);
  fcntl(control->lifeline[0], F_SETFD, FD_CLOEXEC);
  for (const Member& member : control->members) {
    for (const int descriptor : member.sockets) fcntl(descriptor, F_SETFD, FD_CLOEXEC);
  }
  Member& me = MemberAt(self);
  me.mapping_count = 0;
  me.heap_pieces = nullptr;
  me.block = nullptr;
  if (!HandleFaults()) {
    return 1;
  }
  RunMember(self, "ok");
}

int RunImage(std::string_view what, int first, int second) {
  if (what == "--idle") {
    return Idle(first, second);
  }
  if (what == "--back") {
    return ComeBack(first, second);
  }
  if (!Initialise()) {
    WriteAll("error start failed\n");
    return 1;
  }
  RunRoot();
  return 0;
}

}  // namespace

[[noreturn]] void RunMember(int self, std::string_view greeting) {
  Member& me = MemberAt(self);
  me.state = State::kRunning;
  close(control->lifeline[1]);  // fails in a member's child, which has closed it already
  send(me.sockets[1], greeting.data(), greeting.size(), MSG_NOSIGNAL);
  for (;;) {
    std::array<pollfd, 2> events{pollfd{me.sockets[1], POLLIN, 0},
                                 pollfd{me.survives ? -1 : control->lifeline[0], POLLIN, 0}};
    if (poll(events.data(), events.size(), -1) < 0) {
      continue;
    }
    if (events[1].revents != 0) {
      _exit(0);
    }
    const ssize_t length = recv(me.sockets[1], me.line.data(), me.line.size() - 1, 0);
    if (length <= 0) {
      continue;
    }
    Execute(self, static_cast<size_t>(length));
    if (me.answered) {
      me.answered = false;
      continue;
    }
    send(me.sockets[1], me.reply.View().data(), me.reply.View().size(), MSG_NOSIGNAL);
  }
}

// The C library registers a page of each thread with the kernel for the processor number (rseq). The kernel writes
// there when it moves the thread to another processor, which breaks the page at an unknown moment. Restarts this
// program without it.
void LeaveRseqOut(char** arguments) {
  constexpr const char* kTunables = "GLIBC_TUNABLES";
  // NOLINTNEXTLINE(concurrency-mt-unsafe): one thread
  if (getenv(kTunables) != nullptr || setenv(kTunables, "glibc.pthread.rseq=0", 1) != 0) {
    return;
  }
  std::array<char, PATH_MAX> path{};
  if (readlink("/proc/self/exe", path.data(), path.size() - 1) > 0) {
    execv(path.data(), arguments);
  }
}

}  // namespace cow::workload

// The arguments are for the program itself: `--root 0000 0000` means the same as none, but takes as much stack as the
// arguments of an exec'ed member, so that without ASLR an exec gives an equal layout.
int main(int count, char** arguments) {
  cow::workload::LeaveRseqOut(arguments);
  if (count != 1 && count != 4) {
    return 2;
  }
  const std::string_view what = count == 4 ? arguments[1] : "--root";
  const auto first = cow::workload::ParseNumber<int>(count == 4 ? arguments[2] : "0", INT32_MAX);
  const auto second = cow::workload::ParseNumber<int>(count == 4 ? arguments[3] : "0", INT32_MAX);
  if (!first || !second || (what != "--idle" && what != "--back" && what != "--root")) {
    return 2;
  }
  _exit(cow::workload::RunImage(what, *first, *second));
}
