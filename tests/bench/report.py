"""Makes a report in Markdown from the measured values."""

import statistics

import plots
import scenarios

MS = 1e6  # nanoseconds
US = 1e3

READERS = {
    "full": "our pass that reads everything",
    "first": "our first pass, which makes the ledger",
    "changed": "our pass, {pages} pages of one member written before",
    "changed_page": "our pass, one page of one member written before",
    "unchanged": "our pass, nothing changed",
    "process_exporter": "process-exporter, one scrape with `-gather-smaps`",
    "rollup": "bare loop over `smaps_rollup`",
    "bare": "bare loop over pagemap: the floor",
}
SHORT = {
    "process_exporter": "process-exporter",
    "full": "our pass: everything",
    "changed": "our pass: {pages} pages written",
    "changed_page": "our pass: one page written",
    "unchanged": "our pass: nothing changed",
    "bare": "the floor",
}
WATCHERS = {
    "nobody": "nobody",
    "full": "our passes that read everything",
    "incremental": "our passes that read what changed",
    "bare": "bare loop over pagemap",
    "rollup": "bare loop over `smaps_rollup`",
    "process_exporter": "process-exporter",
}
RECORDERS = {
    "nobody": "nobody",
    "recorder_1": "our recorder, every fault",
    "recorder_16": "our recorder, one fault in 16",
    "recorder_64": "our recorder, one fault in 64",
    "perf_stat": "`perf stat -e minor-faults`, which only counts: the floor",
    "perf_record": "`perf record -e minor-faults -c 1 -d`",
}
PAGES = {"small": "4 KiB", "huge": "2 MiB"}


def number(value):
    """Rounds to three significant digits."""
    size = abs(value)
    return f"{value:,.{0 if size >= 100 else 1 if size >= 10 else 2 if size >= 0.1 else 3}f}"


def median(point, reader):
    return statistics.median(point["samples"][reader])


def ratio(point, reader, other):
    """Pairs values of the same round if all rounds have both: other load on the machine affects both."""
    ones, others = point["samples"][reader], point["samples"][other]
    if len(ones) != len(others):
        return statistics.median(ones) / statistics.median(others)
    return statistics.median(one / two for one, two in zip(ones, others))


def mapped_pages(point):
    return point["members"] * (point["mib"] << 20) // scenarios.PAGE


def fit(points):
    """Least squares of pairs (x, y): returns slope, intercept and R²."""
    slope, intercept = statistics.linear_regression(*zip(*points))
    mean = statistics.fmean(y for _, y in points)
    total = sum((y - mean) ** 2 for _, y in points)
    rest = sum((y - slope * x - intercept) ** 2 for x, y in points)
    return slope, intercept, 1 - rest / total if total else 1.0


def quartiles(values):
    if len(values) < 2:
        return ""
    low, _, high = statistics.quantiles(values)
    return f"{low:.2f} to {high:.2f}"


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows]) + "\n"


