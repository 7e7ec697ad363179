"""Runs a program under the limits of deploy/systemd/cow_exporter.service, without systemd:

    sandbox.py [--drop-in FILE]... [--without NAME]... [--proc OPTIONS] [--private-users] DIRECTORY PROGRAM [ARGUMENT]...

DIRECTORY is the only writable place. The limits are read from the unit:
capabilities, system calls, address families, the read-only view of files; --drop-in adds the settings of a drop-in, and
--without omits a setting.
--proc mounts /proc with these options, and --private-users makes a user namespace; the unit does neither, and tests
show why. Needs root.
"""

import argparse
import ctypes
import errno
import functools
import os
import re
import socket
import subprocess
import sys

UNIT = os.path.join(os.path.dirname(__file__), "..", "..", "deploy", "systemd", "cow_exporter.service")
NOBODY = 65534
CAPABILITIES = {"CAP_DAC_READ_SEARCH": 2, "CAP_NET_ADMIN": 12, "CAP_SYS_PTRACE": 19, "CAP_SYS_ADMIN": 21}
LIBC = ctypes.CDLL(None, use_errno=True)
PR_SET_KEEPCAPS, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE = 8, 24, 38, 47, 2
CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC, CLONE_NEWUSER, CLONE_NEWNET = 0x20000, 0x4000000, 0x8000000, 0x10000000, 0x40000000
ALLOW, REFUSE = 0x7FFF0000, 0x00050000 | errno.EPERM
PROT_WRITE_EXEC = 2 | 4
NEW_NAMESPACES = 0x7E020000  # CLONE_NEW* of clone


def settings(drop_ins=()):
    """Returns the [Service] section of the unit and its drop-ins: values by name, one per line."""
    found = {}
    for path in (UNIT, *drop_ins):
        with open(path, encoding="utf-8") as file:
            section = file.read().partition("[Service]")[2].partition("\n[")[0]
        for line in section.splitlines():
            if "=" in line and not line.startswith("#"):
                name, _, value = line.partition("=")
                found.setdefault(name, []).append(value)
    return found


def words(unit, name):
    """Returns the words of a list. A line that begins with ~ removes words from it."""
    found = set()
    for value in unit.get(name, []):
        found = found - set(value[1:].split()) if value.startswith("~") else found | set(value.split())
    return found


@functools.cache
def sets_of_calls():
    """Returns this systemd's sets of system calls by name."""
    text = subprocess.run(["systemd-analyze", "syscall-filter", "--no-pager"], capture_output=True, text=True, check=True).stdout
    sets = {}
    for line in text.splitlines():
        if line.startswith("@"):
            members = sets.setdefault(line.strip(), [])
        elif re.match(r"    @?[\w-]+$", line):
            members.append(line.strip())
    return sets


def system_calls(name):
    """Returns the system calls of a name or of one of systemd's sets."""
    if not name.startswith("@"):
        return {name}
    return set().union(*map(system_calls, sets_of_calls()[name]))


def allowed_calls(unit):
    allowed = set()
    for value in unit["SystemCallFilter"]:
        refused = value.startswith("~")
        named = set().union(*map(system_calls, value.lstrip("~").split()))
        allowed = allowed - named if refused else allowed | named
    return allowed | system_calls("@default")  # systemd adds it to every allow list


class Compare(ctypes.Structure):
    """struct scmp_arg_cmp"""
    _fields_ = [("argument", ctypes.c_uint), ("operation", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64)]


EQUAL, MASKED = 4, 7


class Filter:
    """A seccomp filter, made with libseccomp."""

    def __init__(self, default):
        self.library = ctypes.CDLL("libseccomp.so.2")
        self.library.seccomp_init.restype = ctypes.c_void_p
        self.context = ctypes.c_void_p(self.library.seccomp_init(ctypes.c_uint32(default)))

    def add(self, action, name, *compares):
        number = self.library.seccomp_syscall_resolve_name(name.encode())
        if number >= 0:  # else this machine has no such call
            array = (Compare * len(compares))(*compares)
            if self.library.seccomp_rule_add_array(self.context, ctypes.c_uint32(action), number, len(compares), array) != 0:
                sys.exit(f"sandbox.py: no rule for {name}")

    def load(self):
        if self.library.seccomp_load(self.context) != 0:
            sys.exit("sandbox.py: the filter was not taken")


