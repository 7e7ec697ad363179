"""`explain PID --writers` on real programs: CPython's garbage collector in a forked child, with and without gc.freeze(),
with and without symbols; and Redis whose keys are written while it saves. The breaks are those that an exporter counts
over the same time, to the page."""

import os
import pathlib
import re
import signal
import subprocess

import servers
import support
from support import check
from watching import Watch, counted_breaks, pages_by

PYTHON = os.path.realpath("/usr/bin/python3")
COLLECTOR = re.compile(r"gc_|deduce_|visit_|subtract_refs|update_refs|move_unreachable|untrack_")

# A parent with many objects; its child collects when told.
PROGRAM = r"""
import gc, os, sys
gc.disable()
data = [{"number": i, "list": [i]} for i in range(120_000)]
gc.collect()
if sys.argv[1] == "freeze":
    gc.freeze()
child = os.fork()
os.write(1, f"{os.getpid()}\n".encode())
if child != 0:
    os.wait()
sys.stdin.readline()
gc.collect()
os.write(1, b"collected\n")
sys.stdin.readline()
"""

# Runs a program as if no debug files were installed. They are looked for below the roots of both sides.
WITHOUT_DEBUG_FILES = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /usr/lib/debug && exec "$@"', "sh"]


def build_id(path):
    notes = subprocess.run(["readelf", "-n", path], capture_output=True, text=True, check=True).stdout
    return re.search("Build ID: ([0-9a-f]+)", notes)[1]


def has_debug_file(path):
    name = build_id(path)
    return pathlib.Path(f"/usr/lib/debug/.build-id/{name[:2]}/{name[2:]}.debug").exists()


class Python(support.Process):
    def __init__(self, freeze, wrapper=()):
        super().__init__([*wrapper, PYTHON, "-c", PROGRAM, "freeze" if freeze else "plain"], stdin=subprocess.PIPE,
                         stdout=subprocess.PIPE)
        pids = {int(self.line()), int(self.line())}
        check(self.pid in pids and len(pids) == 2, str(pids))
        self.child = (pids - {self.pid}).pop()

    def collect(self):
        """The child reads the line, because its parent waits for it."""
        self.stdin.write("\n")
        self.stdin.flush()
        check(self.line() == "collected\n", "the child did not collect")


def watch_collection(context, freeze, *options, wrapper=()):
    """Returns the report and the breaks that an exporter counts."""
    python = context.start(Python(freeze, wrapper))
    group = os.path.basename(PYTHON)[:15]
    exporter = context.start(support.Exporter("--scan.interval=0", "--scan.max-cpu=0"))
    counted_breaks(exporter, group)
    watch = context.start(Watch(python.pid, "--json", *options, wrapper=wrapper))
    before = counted_breaks(exporter, group)
    python.collect()
    report = watch.report()
    counted = counted_breaks(exporter, group) - before
    check(report["lost_records"] == 0, f"{report['lost_records']} records were lost")
    check(report["broken_pages"] == counted, f"{report['broken_pages']} pages broken, the exporter counts {counted}")
    python.end()
    print(report["summary"])
    return report


def test_python(context):
    support.need("readelf")
    plain = watch_collection(context, freeze=False)
    frozen = watch_collection(context, freeze=True)
    check(plain["broken_pages"] > 3000, f"{plain['broken_pages']} pages broken by a collection")
    check(frozen["broken_pages"] < plain["broken_pages"] / 10,
          f"{frozen['broken_pages']} pages broken after gc.freeze(), {plain['broken_pages']} without")
    if not has_debug_file(PYTHON):
        print("no symbols of Python are installed: the collector is not named")
        return
    by_collector = sum(writer["pages"] for writer in plain["writers"]
                       if writer["function"] and COLLECTOR.match(writer["function"]))
    check(by_collector > 0.9 * plain["broken_pages"], str(plain["writers"]))
    check("gc.freeze() before the fork would keep them shared" in plain["summary"], plain["summary"])


def test_stripped_python(context):
    support.need_privileges("mounts of its own")
    report = watch_collection(context, freeze=False, wrapper=WITHOUT_DEBUG_FILES)
    # The symbols of the dynamic table are left: no function without one may get its neighbour's name.
    nameless = sum(writer["pages"] for writer in report["writers"]
                   if writer["function"] is None and writer["object"] == PYTHON and writer["build_id"] == build_id(PYTHON))
    check(nameless > 0.9 * report["broken_pages"], str(report["writers"][:5]))
    check(pages_by(report, function="PyGC_Collect") == 0, "a neighbour's name")


def test_redis(context):
    support.need("redis-server", "redis-cli", "redis-benchmark")
    redis = context.start(servers.Redis(context.directory))
    redis.fill(20_000, 1000)
    exporter = context.start(support.Exporter("--scan.interval=0", "--scan.max-cpu=0"))
    redis.do("config", "set", "rdb-key-save-delay", 2000)  # µs per key: the save lasts longer than the test
    redis.do("bgsave")
    child = support.wait_for(redis.child, 5, "the saving child")
    # Both are stopped while the two look, so that nothing is broken between a look of the one and of the other.
    os.kill(child, signal.SIGSTOP)
    os.kill(redis.pid, signal.SIGSTOP)
    counted_breaks(exporter, "redis-server")
    watch = context.start(Watch(redis.pid, "--json"))
    before = counted_breaks(exporter, "redis-server")
    os.kill(redis.pid, signal.SIGCONT)
    subprocess.run(["redis-benchmark", "-s", redis.socket, "-r", "20000", "-n", "5000", "-c", "4", "-q", "setrange",
                    "key:__rand_int__", "0", "written"], stdout=subprocess.DEVNULL, check=True)
    os.kill(redis.pid, signal.SIGSTOP)
    report = watch.report()
    counted = counted_breaks(exporter, "redis-server") - before
    print(report["summary"])
    check(report["broken_pages"] > 1000, f"{report['broken_pages']} pages broken")
    check(report["lost_records"] == 0, f"{report['lost_records']} records were lost")
    check(report["broken_pages"] == counted, f"{report['broken_pages']} pages broken, the exporter counts {counted}")
    check(report["unexplained_pages"] < 0.01 * report["broken_pages"], f"{report['unexplained_pages']} unexplained")
    by_parent = pages_by(report, side="parent")
    check(by_parent > 0.9 * report["broken_pages"], str(report["writers"][:5]))


def test(context):
    support.need_frames()
    for each in (test_python, test_stripped_python, test_redis):
        print(each.__name__)
        with support.Test() as own:
            each(own)


if __name__ == "__main__":
    support.main(test)
