"""Redis saves in the background while its keys are written: compares the exporter's breaks with two witnesses.

Each page that the parent breaks leaves the original to the child alone, and each page that the child breaks is its
own copy. Both are in the child's Private_Dirty, which Redis also reports as current_cow_size. Private_Dirty also
includes the child's own allocations. Writing stops while the three are compared.
"""

import argparse
import json
import os
import subprocess
import time

import kernel_sums
import servers
import support
from support import check, check_close, wait_for

GROUP = "redis-server"
KEYS = 200_000
VALUE_BYTES = 1000
WRITES = 40_000
TOLERANCE = 0.02
PAGE = os.sysconf("SC_PAGESIZE")


def test(context):
    support.need("redis-server", "redis-cli", "redis-benchmark")
    support.need_history()
    redis = context.start(servers.Redis(context.directory))
    redis.fill(KEYS, VALUE_BYTES)
    exporter = context.start(support.Exporter("--scan.interval=0s"))

    def write(count):
        """Changes values in place at random keys."""
        return context.start(support.Process(
            ["redis-benchmark", "-s", redis.socket, "-r", str(KEYS), "-n", str(count), "-c", "4", "-q",
             "setrange", "key:__rand_int__", "0", "written"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))

    write(1000).wait()
    before = exporter.scrape()
    redis.do("config", "set", "rdb-key-save-delay", 100)  # µs per key: the save lasts longer than the test
    redis.do("bgsave")
    child = wait_for(redis.child, 5, "the saving child")
    exporter.scrape()
    exposed = exporter.scrape().value("cow_exposure_bytes", group=GROUP)
    check(exposed > KEYS * VALUE_BYTES, f"exposure after the fork is {exposed:.0f} bytes")
    writers = write(WRITES)
    while writers.poll() is None:
        exporter.scrape()
        time.sleep(0.3)

    redis.measured_cow_bytes()  # writing has stopped
    dirty_before = kernel_sums.private_dirty(child)
    samples = exporter.scrape()
    dirty = kernel_sums.private_dirty(child)
    info = redis.info()
    check(redis.child() == child and info["rdb_bgsave_in_progress"] == "1", "saving was over too early")

    def increase(name, **labels):
        return samples.value(name, group=GROUP, **labels) - (before.get(name, group=GROUP, **labels) or 0)

    sides = {side: increase("cow_breaks_total", side=side) for side in ("parent", "child", "unknown")}
    breaks = sum(sides.values()) * PAGE
    print(f"broken pages: {sides}")
    for cause in ("exit", "unmap", "collapse", "unknown"):
        print(f"unshared, {cause}: {increase('cow_unshared_bytes_total', cause=cause):.0f} bytes")
    print(f"unattributed: {increase('cow_unattributed_bytes_total'):.0f} bytes")
    print(f"exposure: {exposed:.0f} bytes after the fork, {samples.value('cow_exposure_bytes', group=GROUP):.0f} now")
    print(f"the child's Private_Dirty: {dirty_before} bytes before the scrape, {dirty} after it")
    print(f"current_cow_size: {info['current_cow_size']} bytes, {info['current_cow_size_age']} s old")
    check(sides["parent"] > WRITES / 4, "the parent broke too few pages")
    check_close(breaks, dirty, TOLERANCE, "bytes broken, to the child's Private_Dirty")
    check_close(breaks, int(info["current_cow_size"]), TOLERANCE, "bytes broken, to current_cow_size")
    check_close(samples.value("cow_exposure_bytes", group=GROUP), exposed - breaks, TOLERANCE, "exposure now")
    hold_explained(redis.pid, child, dirty)
    return samples


def may_have_swapped_in(pids):
    """True if the host has swapped in pages since boot and one of these processes has waited for a page of swap or
    of a file."""
    with open("/proc/vmstat", encoding="ascii") as file:
        swapped_in = next(int(line.split()[1]) for line in file if line.startswith("pswpin "))

    def waited(pid):
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            return int(file.read().rpartition(")")[2].split()[9]) > 0

    return swapped_in > 0 and any(map(waited, pids))


def hold_explained(parent, child, dirty):
    """The first look of `explain` shows the breaks that the exporter has seen, unless pages may have come back from
    swap."""
    if may_have_swapped_in((parent, child)):
        print("not explained: at a first look, pages from swap can't be told from copies")
        return

    def explain(*arguments):
        return subprocess.run([support.binary("COW_EXPORTER"), "explain", *map(str, arguments)], capture_output=True,
                              text=True, check=True, env={**os.environ, "LANG": "C.UTF-8", "COLUMNS": "100"}).stdout

    print(explain(parent))
    said = json.loads(explain(child, "--json"))
    saving = next(member for member in said["family"] if member["pid"] == child)
    check_close(said["broken_bytes"], dirty, TOLERANCE, "bytes broken as explained, to the child's Private_Dirty")
    own = sum(saving[f"{part}_bytes"] for part in ("private", "copied", "original")) - saving["file_original_bytes"]
    check_close(own, dirty, TOLERANCE, "the child's own bytes as explained, to Private_Dirty")


def main(arguments):
    def run(context):
        samples = test(context)
        if arguments.save:
            with open(arguments.save, "w", encoding="utf-8") as file:
                file.writelines(f"{line}\n" for line in samples.text.splitlines()
                                if line.startswith("#") or f'group="{GROUP}"' in line)

    support.main(run)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--save", metavar="FILE", help="writes the group's metrics while Redis saves")
    main(parser.parse_args())
