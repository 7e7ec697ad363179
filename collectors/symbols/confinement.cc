#include "collectors/symbols/confinement.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <seccomp.h>
#include <sys/capability.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <initializer_list>
#include <memory>
#include <stdexcept>
#include <string>
#include <system_error>
#include <type_traits>

namespace cow::symbols {
namespace {

#ifdef COW_SANITIZED
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif

constexpr rlim_t kMemoryBytes = rlim_t{4} << 30U;  // of addresses: files are mapped as a whole
constexpr rlim_t kCpuSeconds = 600;                // if nobody is left to end it
constexpr rlim_t kMaxDescriptors = 16384;

// What both need, and all that the worker has.
constexpr std::array kCalls{// memory
                            SCMP_SYS(brk), SCMP_SYS(madvise), SCMP_SYS(mremap), SCMP_SYS(munmap),
                            // open descriptors
                            SCMP_SYS(close), SCMP_SYS(fstat), SCMP_SYS(lseek), SCMP_SYS(poll), SCMP_SYS(ppoll),
                            SCMP_SYS(pread64), SCMP_SYS(read), SCMP_SYS(recvmsg), SCMP_SYS(write), SCMP_SYS(writev),
                            // time, locks and the end
                            SCMP_SYS(clock_gettime), SCMP_SYS(exit), SCMP_SYS(exit_group), SCMP_SYS(futex),
                            SCMP_SYS(getpid), SCMP_SYS(gettid), SCMP_SYS(getrandom), SCMP_SYS(restart_syscall),
                            SCMP_SYS(rt_sigaction), SCMP_SYS(rt_sigprocmask), SCMP_SYS(rt_sigreturn)};

constexpr std::array kKeeperCalls{
    // processes
    SCMP_SYS(fork), SCMP_SYS(kill), SCMP_SYS(set_robust_list), SCMP_SYS(tgkill), SCMP_SYS(wait4),
    // descriptors
    SCMP_SYS(close_range), SCMP_SYS(dup3),
    // further confinement
    SCMP_SYS(prctl), SCMP_SYS(prlimit64), SCMP_SYS(seccomp)};
constexpr scmp_datum_t kThreadsAndNamespaces = CLONE_THREAD | CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS |
                                               CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET;

void Require(int result, const char* what) {
  if (result < 0) throw std::system_error(errno, std::generic_category(), what);
}

// libseccomp returns negative error numbers.
void Check(int code, const char* what) {
  if (code < 0) throw std::runtime_error(std::string(what) + ": " + std::generic_category().message(-code));
}

struct SeccompRelease {
  void operator()(void* context) const { seccomp_release(context); }
};
struct CapabilityRelease {
  void operator()(void* memory) const { cap_free(memory); }
};

class Filter {
 public:
  Filter() : context_(seccomp_init(SCMP_ACT_ERRNO(EPERM))) {
    if (context_ == nullptr) throw std::runtime_error("seccomp_init failed");
    Check(seccomp_attr_set(context_.get(), SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_ERRNO(EPERM)), "seccomp_attr_set");
    for (const int call : kCalls) Allow(call, {});
    Allow(SCMP_SYS(mmap), {Masked(2, PROT_EXEC, 0)});
    Allow(SCMP_SYS(mprotect), {Masked(2, PROT_EXEC, 0)});
    Allow(SCMP_SYS(fcntl), {{1, SCMP_CMP_EQ, F_DUPFD_CLOEXEC, 0}});
    Allow(SCMP_SYS(fcntl), {{1, SCMP_CMP_EQ, F_GETFL, 0}});
    // glibc before 2.39 implements fstat with it.
    Allow(SCMP_SYS(newfstatat), {Masked(3, AT_EMPTY_PATH, AT_EMPTY_PATH)});
    // MSG_FASTOPEN connects.
    Allow(SCMP_SYS(sendmsg), {Masked(2, MSG_FASTOPEN, 0)});
  }

  void Allow(int call, std::initializer_list<scmp_arg_cmp> conditions) {
    Check(seccomp_rule_add_array(context_.get(), SCMP_ACT_ALLOW, call, static_cast<unsigned>(conditions.size()),
                                 conditions.begin()),
          "seccomp_rule_add");
  }
  void Load() { Check(seccomp_load(context_.get()), "seccomp_load"); }

  static scmp_arg_cmp Masked(unsigned argument, scmp_datum_t mask, scmp_datum_t value) {
    return {argument, SCMP_CMP_MASKED_EQ, mask, value};
  }

 private:
  std::unique_ptr<void, SeccompRelease> context_;
};

}  // namespace

void DropRights() {
  Require(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs");
  Require(prctl(PR_SET_DUMPABLE, 0, 0, 0, 0), "PR_SET_DUMPABLE");
  const rlimit none{0, 0};
  Require(setrlimit(RLIMIT_CORE, &none), "RLIMIT_CORE");
  const std::unique_ptr<std::remove_pointer_t<cap_t>, CapabilityRelease> held(cap_get_proc());
  const std::unique_ptr<std::remove_pointer_t<cap_t>, CapabilityRelease> nothing(cap_init());
  if (held == nullptr || nothing == nullptr) throw std::system_error(errno, std::generic_category(), "capabilities");
  cap_flag_value_t may_drop = CAP_CLEAR;
  cap_get_flag(held.get(), CAP_SETPCAP, CAP_EFFECTIVE, &may_drop);
  for (cap_value_t each = 0; may_drop == CAP_SET && each < cap_max_bits(); ++each) cap_drop_bound(each);
  Require(cap_set_proc(nothing.get()), "cap_set_proc");
}

void ConfineKeeper() {
  rlimit files{};
  Require(getrlimit(RLIMIT_NOFILE, &files), "RLIMIT_NOFILE");
  files.rlim_cur = std::min<rlim_t>(files.rlim_max, kMaxDescriptors);
  Require(setrlimit(RLIMIT_NOFILE, &files), "RLIMIT_NOFILE");
  if (kSanitized) return;
  Filter filter;
  for (const int call : kKeeperCalls) filter.Allow(call, {});
  filter.Allow(SCMP_SYS(clone), {Filter::Masked(0, kThreadsAndNamespaces, 0)});
  filter.Load();
}

void ConfineWorker() {
  if (kSanitized) return;
  const rlimit memory{kMemoryBytes, kMemoryBytes};
  Require(setrlimit(RLIMIT_AS, &memory), "RLIMIT_AS");
  const rlimit time{kCpuSeconds, kCpuSeconds};
  Require(setrlimit(RLIMIT_CPU, &time), "RLIMIT_CPU");
  Filter filter;
  // abort() signals its own process.
  filter.Allow(SCMP_SYS(tgkill), {{0, SCMP_CMP_EQ, static_cast<scmp_datum_t>(getpid()), 0}});
  filter.Load();
}

}  // namespace cow::symbols
