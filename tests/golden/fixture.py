"""A small host as files: /proc with two families, and with processes that can't be read for various reasons. The page
size is a parameter; numbers of pages are the same for every size.

Family "forker" (a parent and two children, forked before the first look), in pages:

  mapping        pages
  program text   4 of the page cache, in all three
  .data          private file mapping: 1 written by each process itself, 1 original of the page cache
  heap           4 shared by all three; 1 shared by the parent and the first child, copied by the second; 1 shared by
                 the children, copied by the parent; 1 of the zero page; 1 untouched
  anonymous      1 swapped out in all three; 1 swapped out in the parent only; 1 of the second child alone
  shared memory  2, of which the second child maps 1
  stack          1 private page of each process
"""

import os
import struct

PRESENT, SWAPPED, FILE, ONCE = (1 << bit for bit in (63, 62, 61, 56))
FLAG_ANON, FLAG_SWAP_BACKED, FLAG_ZERO, FLAG_EXCLUSIVE = (1 << bit for bit in (12, 14, 24, 34))
FLAG_LRU, FLAG_MAPPED = 1 << 5, 1 << 11
ZERO_FRAME = 3
CACHE_FRAMES = 2000  # higher frames belong to the page cache
# No real process has such a pid, so questions to the kernel about it fail.
FIRST_PID = 5_000_001
# Not even root may read it, whatever its capabilities.
UNREADABLE = "/proc/sys/vm/compact_memory"


class Frames:
    """Physical memory: the mappings of each frame and their kind."""

    def __init__(self):
        self.counts = {}
        self.flags = {ZERO_FRAME: FLAG_ZERO}

    def map(self, frame, exclusive=True):
        self.counts[frame] = self.counts.get(frame, 0) + 1
        kind = FLAG_LRU | FLAG_MAPPED
        if frame < CACHE_FRAMES:
            kind |= FLAG_ANON | FLAG_SWAP_BACKED | (FLAG_EXCLUSIVE if exclusive else 0)
        self.flags[frame] = kind

    def words(self, table):
        last = max(self.flags) + 1
        return b"".join(struct.pack("<Q", table.get(frame, 0)) for frame in range(last))


class Process:
    """Page tables and texts of one process. `pages` maps page numbers to ("frame", n), ("zero",), ("swap", n);
    `mappings` and `layout` are in pages too."""

    def __init__(self, pid, parent, name, start, mappings, pages, layout, faults=0, cgroup="/"):
        self.pid, self.parent, self.name, self.start, self.mappings = pid, parent, name, start, mappings
        self.pages, self.layout, self.faults, self.cgroup = pages, layout, faults, cgroup

    def write(self, tree, frames, page_bytes):
        page_kib = page_bytes // 1024
        anon = sum(1 for page in self.pages.values() if page[0] == "frame" and page[1] < CACHE_FRAMES)
        cache = sum(1 for page in self.pages.values() if page[0] == "frame" and page[1] >= CACHE_FRAMES)
        swapped = sum(1 for page in self.pages.values() if page[0] == "swap")
        directory = str(self.pid)
        tree.text(f"{directory}/stat", stat(self.pid, self.name, "S", self.parent, self.start,
                                            [page * page_bytes for page in self.layout], self.faults,
                                            vsize=sum(m[1] - m[0] for m in self.mappings) * page_bytes))
        escaped = self.name.replace("\\", "\\\\").replace("\n", "\\n")
        tree.text(f"{directory}/status",
                  f"Name:\t{escaped}\nTgid:\t{self.pid}\nPPid:\t{self.parent}\nUid:\t0\t0\t0\t0\n"
                  f"RssAnon:\t{anon * page_kib} kB\nRssFile:\t{cache * page_kib} kB\nRssShmem:\t0 kB\n"
                  f"VmSwap:\t{swapped * page_kib} kB\nHugetlbPages:\t0 kB\n")
        tree.text(f"{directory}/cgroup", f"0::{self.cgroup}\n")
        tree.text(f"{directory}/personality", "00000000\n")
        tree.text(f"{directory}/maps", "".join(
            f"{first * page_bytes:08x}-{last * page_bytes:08x} {permissions} 00000000 {device} {inode} {path}".rstrip()
            + "\n"
            for first, last, permissions, device, inode, path in self.mappings))
        tree.link(f"{directory}/exe", "/usr/bin/" + self.name.split()[0])
        last = max(m[1] for m in self.mappings)
        tree.data(f"{directory}/pagemap",
                  b"".join(struct.pack("<Q", self.entry(self.pages.get(page), frames)) for page in range(last)))

    @staticmethod
    def entry(page, frames):
        if page is None:
            return 0
        if page[0] == "zero":
            return PRESENT | ZERO_FRAME
        if page[0] == "swap":
            return SWAPPED | page[1] << 5
        frame = page[1]
        return PRESENT | frame | (FILE if frame >= CACHE_FRAMES else 0) | (ONCE if frames.counts[frame] == 1 else 0)


