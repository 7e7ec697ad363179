"""The processes of a running exporter can't do more than they need, tried from inside of each of them.

The reader is the process that was started. The launcher and the front are its descendants, named by their command
lines `cow_exporter launcher` and `cow_exporter front`. /proc/PID/status and /proc/PID/fd show their rights, and
cow_inject makes system calls in them that must be refused.
"""

import os
import re
import shutil
import signal
import socket
import subprocess

import privileges
import support
from support import check, wait_for

NOBODY = 65534
READER_CAPABILITIES = 1 << 21 | 1 << 19 | 1 << 2 | 1 << 12  # SYS_ADMIN, SYS_PTRACE, DAC_READ_SEARCH, NET_ADMIN
SETPCAP = 1 << 8
AMBIENT = "+sys_admin,+sys_ptrace,+dac_read_search,+net_admin"
ROLES = ("reader", "launcher", "front")
AT_FDCWD, AT_EMPTY_PATH = -100, 0x1000
WRITE_ONLY, READ_WRITE, CREATE, TRUNCATE, TEMPORARY = os.O_WRONLY, os.O_RDWR, os.O_CREAT, os.O_TRUNC, os.O_TMPFILE
PROT_READ, PROT_WRITE, PROT_EXEC = 1, 2, 4
PRIVATE_ANONYMOUS = 0x22
CLONE_NEWUSER, SIGCHLD = 0x10000000, 17

# What a front may hold open: sockets, pipes, memory, events. Of the file system only its standard streams.
HARMLESS = re.compile(r"(socket|pipe|anon_inode):.*|/memfd:.*")

# Refused in every process: name of the call, and its arguments as cow_inject takes them. `{path}` is a file that the
# test owns, `{own}` a process of the test with the same user.
EVERYWHERE = [
    ("openat", AT_FDCWD, "text:{path}", WRITE_ONLY, 0),
    ("openat", AT_FDCWD, "text:{path}", READ_WRITE, 0),
    ("openat", AT_FDCWD, "text:{path}", TRUNCATE, 0),
    ("openat", AT_FDCWD, "text:{path}.new", WRITE_ONLY | CREATE, 0o600),
    ("openat", AT_FDCWD, "text:{path}.new", CREATE, 0o600),
    ("openat", AT_FDCWD, "text:/tmp", READ_WRITE | TEMPORARY, 0o600),
    ("openat2", AT_FDCWD, "text:{path}", "zeros:24", 24),
    ("renameat2", AT_FDCWD, "text:{path}", AT_FDCWD, "text:{path}.new", 0),
    ("linkat", AT_FDCWD, "text:{path}", AT_FDCWD, "text:{path}.new", 0),
    ("symlinkat", "text:{path}", AT_FDCWD, "text:{path}.new"),
    ("mkdirat", AT_FDCWD, "text:{path}.new", 0o700),
    ("mknodat", AT_FDCWD, "text:{path}.new", 0o100600, 0),
    ("fchmodat", AT_FDCWD, "text:{path}", 0o777),
    ("fchownat", AT_FDCWD, "text:{path}", 0, 0, 0),
    ("truncate", "text:{path}", 0),
    ("execve", "text:/bin/true", 0, 0),
    ("execveat", AT_FDCWD, "text:/bin/true", 0, 0, 0),
    ("execveat", AT_FDCWD, "text:/bin/true", 0, 0, AT_EMPTY_PATH),
    ("ptrace", 0x4206, "{own}", 0, 0),  # PTRACE_SEIZE
    ("process_vm_readv", "{own}", "zeros:16", 1, "zeros:16", 1, 0),
    ("process_vm_writev", "{own}", "zeros:16", 1, "zeros:16", 1, 0),
    ("pidfd_send_signal", 0, 0, 0, 0),
    ("pidfd_getfd", 0, 0, 0),
    ("kill", "{own}", 0),
    ("kill", -1, 0),
    ("kill", 0, 0),
    ("tgkill", "{own}", "{own}", 0),
    ("tkill", "{own}", 0),
    ("rt_sigqueueinfo", "{own}", 0, "zeros:128"),
    ("socket", socket.AF_INET, socket.SOCK_STREAM, 0),
    ("socket", socket.AF_INET6, socket.SOCK_DGRAM, 0),
    ("socket", socket.AF_NETLINK, socket.SOCK_RAW, 16),
    ("socket", socket.AF_PACKET, socket.SOCK_RAW, 0),
    ("bind", 0, "zeros:16", 16),
    ("setuid", 0), ("setgid", 0), ("setresuid", 0, 0, 0), ("setgroups", 0, 0),
    ("mount", "text:none", "text:/mnt", "text:tmpfs", 0, 0), ("umount2", "text:/mnt", 0), ("unshare", CLONE_NEWUSER),
    ("setns", 0, 0), ("pivot_root", "text:/", "text:/"), ("chroot", "text:/"),
    ("bpf", 0, "zeros:64", 64), ("perf_event_open", "zeros:128", 0, -1, -1, 0), ("userfaultfd", 1),
    ("io_uring_setup", 1, "zeros:120"), ("keyctl", 0, -1, 0, 0, 0), ("add_key", "text:user", "text:x", "text:x", 1, -1),
    ("init_module", "zeros:8", 8, "text:"), ("finit_module", 0, "text:", 0), ("delete_module", "text:x", 0),
    ("kexec_load", 0, 0, 0, 0), ("reboot", 0, 0, 0, 0), ("open_by_handle_at", 0, "zeros:16", 0),
    ("mprotect", 0, 0, PROT_READ | PROT_EXEC),
    ("mmap", 0, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, PRIVATE_ANONYMOUS, -1, 0),
    ("clone", CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0),
    ("personality", 0x0400000),
]
ONLY_IN = {
    "reader": [
        ("accept4", 0, 0, 0, 0), ("accept", 0, 0, 0), ("listen", 0, 1), ("clone", SIGCHLD, 0, 0, 0, 0),
        ("unlinkat", AT_FDCWD, "text:{path}", 0), ("capset", 0, 0), ("seccomp", 0, 0, 0), ("prctl", 4, 1, 0, 0, 0),
    ],
    "launcher": [
        ("socket", socket.AF_UNIX, socket.SOCK_STREAM, 0), ("connect", 0, "zeros:16", 16),
        ("memfd_create", "text:x", 0),
    ],
    "front": [
        ("openat", AT_FDCWD, "text:/dev/null", os.O_RDONLY, 0), ("openat", AT_FDCWD, "text:/", os.O_PATH, 0),
        ("socket", socket.AF_UNIX, socket.SOCK_STREAM, 0), ("socketpair", socket.AF_UNIX, socket.SOCK_STREAM, 0, "zeros:8"),
        ("connect", 0, "zeros:16", 16), ("listen", 0, 1), ("clone", SIGCHLD, 0, 0, 0, 0),
        ("unlinkat", AT_FDCWD, "text:{path}", 0), ("getdents64", 0, "zeros:64", 64), ("memfd_create", "text:x", 0),
        ("readlinkat", AT_FDCWD, "text:/proc/self/exe", "zeros:64", 64), ("wait4", -1, 0, 1, 0), ("capset", 0, 0),
        ("mmap", 0, 4096, PROT_READ | PROT_EXEC, PRIVATE_ANONYMOUS, -1, 0), ("prctl", 4, 1, 0, 0, 0),
        ("kcmp", "{own}", "{own}", 1, 0, 0), ("seccomp", 0, 0, 0), ("sendto", 0, "zeros:8", 8, 0, "zeros:16", 16),
    ],
}
# Refused by Landlock, so EACCES.
LANDLOCKED = {"launcher": [("openat", AT_FDCWD, "text:{path}", os.O_RDONLY, 0)]}
# Calls of x86-64 alone.
if os.uname().machine == "x86_64":
    EVERYWHERE += [("creat", "text:{path}.new", 0o600), ("open", "text:{path}", WRITE_ONLY, 0), ("fork",), ("vfork",),
                   ("rename", "text:{path}", "text:{path}.new"), ("chmod", "text:{path}", 0o777)]


