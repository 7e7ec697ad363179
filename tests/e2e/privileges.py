#!/usr/bin/env python3
"""Probes the rights of this process on this host by using them. A test that lacks a right skips with the line made
here. As a program it prints such a line for each missing privilege; tests/run accepts only these."""

import contextlib
import ctypes
import os
import socket
import struct
import sys

PAGE = os.sysconf("SC_PAGE_SIZE")
CLONE_NEWNS, CLONE_NEWNET, CLONE_NEWPID = 0x20000, 0x40000000, 0x20000000
NOBODY = 65534


def in_child(function):
    """True if it ends without an OSError in a child process, which isolates its changes."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            function()
            status = 0
        except OSError:
            pass
        finally:
            os._exit(status)  # whatever is raised, the child must not continue as the test
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def call(function, *arguments):
    """Returns a function of libc that sets errno."""
    if function(*arguments) == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


LIBC = ctypes.CDLL(None, use_errno=True)


@contextlib.contextmanager
def another_process():
    """A child that waits and has this process's memory."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(writer)
        os.read(reader, 1)
        os._exit(0)
    os.close(reader)
    try:
        yield pid
    finally:
        os.close(writer)
        os.waitpid(pid, 0)


def word(path, index):
    """Returns the word of a page in a file with one 64-bit word per page."""
    with open(path, "rb", buffering=0) as file:
        return struct.unpack("=Q", os.pread(file.fileno(), 8, 8 * index))[0]


def page_frames():
    """Reads frame numbers in another process's pagemap, and the kernel's words of such a frame."""
    memory = ctypes.create_string_buffer(b"x", 2 * PAGE)
    with another_process() as pid:
        frame = word(f"/proc/{pid}/pagemap", ctypes.addressof(memory) // PAGE) & ((1 << 55) - 1)
        if frame == 0:
            return False
        return word("/proc/kpageflags", frame) != 0 and word("/proc/kpagecount", frame) != 0


def host_processes():
    """Only the host's own PID namespace shows kernel threads."""
    with open("/proc/2/comm", encoding="ascii") as file:
        return file.read() == "kthreadd\n"


def zombies():
    """Files of a process without memory belong to root."""
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        with open(f"/proc/{pid}/pagemap", "rb"):
            return True
    except ProcessLookupError:
        return True
    finally:
        os.waitpid(pid, 0)


def fork_events():
    """Checks that the kernel's proc connector allows listening; it answers within the call."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK, 11) as connector:
        connector.bind((0, 1))
        operation = struct.pack("=IIIIHHI", 1, 1, 0, 0, 4, 0, 1)  # cn_msg of the index and value 1, PROC_CN_MCAST_LISTEN
        connector.send(struct.pack("=IHHII", 16 + len(operation), 3, 0, 0, 0) + operation)
        answer = connector.recv(4096)
        return struct.unpack_from("=I", answer, 16 + 20 + 16)[0] == 0  # after nlmsghdr, cn_msg and proc_event's head


def task_reports():
    """Checks that the kernel reports each task that ends on the first CPU."""
    def ask(family, command, attribute, value):
        payload = struct.pack("=BBHHH", command, 1, 0, 4 + len(value), attribute) + value + b"\0" * (-len(value) % 4)
        generic.send(struct.pack("=IHHII", 16 + len(payload), family, 5, 0, 0) + payload)  # NLM_F_REQUEST | NLM_F_ACK
        return generic.recv(65536)

    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 16) as generic:
        answer = ask(16, 3, 2, b"TASKSTATS\0")  # GENL_ID_CTRL, CTRL_CMD_GETFAMILY, CTRL_ATTR_FAMILY_NAME
        if struct.unpack_from("=H", answer, 4)[0] != 16:
            return False
        generic.recv(65536)  # the acknowledgement
        attributes = answer[20:]
        while attributes:
            length, kind = struct.unpack_from("=HH", attributes)
            if kind == 1:  # CTRL_ATTR_FAMILY_ID
                family = struct.unpack_from("=H", attributes, 4)[0]
                answer = ask(family, 1, 3, b"0\0")  # TASKSTATS_CMD_GET, TASKSTATS_CMD_ATTR_REGISTER_CPUMASK
                return struct.unpack_from("=i", answer, 16)[0] == 0
            attributes = attributes[(length + 3) // 4 * 4:]
    return False


def other_users():
    """Becomes another user without rights, in a child."""
    def become():
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setgroups([])
        os.setresuid(NOBODY, NOBODY, NOBODY)
    return in_child(become)


def pids():
    """Chooses the pid of the next process. Writes the current value back."""
    with open("/proc/sys/kernel/ns_last_pid", "r+b", buffering=0) as file:
        file.write(file.read())
    return True


def namespaces(flags):
    return in_child(lambda: call(LIBC.unshare, flags))


def mounts():
    """Mounts tmpfs and, with other options than this one, procfs in a private mount namespace."""
    def mount():
        call(LIBC.unshare, CLONE_NEWNS)
        call(LIBC.mount, None, b"/", None, 0x44000, None)  # MS_REC | MS_PRIVATE
        call(LIBC.mount, b"none", b"/tmp", b"tmpfs", 0, None)
        call(LIBC.mount, b"proc", b"/proc", b"proc", 0, b"hidepid=invisible")
    return in_child(mount)


def memory_cgroups():
    for parent in ("/sys/fs/cgroup/memory", "/sys/fs/cgroup"):
        path = f"{parent}/cow_probe_{os.getpid()}"
        with contextlib.suppress(OSError):
            os.mkdir(path)
            try:
                if any(os.path.exists(f"{path}/{limit}") for limit in ("memory.limit_in_bytes", "memory.max")):
                    return True
            finally:
                os.rmdir(path)
    return False


def performance_events():
    """Opens a software event that counts the faults of this process, kernel code included."""
    number = {"x86_64": 298, "aarch64": 241}[os.uname().machine]
    attributes = ctypes.create_string_buffer(struct.pack("=IIQ", 1, 64, 5), 64)  # PERF_ATTR_SIZE_VER0
    call(lambda: os.close(event) if (event := LIBC.syscall(number, attributes, 0, -1, -1, 0)) >= 0 else -1)
    return True


def kernel_settings():
    for path in ("/proc/sys/vm/nr_hugepages", "/proc/sys/kernel/task_delayacct"):
        with contextlib.suppress(FileNotFoundError), open(path, "r+b", buffering=0):
            pass
    return True


PROBES = {
    "page frames of other processes": page_frames,
    "every process of the host": host_processes,
    "files of ended processes": zombies,
    "the kernel's fork events": fork_events,
    "the kernel's reports of ended tasks": task_reports,
    "to become another user": other_users,
    "to choose PIDs": pids,
    "a network namespace": lambda: namespaces(CLONE_NEWNET),
    "a PID namespace": lambda: namespaces(CLONE_NEWPID),
    "mounts of its own": mounts,
    "a memory cgroup": memory_cgroups,
    "performance events": performance_events,
    "to change the kernel's settings": kernel_settings,
}


def missing(name):
    """Returns the line for this privilege; empty if it is available."""
    try:
        there = PROBES[name]()
    except OSError:
        there = False
    return "" if there else f"missing privilege: {name}"


def main():
    sys.stdout.writelines(line + "\n" for line in map(missing, PROBES) if line)


if __name__ == "__main__":
    main()
