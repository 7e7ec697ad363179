"""Processes that any user can start, made to be expensive to look at, beside an exporter in a memory cgroup of 256 MiB: it survives,
says which it could not read, and counts everybody else to the page.

- Mappings of a file whose path has 48 components of 249 newlines: 49 KB in each line of maps.
- A command line of 100 GB (PR_SET_MM_MAP).
- 20,000 mounts in a mount namespace of its own.
"""

import contextlib
import ctypes
import mmap
import os
import signal
import struct
import subprocess
import sys
import time

import support
from support import check, wait_for

LIMIT = 256 << 20
MAPPINGS = 60_000
MOUNTS = 20_000
PAGES = 1000
PAGE = os.sysconf("SC_PAGESIZE")
CONFIG = """
scan: {interval: 1s, max_cpu: 0.5, full_every: 0s}
groups:
  - name: counted
    comm: [cow_workload]
    cmdline: [cow_workload]
  - name: by-command-line
    cmdline: ['x{7}']
"""

libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]


def call(function, *arguments):
    result = function(*arguments)
    if result in (-1, ctypes.c_void_p(-1).value):
        raise OSError(ctypes.get_errno(), function.__name__)
    return result


def map_long_paths(directory):
    """A file at the end of a path that no name can open any more, mapped page by page."""
    os.chdir(directory)
    for _ in range(48):
        os.mkdir("\n" * 249)
        os.chdir("\n" * 249)
    file = os.open("f", os.O_RDWR | os.O_CREAT, 0o600)
    os.ftruncate(file, PAGE)
    with open("/proc/sys/vm/max_map_count") as limit:
        count = min(MAPPINGS, int(limit.read()) - 1000)
    hole = call(libc.mmap, None, count * PAGE, mmap.PROT_READ, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
    for i in range(count):  # the same page each time: the kernel does not merge neighbours
        call(libc.mmap, hole + i * PAGE, PAGE, mmap.PROT_READ, mmap.MAP_PRIVATE | 0x10, file, 0)


def claim_command_line(_):
    """Shows 100 GB of reserved memory as its arguments."""
    size = 100 << 30
    begin = call(libc.mmap, None, size, mmap.PROT_READ | mmap.PROT_WRITE,
                 mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000, -1, 0)
    ctypes.memset(begin, ord("x"), PAGE)
    with open("/proc/self/stat") as file:
        stat = file.read().rpartition(")")[2].split()
    field = {number: int(stat[number - 3]) for number in (26, 27, 28, 45, 46, 47)}
    brk = call(libc.syscall, 12, 0) if sys.maxsize > 2**32 and os.uname().machine == "x86_64" else field[47]
    environment = int(stat[50 - 3])
    # struct prctl_mm_map: code, data, brk, stack, arguments, environment, auxv, exe
    layout = struct.pack("11QQIi", field[26], field[27], field[45], field[46], field[47], max(brk, field[47]), field[28], begin,
                         begin + size, environment, environment, 0, 0, -1)
    call(libc.prctl, 35, 14, layout, len(layout), 0)
    with open("/proc/self/cmdline", "rb") as file:
        check(file.read(1 << 20) != b"", "no command line")


def mount_often(directory):
    """In a user namespace, as who has no rights: mounts of one tmpfs each, and files of some of them mapped."""
    user, group = os.getuid(), os.getgid()
    call(libc.unshare, 0x10000000 | support.CLONE_NEWNS)
    for file, text in (("setgroups", "deny"), ("uid_map", f"0 {user} 1"), ("gid_map", f"0 {group} 1")):
        with open(f"/proc/self/{file}", "w") as target:
            target.write(text)
    call(libc.mount, b"none", directory.encode(), b"tmpfs", 0, None)
    os.chdir(directory)
    for i in range(100):
        os.mkdir(f"bound{i}")
    for i in range(MOUNTS):
        if i % 100 == 0:
            name = f"t{i}"
            os.mkdir(name)
            call(libc.mount, b"none", name.encode(), b"tmpfs", 0, None)
            file = os.open(f"{name}/f", os.O_RDWR | os.O_CREAT, 0o600)
            os.ftruncate(file, PAGE)
            call(libc.mmap, None, PAGE, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE, file, 0)
            os.close(file)
        else:
            place = f"bound{i % 100}".encode()  # one on another: few each, for each lookup goes through all of them
            call(libc.mount, place, place, None, 0x1000, None)


DEEDS = {"hostile_maps": map_long_paths, "hostile_args": claim_command_line, "hostile_mounts": mount_often}


def be_hostile(name, directory):
    """The life of such a process, with a child that is forked over what it did: a family, of which all is read."""
    call(libc.prctl, 15, name.encode(), 0, 0, 0)
    call(libc.prctl, 1, signal.SIGKILL, 0, 0, 0)
    try:
        DEEDS[name](directory)
    except OSError as error:
        print(error, flush=True)
        return
    if os.fork() == 0:
        call(libc.prctl, 1, signal.SIGKILL, 0, 0, 0)
    else:
        print("done", flush=True)
    while True:
        signal.pause()


class MemoryGroup:
    """A memory cgroup of version 1 or 2 with a limit, for a program that is to start in it."""

    def __init__(self):
        for parent, limit in (("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")):
            self.path = f"{parent}/cow_hostile_test_{os.getpid()}"
            with contextlib.suppress(OSError):
                os.mkdir(self.path)
                try:
                    with open(f"{self.path}/{limit}", "w") as file:
                        file.write(str(LIMIT))
                    self.version = 1 if limit.endswith("in_bytes") else 2
                    return
                except OSError:
                    os.rmdir(self.path)
        support.skip("no memory cgroup can be made")

    def wrapper(self):
        return ["sh", "-c", f'echo $$ > {self.path}/cgroup.procs && exec "$@"', "sh"]

    def peak(self):
        for name in ("memory.max_usage_in_bytes", "memory.peak", "memory.current"):
            with contextlib.suppress(OSError), open(f"{self.path}/{name}") as file:
                return int(file.read())
        return 0

    def killed(self):
        name = "memory.oom_control" if self.version == 1 else "memory.events"
        with open(f"{self.path}/{name}") as file:
            return any(line.split()[0] == "oom_kill" and line.split()[1] != "0" for line in file)

    def remove(self):
        wait_for(self._removed, 10, "the cgroup is empty")

    def _removed(self):
        try:
            os.rmdir(self.path)
        except OSError:
            return False
        return True


def resident(pid):
    with open(f"/proc/{pid}/status") as file:
        sizes = {line.split(":")[0]: line.split()[1] for line in file if line.startswith(("VmHWM", "VmRSS"))}
    return {name: int(kilobytes) << 10 for name, kilobytes in sizes.items()}


def test(context):
    support.need_frames()
    support.own_namespaces(support.CLONE_NEWNS)  # what is mounted here goes with the test
    hostile = []
    for name in DEEDS:
        directory = context.path(name)
        os.mkdir(directory)
        process = context.start(support.Process([sys.executable, __file__, name, directory], stdout=subprocess.PIPE))
        told = process.line(seconds=120).strip()
        if told == "done":
            hostile.append(name)
        else:
            print(f"{name} can't be made here: {told}")
    check(hostile, "none of the processes can be made here")

    group = MemoryGroup()
    context.callback(group.remove)
    config = context.path("config.yml")
    with open(config, "w") as file:
        file.write(CONFIG)
    workload = context.start(support.Workload())
    workload.do(f"map 0 a {PAGES} nohuge")
    workload.do(f"write 0 a 0 {PAGES}")
    workload.do("fork 0")
    exporter = context.start(support.Exporter(f"--config.file={config}", wrapper=group.wrapper()))

    def scrape():
        try:
            return exporter.scrape()
        except OSError as error:
            raise support.Failure(f"the exporter does not answer; {'killed for its memory' if group.killed() else error}") from error

    def passes(samples):
        return sum(samples.value("cow_scan_passes_total", kind=kind) for kind in ("full", "incremental"))

    def after_passes(count):
        start = passes(scrape())
        return wait_for(lambda: (samples := scrape()) and passes(samples) >= start + count and samples, 120, f"{count} passes", 0.2)

    before = after_passes(2)
    check(before.value("cow_processes", group="counted") == 2, "the processes of the workload")
    workload.do("write 0 a 0 300")
    after = after_passes(2)
    broken = after.breaks("counted")["parent"] - before.breaks("counted")["parent"]
    exposure = before.value("cow_exposure_bytes", group="counted") - after.value("cow_exposure_bytes", group="counted")
    print(f"broken: {broken:.0f} pages, exposure fell by {exposure / PAGE:.0f}")
    check(broken == 300, "the parent's breaks")
    check(exposure == 300 * PAGE, "the exposure")
    check(after.value("cow_scan_coverage_ratio", group="counted") == 1, "the coverage")
    if "hostile_maps" in hostile:
        unread = after.value("cow_unread_processes", group="hostile_maps", reason="too_large")
        check(unread == 2, f"{unread:.0f} processes are too large")
    for name in set(hostile) - {"hostile_maps"}:
        wanted = "by-command-line" if name == "hostile_args" else name
        check(after.value("cow_processes", group=wanted) == 2, f"the processes of {wanted}")
        check(after.value("cow_unread_processes", group=wanted, reason="too_large") == 0, f"unread processes of {wanted}")
        check(after.value("cow_scan_coverage_ratio", group=wanted) == 1, f"the coverage of {wanted}")

    after_passes(5)
    time.sleep(1)
    sizes = resident(exporter.pid)
    print(f"resident {sizes['VmRSS'] >> 20} MiB, at most {sizes['VmHWM'] >> 20} MiB; with what the kernel keeps for it at most "
          f"{group.peak() >> 20} MiB; beside {', '.join(hostile)}")
    check(not group.killed(), "the kernel killed it for its memory")
    check(exporter.poll() is None, "the exporter has ended")
    check(sizes["VmHWM"] < LIMIT / 4, "resident memory")


if len(sys.argv) == 3:
    be_hostile(*sys.argv[1:])
else:
    support.main(test)