def status(pid):
    """Returns the fields of /proc/PID/status."""
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        return dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)


def processes(exporter):
    """Returns the PID of each role."""
    def find():
        found = {"reader": exporter.pid}
        for pid in support.processes_of(exporter.pid)[1:]:
            with open(f"/proc/{pid}/cmdline", encoding="utf-8") as file:
                words = file.read().rstrip("\0").split("\0")
            if len(words) >= 2 and words[0] == "cow_exporter" and words[1] in ROLES:
                check(words[1] not in found, f"there are two processes {words[1]}")
                found[words[1]] = pid
        return found if len(found) == len(ROLES) else None
    return wait_for(find, 10, "a reader, a launcher and a front")


def inject(thread, *words):
    """Returns what the call returned: a number, the name of an error, or "blocked"."""
    run = subprocess.run([support.binary("COW_INJECT"), str(thread), *map(str, words)], capture_output=True, text=True,
                         check=False, timeout=30)
    check(run.returncode == 0, f"cow_inject {words}: {run.stderr}")
    return run.stdout.strip()


def check_rights(pids, started_with):
    """`started_with`: the capabilities that the exporter was started with."""
    for role, pid in pids.items():
        kept = started_with & READER_CAPABILITIES if role == "reader" else 0
        for task in os.listdir(f"/proc/{pid}/task"):
            try:
                fields = status(task)
            except FileNotFoundError:
                check(int(task) != pid, f"{role} has ended")  # else a thread of a connection
                continue
            where = f"{role}, thread {task}"
            for name, expected in (("CapPrm", kept), ("CapEff", kept), ("CapInh", 0), ("CapAmb", 0)):
                check(int(fields[name], 16) == expected, f"{where}: {name} is {fields[name]}, expected {expected:x}")
            if started_with & SETPCAP:
                check(int(fields["CapBnd"], 16) & ~READER_CAPABILITIES == 0, f"{where}: CapBnd is {fields['CapBnd']}")
            check(fields["NoNewPrivs"] == "1", f"{where}: no_new_privs is not set")
            check(fields["Seccomp"] == "2", f"{where}: no seccomp filter")
        limit = next(line for line in open(f"/proc/{pid}/limits", encoding="ascii") if line.startswith("Max core file"))
        check(limit.split()[4:6] == ["0", "0"], f"{role}: {limit}")
        check(os.stat(f"/proc/{pid}/fd").st_uid == 0, f"{role}: is dumpable")


