"""The measurements. Each scenario returns plain lists and dictionaries, which results.json keeps: single CPU and
wall times in nanoseconds."""

import os
import shutil
import threading
import time

import programs
from programs import support

PAGE = 4096
HUGE_PAGE = 2 << 20
GIB = 1 << 30
MARGIN = GIB  # of memory, which stays free

SETTLE_SECONDS = 0.2


class Sizes:
    """The full form. Quick is the short one, which only shows that everything works."""
    main = (33, 1024)  # members and MiB that the figures to reach are about
    main_rounds = 15
    spread_writes = 300  # pages that one member writes before a pass
    changes = (1, 10, 100, 1000, 10000)
    changes_rounds = 3
    grid_members = (1, 8, 32, 128)
    grid_mib = (64, 512, 4096)
    grid_rounds = 3
    idle = (0, 500, 1000, 1500, 2000)
    idle_rounds = 5
    sparse_rounds = 7
    sparse_samples = 3
    latency_mib = 4096
    latency_children = (1, 32)
    latency_milliseconds = 2500
    latency_rounds = 3
    groups = 200
    clients = (1, 8, 40)
    scrape_milliseconds = 3000
    publish_rounds = 50
    breaks_pages = 16384
    breaks_rounds = 40


class Quick(Sizes):
    main = (3, 8)
    main_rounds = 2
    spread_writes = 30
    changes = (1, 10, 100)
    changes_rounds = 1
    grid_members = (1, 3)
    grid_mib = (4, 8)
    grid_rounds = 1
    idle = (0, 20, 40)
    idle_rounds = 1
    sparse_rounds = 1
    sparse_samples = 1
    latency_mib = 16
    latency_children = (1, 3)
    latency_milliseconds = 100
    latency_rounds = 1
    groups = 20
    clients = (1, 4)
    scrape_milliseconds = 200
    publish_rounds = 3
    breaks_pages = 512
    breaks_rounds = 2


def available_bytes():
    with open("/proc/meminfo", encoding="ascii") as meminfo:
        return next(int(line.split()[1]) for line in meminfo if line.startswith("MemAvailable:")) * 1024


def machine():
    with open("/proc/cpuinfo", encoding="ascii") as cpuinfo:
        model = next((line.split(":")[1].strip() for line in cpuinfo if line.startswith("model name")), "unknown")
    return {"kernel": os.uname().release, "architecture": os.uname().machine, "cpu": model, "cpus": os.cpu_count(),
            "memory_bytes": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
            "processes": sum(name.isdigit() for name in os.listdir("/proc")), "load": os.getloadavg()[0],
            "date": time.strftime("%Y-%m-%d", time.gmtime()), "process_exporter": programs.process_exporter_version()}


