"""The exporter under every load that is hard for it at once: 50 forks a second, three clients that scrape each second
over TLS, reloads, new certificates and hostile processes. No scrape fails, no counter falls, no value is older than it
says, CPU stays within its budget, memory and descriptors of all processes stay flat.

  --seconds N   duration (40); from 300 s on the slope of resident memory is checked
"""

import argparse
import contextlib
import math
import os
import pathlib
import random
import re
import shutil
import signal
import statistics
import subprocess
import threading
import time

import hostile
import support
from support import check

GROUP = "truth"
PAGE = os.sysconf("SC_PAGESIZE")
MIB_PAGES = (1 << 20) // PAGE
# Pages that a command of the workload also dirties: of the stack and of libc's data, once in each member.
OWN_PAGES = 24
MOST_RESIDENT_MIB = 128  # of all processes of the service
MOST_SCRAPE_SECONDS = 1.0
SLOPE_SECONDS = 300  # a shorter run has no slope: caches still fill
MOST_GROWTH_SHARE = 0.03  # of the resident memory, over the last two thirds of the run
MAX_CPU = 0.2
CONFIGURATION = f"""\
scan: {{interval: 1s, max_cpu: {MAX_CPU}}}
limits: {{max_groups: 60}}
groups:
  - {{name: truth, comm: [cow_truth]}}
"""


class Background:
    """Repeats one step of a workload in a thread until the run ends. A failed step ends the run."""

    def __init__(self, run, step, pause):
        self._run, self._step, self._pause = run, step, pause
        self.steps = 0
        self.error = None
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def _work(self):
        try:
            while not self._run.is_set():
                self._step()
                self.steps += 1
                self._run.wait(self._pause)
        except Exception as error:  # pylint: disable=broad-except
            if not self._run.is_set():
                self.error = error

    def join(self):
        self._thread.join(30)


class Truth:
    """A family with an exposure that is known at each moment: members write pages that no process wrote since the
    fork."""

    MEMBERS = 4
    PAGES = 32 * MIB_PAGES

    def __init__(self, context):
        self._workload = context.start(support.Workload())
        self._random = random.Random(7)
        self._workload.do("name 0 cow_truth")
        self._workload.do(f"map 0 a {self.PAGES} nohuge")
        self._workload.do(f"write 0 a 0 {self.PAGES}")
        self._members = [0] + [int(self._workload.do("fork 0").split()[0]) for _ in range(self.MEMBERS - 1)]
        self._next = {member: 0 for member in self._members}
        self._holders = [self.MEMBERS] * self.PAGES
        self.expected = self.PAGES * (self.MEMBERS - 1)
        self._start_log()

    def _start_log(self):
        """The log has the begin and the end of each step, and the value after it."""
        now = time.time()
        self.log = [[now, now, self.expected]]

    def begin(self, exporter):
        """Adds other memory that the members share to the expected value. Call it before the first step."""
        def read():
            samples = exporter.scrape()
            old = samples.get("cow_scan_timestamp_seconds", group=GROUP) or 0
            covered = samples.get("cow_scan_coverage_ratio", group=GROUP) == 1
            return samples if covered and old > self.log[0][1] else None

        samples = support.wait_for(read, 60, "the truth's group is read", pause=0.5)
        others = samples.value("cow_exposure_bytes", group=GROUP) / PAGE - self.expected
        check(0 <= others < self.PAGES, f"{others} other pages are shared")
        self.expected += others
        self._start_log()

    def step(self):
        member = self._random.choice(self._members)
        first = self._next[member]
        count = min(self._random.choice((1, 7, 40)), self.PAGES - first)
        if count == 0:
            return
        self._next[member] += count
        for page in range(first, first + count):
            if self._holders[page] > 1:  # the last holder's page was private
                self._holders[page] -= 1
                self.expected -= 1
        # The write happens in between: the exporter may read either value.
        entry = [time.time(), math.inf, self.expected]
        self.log.append(entry)
        self._workload.do(f"write {member} a {first} {count}")
        entry[1] = time.time()

    def hold(self, samples, moment, tolerance):
        """Checks that the published exposure was true at some time between the published time and now."""
        published = samples.get("cow_exposure_bytes", group=GROUP)
        read_at = samples.get("cow_scan_timestamp_seconds", group=GROUP)
        coverage = samples.get("cow_scan_coverage_ratio", group=GROUP)
        if published is None or read_at is None or read_at < self.log[0][1]:
            return None
        log = [tuple(entry) for entry in self.log]
        meant = [[value for _, end, value in log if end <= read_at][-1]]
        meant += [value for begin, end, value in log if read_at < end and begin <= moment]
        pages = published / PAGE
        resident = sum(value for (name, labels), value in samples.values.items()
                       if name == "cow_resident_bytes" and ("group", GROUP) in labels) / PAGE
        slack = tolerance + (1 - coverage) * resident
        check(min(meant) - slack <= pages <= max(meant) + slack,
              f"exposure of {pages:.0f} pages, read at {read_at:.3f} by what it says: it was {min(meant)} to {max(meant)} since, "
              f"and {slack:.0f} may be off at a coverage of {coverage}")
        return pages - meant[-1]


