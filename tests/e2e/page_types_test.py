"""Compares `explain --pages` with page-types, the kernel's own tool, built here from Debian's linux-source-6.1 (130
MiB, downloaded if it is not installed). For every page of the private mappings of a family, equal frames must match
the reported sharing and its partners, and flags must match zero, file, copied and original pages."""

import collections
import glob
import json
import os
import re
import subprocess

import support
from support import check

PAGE = os.sysconf("SC_PAGESIZE")
PREFIX = "linux-source-6.1/"
FILES = ["tools/vm/page-types.c", "tools/lib/api", "include/uapi/linux/magic.h",
         "include/uapi/linux/kernel-page-flags.h", "include/linux/kernel-page-flags.h"]
OWN = {"copied", "original", "unshared", "unattributed", "private", "huge"}


def build(context):
    """Returns the path of page-types."""
    directory = context.path("source")
    os.mkdir(directory)
    members = " ".join(PREFIX + file for file in FILES)
    unpack = f"tar -xJf - {members}"
    installed = "/usr/src/linux-source-6.1.tar.xz"
    if os.path.exists(installed):
        subprocess.run(f"{unpack} < {installed}", shell=True, cwd=directory, check=True)
    else:
        if subprocess.run(["apt-get", "-q", "download", "linux-source-6.1"], cwd=directory, check=False,
                          stdout=subprocess.DEVNULL).returncode != 0:
            support.skip("linux-source-6.1 is neither installed nor to be had")
        package, = glob.glob(os.path.join(directory, "linux-source-6.1_*.deb"))
        subprocess.run(f"dpkg-deb --fsys-tarfile {package} | tar -xOf - ./usr/src/linux-source-6.1.tar.xz | {unpack}",
                       shell=True, cwd=directory, check=True)
        os.unlink(package)
    tools = os.path.join(directory, PREFIX, "tools")
    program = context.path("page-types")
    subprocess.run(["cc", "-O1", "-w", "-I", f"{tools}/lib", "-I", f"{tools}/lib/api", "-o", program,
                    "page-types.c", f"{tools}/lib/api/fs/fs.c", f"{tools}/lib/api/debug.c"], cwd=f"{tools}/vm",
                   check=True)
    return program


def frames(program, pid):
    """Returns (frame, flags) by virtual page."""
    run = subprocess.run([program, "--raw", "--pid", str(pid), "--list-each", "--no-summary"], capture_output=True,
                         text=True, check=True)
    pages = {}
    for line in run.stdout.splitlines():
        found = re.match(r"^([0-9a-f]+)\s+([0-9a-f]+)\s+(\S+)$", line)
        if found:
            pages[int(found.group(1), 16)] = (int(found.group(2), 16), found.group(3))
    check(pages, f"page-types lists nothing of {pid}")
    return pages


def explain(pid):
    run = subprocess.run([support.binary("COW_EXPORTER"), "explain", str(pid), "--json", "--pages"],
                         capture_output=True, text=True, check=True)
    return json.loads(run.stdout)


def hold(said, judge, holders, pid, is_leaf, counts):
    """Returns all pages of the private mappings of one process."""
    for mapping in said["mappings"]:
        if mapping["permissions"][3] != "p" or mapping["path"].startswith(("[vdso]", "[vvar", "[vsyscall]")):
            continue
        page = int(mapping["start"], 16) // PAGE
        for run in mapping["runs"]:
            check(int(run["start"], 16) // PAGE == page, f"{mapping['start']}: a hole between runs")
            for number in range(page, page + run["pages"]):
                fact = judge.get(number)
                hold_page(run, fact, holders, pid, is_leaf, f"{pid}: {number:x} {run}: {fact}")
                counts[run["state"]] += 1
            page += run["pages"]
        check(page == int(mapping["end"], 16) // PAGE, f"{mapping['start']}: runs end before the mapping")


def hold_page(run, fact, holders, pid, is_leaf, where):
    state = run["state"]
    if state in ("absent", "guard", "swapped"):
        check(fact is None, where)
        return
    check(fact is not None, where)
    frame, flags = fact
    is_anon, is_zero, is_exclusive = "a" in flags, "z" in flags, "d" in flags
    others = sorted(set(holders[frame]) - {pid}) if is_anon else []
    check((state == "shared") == bool(others) and run.get("shared_with", []) == others, where)
    check((state == "zero") == is_zero, where)
    if is_anon:
        # A fork clears the mark of the parent's earlier copies.
        if state == "private" or (state == "copied" and is_leaf):
            check(is_exclusive, where)
        if state in ("original", "unshared"):
            check(not is_exclusive, where)
    if state in OWN - {"original"}:
        check(is_anon, where)


def test(context):
    support.need("cc", "tar", "dpkg-deb", "apt-get", "xz")
    support.need_frames()
    program = build(context)
    file = context.path("file")
    with open(file, "wb") as out:
        out.write(b"x" * PAGE * 100)
    workload = context.start(support.Workload())
    workload.do("map 0 a 3000 nohuge")
    workload.do("write 0 a 0 2000")
    workload.do("read 0 a 2000 500")
    workload.do(f"mapfile 0 f {file} 100 private")
    workload.do("read 0 f 0 100")
    workload.do("write 0 f 10 20")
    workload.do("brk 0 300")
    members = [0]
    for parent, first in ((0, 0), (0, 300), (1, 600)):
        child = int(workload.do(f"fork {parent}").split()[0])
        members.append(child)
        workload.do(f"write {child} a {first} 200 2")
        workload.do(f"write {parent} a {first + 100} 150 3")
        workload.do(f"write {child} f {first // 10} 10")
        workload.do(f"dontneed {child} a {first + 50} 20")
    pids = [int(workload.do(f"pid {member}")) for member in members]
    said = {pid: explain(pid) for pid in pids}
    judges = {pid: frames(program, pid) for pid in pids}
    holders = collections.defaultdict(list)
    for pid, pages in judges.items():
        for frame, flags in pages.values():
            if "a" in flags and "x" not in flags:
                holders[frame].append(pid)
    counts = collections.Counter()
    for pid in pids:
        check([each["pid"] for each in said[pid]["family"]] == pids, f"the family of {pid}")
        hold(said[pid], judges[pid], holders, pid, pid in pids[2:], counts)
    print(f"pages of {len(pids)} processes, as page-types has them: {dict(counts)}")
    for state in ("shared", "copied", "original", "zero", "absent"):
        check(counts[state] > 100, f"too few {state} pages")
    exposure = sum(len(set(pids)) - 1 for pids in holders.values()) * PAGE
    check(said[pids[0]]["exposure_bytes"] == exposure, f"exposure: {said[pids[0]]['exposure_bytes']}, not {exposure}")


if __name__ == "__main__":
    support.main(test)