def make_filters(unit):
    filters = []
    families = Filter(ALLOW)
    wanted = {int(getattr(socket, name)) for name in words(unit, "RestrictAddressFamilies")}
    for family in set(range(64)) - wanted if wanted else ():
        families.add(REFUSE, "socket", Compare(0, EQUAL, family, 0))
    filters.append(families)
    more = Filter(ALLOW)
    if "MemoryDenyWriteExecute" in unit:
        more.add(REFUSE, "mmap", Compare(2, MASKED, PROT_WRITE_EXEC, PROT_WRITE_EXEC))
        more.add(REFUSE, "mprotect", Compare(2, MASKED, 4, 4))
    if "RestrictNamespaces" in unit:
        more.add(REFUSE, "setns")
        more.add(REFUSE, "unshare")
        for bit in range(32):
            if NEW_NAMESPACES & (1 << bit):
                more.add(REFUSE, "clone", Compare(0, MASKED, 1 << bit, 1 << bit))
    filters.append(more)
    if "SystemCallFilter" in unit:  # last: it refuses further filters
        calls = Filter(REFUSE)
        for name in allowed_calls(unit):
            calls.add(ALLOW, name)
        filters.append(calls)
    return filters


def mount(*arguments):
    subprocess.run(["mount", "--no-mtab", *arguments], check=True)


def hide_files(unit, directory, proc):
    """Sets up a mount namespace."""
    if proc:
        mount("-t", "proc", "-o", proc, "proc", "/proc")
    mount("--bind", directory, directory)
    if "ProtectSystem" in unit:
        mount("-o", "remount,bind,ro", "/")
        with open("/proc/self/mounts", encoding="utf-8") as file:
            places = [line.split()[1] for line in file]
        for place in dict.fromkeys(places):
            if place not in ("/", directory) and not place.startswith(("/proc", "/dev")):
                subprocess.run(["mount", "--no-mtab", "-o", "remount,bind,ro", place], check=False, stderr=subprocess.DEVNULL)
    if "PrivateDevices" in unit:
        mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", "/mnt")
        for name in ("null", "zero", "full", "random", "urandom"):
            with open(f"/mnt/{name}", "w", encoding="utf-8"):
                pass
            mount("--bind", f"/dev/{name}", f"/mnt/{name}")
        mount("-o", "remount,ro", "/mnt")
        mount("--move", "/mnt", "/dev")
    hidden = (["/tmp", "/var/tmp"] if "PrivateTmp" in unit else []) + (["/home", "/root"] if "ProtectHome" in unit else [])
    for place in hidden:
        mount("-t", "tmpfs", "tmpfs", place)
    if "ProtectKernelTunables" in unit and "subset=pid" not in (proc or ""):
        mount("--bind", "-o", "ro", "/proc/sys", "/proc/sys")
        for path in ("/proc/kallsyms", "/proc/kcore"):
            if os.path.exists(path):
                mount("--bind", "/dev/null", path)


def succeed(result, what):
    if result != 0:
        sys.exit(f"sandbox.py: {what}: {os.strerror(ctypes.get_errno())}")


def become_service(unit):
    """Becomes a user without rights except the unit's capabilities."""
    def bits(name):
        mask = 0
        for word in words(unit, name):
            mask |= 1 << CAPABILITIES[word]
        return mask

    ambient, bounding = bits("AmbientCapabilities"), bits("CapabilityBoundingSet")
    for number in range(64):
        if not bounding & (1 << number):
            LIBC.prctl(PR_CAPBSET_DROP, number, 0, 0, 0)  # fails for capabilities that the kernel does not know
    succeed(LIBC.prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0), "keep capabilities")
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    low, high = ambient & 0xFFFFFFFF, ambient >> 32
    succeed(LIBC.capset(header, (ctypes.c_uint32 * 6)(low, low, low, high, high, high)), "capset")
    for number in range(64):
        if ambient & (1 << number):
            succeed(LIBC.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, number, 0, 0), "ambient capabilities")


def become_root_of_nothing():
    succeed(LIBC.unshare(CLONE_NEWUSER), "user namespace")
    for name, text in (("setgroups", "deny"), ("uid_map", "0 0 1"), ("gid_map", "0 0 1")):
        with open(f"/proc/self/{name}", "w", encoding="utf-8") as file:
            file.write(text)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--drop-in", action="append", default=[])
    parser.add_argument("--without", action="append", default=[])
    parser.add_argument("--proc")
    parser.add_argument("--private-users", action="store_true")
    parser.add_argument("directory", type=os.path.realpath)
    parser.add_argument("command", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()
    unit = settings(arguments.drop_in)
    for name in arguments.without:
        del unit[name]
    filters = make_filters(unit)
    os.chown(arguments.directory, NOBODY, NOBODY)
    network = CLONE_NEWNET if "PrivateNetwork" in unit else 0
    succeed(LIBC.unshare(CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS | network), "namespaces")
    mount("--make-rprivate", "/")
    hide_files(unit, arguments.directory, arguments.proc)
    if arguments.private_users:
        become_root_of_nothing()
    else:
        become_service(unit)
    succeed(LIBC.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no new privileges")
    for each in filters:
        each.load()
    os.execv(arguments.command[0], arguments.command)


if __name__ == "__main__":
    main()