def check_descriptors(front):
    for number in sorted(map(int, os.listdir(f"/proc/{front}/fd"))):
        target = os.readlink(f"/proc/{front}/fd/{number}")
        check(number <= 2 or HARMLESS.fullmatch(target), f"front: descriptor {number} is {target}")


def check_refusals(pids, path, own):
    for role, pid in pids.items():
        landlocked = LANDLOCKED.get(role, [])
        for call, *arguments in EVERYWHERE + ONLY_IN[role] + landlocked:
            words = [str(word).format(path=path, own=own) for word in arguments]
            expected = "EACCES" if (call, *arguments) in landlocked else "EPERM"
            result = inject(pid, call, *words)
            check(result == expected, f"{role}: {call} {' '.join(words)}: {result}, expected {expected}")
        result = inject(pid, "clone3", "zeros:88", 88)
        check(result == "ENOSYS", f"{role}: clone3: {result}")
        print(f"{role}: {len(EVERYWHERE) + len(ONLY_IN[role]) + len(landlocked)} calls are refused")


def check_reload(exporter, config):
    """A reload opens the sockets of delayacct, which the reader can't create any more."""
    for enabled in ("true", "false", "true"):
        with open(config, "w", encoding="utf-8") as file:
            file.write(f"collectors: {{delayacct: {enabled}}}\n")
        exporter.send_signal(signal.SIGHUP)
        wait_for(lambda: (exporter.scrape().get("cow_delayacct_lost_records_total") is not None) == (enabled == "true"), 20,
                 f"delayacct: {enabled}")
    check(not any("a collector failed" in line for line in exporter.log), "".join(exporter.log))


def check_service(context, title, wrapper, started_with):
    config = context.path(f"{title}.yml")
    with open(config, "w", encoding="utf-8") as file:
        file.write("collectors: {}\n")
    exporter = context.start(support.Exporter(
        f"--config.file={config}", "--sandbox=require", "--scan.interval=200ms", program=context.program, wrapper=wrapper))
    exporter.scrape()
    pids = processes(exporter)
    check_rights(pids, started_with)
    check_descriptors(pids["front"])
    path = context.path(f"{title}.file")
    with open(path, "w", encoding="utf-8") as file:
        file.write("content\n")
    os.chown(path, int(status(exporter.pid)["Uid"].split()[0]), -1)
    sleeper = context.start(support.Process([*wrapper, "sleep", "600"]))
    check_refusals(pids, path, sleeper.pid)
    with open(path, encoding="utf-8") as file:
        check(file.read() == "content\n", "the file has changed")
    check(not os.path.exists(f"{path}.new"), "a file was created")
    # Everything still works.
    check(exporter.scrape().value("cow_exporter_capability", feature="sandbox") == 1, "sandbox")
    check(processes(exporter) == pids, "a process was replaced")
    if not privileges.missing("the kernel's reports of ended tasks"):
        check_reload(exporter, config)
    check(exporter.end() < 5 and exporter.returncode == 0, f"ended with {exporter.returncode}")
    print(f"{title}: passed")


def check_off(context):
    exporter = context.start(support.Exporter("--sandbox=off", program=context.program))
    check(exporter.scrape().value("cow_exporter_capability", feature="sandbox") == 0, "--sandbox=off: the feature is 1")
    for role, pid in processes(exporter).items():
        check(status(pid)["Seccomp"] == "0", f"--sandbox=off: {role} has a filter")
    exporter.end()


def main(context):
    support.need("setpriv")
    support.need_frames()
    support.need_privileges("to become another user")
    context.program = context.path("cow_exporter")  # where every user may run it
    shutil.copy(support.binary("COW_EXPORTER"), context.program)
    os.chmod(context.directory, 0o755)
    check_service(context, "root", [], int(status("self")["CapPrm"], 16))
    user = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    check_service(context, "user", [*user, f"--inh-caps={AMBIENT}", f"--ambient-caps={AMBIENT}"], READER_CAPABILITIES)
    check_off(context)


if __name__ == "__main__":
    support.main(main)
