// A parent and children that share pages, and named functions that write to them. Reads one command per line from
// standard input and answers "ok" when it is done:
//
//   fork                               a further child; answers "ok PID"
//   SIDE write FIRST COUNT             write_in_parent or write_in_child
//   SIDE thread FIRST COUNT            write_in_thread, by a thread that ends
//   SIDE library FIRST COUNT PATH      write_in_library, of a library that is loaded before and unloaded after
//   SIDE mount FIRST COUNT PATH DIR    likewise, from a mount at DIR that only this process has
//   SIDE read FIRST COUNT              read(2) into the pages
//   SIDE zero FIRST COUNT              write_zero: first write to pages of another mapping that have the zero page
//   SIDE fresh 0 COUNT                 touch_fresh: pages that nobody shares
//
// SIDE is `parent`, or `child` for the newest child. FIRST and COUNT are pages of a mapping that was filled before.
#include <dlfcn.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>

namespace {

constexpr size_t kPages = 4096;
const size_t kPageBytes = static_cast<size_t>(sysconf(_SC_PAGESIZE));

using Write = void (*)(volatile char* pages, size_t count, size_t page_bytes);

[[noreturn]] void Fail(const char* what) {
  std::perror(what);
  std::_Exit(1);
}

char* Map(size_t pages, int advice) {
  void* memory = mmap(nullptr, pages * kPageBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) Fail("mmap");
  madvise(memory, pages * kPageBytes, advice);
  return static_cast<char*>(memory);
}

}  // namespace

extern "C" {
void write_in_parent(volatile char* pages, size_t count) {
  for (size_t i = 0; i < count; ++i) pages[i * kPageBytes] = 1;
}
void write_in_child(volatile char* pages, size_t count) {
  for (size_t i = 0; i < count; ++i) pages[i * kPageBytes] = 2;
}
void write_in_thread(volatile char* pages, size_t count) {
  for (size_t i = 0; i < count; ++i) pages[i * kPageBytes] = 3;
}
void touch_fresh(volatile char* pages, size_t count) {
  for (size_t i = 0; i < count; ++i) pages[i * kPageBytes] = 4;
}
void write_zero(volatile char* pages, size_t count) {
  for (size_t i = 0; i < count; ++i) pages[i * kPageBytes] = 5;
}
}

namespace {

void UseLibrary(const char* path, volatile char* pages, size_t count) {
  void* library = dlopen(path, RTLD_NOW);
  if (library == nullptr) Fail("library");
  const auto write = reinterpret_cast<Write>(dlsym(library, "write_in_library"));
  if (write == nullptr) Fail("library");
  write(pages, count, kPageBytes);
  dlclose(library);
}

void UseMount(const char* path, const char* directory, volatile char* pages, size_t count) {
  if (unshare(CLONE_NEWNS) != 0 || mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
      mount("tmpfs", directory, "tmpfs", 0, nullptr) != 0) {
    Fail("mount");
  }
  std::array<char, 512> copy{};
  std::array<char, 1024> command{};
  std::snprintf(copy.data(), copy.size(), "%s/only_here.so", directory);
  std::snprintf(command.data(), command.size(), "cp %s %s", path, copy.data());
  if (std::system(command.data()) != 0) Fail("cp");  // NOLINT(concurrency-mt-unsafe): the process has one thread
  UseLibrary(copy.data(), pages, count);
}

void ReadInto(char* pages, size_t count) {
  std::array<int, 2> pipe_ends{};
  if (pipe(pipe_ends.data()) != 0) Fail("pipe");
  for (size_t i = 0; i < count; ++i) {
    if (write(pipe_ends[1], "x", 1) != 1 || read(pipe_ends[0], pages + i * kPageBytes, 1) != 1) Fail("read");
  }
  close(pipe_ends[0]);
  close(pipe_ends[1]);
}

struct Memory {
  char* shared = Map(kPages, MADV_NOHUGEPAGE);
  char* zero = Map(kPages, MADV_NOHUGEPAGE);
};

struct Command {
  std::array<char, 16> side{};
  std::array<char, 16> action{};
  size_t first = 0;
  size_t count = 0;
  std::array<char, 400> path{};
  std::array<char, 400> directory{};

  bool Is(const char* name) const { return std::strcmp(action.data(), name) == 0; }
};

void Do(const Memory& memory, bool is_parent, const Command& command) {
  char* pages = memory.shared + command.first * kPageBytes;
  if (command.Is("write")) {
    (is_parent ? write_in_parent : write_in_child)(pages, command.count);
  } else if (command.Is("thread")) {
    std::thread(write_in_thread, pages, command.count).join();
  } else if (command.Is("library")) {
    UseLibrary(command.path.data(), pages, command.count);
  } else if (command.Is("mount")) {
    UseMount(command.path.data(), command.directory.data(), pages, command.count);
  } else if (command.Is("read")) {
    ReadInto(pages, command.count);
  } else if (command.Is("zero")) {
    write_zero(memory.zero + command.first * kPageBytes, command.count);
  } else if (command.Is("fresh")) {
    touch_fresh(Map(command.count, MADV_NOHUGEPAGE), command.count);
  }
}

// A process that does what is written to its pipe.
struct Child {
  std::FILE* commands = nullptr;
  std::FILE* answers = nullptr;
};

bool Serve(std::FILE* in, std::FILE* out, Memory& memory, Child* child);

Child Fork(Memory& memory) {
  std::array<int, 2> to{};
  std::array<int, 2> from{};
  if (pipe(to.data()) != 0 || pipe(from.data()) != 0) Fail("pipe");
  std::fflush(nullptr);
  const pid_t pid = fork();
  if (pid < 0) Fail("fork");
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    close(to[1]);
    close(from[0]);
    std::FILE* in = fdopen(to[0], "r");
    std::FILE* out = fdopen(from[1], "w");
    std::fprintf(out, "ok %d\n", getpid());
    std::fflush(out);
    while (Serve(in, out, memory, nullptr)) {
    }
    std::_Exit(0);
  }
  close(to[0]);
  close(from[1]);
  return {fdopen(to[1], "w"), fdopen(from[0], "r")};
}

// One command. False at the end of the input.
bool Serve(std::FILE* in, std::FILE* out, Memory& memory, Child* child) {
  std::array<char, 1024> line{};
  if (std::fgets(line.data(), line.size(), in) == nullptr) return false;
  Command command;
  std::sscanf(line.data(), "%15s %15s %zu %zu %399s %399s", command.side.data(), command.action.data(), &command.first,
              &command.count, command.path.data(), command.directory.data());
  std::array<char, 64> answer{"ok\n"};
  if (child != nullptr && std::strcmp(command.side.data(), "fork") == 0) {
    *child = Fork(memory);
    if (std::fgets(answer.data(), answer.size(), child->answers) == nullptr) Fail("child");
  } else if (child != nullptr && std::strcmp(command.side.data(), "child") == 0) {
    std::fputs(line.data(), child->commands);
    std::fflush(child->commands);
    if (std::fgets(answer.data(), answer.size(), child->answers) == nullptr) Fail("child");
  } else {
    Do(memory, child != nullptr, command);
  }
  std::fputs(answer.data(), out);
  std::fflush(out);
  return true;
}

}  // namespace

int main() {
  Memory memory;
  std::memset(memory.shared, 7, kPages * kPageBytes);
  volatile const char* zero = memory.zero;
  for (size_t i = 0; i < kPages; ++i) static_cast<void>(zero[i * kPageBytes]);
  Child child;
  while (Serve(stdin, stdout, memory, &child)) {
  }
}
