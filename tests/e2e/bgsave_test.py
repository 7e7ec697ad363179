"""A large process forks and is written to, like Redis during a BGSAVE. The exporter has so little CPU that its first
pass over the child takes many intervals. The budget of an interval is three quarters of the cost of one reading of both
page tables on this machine. Listing processes and publishing may take half of it, and a pass reads both tables twice
and asks about each copied page.

 - The child counts from the second interval on.
 - The error of exposure is never larger than coverage allows.
 - CowExplosion fires while memory is still being copied.

The short form, in every run, has intervals of a second and the mixin rendered with windows of seconds. --long uses
the shipped intervals and rules.
"""

import argparse
import dataclasses
import json
import os
import time

import kernel_sums
import monitoring
import support
from support import check, wait_for

NAME = "large"
PAGE = os.sysconf("SC_PAGESIZE")
WINDOW = 512  # pages


@dataclasses.dataclass(frozen=True)
class Form:
    pages: int
    interval: str  # of scans, scrapes and rules; empty: the shipped one
    scan_seconds: int
    microseconds_per_page: int  # sleep of the writer
    fires_within: int


SHORT = Form(1 << 18, "1s", 1, 100, 120)
LONG = Form(1 << 20, "", 10, 60, 300)


def anonymous(pids):
    """Returns the memory that the processes map, and the part that is one page for both, in bytes."""
    sums = kernel_sums.read(pids)
    return sums.anonymous, sums.anonymous - sums.anonymous_shares


class Sharing:
    """Compares each scrape with the kernel's sums just before and just after it."""

    def __init__(self, exporter, pids, form):
        self.exporter, self.pids, self.form = exporter, pids, form
        self.forked = time.time()
        _, self.shared_at_fork = anonymous(pids)
        self.lowest_coverage = 1.0
        self.worst = 0.0

    def check(self):
        _, before = anonymous(self.pids)
        begin = time.time()
        samples = self.exporter.scrape()
        resident, after = anonymous(self.pids)
        if begin - self.forked < 2 * self.form.scan_seconds:
            return
        processes, families, coverage, exposure = (samples.value(name, group=NAME) for name in (
            "cow_processes", "cow_families", "cow_scan_coverage_ratio", "cow_exposure_bytes"))
        check((processes, families) == (2, 1),
              f"{begin - self.forked:.1f} s after the fork: {processes:.0f} processes, {families:.0f} families")
        # Fresh values may be an interval old, and at most the pages copied since the fork may be missing.
        copied = max(self.shared_at_fork - after, 0)
        stale = copied * min(1.0, 2 * self.form.scan_seconds / max(begin - self.forked, 1))
        allowed = (1 - coverage) * resident + stale + 0.01 * resident
        off = max(exposure - before, after - exposure, 0)
        check(off <= allowed, f"exposure {exposure:.0f}, the kernel says {after} to {before}, coverage {coverage:.3f}")
        self.lowest_coverage = min(self.lowest_coverage, coverage)
        self.worst = max(self.worst, off / resident)


def seconds_to_read(pid, address, pages):
    """Returns the CPU time of one reading of this much of a page table, window by window."""
    with open(f"/proc/{pid}/pagemap", "rb", buffering=0) as file:
        begin = time.thread_time()
        for page in range(address // PAGE, address // PAGE + pages, WINDOW):
            os.pread(file.fileno(), 8 * WINDOW, 8 * page)
        return time.thread_time() - begin


def test(context, form):
    support.need("prometheus", "prometheus-alertmanager", "prometheus-node-exporter", "jsonnet")
    support.need_frames()
    support.need_memory(3 * form.pages * PAGE)
    configuration = context.path("exporter.yml")
    with open(configuration, "w", encoding="utf-8") as file:
        json.dump({"groups": [{"name": NAME, "comm": [NAME]}], "default_group": "drop"}, file)  # JSON is YAML
    workload = context.start(support.Workload())
    workload.do(f"name 0 {NAME}")
    address = int(workload.do(f"map 0 a {form.pages} nohuge").split()[0], 16)
    workload.do(f"write 0 a 0 {form.pages}")
    pid = int(workload.do("pid 0"))
    budget = 0.75 * 2 * min(seconds_to_read(pid, address, form.pages) for _ in range(5))
    print(f"budget: {budget * 1000:.1f} ms in an interval of {form.scan_seconds} s")
    exporter = context.start(support.Exporter(
        f"--config.file={configuration}", f"--scan.max-cpu={budget / form.scan_seconds:.6f}",
        *([f"--scan.interval={form.interval}"] if form.interval else [])))
    receiver = monitoring.Receiver(context)
    alertmanager = monitoring.Alertmanager(context, receiver)
    port = support.free_port()
    addresses = {"cow_exporter": exporter.address, "node_exporter": monitoring.NodeExporter(context).address,
                 "prometheus": f"127.0.0.1:{port}", "alertmanager": alertmanager.address}
    rules = monitoring.fast_rules(context, consumedWindow="60s") if form is SHORT else monitoring.SHIPPED_RULES
    monitoring.Prometheus(context, monitoring.shipped_configuration(rules, addresses, form.interval), port=port)
    wait_for(lambda: exporter.scrape().get("cow_processes", group=NAME) == 1, 60, "the process is seen")

    child = int(workload.do("fork 0").split()[1])
    sharing = Sharing(exporter, [int(workload.do("pid 0")), child], form)
    workload.do(f"writers 0 a 1 {form.microseconds_per_page}")
    began = time.time()
    fired = None
    while not fired:
        fired = receiver.first("firing", alertname="CowExplosion", group=NAME)
        check(time.time() < began + form.fires_within, f"CowExplosion: not within {form.fires_within} s of the fork")
        check(workload.do("writing 0") == "1", "all was written before the alert fired")
        sharing.check()
        time.sleep(0.2)
    print(f"CowExplosion fired {fired.time - began:.1f} s after the fork; coverage fell to {sharing.lowest_coverage:.2f}, exposure "
          f"was off by {sharing.worst:.1%} of the resident memory at most")
    check(sharing.lowest_coverage < 0.9, "the first pass did not take many intervals: this tests nothing")
    told = [line for line in exporter.log if "several intervals" in line]
    check(len(told) == 1, f"the log does not say once how long the first look takes: {told}")


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--long", action="store_true", help="the shipped rules and intervals")
ARGUMENTS = parser.parse_args()
support.main(lambda context: test(context, LONG if ARGUMENTS.long else SHORT))