class Report:
    """`results`: those of scenarios.py by name; missing ones are left out."""

    def __init__(self, results):
        self.results = results

    def text(self):
        return self._join(self._machine(), self._figures(), self._cpu(), self._changes(), self._latency(), self._idle(),
                          self._sparse(), self._scrape(), self._breaks(), self._growth(), self._grid())

    @staticmethod
    def _join(*parts):
        return "\n".join(part for part in parts if part)

    def _machine(self):
        machine = self.results["machine"]
        return (f"Measured {machine['date']} on Linux {machine['kernel']} {machine['architecture']}, {machine['cpu']}, "
                f"{machine['cpus']} CPUs, {machine['memory_bytes'] / scenarios.GIB:.0f} GiB of memory, beside "
                f"{machine['process_exporter']}; {machine['processes']} other processes at the start, load "
                f"{machine['load']:.1f} then and {self.results['load_at_end']:.1f} at the end. Times are CPU time, "
                "medians of interleaved rounds; ratios are medians of each round's ratio.\n")

    # ---- The target figures

    def _figures(self):
        if self.results["quick"]:
            return "This is the short form: its sizes are too small for the figures to mean anything.\n"
        rows = [*self._cpu_figures(), *self._latency_figures(), *self._other_figures(), *self._break_figures()]
        if not rows:
            return ""
        cells = [[what, f"{number(value)}{unit}", f"{most}{unit}", "yes" if reached else "**no**"]
                 for what, value, most, unit, reached in rows]
        return table(["", "measured", "at most", "reached"], cells)

    def _cpu_figures(self):
        if "cpu" not in self.results:
            return
        point = self.results["cpu"]["point"]
        for reader, other, most in (("full", "process_exporter", 0.65), ("full", "bare", 1.10),
                                    ("changed", "process_exporter", 0.05), ("changed_page", "process_exporter", 0.05),
                                    ("unchanged", "process_exporter", 0.01)):
            value = ratio(point, reader, other)
            yield f"{self._name(reader)}, of {WATCHERS[other]}", value, most, "", value <= most
        peak = self.results["cpu"]["peak_bytes"] / (1 << 20)
        yield "peak resident memory of the exporter", peak, 24, " MiB", peak <= 24

    def _latency_figures(self):
        for children, points in self._latency_points():
            unwatched = self._latency_of(points["nobody"])["p99"]
            for watcher in ("full", "incremental"):
                value = self._latency_of(points[watcher])["p99"]
                reached = value <= 3 * unwatched or value <= 100 * US
                yield (f"p99 of the target, 1 + {children} processes, {WATCHERS[watcher]}", value / US,
                       number(max(100, 3 * unwatched / US)), " µs", reached)

    def _other_figures(self):
        if "idle" in self.results:
            for reader in ("unchanged", "full"):
                value = fit(self._idle_points(reader))[0] / US
                yield f"each idle process, {self._name(reader)}", value, 15, " µs", value <= 15
        if "scrape" in self.results:
            point = self.results["scrape"][0]
            value = point["p50"] / MS
            yield f"a scrape of {point['groups']} groups", value, 2, " ms", value <= 2
        if "publish" in self.results:
            point = self.results["publish"]
            value = (point["render"] + point["write"]) / MS
            yield (f"a publish of {point['groups']} groups, {point['text_bytes'] / 1024:.0f} KiB in each of two formats",
                   value, 2, " ms", value <= 2)

    # ---- CPU

    def _name(self, reader):
        return READERS[reader].format(pages=self.results["spread_writes"])

    def _cpu(self):
        if "cpu" not in self.results:
            return ""
        point = self.results["cpu"]["point"]
        rows = [[self._name(reader), f"{number(median(point, reader) / MS)} ms",
                 f"{median(point, reader) / mapped_pages(point):.2f} ns",
                 *(number(ratio(point, reader, other)) for other in ("process_exporter", "bare"))]
                for reader in READERS]
        head = [f"{point['members']} processes of {point['mib']} MiB", "CPU", "a mapped page", "of process-exporter",
                "of the floor"]
        rest = [f"{self._name(reader)} {number(median(self.results['cpu']['rest'], reader) / MS)} ms"
                for reader in ("full", "unchanged", "process_exporter")]
        return table(head, rows) + f"\nOf it, for the rest of the host, as it was before: {'; '.join(rest)}.\n"

    def _changes(self):
        if "cpu" not in self.results:
            return ""
        rows = [[f"{of['changed']:,}", f"{number(median(of, 'incremental') / MS)} ms"]
                for of in self.results["cpu"]["changes"]]
        return table(["pages of one member written before", "our pass"], rows)

    def _grid(self):
        rows = []
        for point in self.results.get("grid", ()):
            size = f"{point['members']} × {point['mib']} MiB"
            if "left_out" in point:
                rows.append([size, PAGES[point["pages"]], f"left out: {point['left_out']}", *[""] * 7])
                continue
            pages = PAGES[point["pages"]]
            if point.get("huge_share", 1) < 0.95:
                pages += f" ({point['huge_share']:.0%} of it)"
            rows.append([size, pages, *(number(median(point, reader) / MS) for reader in
                                        ("full", "changed", "changed_page", "unchanged", "process_exporter", "bare")),
                         *(number(ratio(point, "full", other)) for other in ("process_exporter", "bare"))])
        head = ["ms of CPU", "pages", "full", f"{self.results['spread_writes']} written", "1 written", "unchanged",
                "process-exporter", "floor", "full, of process-exporter", "full, of the floor"]
        return table(head, rows) if rows else ""

    def _idle_points(self, reader):
        return [(point["processes"], median(point, reader)) for point in self.results["idle"]]

    def _idle(self):
        if "idle" not in self.results:
            return ""
        most = self.results["idle"][-1]["processes"]
        rows = []
        for reader in ("full", "unchanged", "process_exporter"):
            points = self._idle_points(reader)
            rows.append([self._name(reader), f"{number(points[-1][1] / MS)} ms",
                         f"{number((points[-1][1] - points[0][1]) / most / US)} µs"])
        return table([f"{most} idle processes", "CPU", "each of them"], rows)

    def _sparse(self):
        if "sparse" not in self.results:
            return ""
        sparse = self.results["sparse"]
        rows = []
        for reader in ("full", "unchanged", "process_exporter"):
            added = [(one - two) / MS for one, two in zip(sparse["sparse"]["samples"][reader],
                                                          sparse["plain"]["samples"][reader])]
            rows.append([self._name(reader), f"{statistics.median(added):.2f} ms", quartiles(added)])
        rows.append([self._name("bare") + " (1 TiB)", f"{number(statistics.median(sparse['bare']) / MS)} ms", ""])
        return table(["1 TiB without access and 1 TiB without swap space", "CPU that it adds", "quartiles"], rows)

    # ---- The target process, and scrapes

    def _latency_points(self):
        """Returns points by number of children, for each watcher."""
        latency = self.results.get("latency", [])
        if isinstance(latency, dict):
            return []
        return [(children, {point["watcher"]: point for point in latency if point["children"] == children})
                for children in sorted({point["children"] for point in latency})]

    @staticmethod
    def _latency_of(point):
        """Returns the medians of the rounds, and their largest value."""
        rounds = point["rounds"]
        return {"p50": statistics.median(of["p50"] for of in rounds),
                "p99": statistics.median(of["p99"] for of in rounds),
                "max": max(of["max"] for of in rounds), "reads": sum(of["reads"] for of in rounds),
                "stalled": sum(of["stalled"] for of in rounds) / sum(of["milliseconds"] for of in rounds) / MS}

    def _latency(self):
        if "left_out" in self.results.get("latency", []):
            return f"The target's latency is left out: {self.results['latency']['left_out']}.\n"
        rows = []
        for children, points in self._latency_points():
            unwatched = self._latency_of(points["nobody"])
            for watcher, point in points.items():
                of = self._latency_of(point)
                rows.append([WATCHERS[watcher], f"1 + {children}",
                             *(f"{number(of[name] / US)} µs" for name in ("p50", "p99", "max")),
                             number(of["p99"] / unwatched["p99"]), f"{of['stalled']:.1%}", str(of["reads"] or "")])
        head = ["a process of " f"{self.results['latency_mib']} MiB is read by", "processes", "p50", "p99", "max",
                "p99, of unwatched", "time in waits over 1 ms", "reads"]
        if not rows:
            return ""
        return table(head, rows) + (
            "\nThe bare loops read the target alone; passes and process-exporter read all processes, the target in "
            "turn. One mmap that waits for 60 ms is one of thousands, so percentiles hide it: the time in waits does not.\n")

    def _scrape(self):
        rows = []
        for point in self.results.get("scrape", ()):
            rows.append([point["program"], str(point["clients"]),
                         *(f"{number(point[name] / MS)} ms" for name in ("p50", "p99", "max")),
                         number(point["scrapes"] / point["milliseconds"] * 1000),
                         f"{number(point['cpu'] / point['scrapes'] / MS)} ms", f"{point['body_bytes'] / 1024:.0f} KiB"])
        if not rows:
            return ""
        head = [f"scrape of {self.results['scrape'][0]['groups']} groups", "clients", "p50", "p99", "max",
                "scrapes per second", "CPU each", "size"]
        return table(head, rows)

    # ---- Recorded faults

    def _least_of_breaks(self, watcher):
        """The least nanoseconds of a break: all other load on the machine only adds."""
        breaks = self.results["breaks"]
        return min(breaks["samples"][watcher]) / breaks["pages"]

    def _break_figures(self):
        if "breaks" not in self.results:
            return
        for watcher, most in (("recorder_1", 1.20), ("recorder_16", 1.03)):
            value = self._least_of_breaks(watcher) / self._least_of_breaks("nobody")
            yield f"a break with {RECORDERS[watcher]}, of one unwatched", value, most, "", value <= most

    def _breaks(self):
        if "breaks" not in self.results:
            return ""
        breaks = self.results["breaks"]
        rows = [[RECORDERS[watcher], f"{self._least_of_breaks(watcher):,.0f} ns",
                 f"{self._least_of_breaks(watcher) / self._least_of_breaks('nobody'):.3f}",
                 f"{statistics.median(breaks['samples'][watcher]) / breaks['pages']:,.0f} ns",
                 *(f"{statistics.median(breaks[count][watcher]):,.0f}" if watcher.startswith("recorder_") else ""
                   for count in ("records", "lost"))] for watcher in breaks["samples"]]
        head = [f"a break of a child that writes {breaks['pages']:,} pages, recorded by", "least", "of unwatched",
                "median", "records", "lost"]
        return table(head, rows) + (
            f"\nCPU time of the child, {len(breaks['samples']['nobody'])} interleaved rounds. The ratio is of the least "
            "values. The records of a round include other faults, and maps, forks and ends.\n")

    # ---- Growth

    def _page_points(self, reader, least_members=2):
        """The memory of a single process is not walked, so it is not on the line."""
        return [(mapped_pages(point), median(point, reader)) for point in self.results.get("grid", ())
                if point["pages"] == "small" and point["members"] >= least_members and "left_out" not in point]

    def _growth(self):
        rows = []
        for reader in ("full", "changed", "unchanged", "process_exporter", "bare"):
            points = self._page_points(reader)
            if len(points) > 2:
                slope, _, squared = fit(points)
                rows.append([self._name(reader), "mapped page of a family", f"{slope:.3f} ns", f"{squared:.4f}"])
        if "cpu" in self.results:
            points = [(of["changed"], median(of, "incremental")) for of in self.results["cpu"]["changes"]]
            slope, _, squared = fit(points)
            rows.append(["our pass that reads what changed", "changed page", f"{slope / US:.3f} µs", f"{squared:.4f}"])
        if "idle" in self.results:
            for reader in ("full", "unchanged", "process_exporter"):
                slope, _, squared = fit(self._idle_points(reader))
                rows.append([self._name(reader), "idle process", f"{number(slope / US)} µs", f"{squared:.4f}"])
        return table(["growth (least squares)", "for each", "CPU", "R²"], rows) if rows else ""

    # ---- Pictures

    def pictures(self):
        """Returns name of the file to SVG."""
        pictures = {}
        if "cpu" in self.results:
            point = self.results["cpu"]["point"]
            bars = [(self._name(reader).replace("`", ""), median(point, reader) / MS) for reader in READERS]
            title = f"CPU of a pass or scrape, {point['members']} processes of {point['mib']} MiB on one heap"
            pictures["cpu.svg"] = plots.bars(title, bars, "ms")
        if self._page_points("full"):
            lines = {name.format(pages=self.results["spread_writes"]):
                     [(x, y / MS) for x, y in sorted(self._page_points(reader))] for reader, name in SHORT.items()}
            pictures["growth.svg"] = plots.lines("CPU by mapped pages of a family (4 KiB)", lines, "mapped pages", "ms")
        if self._latency_points():
            children, points = self._latency_points()[0]
            ranges = []
            for watcher, point in points.items():
                of = self._latency_of(point)
                ranges.append((WATCHERS[watcher].replace("`", ""), [of[name] / US for name in ("p50", "p99", "max")],
                               f"{of['stalled']:.0%}"))
            mib = self.results["latency_mib"]
            title = f"mmap, write, munmap in {mib} MiB, 1 + {children} processes (% of time in waits over 1 ms)"
            pictures["latency.svg"] = plots.ranges(title, ranges, ("p50", "p99", "max"), "µs")
        return pictures