class Moving:
    """Workers share a block; the root moves it by mremap; the workers exit one by one."""

    def __init__(self, context):
        self._context = context
        self._workload = None
        self._workers = []

    def step(self):
        if self._workload is None:
            self._workload = self._context.start(support.Workload())
            self._workload.do("name 0 cow_moving")
            self._workload.do(f"map 0 a {32 * MIB_PAGES} nohuge")
            self._workload.do(f"write 0 a 0 {32 * MIB_PAGES}")
            self._workers = [self._workload.do("fork 0").split()[0] for _ in range(12)]
        elif len(self._workers) == 12:
            for worker in self._workers:
                self._workload.do(f"write {worker} a {int(worker) * 16} 200")
            self._workload.do("remap 0 a")
            self._workload.do(f"exit {self._workers.pop()}")
        elif self._workers:
            self._workload.do(f"exit {self._workers.pop()}")
        else:
            self._workload.end()
            self._workload = None


class Collapsing:
    """Huge pages that a fork shares, writes split and MADV_COLLAPSE restores."""

    FORKS = 40  # of one workload, which has room for some hundred members

    def __init__(self, context):
        self._context = context
        self._workload = None
        self._forks = 0
        self._random = random.Random(3)

    def _begin(self):
        self._workload = self._context.start(support.Workload())
        self._workload.do("name 0 cow_collapsing")
        self._workload.do(f"map 0 a {16 * MIB_PAGES} huge")
        self._workload.do(f"write 0 a 0 {16 * MIB_PAGES}")
        self._forks = 0

    def step(self):
        if self._workload is None:
            self._begin()
        child = self._workload.do("fork 0").split()[0]
        for _ in range(6):
            member = self._random.choice(("0", child))
            self._workload.do(f"write {member} a {self._random.randrange(16 * MIB_PAGES)} 1")
        with contextlib.suppress(support.Failure):  # the kernel may refuse
            self._workload.do(f"collapse {self._random.choice(('0', child))} a")
        time.sleep(1.5)
        self._workload.do(f"exit {child}")
        self._forks += 1
        if self._forks == self.FORKS:
            self._workload.end()
            self._workload = None


class Dying:
    """A large family that writes and is killed at once."""

    def __init__(self, context):
        self._context = context

    def step(self):
        workload = self._context.start(support.Workload())
        workload.do("name 0 cow_dying")
        workload.do(f"map 0 a {128 * MIB_PAGES} nohuge")
        workload.do(f"write 0 a 0 {128 * MIB_PAGES}")
        children = [workload.do("fork 0").split()[0] for _ in range(6)]
        for child in children:
            workload.do(f"write {child} a 0 {8 * MIB_PAGES} 3" if child != children[0] else f"write {child} a 5 9")
        time.sleep(4)
        workload.end(signal.SIGKILL)


class Sparse:
    """A family that constantly writes to memory with one page in each window: most of its memory is page tables."""

    WINDOWS = 8192  # 16 GiB of addresses
    CHILDREN = 7

    def __init__(self, context):
        window = 2 * MIB_PAGES
        self._workload = context.start(support.Workload())
        self._workload.do("name 0 cow_sparse")
        self._workload.do(f"map 0 a {self.WINDOWS * window} noreserve")
        self._write = f"a 0 {self.WINDOWS} {window}"
        self._workload.do(f"write 0 {self._write}")
        self._children = [self._workload.do("fork 0").split()[0] for _ in range(self.CHILDREN)]
        self._random = random.Random(5)

    def step(self):
        self._workload.do(f"write {self._random.choice(self._children)} {self._write}")