class Scenarios:
    def __init__(self, context, sizes, say):
        """`say` is called with progress messages."""
        self.context = context
        self.sizes = sizes
        self.say = say
        self.readers = context.start(programs.Readers())
        self.process_exporter = context.start(programs.ProcessExporter(context.directory))

    # ---- CPU

    def cpu(self):
        """The workload of the target figures; the cost of changes; the program's memory."""
        members, mib = self.sizes.main
        self.say("the rest of the host")
        rest = {"samples": self._host_samples(self.sizes.main_rounds)}
        self.say(f"{members} × {mib} MiB")
        with support.Test() as context:
            family = context.start(programs.Family(members, mib))
            point = self._measure(family, members, mib, "small", self.sizes.main_rounds, rollup=True)
            changes = self._changes(family)
            return {"rest": rest, "point": point, "changes": changes, "peak_bytes": self._peak_bytes()}

    def grid(self):
        """All sizes, with small and with huge pages."""
        points = []
        for pages in ("small", "huge"):
            for mib in self.sizes.grid_mib:
                for members in self.sizes.grid_members:
                    self.say(f"{members} × {mib} MiB, {pages} pages")
                    points.append(self._grid_point(members, mib, pages))
        return points

    def _grid_point(self, members, mib, pages):
        heap = mib << 20
        tables = members * heap // 512 if pages == "small" else members * heap // HUGE_PAGE * 8
        needed = heap + tables + MARGIN
        if needed > available_bytes():
            return {"members": members, "mib": mib, "pages": pages,
                    "left_out": f"needs {needed / GIB:.1f} GiB of memory, {available_bytes() / GIB:.1f} GiB are free"}
        with support.Test() as context:
            family = context.start(programs.Family(members, mib, pages))
            return self._measure(family, members, mib, pages, self.sizes.grid_rounds)

    def _measure(self, family, members, mib, pages, rounds, rollup=False):
        """Runs each reader once per round, in turn, so that other load on the machine affects all of them."""
        point = {"members": members, "mib": mib, "pages": pages, "samples": {}}
        if pages == "huge":
            point["huge_share"] = family.huge_share()
        self.readers.set_family(family)
        self._sample(point, "first", lambda: self.readers.read("full"))
        self.readers.read("incremental")
        family.write(1)
        self.readers.read("incremental")
        self.process_exporter.scrape()
        for _ in range(rounds):
            self._sample(point, "bare", lambda: self.readers.read("bare"))
            self._sample(point, "full", lambda: self.readers.read("full"))
            self._sample(point, "process_exporter", self.process_exporter.read)
            if rollup:
                self._sample(point, "rollup", lambda: self.readers.read("rollup"))
            self._changed(point, "changed", family, self.sizes.spread_writes)
            self._sample(point, "unchanged", lambda: self.readers.read("incremental"))
            self._changed(point, "changed_page", family, 1)
        return point

    def _changed(self, point, name, family, pages):
        family.write(pages)
        self._sample(point, name, lambda: self.readers.read("incremental"))

    @staticmethod
    def _sample(point, name, read):
        point["samples"].setdefault(name, []).append(read())

    def _changes(self, family):
        """Measures a pass by the number of pages of one member that were written before it."""
        points = [{"changed": changed, "samples": {}} for changed in self.sizes.changes]
        for _ in range(self.sizes.changes_rounds):
            for point in points:
                self._changed(point, "incremental", family, point["changed"])
        return points

    def _peak_bytes(self):
        """Peak resident memory of the real program when it reads everything each second."""
        with support.Test() as context:
            exporter = context.start(
                support.Exporter("--scan.interval=1s", "--scan.max-cpu=0", "--scan.full-every=0s"))
            passes = "cow_scan_passes_total"
            support.wait_for(lambda: exporter.scrape().value(passes, kind="full") >= 4, 120, "four passes", pause=0.5)
            with open(f"/proc/{exporter.pid}/status", encoding="ascii") as status:
                return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:")) * 1024

    # ---- Many processes, much address space

    def idle(self):
        """Measures passes with more and more sleeping processes."""
        points = []
        for count in self.sizes.idle:
            self.say(f"{count} idle processes")
            with support.Test() as context:
                context.start(programs.Sleepers(count))
                time.sleep(SETTLE_SECONDS)
                points.append({"processes": count, "samples": self._host_samples(self.sizes.idle_rounds)})
        return points

    def _host_samples(self, rounds):
        point = {"samples": {}}
        self.readers.set_processes(0, 0, ())
        for _ in range(2):  # the second pass finds what the first one changed
            self.readers.read("full")
            self.readers.read("incremental")
            self.process_exporter.scrape()
        for _ in range(rounds):
            self._sample(point, "full", lambda: self.readers.read("full"))
            self._sample(point, "unchanged", lambda: self.readers.read("incremental"))
            self._sample(point, "process_exporter", self.process_exporter.read)
        return point["samples"]

    def sparse(self):
        """Compares, in turn, a process with 1 TiB without access, 1 TiB without swap space and 16 written pages,
        with a process without these."""
        result = {"plain": {"samples": {}}, "sparse": {"samples": {}}, "bare": []}
        for number in range(self.sizes.sparse_rounds):
            self.say(f"1 TiB, round {number + 1}")
            for name, point in (("plain", result["plain"]), ("sparse", result["sparse"])):
                with support.Test() as context:
                    workload = context.start(support.Workload())
                    if name == "sparse":
                        result["bare"] += self._reserve(workload, bare=not result["bare"])
                    for reader, samples in self._host_samples(self.sizes.sparse_samples).items():
                        point["samples"].setdefault(reader, []).extend(samples)
        return result

    def _reserve(self, workload, bare):
        """Returns the time of the bare loop over it, if requested."""
        pages = (1 << 40) // PAGE
        workload.do(f"map 0 none {pages} none")
        address = int(workload.do(f"map 0 sparse {pages} noreserve"), 16)
        workload.do(f"write 0 sparse 0 16 {pages // 16}")
        if not bare:
            return []
        self.readers.set_processes(address, pages * PAGE, [workload.pid])
        return [self.readers.read("bare")]

    # ---- The target process

    def latency(self):
        """Measures mmap, touch and munmap in a process while others read it back to back."""
        *cpus, last_cpu = sorted(os.sched_getaffinity(0))
        if not cpus:
            return {"left_out": "needs a CPU for the target and one for those who read it"}
        points = []
        with support.Test() as context:
            readers = context.start(programs.Readers())
            process_exporter = context.start(programs.ProcessExporter(context.directory))
            # The target waits for the lock, not for its CPU, and no reader waits for a CPU while it holds the lock.
            programs.serve_first(readers.pid, cpus)
            programs.serve_first(process_exporter.pid, cpus)
            for children in self.sizes.latency_children:
                with support.Test() as of_family:
                    family = of_family.start(programs.Family(1 + children, self.sizes.latency_mib))
                    programs.serve_first(family.pids[0], [last_cpu])
                    # The bare loops read the target alone; passes and process-exporter read everything.
                    readers.set_processes(family.heap_address, family.heap_bytes, family.pids[:1])
                    points += self._latencies(family, readers, process_exporter, children)
        return points

    def _latencies(self, family, readers, process_exporter, children):
        watchers = ["nobody", "full", "incremental", "bare"]
        if children == self.sizes.latency_children[0]:
            watchers += ["rollup", "process_exporter"]
        points = [{"children": children, "watcher": watcher, "rounds": []} for watcher in watchers]
        for number in range(self.sizes.latency_rounds):
            self.say(f"latency of a parent of {children}, round {number + 1}")
            for point in points:
                point["rounds"].append(self._latency(family, readers, process_exporter, point["watcher"]))
        return points

    def _latency(self, family, readers, process_exporter, watcher):
        milliseconds = self.sizes.latency_milliseconds
        reads = 0
        if watcher == "nobody":
            measured = family.do(f"latency {milliseconds}")
        elif watcher == "process_exporter":
            with _ScrapesBackToBack(process_exporter) as scrapes:
                measured = family.do(f"latency {milliseconds}")
            reads = scrapes.count
        else:
            readers.read(watcher)  # the first pass does more
            readers.begin(f"loop {watcher} {milliseconds + int(2 * SETTLE_SECONDS * 1000)}")
            time.sleep(SETTLE_SECONDS)
            measured = family.do(f"latency {milliseconds}")
            reads = readers.answer()[0]
        of_round = dict(zip(("count", "p50", "p99", "max", "stalled"), measured))
        return {**of_round, "milliseconds": milliseconds, "reads": reads}

    # ---- Recorded faults

    def breaks(self):
        """Measures what a break costs a child that nobody watches, that our recorder watches, or perf."""
        result = {"pages": self.sizes.breaks_pages, "samples": {}, "records": {}, "lost": {}}
        watchers = ["nobody", "recorder_1", "recorder_16", "recorder_64"]
        if shutil.which("perf"):
            watchers += programs.PERF
        with support.Test() as context:
            target = context.start(programs.BreakTarget(self.sizes.breaks_pages))
            for number in range(self.sizes.breaks_rounds):
                if number % 10 == 0:
                    self.say(f"recorded breaks, round {number + 1}")
                for watcher in watchers:
                    nanoseconds, records, lost = target.measure(watcher)
                    result["samples"].setdefault(watcher, []).append(nanoseconds)
                    result["records"].setdefault(watcher, []).append(records)
                    result["lost"].setdefault(watcher, []).append(lost)
        return result

    # ---- Scrapes

    def scrape(self):
        """The program's own scrapes by number of groups and of concurrent clients; and process-exporter's."""
        points = []
        with support.Test() as context:
            context.start(programs.Sleepers(names=[f"service{number:03}" for number in range(self.sizes.groups)]))
            exporter = context.start(support.Exporter())
            support.wait_for(lambda: self._groups(exporter) >= self.sizes.groups, 30, "all groups", pause=0.5)
            for clients in self.sizes.clients:
                self.say(f"scrapes by {clients} clients")
                points.append(self._scrapes("cow_exporter", exporter.pid, exporter.address.rsplit(":", 1)[1], clients))
            points.append(self._scrapes("process-exporter", self.process_exporter.pid, self.process_exporter.port, 1))
        return points

    def publish(self):
        """What the reader does after each pass: both texts, and the file that it sends to the front."""
        text_bytes, render, write = self.readers.do(f"publish {self.sizes.groups} {self.sizes.publish_rounds}")
        return {"groups": self.sizes.groups, "text_bytes": text_bytes, "render": render, "write": write}

    @staticmethod
    def _groups(exporter):
        return sum(name == "cow_processes" for name, _ in exporter.scrape().values)

    def _scrapes(self, program, pid, port, clients):
        milliseconds = self.sizes.scrape_milliseconds
        before = programs.cpu_nanoseconds(pid)
        count, body_bytes, p50, p99, most = self.readers.do(f"scrape {port} {clients} {milliseconds}")
        return {"program": program, "clients": clients, "scrapes": count, "body_bytes": body_bytes, "p50": p50,
                "p99": p99, "max": most, "milliseconds": milliseconds, "groups": self.sizes.groups,
                "cpu": programs.cpu_nanoseconds(pid) - before}


class _ScrapesBackToBack:
    """Scrapes in a thread while the context is active."""

    def __init__(self, exporter):
        self.count = 0
        self._exporter = exporter
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self):
        while not self._end.is_set():
            self._exporter.scrape()
            self.count += 1

    def __enter__(self):
        self._thread.start()
        time.sleep(SETTLE_SECONDS)
        return self

    def __exit__(self, *exception):
        self._end.set()
        self._thread.join()
