#include "exporter/sandbox/policies.h"

#include <fcntl.h>
#include <linux/perf_event.h>
#include <linux/sched.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdint>

namespace cow::exporter {
namespace {

// What glibc, libstdc++ and event loops of libraries need. None of these names a file or another process.
constexpr std::array kRuntime{
    // memory
    SCMP_SYS(brk), SCMP_SYS(madvise), SCMP_SYS(mremap), SCMP_SYS(munmap),
    // open descriptors
    SCMP_SYS(close), SCMP_SYS(fstat), SCMP_SYS(lseek), SCMP_SYS(pread64), SCMP_SYS(preadv), SCMP_SYS(read),
    SCMP_SYS(readv), SCMP_SYS(write), SCMP_SYS(writev),
    // events
    SCMP_SYS(epoll_create1), SCMP_SYS(epoll_ctl), SCMP_SYS(epoll_pwait), SCMP_SYS(epoll_wait), SCMP_SYS(eventfd2),
    SCMP_SYS(pipe2), SCMP_SYS(poll), SCMP_SYS(ppoll), SCMP_SYS(pselect6), SCMP_SYS(select), SCMP_SYS(signalfd4),
    SCMP_SYS(timerfd_create), SCMP_SYS(timerfd_settime),
    // time
    SCMP_SYS(clock_getres), SCMP_SYS(clock_gettime), SCMP_SYS(clock_nanosleep), SCMP_SYS(gettimeofday),
    SCMP_SYS(nanosleep), SCMP_SYS(time),
    // signals
    SCMP_SYS(restart_syscall), SCMP_SYS(rt_sigaction), SCMP_SYS(rt_sigpending), SCMP_SYS(rt_sigprocmask),
    SCMP_SYS(rt_sigreturn), SCMP_SYS(rt_sigsuspend), SCMP_SYS(rt_sigtimedwait), SCMP_SYS(sigaltstack),
    // threads
    SCMP_SYS(exit), SCMP_SYS(exit_group), SCMP_SYS(futex), SCMP_SYS(get_robust_list), SCMP_SYS(getcpu),
    SCMP_SYS(gettid), SCMP_SYS(membarrier), SCMP_SYS(rseq), SCMP_SYS(sched_getaffinity), SCMP_SYS(sched_getparam),
    SCMP_SYS(sched_getscheduler), SCMP_SYS(sched_yield), SCMP_SYS(set_robust_list), SCMP_SYS(set_tid_address),
    // what the process is
    SCMP_SYS(capget), SCMP_SYS(getegid), SCMP_SYS(geteuid), SCMP_SYS(getgid), SCMP_SYS(getgroups), SCMP_SYS(getpid),
    SCMP_SYS(getppid), SCMP_SYS(getrandom), SCMP_SYS(getresgid), SCMP_SYS(getresuid), SCMP_SYS(getrusage),
    SCMP_SYS(getuid), SCMP_SYS(sysinfo), SCMP_SYS(times), SCMP_SYS(uname),
    // connected sockets
    SCMP_SYS(getpeername), SCMP_SYS(getsockname), SCMP_SYS(getsockopt), SCMP_SYS(recvfrom), SCMP_SYS(recvmsg),
    SCMP_SYS(shutdown)};

// Reading files and their attributes. Opening them has its own rules.
constexpr std::array kFiles{SCMP_SYS(access),   SCMP_SYS(faccessat),  SCMP_SYS(faccessat2), SCMP_SYS(fstatfs),
                            SCMP_SYS(getcwd),   SCMP_SYS(getdents64), SCMP_SYS(lstat),      SCMP_SYS(newfstatat),
                            SCMP_SYS(readlink), SCMP_SYS(readlinkat), SCMP_SYS(stat),       SCMP_SYS(statfs),
                            SCMP_SYS(statx)};

constexpr scmp_datum_t kNewNamespaces =
    CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET;
// PAGEMAP_SCAN of <linux/fs.h> since Linux 6.7; its argument has 96 bytes.
constexpr scmp_datum_t kPagemapScan = _IOC(_IOC_READ | _IOC_WRITE, 'f', 16, 96);  // NOLINT: the C macro casts
constexpr scmp_datum_t kWriteFlags = O_ACCMODE | O_CREAT | O_TRUNC | O_APPEND | (O_TMPFILE & ~O_DIRECTORY);

void AllowAnyOf(Filter& filter, int call, unsigned argument, std::initializer_list<scmp_datum_t> values) {
  for (const scmp_datum_t value : values) filter.Allow(call, {Equals(argument, value)});
}

void AllowRuntime(Filter& filter) {
  filter.Allow(kRuntime);
  AllowAnyOf(filter, SCMP_SYS(ioctl), 1, {FIONBIO, FIONREAD, TCGETS});
  AllowAnyOf(filter, SCMP_SYS(fcntl), 1,
             {F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_DUPFD_CLOEXEC, F_GET_SEALS, F_ADD_SEALS});
  AllowAnyOf(filter, SCMP_SYS(prctl), 0,
             {PR_SET_NAME, PR_GET_NAME, PR_GET_DUMPABLE, PR_GET_NO_NEW_PRIVS, PR_CAPBSET_READ});
  filter.Allow(SCMP_SYS(mmap), {NoneOf(2, PROT_EXEC)});
  filter.Allow(SCMP_SYS(mprotect), {NoneOf(2, PROT_EXEC)});
  // getrlimit of this process
  filter.Allow(SCMP_SYS(prlimit64), {Equals(0, 0), Equals(2, 0)});
  // MSG_FASTOPEN connects.
  filter.Allow(SCMP_SYS(sendmsg), {NoneOf(2, MSG_FASTOPEN)});
}

void AllowThreads(Filter& filter) {
  filter.Allow(SCMP_SYS(clone), {BitsAre(0, CLONE_THREAD | kNewNamespaces, CLONE_THREAD)});
}

// raise() and abort() use tgkill.
void AllowSignalsToItself(Filter& filter) {
  const auto self = static_cast<scmp_datum_t>(getpid());
  filter.Allow(SCMP_SYS(kill), {Equals(0, self)});
  filter.Allow(SCMP_SYS(tgkill), {Equals(0, self)});
}

void AllowReadingFiles(Filter& filter) {
  filter.Allow(kFiles);
  filter.Allow(SCMP_SYS(open), {NoneOf(1, kWriteFlags)});
  filter.Allow(SCMP_SYS(openat), {NoneOf(2, kWriteFlags)});
  // Executable pages of shared libraries. No page is both writable and executable.
  filter.Allow(SCMP_SYS(mmap), {BitsAre(2, PROT_WRITE | PROT_EXEC, PROT_EXEC)});
}

void AllowOptions(Filter& filter, scmp_datum_t level, std::initializer_list<scmp_datum_t> options) {
  for (const scmp_datum_t option : options) {
    filter.Allow(SCMP_SYS(setsockopt), {Equals(1, level), Equals(2, option)});
  }
}

// What the front does. The launcher's filter contains it, because the front inherits that one.
void AllowServing(Filter& filter) {
  constexpr std::array kCalls{SCMP_SYS(accept), SCMP_SYS(accept4), SCMP_SYS(sendfile)};
  filter.Allow(kCalls);
  // With an address, a datagram or MSG_FASTOPEN would reach others.
  filter.Allow(SCMP_SYS(sendto), {Equals(4, 0), NoneOf(3, MSG_FASTOPEN)});
  AllowOptions(filter, IPPROTO_TCP, {TCP_NODELAY, TCP_CORK});
  AllowOptions(filter, SOL_SOCKET, {SO_RCVTIMEO, SO_SNDTIMEO, SO_KEEPALIVE, SO_LINGER});
  // glibc before 2.39 implements fstat with it.
  filter.Allow(SCMP_SYS(newfstatat), {BitsAre(3, AT_EMPTY_PATH, AT_EMPTY_PATH)});
}

// SIGTERM and SIGKILL to one process. A filter can't tell children from others, but Landlock confines signals to the
// domain. Zero and negative numbers mean groups. libseccomp compares an argument once in a rule, so each rule asks for
// one bit of a number that the kernel can give.
void AllowEnding(Filter& filter) {
  constexpr unsigned kBitsOfPid = 23;  // the largest is 1 << 22
  constexpr scmp_datum_t kNoBitOfPid = ~((scmp_datum_t{1} << kBitsOfPid) - 1);
  for (unsigned number = 0; number < kBitsOfPid; ++number) {
    const scmp_datum_t bit = scmp_datum_t{1} << number;
    filter.Allow(SCMP_SYS(kill), {BitsAre(0, kNoBitOfPid | bit, bit), Equals(1, SIGTERM)});
    filter.Allow(SCMP_SYS(kill), {BitsAre(0, kNoBitOfPid | bit, bit), Equals(1, SIGKILL)});
  }
}

}  // namespace

Filter ReaderFilter() {
  Filter filter;
  AllowRuntime(filter);
  AllowThreads(filter);
  AllowSignalsToItself(filter);
  AllowReadingFiles(filter);
  constexpr std::array kCalls{SCMP_SYS(connect), SCMP_SYS(ftruncate), SCMP_SYS(kcmp), SCMP_SYS(memfd_create),
                              SCMP_SYS(sendto)};
  filter.Allow(kCalls);
  filter.Allow(SCMP_SYS(ioctl), {Equals(1, kPagemapScan)});
  filter.Allow(SCMP_SYS(setsockopt), {Equals(1, SOL_SOCKET)});
  // A filter can't see the family at connect, so it refuses the sockets.
  filter.Allow(SCMP_SYS(socket), {Equals(0, AF_UNIX)});
  filter.Allow(SCMP_SYS(socketpair), {Equals(0, AF_UNIX)});
  return filter;
}

Filter RecordingReaderFilter() {
  Filter filter = ReaderFilter();
  filter.Allow(SCMP_SYS(perf_event_open), {Equals(4, PERF_FLAG_FD_CLOEXEC)});
  AllowAnyOf(filter, SCMP_SYS(ioctl), 1, {PERF_EVENT_IOC_SET_OUTPUT, PERF_EVENT_IOC_ID});
  return filter;
}

Filter LauncherFilter(int program, bool removes_sockets) {
  Filter filter;
  AllowRuntime(filter);
  AllowServing(filter);
  AllowReadingFiles(filter);
  constexpr std::array kCalls{// processes
                              SCMP_SYS(pidfd_open), SCMP_SYS(wait4), SCMP_SYS(waitid),
                              // the start of a program
                              SCMP_SYS(arch_prctl), SCMP_SYS(dup3), SCMP_SYS(close_range),
                              // sockets
                              SCMP_SYS(listen),
                              // further confinement
                              SCMP_SYS(capset), SCMP_SYS(landlock_add_rule), SCMP_SYS(landlock_create_ruleset),
                              SCMP_SYS(landlock_restrict_self), SCMP_SYS(seccomp)};
  filter.Allow(kCalls);
  filter.Allow(SCMP_SYS(execveat), {Equals(0, static_cast<scmp_datum_t>(program)), Equals(4, AT_EMPTY_PATH)});
  filter.Allow(SCMP_SYS(clone), {NoneOf(0, kNewNamespaces)});
  AllowEnding(filter);
  filter.Allow(SCMP_SYS(tgkill), {Equals(2, SIGABRT)});
  filter.Allow(SCMP_SYS(prlimit64), {Equals(0, 0)});
  AllowAnyOf(filter, SCMP_SYS(prctl), 0,
             {PR_SET_NO_NEW_PRIVS, PR_SET_DUMPABLE, PR_SET_PDEATHSIG, PR_CAPBSET_DROP, PR_CAP_AMBIENT, PR_GET_SECCOMP,
              PR_SET_SECCOMP, PR_GET_SECUREBITS});
  if (removes_sockets) {
    constexpr std::array kRemoval{SCMP_SYS(unlink), SCMP_SYS(unlinkat)};
    filter.Allow(kRemoval);
  }
  return filter;
}

Filter FrontFilter() {
  Filter filter;
  AllowRuntime(filter);
  AllowServing(filter);
  AllowThreads(filter);
  AllowSignalsToItself(filter);
  return filter;
}

}  // namespace cow::exporter
