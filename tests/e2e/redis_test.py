"""Redis saves in the background while its keys are written: the exporter's breaks against two witnesses.

Each page that the parent breaks leaves the original to the child alone, and each page that the child breaks is its own
copy: both are in the child's Private_Dirty, which is also what Redis reports as current_cow_size. Beside them
Private_Dirty has what the child allocated itself. Writing rests while the three are compared.
"""

import argparse
import json
import os
import re
import subprocess
import time

import support
from support import check, check_close, wait_for

GROUP = "redis-server"
KEYS = 200_000
VALUE_BYTES = 1000
WRITES = 40_000
TOLERANCE = 0.02
FILL = "for i = 0, tonumber(ARGV[1]) - 1 do redis.call('set', string.format('key:%012d', i), ARGV[2]) end"
PAGE = os.sysconf("SC_PAGESIZE")


def kilobytes(pid, file, field):
    with open(f"/proc/{pid}/{file}", encoding="utf-8") as content:
        return int(re.search(rf"^{field}:\s+(\d+) kB", content.read(), re.MULTILINE).group(1))


class Redis(support.Process):
    """redis-server on a socket in the test's directory."""

    def __init__(self, context):
        self.socket = context.path("redis.sock")
        super().__init__(["redis-server", "--port", "0", "--unixsocket", self.socket, "--dir", context.directory,
                          "--save", ""], stdout=subprocess.DEVNULL)

    def do(self, *words):
        run = subprocess.run(["redis-cli", "-s", self.socket, *map(str, words)], capture_output=True, text=True,
                             check=True)
        return run.stdout.strip()

    def info(self):
        return dict(re.findall(r"^(\w+):(\S*)\s*$", self.do("info", "persistence"), re.MULTILINE))

    def child(self):
        """The pid of the child that saves, or None."""
        with open(f"/proc/{self.pid}/task/{self.pid}/children", encoding="utf-8") as file:
            pids = file.read().split()
        return int(pids[0]) if pids else None


def test(context):
    support.need("redis-server", "redis-cli", "redis-benchmark")
    support.need_frames()
    redis = context.start(Redis(context))
    wait_for(lambda: os.path.exists(redis.socket), 10, "redis-server")
    wait_for(lambda: redis.do("ping") == "PONG", 10, "redis-server")
    redis.do("eval", FILL, 0, KEYS, "x" * VALUE_BYTES)
    exporter = context.start(support.Exporter("--scan.interval=0s"))

    def write(count):
        """Changes values in place, at random keys."""
        return context.start(support.Process(
            ["redis-benchmark", "-s", redis.socket, "-r", str(KEYS), "-n", str(count), "-c", "4", "-q",
             "setrange", "key:__rand_int__", "0", "written"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))

    write(1000).wait()
    before = exporter.scrape()
    redis.do("config", "set", "rdb-key-save-delay", 100)  # µs a key: it is still saving at the end of the test
    redis.do("bgsave")
    child = wait_for(redis.child, 5, "the saving child")
    exporter.scrape()
    exposed = exporter.scrape().value("cow_exposure_bytes", group=GROUP)
    check(exposed > KEYS * VALUE_BYTES, f"exposure after the fork is {exposed:.0f} bytes")
    writers = write(WRITES)
    while writers.poll() is None:
        exporter.scrape()
        time.sleep(0.3)

    # Writing rests. Redis' child measures itself at most once a second; wait for one that was taken since.
    rest = time.time()
    wait_for(lambda: int(redis.info()["current_cow_size_age"]) + 1 < time.time() - rest, 30, "Redis' own measurement",
             pause=0.2)
    dirty_before = kilobytes(child, "smaps_rollup", "Private_Dirty") * 1024
    samples = exporter.scrape()
    dirty = kilobytes(child, "smaps_rollup", "Private_Dirty") * 1024
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


def hold_explained(parent, child, dirty):
    """`explain` sees at its first look what the exporter has seen happen."""
    def explain(*arguments):
        return subprocess.run([support.binary("COW_EXPORTER"), "explain", *map(str, arguments)], capture_output=True,
                              text=True, check=True, env={**os.environ, "LANG": "C.UTF-8", "COLUMNS": "100"}).stdout

    print(explain(parent))
    said = json.loads(explain(child, "--json"))
    saving = next(member for member in said["family"] if member["pid"] == child)
    check_close(said["broken_bytes"], dirty, TOLERANCE, "bytes broken as explained, to the child's Private_Dirty")
    check_close(saving["private_bytes"], dirty, TOLERANCE, "the child's private bytes as explained, to Private_Dirty")


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