class Certificates:
    """Replaces certificate and key of the exporter by those of another pair, in turn."""

    def __init__(self, context):
        self._context = context
        self._number = 0
        for name in ("a", "b"):
            subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                            "-days", "2", "-keyout", f"{name}.key", "-out", f"{name}.pem", "-subj", f"/CN={name}"],
                           cwd=context.directory, capture_output=True, check=True)
        self.step()
        pathlib.Path(context.path("web.yml")).write_text("tls_server_config: {cert_file: tls.pem, key_file: tls.key}\n",
                                                         encoding="utf-8")

    def step(self):
        name = "ab"[self._number % 2]
        self._number += 1
        for kind in ("pem", "key"):
            shutil.copy(self._context.path(f"{name}.{kind}"), self._context.path("new"))
            os.replace(self._context.path("new"), self._context.path(f"tls.{kind}"))


class Client:
    """A client that scrapes once a second. No scrape may fail."""

    def __init__(self, exporter):
        self._exporter = exporter
        self.slowest = 0.0

    def step(self):
        begin = time.monotonic()
        self._exporter.scrape()
        self.slowest = max(self.slowest, time.monotonic() - begin)


class ShortLives:
    """Programs with 300 names, 25 per second, that fork once, live for a second and overflow the groups."""

    def __init__(self):
        self._number = 0
        self._alive = []

    def step(self):
        self._number += 1
        script = f"printf short{self._number % 300} >/proc/self/comm; sleep 1 & wait"
        self._alive.append(support.Process(["sh", "-c", script]))
        self._alive = [process for process in self._alive if process.poll() is None]


def counters_of(samples):
    """Returns samples of counters and histograms by series."""
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", samples.text, re.MULTILINE))
    held = {}
    for (name, labels), value in samples.values.items():
        base = re.sub(r"_(bucket|count|sum)$", "", name)
        if kinds.get(name) == "counter" or kinds.get(base) == "histogram":
            held[name, labels] = value
    return held


def descriptors_of(exporter):
    return sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in support.processes_of(exporter.pid))


def resident_bytes_of(exporter):
    """Private memory and files; shared memory, which holds the snapshots, counts once."""
    total, shared = 0, 0
    for pid in support.processes_of(exporter.pid):
        fields = dict(re.findall(r"^(Rss\w+):\s+(\d+) kB", pathlib.Path(f"/proc/{pid}/status").read_text(encoding="utf-8"),
                                 re.MULTILINE))
        total += (int(fields["RssAnon"]) + int(fields["RssFile"])) << 10
        shared = max(shared, int(fields["RssShmem"]) << 10)
    return total + shared


def without(cause, values):
    """Returns the differences from the least-squares line over `cause`."""
    middle, mean = statistics.fmean(cause), statistics.fmean(values)
    spread = sum((x - middle) ** 2 for x in cause)
    slope = sum((x - middle) * (y - mean) for x, y in zip(cause, values)) / spread if spread else 0
    return [y - mean - slope * (x - middle) for x, y in zip(cause, values)]


def growth_of(values, processes):
    """Returns the rise over the last two thirds as a share of the mean, by least squares over time and the number of
    processes on the host: the exporter keeps files and data of each process, and others may start and end some."""
    begin = len(values) // 3
    rest, beside = values[begin:], processes[begin:]
    times, left = without(beside, range(len(rest))), without(beside, rest)
    slope = sum(x * y for x, y in zip(times, left)) / sum(x * x for x in times)
    return slope * len(rest) / statistics.fmean(rest)


