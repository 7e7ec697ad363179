"""The service while its front is killed, stopped and killed again: no pass and no counter is lost, scrapes are refused or
answered and do not hang, and the parts end together."""

import os
import pathlib
import signal
import subprocess
import time
import urllib.error
import urllib.request

import support
from support import check, wait_for

GROUP = "cow_front_test"
MOST_SECONDS = 2.0  # a scrape
MOST_USS_MIB = 6


def pid_of(exporter, role):
    """Returns the front or the launcher, or None."""
    for pid in support.processes_of(exporter.pid)[1:]:
        words = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        if words[1:2] == [role.encode()]:
            return pid
    return None


def front(exporter):
    return wait_for(lambda: pid_of(exporter, "front"), 10, "a front")


def try_scrape(exporter):
    """Returns the samples, or None if the connection was refused or reset."""
    begin = time.monotonic()
    try:
        return exporter.scrape()
    except (urllib.error.URLError, ConnectionError, OSError):
        return None
    finally:
        took = time.monotonic() - begin
        check(took < MOST_SECONDS, f"a scrape took {took:.1f} s")


def counters(samples):
    return {series: value for series, value in samples.values.items()
            if series[0].endswith("_total") and not series[0].startswith("process_")}


def private_mib(pid):
    rollup = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    return sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Private_")) / 1024


def check_kills(context):
    """Breaks that happen while fronts are killed are counted, each once."""
    workload = context.start(support.Workload())
    workload.do(f"name 0 {GROUP}")
    workload.do("map 0 a 4096 nohuge")
    workload.do("write 0 a 0 4096")
    child = workload.do("fork 0").split()[0]
    exporter = context.start(support.Exporter("--scan.interval=200ms", "--scan.max-cpu=0", "--web.listen-address=unix:" +
                                              context.path("socket")))
    wait_for(lambda: exporter.scrape().get("cow_families", group=GROUP) == 1, 20, "the family")
    workload.do(f"write {child} a 4000 1")  # pages of its own that the command needs
    time.sleep(0.5)
    before = exporter.scrape()
    passes = before.value("cow_scan_passes_total", kind="incremental") + before.value("cow_scan_passes_total", kind="full")
    last, answered = counters(before), 0
    for number in range(6):
        workload.do(f"write {child} a {number * 100} 100")
        os.kill(front(exporter), signal.SIGKILL)
        for _ in range(10):
            samples = try_scrape(exporter)
            if samples is not None:
                answered += 1
                now = counters(samples)
                fallen = {series: value for series, value in now.items() if value < last.get(series, 0)}
                check(not fallen, f"counters fell: {fallen}")
                last = now
            time.sleep(0.05)
    after = wait_for(lambda: try_scrape(exporter), 20, "a scrape after the kills")
    time.sleep(0.5)
    after = wait_for(lambda: try_scrape(exporter), 20, "a scrape after the kills")
    broken = after.breaks(GROUP)["child"] - before.breaks(GROUP)["child"]
    check(broken == 600, f"{broken} of 600 breaks")
    passed = after.value("cow_scan_passes_total", kind="incremental") + after.value("cow_scan_passes_total", kind="full") - passes
    restarts = after.value("cow_exporter_front_restarts_total")
    check(restarts == 6, f"{restarts} restarts")
    check(passed >= 10, f"{passed} passes went on")
    print(f"6 fronts were killed: {answered} of 60 scrapes were answered, {passed:.0f} passes went on, 600 breaks were counted")
    sizes = {role: private_mib(pid_of(exporter, role)) for role in ("front", "launcher")}
    print("private memory: " + ", ".join(f"{role} {size:.1f} MiB" for role, size in sizes.items()))
    check(sum(sizes.values()) <= MOST_USS_MIB, f"private memory of {sizes}")
    exporter.end()


def check_stop(context):
    """A front that no longer answers is replaced; clients wait no longer than that."""
    exporter = context.start(support.Exporter("--scan.interval=200ms"))
    stopped = front(exporter)
    os.kill(stopped, signal.SIGSTOP)
    wait_for(lambda: pid_of(exporter, "front") not in (None, stopped), 30, "a new front in place of the one that hangs")
    wait_for(lambda: try_scrape(exporter), 10, "a scrape of the new front")
    check(any("does not answer" in line for line in exporter.log), "the log does not say why")
    exporter.end()


def check_silence(context):
    """A front whose reader hangs ends, so that health checks notice it. The reader starts another one when it goes on."""
    exporter = context.start(support.Exporter("--scan.interval=200ms"))
    first = front(exporter)
    os.kill(exporter.pid, signal.SIGSTOP)
    wait_for(lambda: pathlib.Path(f"/proc/{first}/stat").read_text(encoding="ascii").split()[2] == "Z", 30, "the front's end")
    os.kill(exporter.pid, signal.SIGCONT)
    wait_for(lambda: pid_of(exporter, "front") not in (None, first) and try_scrape(exporter), 20, "a scrape of a new front")
    exporter.end()


def check_ends(context):
    """The front ends with the reader, the service with the launcher."""
    exporter = context.start(support.Exporter())
    others = support.processes_of(exporter.pid)[1:]
    os.kill(exporter.pid, signal.SIGKILL)
    wait_for(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in others), 10, "the end of launcher and front")
    exporter.wait()

    exporter = context.start(support.Exporter())
    os.kill(pid_of(exporter, "launcher"), signal.SIGKILL)
    check(exporter.wait(10) == 1, f"the reader ended with {exporter.returncode}")
    check(any("the launcher has ended" in line for line in exporter.log), "the log does not say why")


def test(context):
    support.need_frames()
    run = subprocess.run([support.binary("COW_EXPORTER"), "front"], capture_output=True, text=True, check=False, timeout=10)
    check(run.returncode == 1, f"started by hand, a front ends with {run.returncode}")
    check_kills(context)
    check_stop(context)
    check_silence(context)
    check_ends(context)


support.main(test)