class Tree:
    def __init__(self, root):
        self.root = os.path.realpath(root)

    def _path(self, name):
        path = os.path.join(self.root, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        return path

    def text(self, name, content):
        self.data(name, content.encode())

    def data(self, name, content):
        with open(self._path(name), "wb") as file:
            file.write(content)

    def link(self, name, target):
        os.symlink(target, self._path(name))


def stat(pid, name, state, parent, start, layout, faults=0, flags=0x400000, vsize=0):
    """Returns the line of /proc/PID/stat; `layout`: startcode, endcode, startstack, start_data, end_data, start_brk."""
    fields = [0] * 53
    fields[4], fields[9], fields[10], fields[20], fields[22], fields[23] = parent, flags, faults, 1, start, vsize
    fields[26], fields[27], fields[28], fields[45], fields[46], fields[47] = layout
    return f"{pid} ({name}) {state} " + " ".join(str(field) for field in fields[4:]) + "\n"


def forker_family(frames):
    text, data, heap, anonymous, shared, stack = 0x400, 0x404, 0x600, 0xA00, 0xC00, 0xE00
    mappings = [
        (text, text + 4, "r-xp", "fe:00", 11, "/usr/bin/forker"),
        (data, data + 2, "rw-p", "fe:00", 11, "/usr/bin/forker"),
        (heap, heap + 8, "rw-p", "00:00", 0, "[heap]"),
        (anonymous, anonymous + 4, "rw-p", "00:00", 0, ""),
        (shared, shared + 2, "rw-s", "00:15", 12, "/dev/shm/forker"),
        (stack, stack + 2, "rw-p", "00:00", 0, "[stack]"),
    ]
    layout = (text, text + 4, stack + 1, data, data + 2, heap)
    tables = []
    for member in range(3):
        table = {text + i: ("frame", 2000 + i) for i in range(4)}
        table[data] = ("frame", 100 + member)
        table[data + 1] = ("frame", 2010)
        table.update({heap + i: ("frame", 200 + i) for i in range(4)})
        table[heap + 4] = ("frame", 204 if member < 2 else 214)
        table[heap + 5] = ("frame", 205 if member > 0 else 215)
        table[heap + 6] = ("zero",)
        table[anonymous] = ("swap", 77)
        table[anonymous + 1] = ("swap", 78) if member == 0 else ("frame", 220)
        table[shared] = ("frame", 2020)
        if member < 2:
            table[shared + 1] = ("frame", 2021)
        table[stack] = ("frame", 230 + member)
        tables.append(table)
    tables[2][anonymous + 2] = ("frame", 221)
    for table in tables:
        for kind, *frame in table.values():
            if kind == "frame":
                frames.map(*frame, exclusive=not 200 <= frame[0] <= 205 and frame[0] != 220)
    cgroup = "/system.slice/forker.service"
    return [Process(FIRST_PID + i, 1 if i == 0 else FIRST_PID, "forker", 1000 + 50 * i, mappings, table, layout, 40 + i,
                    cgroup) for i, table in enumerate(tables)]


def lonely_process(frames):
    text, data, anonymous, stack = 0x400, 0x402, 0x800, 0xE80
    name = 'we"ird\\n me'
    mappings = [
        (text, text + 2, "r-xp", "fe:00", 21, "/usr/bin/weird"),
        (data, data + 5, "rw-p", "fe:00", 21, "/usr/bin/weird"),
        (anonymous, anonymous + 16, "rw-p", "00:00", 0, ""),
        (stack, stack + 2, "rw-p", "00:00", 0, "[stack]"),
    ]
    layout = (text, text + 2, stack + 1, data, data + 5, 0x700)
    table = {text: ("frame", 2100), text + 1: ("frame", 2101)}
    table.update({data + i: ("frame", 300 + i) for i in range(3)})
    table.update({data + i: ("frame", 2102 + i) for i in (3, 4)})
    table.update({anonymous + i: ("frame", 310 + i) for i in range(5)})
    table.update({anonymous + 5: ("zero",), anonymous + 6: ("zero",), anonymous + 7: ("swap", 79)})
    table[stack] = ("frame", 320)
    for kind, *frame in table.values():
        if kind == "frame":
            frames.map(*frame)
    return [Process(FIRST_PID + 10, 1, name, 2000, mappings, table, layout, 7)]


def build(directory, page_bytes=4096):
    """Writes the tree. Returns the flags that make the exporter read it. One PMD maps a huge page: as many pages as
    a page holds entries of 8 bytes."""
    page_kib = page_bytes // 1024
    tree = Tree(os.path.join(directory, "proc"))
    frames = Frames()
    processes = forker_family(frames) + lonely_process(frames)
    for process in processes:
        process.write(tree, frames, page_bytes)
    tree.data("kpageflags", frames.words(frames.flags))
    tree.data("kpagecount", frames.words(frames.counts))

    denied = FIRST_PID + 20
    tree.text(f"{denied}/stat", stat(denied, "denied", "S", 1, 3000, (1, 1, 0, 0, 0, 0)))
    tree.text(f"{denied}/status", f"Name:\tdenied\nTgid:\t{denied}\nPPid:\t1\nUid:\t7\t7\t7\t7\n"
                                  f"RssAnon:\t{100 * page_kib} kB\nRssFile:\t{25 * page_kib} kB\n"
                                  "RssShmem:\t0 kB\nVmSwap:\t0 kB\n")
    tree.text(f"{denied}/cgroup", "0::/user.slice/user-7.slice/session-1.scope\n")
    for name in ("maps", "pagemap", "smaps", "smaps_rollup"):
        tree.link(f"{denied}/{name}", UNREADABLE)
    os.makedirs(os.path.join(tree.root, str(FIRST_PID + 21)))  # vanished between the listing and the read
    thread = FIRST_PID + 22
    tree.text(f"{thread}/stat", stat(thread, "kworker/0:1", "I", 2, 10, (0,) * 6, flags=0x200040))
    tree.text(f"{thread}/status", f"Name:\tkworker/0:1\nTgid:\t{thread}\nPPid:\t2\nUid:\t0\t0\t0\t0\n")
    tree.text(f"{FIRST_PID + 23}/stat", f"{FIRST_PID + 23} (mangled) S one two three\n")
    zombie = FIRST_PID + 24
    tree.text(f"{zombie}/stat", stat(zombie, "forker", "Z", FIRST_PID, 1200, (0,) * 6))

    tree.text("stat", "cpu 1 2 3\nbtime 1700000000\nprocesses 5\n")
    tree.text("meminfo", f"MemTotal: 100000 kB\nAnonPages: {36 * page_kib} kB\n")
    tree.text("sys/kernel/randomize_va_space", "2\n")
    tree.data("self/auxv", struct.pack("<6Q", 6, page_bytes, 17, 100, 0, 0))
    tree.text("self/status", "Name:\tcow_exporter\nTgid:\t9\nPPid:\t1\nUid:\t0\t0\t0\t0\nCapEff:\t000001ffffffffff\n")
    tree.link("self/ns/pid", "pid:[4026531836]")
    tree.link("self/ns/user", "user:[4026531837]")
    mounts = f"20 1 0:20 / {tree.root} rw,nosuid - proc proc rw\n21 1 0:21 / /dev/shm rw - tmpfs tmpfs rw\n"
    tree.text("self/mountinfo", mounts)
    sysfs = Tree(os.path.join(directory, "sys"))
    sysfs.text("kernel/mm/transparent_hugepage/hpage_pmd_size", f"{page_bytes // 8 * page_bytes}\n")
    sysfs.text("fs/cgroup/system.slice/forker.service/memory.max", "1048576\n")
    sysfs.text("fs/cgroup/system.slice/forker.service/memory.current", "524288\n")
    return [f"--path.procfs={tree.root}", f"--path.sysfs={sysfs.root}", "--web.disable-exporter-metrics"]
