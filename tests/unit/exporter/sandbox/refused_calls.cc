#include <sys/syscall.h>

#include <array>
#include <cerrno>
#include <cstdint>

#include "tests/unit/exporter/sandbox/confined.h"

namespace cow::test {
namespace {

struct NamedCall {
  const char* name;
  int64_t number;
};

#define COW_CALL(name) \
  NamedCall { #name, SYS_##name }  // NOLINT: needs the name twice

// Those of all architectures.
constexpr std::array kRefused{
    // other processes
    COW_CALL(process_vm_readv), COW_CALL(process_vm_writev), COW_CALL(process_madvise), COW_CALL(ptrace),
    COW_CALL(pidfd_getfd), COW_CALL(pidfd_send_signal), COW_CALL(rt_sigqueueinfo), COW_CALL(rt_tgsigqueueinfo),
    COW_CALL(tkill), COW_CALL(move_pages), COW_CALL(migrate_pages), COW_CALL(setpriority), COW_CALL(sched_setattr),
    COW_CALL(sched_setaffinity), COW_CALL(ioprio_set),
    // programs
    COW_CALL(execve),
    // files
    COW_CALL(openat2), COW_CALL(mkdirat), COW_CALL(mknodat), COW_CALL(linkat), COW_CALL(symlinkat), COW_CALL(renameat2),
    COW_CALL(fchmod), COW_CALL(fchmodat), COW_CALL(fchown), COW_CALL(fchownat), COW_CALL(truncate), COW_CALL(fallocate),
    COW_CALL(utimensat), COW_CALL(setxattr), COW_CALL(lsetxattr), COW_CALL(fsetxattr), COW_CALL(removexattr),
    COW_CALL(open_by_handle_at), COW_CALL(name_to_handle_at), COW_CALL(fanotify_init), COW_CALL(inotify_init1),
    COW_CALL(chdir), COW_CALL(fchdir), COW_CALL(pwrite64), COW_CALL(pwritev), COW_CALL(splice), COW_CALL(tee),
    COW_CALL(vmsplice), COW_CALL(copy_file_range),
    // sockets
    COW_CALL(bind), COW_CALL(sendmmsg),
    // the kernel's larger interfaces
    COW_CALL(bpf), COW_CALL(perf_event_open), COW_CALL(userfaultfd), COW_CALL(io_uring_setup), COW_CALL(io_uring_enter),
    COW_CALL(io_uring_register), COW_CALL(io_setup), COW_CALL(io_submit), COW_CALL(add_key), COW_CALL(request_key),
    COW_CALL(keyctl), COW_CALL(memfd_secret), COW_CALL(remap_file_pages), COW_CALL(pkey_mprotect), COW_CALL(shmget),
    COW_CALL(shmat), COW_CALL(msgget), COW_CALL(semget), COW_CALL(mq_open),
    // mounts and namespaces
    COW_CALL(mount), COW_CALL(umount2), COW_CALL(unshare), COW_CALL(setns), COW_CALL(pivot_root), COW_CALL(chroot),
    COW_CALL(move_mount), COW_CALL(open_tree), COW_CALL(fsopen), COW_CALL(fsconfig), COW_CALL(fsmount),
    COW_CALL(mount_setattr),
    // the system
    COW_CALL(kexec_load), COW_CALL(init_module), COW_CALL(finit_module), COW_CALL(delete_module), COW_CALL(reboot),
    COW_CALL(swapon), COW_CALL(swapoff), COW_CALL(sethostname), COW_CALL(setdomainname), COW_CALL(settimeofday),
    COW_CALL(clock_settime), COW_CALL(adjtimex), COW_CALL(acct), COW_CALL(quotactl), COW_CALL(syslog),
    COW_CALL(personality),
    // users
    COW_CALL(setuid), COW_CALL(setgid), COW_CALL(setreuid), COW_CALL(setregid), COW_CALL(setresuid),
    COW_CALL(setresgid), COW_CALL(setfsuid), COW_CALL(setfsgid), COW_CALL(setgroups)};

}  // namespace

Attempts RefusedToAll() {
  Attempts attempts;
  for (const NamedCall& each : kRefused) {
    attempts.push_back(
        {each.name, [number = each.number] { return Call(number, -1L, -1L, -1L, -1L, -1L, -1L); }, EPERM});
  }
  attempts.push_back({"clone3", [] { return Call(SYS_clone3, -1L, -1L); }, ENOSYS});
  attempts.push_back({"no such call", [] { return Call(9999, -1L); }, EPERM});
  return attempts;
}

}  // namespace cow::test
