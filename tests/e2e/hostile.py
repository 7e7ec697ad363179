"""Processes that any user can start and that are expensive to read. Each is a separate program: hostile.py NAME
DIRECTORY.

- hostile_maps: mappings of a file whose path has 48 components of 249 newlines: 49 KB in each line of maps.
- hostile_args: a command line of 100 GB (PR_SET_MM_MAP).
- hostile_mounts: 20,000 mounts in a mount namespace of its own.
"""

import ctypes
import mmap
import os
import signal
import struct
import subprocess
import sys

import support
from support import check

MAPPINGS = 60_000
MOUNTS = 20_000
PAGE = os.sysconf("SC_PAGESIZE")

libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]


def call(function, *arguments):
    result = function(*arguments)
    if result in (-1, ctypes.c_void_p(-1).value):
        raise OSError(ctypes.get_errno(), function.__name__)
    return result


def map_long_paths(directory):
    """Maps a file page by page whose path is too long to open."""
    os.chdir(directory)
    for _ in range(48):
        os.mkdir("\n" * 249)
        os.chdir("\n" * 249)
    file = os.open("f", os.O_RDWR | os.O_CREAT, 0o600)
    os.ftruncate(file, PAGE)
    with open("/proc/sys/vm/max_map_count") as limit:
        count = min(MAPPINGS, int(limit.read()) - 1000)
    hole = call(libc.mmap, None, count * PAGE, mmap.PROT_READ, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
    for i in range(count):  # the same page each time, so that the kernel does not merge neighbours
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
    """Enters a user namespace without rights, mounts one tmpfs after another and maps files of some of them."""
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
            place = f"bound{i % 100}".encode()  # a few mounts per place: each lookup goes through all mounts of its place
            call(libc.mount, place, place, None, 0x1000, None)


DEEDS = {"hostile_maps": map_long_paths, "hostile_args": claim_command_line, "hostile_mounts": mount_often}


def be_hostile(name, directory):
    """Runs such a process and forks a child with the same memory, so that the family is read completely."""
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


def start(context):
    """Starts all of them and returns the names of those that this host allows. The caller has its own mount
    namespace."""
    made = []
    for name in DEEDS:
        directory = context.path(name)
        os.mkdir(directory)
        process = context.start(support.Process([sys.executable, __file__, name, directory], stdout=subprocess.PIPE))
        told = process.line(seconds=120).strip()
        if told == "done":
            made.append(name)
        else:
            print(f"{name} can't be made here: {told}")
    return made


if __name__ == "__main__":
    be_hostile(*sys.argv[1:])