def watch(exporter, truth, seconds, failed):
    """Scrapes once a second; returns resident bytes, descriptors and the host's processes by second."""
    end = time.monotonic() + seconds
    before, resident, descriptors, processes, errors, slowest = {}, [], [], [], [], 0.0
    while time.monotonic() < end:
        begin = time.monotonic()
        samples = exporter.scrape()
        moment = time.time()
        slowest = max(slowest, time.monotonic() - begin)
        now = counters_of(samples)
        fallen = {series: (before[series], value) for series, value in now.items() if value < before.get(series, 0)}
        check(not fallen, f"counters fell: {fallen}")
        before = now
        off = truth.hold(samples, moment, OWN_PAGES)
        if off is not None:
            errors.append(off)
        resident.append(resident_bytes_of(exporter))
        descriptors.append(descriptors_of(exporter))
        processes.append(sum(name.isdigit() for name in os.listdir("/proc")))
        check(not failed(), f"a workload failed: {failed()}")
        time.sleep(max(0.0, 1 - (time.monotonic() - begin)))
    check(errors, "the truth's group was never published")
    print(f"{len(resident)} scrapes, the slowest took {slowest * 1000:.0f} ms; {len(before)} counters, none fell; exposure held "
          f"{len(errors)} times")
    check(slowest < MOST_SCRAPE_SECONDS, f"a scrape took {slowest:.2f} s")
    return resident, descriptors, processes


def test(context):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=40)
    seconds = parser.parse_args().seconds
    support.need_frames()
    configuration = context.path("soak.yml")
    pathlib.Path(configuration).write_text(CONFIGURATION, encoding="utf-8")
    support.own_namespaces(support.CLONE_NEWNS)  # what hostile processes mount goes with the test
    print(f"beside {', '.join(hostile.start(context)) or 'no hostile process'}")
    certificates = Certificates(context)
    exporter = context.start(support.Exporter(f"--config.file={configuration}", f"--web.config.file={context.path('web.yml')}"))
    exporter.scheme = "https"
    over = threading.Event()
    context.callback(over.set)
    truth = Truth(context)
    truth.begin(exporter)
    workloads = [Background(over, step, pause) for step, pause in (
        (truth.step, 0.2), (Moving(context).step, 0.5), (Collapsing(context).step, 0.2), (Dying(context).step, 8),
        (Sparse(context).step, 0.5), (ShortLives().step, 0.035), (certificates.step, 20),
        (lambda: exporter.send_signal(signal.SIGHUP), 10))]
    clients = [Client(exporter) for _ in range(2)]
    workloads += [Background(over, client.step, 1) for client in clients]
    began, cpu_before = time.monotonic(), exporter.scrape().value("cow_scan_cpu_seconds_total")

    def failed():
        return [repr(workload.error) for workload in workloads if workload.error]

    resident, descriptors, processes = watch(exporter, truth, seconds, failed)
    share = (exporter.scrape().value("cow_scan_cpu_seconds_total") - cpu_before) / (time.monotonic() - began)
    over.set()
    for workload in workloads:
        workload.join()
    slowest = max(client.slowest for client in clients)
    print(f"scanning took {share:.1%} of a CPU, of {MAX_CPU:.0%} allowed; the slowest scrape of the other clients took "
          f"{slowest * 1000:.0f} ms; {sum('configuration reloaded' in line for line in exporter.log)} reloads")
    check(share <= MAX_CPU * 1.1, f"{share:.1%} of a CPU")
    check(slowest < MOST_SCRAPE_SECONDS, f"a scrape took {slowest:.2f} s")
    check(not failed(), f"a workload failed: {failed()}")
    print(f"steps of the workloads: {[workload.steps for workload in workloads]}")
    peak = max(resident) / (1 << 20)
    print(f"resident: peak {peak:.1f} MiB, last {resident[-1] / (1 << 20):.1f} MiB; descriptors: most {max(descriptors)}, "
          f"last {descriptors[-1]}")
    check(peak <= MOST_RESIDENT_MIB, f"{peak:.1f} MiB resident")
    if seconds >= SLOPE_SECONDS:
        for what, values in (("descriptors", descriptors), ("resident memory", resident)):
            growth = growth_of(values, processes)
            print(f"growth of {what} over the last two thirds: {growth:.2%}, beside {min(processes)} to {max(processes)} processes")
            check(growth <= MOST_GROWTH_SHARE, f"{what} grow: {growth:.2%}")
    check(exporter.poll() is None, "the exporter ended")


support.main(test)
