"""Twenty exporters and one Prometheus, or two that share them: measures what deploy/SCALE.md says about series, bytes and
memory.

The short form, in every run, compares the document's formula with twenty exporters of 1 to 20 groups. Two Prometheus
shard them by hashmod with deploy/prometheus/fleet/shard.yml, and their remote_write reaches a third one with exactly the
promised series.

--long measures the values of the document's tables, and --update writes them: bytes by number of groups, memory of
Prometheus by least squares over growing numbers of series, disk by a snapshot of its head, cost of queries.
"""

import argparse
import collections
import contextlib
import glob
import itertools
import json
import os
import re
import subprocess
import threading
import time
import urllib.parse
import urllib.request

import yaml

import monitoring
import support
from support import check, check_close, wait_for

DEPLOY = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", "..", "deploy"))
PROMETHEUS = os.path.join(DEPLOY, "prometheus")
DOCUMENT = os.path.join(DEPLOY, "SCALE.md")
BEGIN, END = "<!-- tests/e2e/scale_test.py --long --update writes from here -->\n", "<!-- to here -->\n"
EXPORTERS = 20
TARGET_SERIES = 5  # up and scrape_… of Prometheus itself
# Typical queries to the central Prometheus.
FLEET_OVERVIEW = (
    "sum(instance:cow_exposure_bytes:sum)",
    "topk(10, instance:cow_exposure_bytes:sum)",
    "topk(10, instance:cow_break_bytes:rate5m)",
    "topk(10, sum without (shard) (fleet_group:cow_exposure_bytes:sum))",
    "topk(10, sum without (shard) (fleet_group:cow_break_bytes:rate5m))",
    "sum without (shard) (fleet_group:cow_footprint_bytes:sum)",
    "min(instance:cow_scan_coverage:min)",
)


class Services:
    """Many small services with different names; every second one has a child and is written to. Other exporters on
    this host see one group, cow_workload."""

    PAGES = 2000

    def __init__(self, context, count):
        self.names = [f"service{number:03}" for number in range(count)]
        self.workloads = []
        for number, name in enumerate(self.names):
            workload = context.start(support.Workload(wrapper=("bash", "-c", 'exec -a "$0" "$1"', name)))
            for command in (f"map 0 heap {self.PAGES}", f"write 0 heap 0 {self.PAGES}"):
                workload.do(command)
            if number % 2 == 0:
                workload.do("fork 0")
                self.workloads.append(workload)
        self._ended = threading.Event()
        self._writer = threading.Thread(target=self._write, daemon=True)
        self._writer.start()
        context.callback(self._end)

    def _end(self):
        self._ended.set()
        self._writer.join(90)
        check(not self._writer.is_alive(), "writing does not end")

    def _write(self):
        for page in itertools.cycle(range(self.PAGES)):
            for workload in self.workloads:
                if self._ended.is_set():
                    return
                workload.do(f"write 0 heap {page} 1")
            self._ended.wait(0.5)


def start_exporter(context, names, host, scan_interval, *flags):
    configuration = context.path(f"exporter-{host}-{len(names)}.yml")
    with open(configuration, "w", encoding="utf-8") as file:
        # JSON is YAML.
        json.dump({"groups": [{"name": name, "cmdline": [f"^{name}$"]} for name in names], "default_group": "drop",
                   "limits": {"max_groups": 1000}}, file)
    return context.start(support.Exporter(f"--config.file={configuration}", f"--scan.interval={scan_interval}", *flags,
                                          host=host))


def fetch(exporter, query="", encoding="identity"):
    """Returns a scrape as sent over the wire."""
    request = urllib.request.Request(exporter.url("/metrics" + query), headers={"Accept-Encoding": encoding})
    with urllib.request.urlopen(request, timeout=30) as response:
        return response.read()


def series_of(exporter, query=""):
    """Returns the number of series by group, and of the exporter itself."""
    groups = collections.Counter()
    own = 0
    for _, labels in support.Samples(fetch(exporter, query).decode()).values:
        group = dict(labels).get("group")
        if group:
            groups[group] += 1
        else:
            own += 1
    return groups, own


class Formula:
    """Returns the document's formulas: series of an exporter, and recorded series."""

    def __init__(self):
        with open(DOCUMENT, encoding="utf-8") as file:
            self.text = file.read()
        self.own = self._number("series of the exporter itself")
        self.per_group = self._number("series of each group")
        self.with_child = self._number("one more while it has a child")
        self.per_host = self._number("series sent on for each host")
        self.per_fleet_group = self._number("series sent on for each group, however many hosts")

    def _number(self, row):
        found = re.search(rf"^\| {re.escape(row)} \| ([\d,.]+) \|$", self.text, re.MULTILINE)
        check(found, f"{DOCUMENT} has no row '{row}'")
        return float(found.group(1).replace(",", ""))

    def series(self, groups, with_child):
        return self.own + self.per_group * groups + self.with_child * with_child


def shard_configuration(context, shard, exporters, receiver, interval):
    """deploy/prometheus/fleet/shard.yml with the test's targets, receiver and intervals."""
    with open(os.path.join(PROMETHEUS, "fleet", "shard.yml"), encoding="utf-8") as file:
        text = file.read()
    configuration = yaml.safe_load(text)
    configuration["global"].update(scrape_interval=interval, scrape_timeout=interval, evaluation_interval=interval,
                                   external_labels={"shard": str(shard)})
    configuration["rule_files"] = rule_files(context, interval)
    del configuration["alerting"]
    jobs = {job["job_name"]: job for job in configuration["scrape_configs"]}
    configuration["scrape_configs"] = [jobs["cow_exporter"]]
    del jobs["cow_exporter"]["file_sd_configs"]
    jobs["cow_exporter"]["static_configs"] = [{"targets": [exporter.address for exporter in exporters]}]
    (keep,) = (rule for rule in jobs["cow_exporter"]["relabel_configs"] if rule.get("action") == "keep")
    keep["regex"] = str(shard)
    (remote,) = configuration["remote_write"]
    remote["url"] = f"http://{receiver.address}/api/v1/write"
    return configuration


def shipped_rules():
    """Returns name and content of each rule file, for a host and for a fleet."""
    for path in (*glob.glob(os.path.join(PROMETHEUS, "rules", "*.yml")),
                 *glob.glob(os.path.join(PROMETHEUS, "fleet", "rules", "*.yml"))):
        with open(path, encoding="utf-8") as file:
            yield os.path.basename(path), yaml.safe_load(file)


def rule_files(context, interval):
    """The shipped rules with this evaluation interval; an exporter that is down is reported at once."""
    paths = []
    for name, rules in shipped_rules():
        for group in rules["groups"]:
            group["interval"] = interval
            for rule in group["rules"]:
                if rule.get("alert") == "CowExporterDown":
                    rule["for"] = "1s"
        paths.append(context.path(name))
        with open(paths[-1], "w", encoding="utf-8") as file:
            yaml.safe_dump(rules, file)
    return paths


def check_files():
    """promtool checks the fleet's rules, also by their values, and the configuration."""
    fleet = os.path.join(PROMETHEUS, "fleet")
    for arguments in (["check", "config", os.path.join(fleet, "shard.yml"), os.path.join(fleet, "federation.yml")],
                      ["test", "rules", *glob.glob(os.path.join(fleet, "tests", "*.yml"))]):
        run = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False)
        check(run.returncode == 0, f"promtool {arguments}: {run.stdout}{run.stderr}")


def test_short(context):
    check_files()
    formula = Formula()
    services = Services(context, EXPORTERS)
    exporters = [start_exporter(context, services.names[:number + 1], f"127.0.0.{number + 2}", "1s")
                 for number in range(EXPORTERS)]
    for number, exporter in enumerate(exporters):
        wait_for(lambda n=number, e=exporter: len(series_of(e)[0]) == n + 1, 30, "all groups are there", pause=0.2)
    receiver = monitoring.Prometheus(context, {}, "--web.enable-remote-write-receiver")
    shards = [monitoring.Prometheus(context, shard_configuration(context, shard, exporters, receiver, "1s"))
              for shard in (0, 1)]
    hosts = [exporter.address.rpartition(":")[0] for exporter in exporters]

    # Series of each exporter in Prometheus.
    def scraped():
        seen = {labels["instance"]: value for shard in shards for labels, value in shard.query("scrape_samples_scraped > 0")}
        return seen if len(seen) == EXPORTERS else None

    seen = wait_for(scraped, 20, "all exporters are scraped", pause=0.5)
    paper = {host: formula.series(number + 1, (number + 2) // 2) for number, host in enumerate(hosts)}
    check_close(sum(seen.values()), sum(paper.values()), 0.03, "series of all exporters, as on paper")
    for host in (hosts[0], hosts[-1]):
        check_close(seen[host], paper[host], 0.05, f"series of {host}")
    parts = [shard.value("count(up)") for shard in shards]
    print(f"exporters by shard: {parts}")
    check(sum(parts) == EXPORTERS and all(parts), "sharding lost or doubled some")

    # Series at the receiver: all hosts, and each group over the hosts of its shard.
    counts = wait_for(lambda: arrived(receiver, services.names), 20, "everything has arrived", pause=0.5)
    unwanted = [name for name in counts if not re.fullmatch(
        r"(instance|fleet_group):cow_\w+:\w+|up|ALERTS|cow_exporter_build_info", name)]
    check(not unwanted, f"sent on without need: {unwanted}")
    by_host = collections.Counter(labels["instance"] for labels, _ in receiver.query('{instance!="",__name__!="ALERTS"}'))
    check(set(by_host) == set(hosts), f"hosts that arrived: {sorted(by_host)}")
    check(all(count == formula.per_host for count in by_host.values()), f"not {formula.per_host} for each host: {by_host}")
    # Groups of one shard: every group of its hosts.
    for shard in ("0", "1"):
        query = f'{{__name__=~"fleet_group:.+",shard="{shard}"}}'

        def are_complete(query=query):
            by_group = collections.Counter(labels["group"] for labels, _ in receiver.query(query))
            return by_group and all(count == formula.per_fleet_group for count in by_group.values())

        wait_for(are_complete, 20, f"{formula.per_fleet_group} series of each group of shard {shard}", pause=0.5)
    total = receiver.value("sum(instance:cow_exposure_bytes:sum)")
    groups = receiver.value("sum(sum without (shard) (fleet_group:cow_exposure_bytes:sum))")
    check_close(groups, total, 0.05, "exposure by group, to that by host")  # of two evaluations
    hosts_of_all = receiver.query(f'sum without (shard) (fleet_group:cow_hosts:count{{group="{services.names[0]}"}})')
    check([value for _, value in hosts_of_all] == [EXPORTERS], f"hosts of the group that all have: {hosts_of_all}")

    hold_federation(shards, receiver)

    # Series of Prometheus itself.
    head = sum(shard.metrics().value("prometheus_tsdb_head_series") for shard in shards)
    recorded = sum(shard.value('count({__name__=~".+:cow_.+|ALERTS.*"})') for shard in shards)
    dropped = sum(shard.value("sum(scrape_samples_scraped - scrape_samples_post_metric_relabeling)") for shard in shards)
    expected = sum(seen.values()) - dropped + EXPORTERS * TARGET_SERIES + recorded
    check_close(head, expected, 0.03, "series in memory, to what is scraped and recorded")
    # On a busy machine some scrapes are late.
    rates = [samples_per_second(shards)]
    while rates[-1] < 0.9 * expected and len(rates) < 4:
        rates.append(samples_per_second(shards))
    check_close(max(rates), expected, 0.15, "samples a second, at one a second")
    resident = sum(shard.metrics().value("process_resident_memory_bytes") for shard in shards)
    rules = sum(value for shard in shards for (name, _), value in shard.metrics().values.items()
                if name == "prometheus_rule_group_last_duration_seconds")
    print(f"two Prometheus: {resident / 2**20:.0f} MiB resident for {head:.0f} series, {rules * 1000:.0f} ms to evaluate all rules")
    for expression, read, milliseconds in cost_of(receiver, FLEET_OVERVIEW):
        print(f"{milliseconds:7.2f} ms, {read:5} samples  {expression}")
    hold_lean(exporters[-1])

    # A firing alert arrives once it is no longer pending.
    exporters[0].end()
    wait_for(lambda: receiver.query(f'ALERTS{{alertname="CowExporterDown",instance="{hosts[0]}"}}'), 20, "the alert arrives")
    states = {labels["alertstate"] for labels, _ in receiver.query("ALERTS")}
    check(states == {"firing"}, f"alerts that arrived are {states}")


def arrived(receiver, names):
    """Returns the receiver's series by name, once every group has a rate."""
    counts = {labels["__name__"]: value for labels, value in receiver.query('count by (__name__) ({__name__!=""})')}
    groups = receiver.value("count(count by (group) (fleet_group:cow_break_bytes:rate5m))")
    hosts = receiver.value("count(instance:cow_break_bytes:rate5m)")
    return counts if groups == len(names) and hosts == EXPORTERS else None


def samples_per_second(shards):
    """Of all, over three seconds."""
    def appended():
        return sum(value for shard in shards for (name, _), value in shard.metrics().values.items()
                   if name == "prometheus_tsdb_head_samples_appended_total")

    begin, first = time.monotonic(), appended()
    time.sleep(3)
    return (appended() - first) / (time.monotonic() - begin)


def cost_of(prometheus, expressions):
    """Returns the expression, the samples read and the best of five evaluations in milliseconds, as reported by
    Prometheus."""
    for expression in expressions:
        said = [prometheus.api("/api/v1/query", query=expression, stats="all")["data"]["stats"] for _ in range(5)]
        yield (expression, said[0]["samples"]["totalQueryableSamples"],
               min(stats["timings"]["evalTotalTime"] for stats in said) * 1000)


def dashboard_queries():
    """Queries the whole overview for all hosts and groups."""
    with open(os.path.join(DEPLOY, "grafana", "cow-overview.json"), encoding="utf-8") as file:
        panels = json.load(file)["panels"]
    values = {"$__rate_interval": "1m", "$job": ".*", "$instance": ".*", "$group": ".*"}
    for panel in itertools.chain(panels, *(panel.get("panels", ()) for panel in panels)):
        for target in panel.get("targets", ()):
            yield re.sub(r"\$\w+", lambda found: values[found.group()], target["expr"])


def hold_federation(shards, receiver):
    """federation.yml requests what remote_write sends."""
    with open(os.path.join(PROMETHEUS, "fleet", "federation.yml"), encoding="utf-8") as file:
        (job,) = yaml.safe_load(file)["scrape_configs"]
    query = urllib.parse.urlencode(job["params"], doseq=True)
    federated = set()
    for shard in shards:
        with urllib.request.urlopen(f"http://{shard.address}{job['metrics_path']}?{query}", timeout=30) as response:
            text = re.sub(r" \d+$", "", response.read().decode(), flags=re.MULTILINE)  # the timestamps of samples
        # An empty label: Prometheus' form of a missing one.
        federated |= {(name, frozenset(label for label in labels if label[1])) for name, labels in support.Samples(text).values}
    written = {(labels.pop("__name__"), frozenset(labels.items())) for labels, _ in receiver.query('{__name__!=""}')}
    # Alerts may change between the two.
    odd = [(name, dict(labels)) for name, labels in federated ^ written if name != "ALERTS"]
    check(not odd, f"{len(odd)} series are not both federated and written, such as {odd[:3]}")
    print(f"{len(written)} series arrive, by remote write or by federation")


LEAN = "?collect[]=sharing&collect[]=cow"


def hold_lean(exporter):
    """The rules use nothing that shard.yml drops, and a scrape of two collectors has everything they use."""
    with open(os.path.join(PROMETHEUS, "fleet", "shard.yml"), encoding="utf-8") as file:
        jobs = {job["job_name"]: job for job in yaml.safe_load(file)["scrape_configs"]}
    (drop,) = jobs["cow_exporter"]["metric_relabel_configs"]
    asked = set()
    for _, rules in shipped_rules():
        for rule in itertools.chain.from_iterable(group["rules"] for group in rules["groups"]):
            asked |= set(re.findall(r"\bcow_\w+", re.sub(r"\w+:cow_\w+(:\w+)?", "", rule["expr"])))
    names = {name for name, _ in support.Samples(fetch(exporter).decode()).values}
    lean = {name for name, _ in support.Samples(fetch(exporter, LEAN).decode()).values}
    lost = {name for name in asked & names if re.fullmatch(drop["regex"], name)}
    check(not lost, f"shard.yml drops what rules ask for: {lost}")
    missing = (asked & names) - lean
    print(f"rules ask for {len(asked & names)} of the exporter's {len(names)} metrics; of these not in {LEAN}: {sorted(missing)}")
    check(missing <= {"cow_huge_page_bytes", "cow_huge_page_splits_total"}, "SCALE.md says that only CowHugePageSplits is lost")


class Long:
    """The measurements for the tables."""

    GROUPS = (20, 50, 200)
    SHARE = 50  # groups of each exporter in Prometheus
    STEPS = (4, 8, 12, 16, 20)  # exporters
    INTERVAL = 2
    SETTLE = 20  # seconds
    CHUNK = 120  # samples in a full chunk
    OPTIONAL = ("smaps", "ksm", "delayacct")

    def __init__(self, context):
        self.context = context
        self.services = Services(context, max(self.GROUPS))
        self.scrapes = {}  # by number of groups: series, bytes, compressed bytes, and the last two with fewer collectors
        for count in self.GROUPS:
            with self.exporter(count) as exporter:
                self.scrapes[count] = self.sizes(exporter, count)
        self.measure_series()
        self.measure_prometheus()

    @contextlib.contextmanager
    def exporter(self, count, *flags):
        """Waits until each group was read twice."""
        exporter = self.start(count, *flags)
        try:
            wait_for(lambda: len(series_of(exporter)[0]) == count, 60, "all groups are there", pause=0.5)
            time.sleep(5)
            yield exporter
        finally:
            exporter.end()

    def start(self, count, *flags, host="127.0.0.1"):
        return start_exporter(self.context, self.services.names[:count], host, "2s", *flags)

    @staticmethod
    def sizes(exporter, count):
        groups, own = series_of(exporter)
        lean, lean_own = series_of(exporter, LEAN)
        found = {"series": sum(groups.values()) + own, "lean series": sum(lean.values()) + lean_own}
        for name, query in (("", ""), ("lean ", LEAN)):
            found[name + "bytes"] = len(fetch(exporter, query))
            found[name + "gzip"] = len(fetch(exporter, query, "gzip"))
        print(f"{count} groups: {found}")
        return found

    def measure_series(self):
        """Series of a group without a child, of a group with one, of the exporter itself; and the share of each
        collector."""
        with self.exporter(4) as exporter:
            groups, self.own = series_of(exporter)
            child, childless = self.services.names[:2]
            self.per_group, self.with_child = groups[childless], groups[child] - groups[childless]
            self.collectors = {}
            for name in ("sharing", "cow", "thp", "zero_page", "faults"):
                less, _ = series_of(exporter, f"?exclude[]={name}")
                self.collectors[name] = groups[childless] - less[childless]
        for name in self.OPTIONAL:
            with self.exporter(4, f"--collector.{name}") as exporter:
                self.collectors[name] = series_of(exporter)[0][childless] - self.per_group
        print(f"series: {self.own} own, {self.per_group} of a group, {self.with_child} with a child, {self.collectors}")
        check(self.per_group > 0 and self.with_child >= 0, "no series of the groups")

    def measure_prometheus(self):
        exporters = [self.start(self.SHARE, host=f"127.0.0.{number + 2}") for number in range(EXPORTERS)]
        receiver = monitoring.Prometheus(self.context, {}, "--web.enable-remote-write-receiver")
        targets = self.context.path("targets.json")
        configuration = shard_configuration(self.context, 0, [], receiver, f"{self.INTERVAL}s")
        job = configuration["scrape_configs"][0]
        job["relabel_configs"] = [rule for rule in job["relabel_configs"] if rule.get("action") != "keep"]
        del job["static_configs"], job["metric_relabel_configs"]
        job["file_sd_configs"] = [{"files": [targets], "refresh_interval": "1s"}]
        prometheus = monitoring.Prometheus(self.context, configuration, "--web.enable-admin-api")
        time.sleep(self.SETTLE)
        points = [self.memory(prometheus)]
        for step in self.STEPS:
            with open(targets + ".new", "w", encoding="utf-8") as file:
                json.dump([{"targets": [exporter.address for exporter in exporters[:step]]}], file)
            os.rename(targets + ".new", targets)
            wait_for(lambda n=step: prometheus.value("count(scrape_samples_scraped > 0)") == n, 60, "all are scraped", pause=1)
            time.sleep(self.SETTLE)
            points.append(self.memory(prometheus))
        self.points = points
        self.base, self.series_bytes = least_squares(points)
        hosts, groups = EXPORTERS, EXPORTERS * self.SHARE
        self.recorded_per_group = prometheus.value('count({__name__=~"group:.+"})') / groups
        self.recorded_per_host = prometheus.value('count({__name__=~"instance:.+"})') / hosts
        self.sent_per_host = receiver.value('count({instance!="",__name__!="ALERTS"})') / hosts
        self.sent_per_group = receiver.value('count({__name__=~"fleet_group:.+"})') / self.SHARE
        time.sleep(self.CHUNK * self.INTERVAL)
        self.query_cost = list(cost_of(prometheus, dashboard_queries()))
        self.fleet_query_cost = list(cost_of(receiver, FLEET_OVERVIEW))
        own = prometheus.metrics()
        self.sent_bytes = sum(value for (name, _), value in own.values.items()
                              if name == "prometheus_remote_storage_bytes_total") / sum(
            value for (name, _), value in own.values.items() if name == "prometheus_remote_storage_samples_total")
        self.measure_disk(prometheus)

    @staticmethod
    def memory(prometheus):
        samples = prometheus.metrics()
        point = samples.value("prometheus_tsdb_head_series"), samples.value("process_resident_memory_bytes")
        print(f"{point[0]:.0f} series, {point[1] / 2**20:.0f} MiB resident")
        return point

    def measure_disk(self, prometheus):
        request = urllib.request.Request(f"http://{prometheus.address}/api/v1/admin/tsdb/snapshot", method="POST")
        with urllib.request.urlopen(request, timeout=120) as response:
            name = json.load(response)["data"]["name"]
        self.index_bytes = self.chunk_bytes = self.block_series = self.samples = self.chunks = 0
        for block in glob.glob(os.path.join(prometheus.data, "snapshots", name, "*/")):
            with open(os.path.join(block, "meta.json"), encoding="utf-8") as file:
                stats = json.load(file)["stats"]
            self.block_series += stats["numSeries"]
            self.samples += stats["numSamples"]
            self.chunks += stats["numChunks"]
            self.index_bytes += os.path.getsize(os.path.join(block, "index"))
            self.chunk_bytes += sum(map(os.path.getsize, glob.glob(os.path.join(block, "chunks", "*"))))
        print(f"snapshot: {self.block_series} series, {self.samples} samples, {self.chunks} chunks, index {self.index_bytes} and "
              f"chunks {self.chunk_bytes} bytes")

    # Derived values.

    def series(self, groups):
        """Series scraped, of Prometheus about the target, and recorded, if every second group has a child."""
        return (self.own + (self.per_group + self.with_child / 2) * groups + TARGET_SERIES
                + self.recorded_per_group * groups + self.recorded_per_host)

    def day_bytes(self, series, interval):
        """Bytes of samples, and of the index of twelve blocks of two hours."""
        return series * (86400 / interval * self.chunk_bytes / self.samples + 12 * self.index_bytes / self.block_series)

    def tables(self):
        yield from table("", "", rows=[
            ("series of the exporter itself", f"{self.own}"),
            ("series of each group", f"{self.per_group}"),
            ("one more while it has a child", f"{self.with_child}"),
            ("Prometheus' own of each target", f"{TARGET_SERIES}"),
            ("recorded for each group", f"{self.recorded_per_group:.1f}"),
            ("recorded for each host", f"{self.recorded_per_host:.1f}"),
            ("series sent on for each host", f"{self.sent_per_host:.0f}"),
            ("series sent on for each group, however many hosts", f"{self.sent_per_group:.0f}")])
        yield "Of a group's series by collector, with options as they are by default; on: " + ", ".join(
            f"`{name}` {count}" for name, count in self.collectors.items() if name not in self.OPTIONAL) + (
            f", by none of them {self.per_group - sum(v for k, v in self.collectors.items() if k not in self.OPTIONAL)}"
            "; off: ") + ", ".join(f"`{name}` +{self.collectors[name]}" for name in self.OPTIONAL) + ".\n\n"
        yield from table("one host", "series scraped", "bytes", "gzip", "`sharing` and `cow` alone: series", "bytes", "gzip",
                         rows=[(f"{count} groups", *(f"{self.scrapes[count][key]:,}" for key in
                                                     ("series", "bytes", "gzip", "lean series", "lean bytes", "lean gzip")))
                               for count in self.GROUPS])
        yield from table("hosts", "groups on each", "series in Prometheus", "samples a second at 15 s", "30 s", "60 s", "memory",
                         "disk a day at 30 s", rows=[
            (f"{hosts:,}", str(groups), f"{hosts * self.series(groups):,.0f}",
             *(f"{hosts * self.series(groups) / interval:,.0f}" for interval in (15, 30, 60)),
             size(self.base + self.series_bytes * hosts * self.series(groups)),
             size(self.day_bytes(hosts * self.series(groups), 30)))
            for hosts in (1, 100, 10_000) for groups in self.GROUPS])
        yield from table("sent on", "series", "samples a second at 60 s", "bytes a second", rows=[
            (f"{hosts:,} hosts, {groups} groups, {shards} shard{'s' * (shards > 1)}",
             *(lambda count: (f"{count:,.0f}", f"{count / 60:,.0f}", size(count / 60 * self.sent_bytes)))(
                 hosts * self.sent_per_host + shards * groups * self.sent_per_group))
            for hosts, groups, shards in ((100, 50, 1), (10_000, 200, 12))])
        yield (f"Measured with {EXPORTERS} exporters of {self.SHARE} groups, every {self.INTERVAL} s, by Prometheus "
               f"{self.version()}: " + ", ".join(f"{series:,.0f} series {resident / 2**20:.0f} MiB"
                                                 for series, resident in self.points)
               + f": {self.base / 2**20:.0f} MiB and {self.series_bytes:,.0f} bytes a series. A snapshot of {self.block_series:,} "
               f"series had {self.samples / self.block_series:.0f} samples each, {self.chunk_bytes / self.samples:.2f} bytes a "
               f"sample and {self.index_bytes / self.block_series:.0f} bytes of index a series; remote write took "
               f"{self.sent_bytes:.1f} bytes a sample.\n\n")
        costs = self.query_cost
        yield from table("all queries of the overview dashboard, at one time", "queries", "samples read", "milliseconds", rows=[
            (f"{EXPORTERS} hosts with {self.SHARE} groups", f"{len(costs)}", f"{sum(read for _, read, _ in costs):,}",
             f"{sum(milliseconds for _, _, milliseconds in costs):.0f}")])
        yield from table(f"queries of what {EXPORTERS} hosts with {self.SHARE} groups sent on", "samples read", "milliseconds", rows=[
            (f"`{expression}`", f"{read:,}", f"{milliseconds:.2f}") for expression, read, milliseconds in self.fleet_query_cost])

    @staticmethod
    def version():
        run = subprocess.run(["prometheus", "--version"], capture_output=True, text=True, check=True)
        return re.search(r"version (\S+)", run.stdout + run.stderr).group(1).partition("+")[0]


def least_squares(points):
    """Returns intercept and slope."""
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in points) / sum((x - mean_x) ** 2 for x, _ in points)
    return mean_y - slope * mean_x, slope


def size(value):
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.3g} {unit}"
        value /= 1024
    return f"{value:,.3g} TiB"


def table(*heads, rows):
    for row in (heads, ["---"] + ["---:"] * (len(heads) - 1), *rows):
        yield "| " + " | ".join(row) + " |\n"
    yield "\n"


def test_long(context, update):
    text = "".join(Long(context).tables())
    print(text)
    if update:
        with open(DOCUMENT, encoding="utf-8") as file:
            before, rest = file.read().split(BEGIN)
        with open(DOCUMENT, "w", encoding="utf-8") as file:
            file.write(before + BEGIN + "\n" + text + END + rest.split(END)[1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--long", action="store_true", help="measures what the document's tables are made of")
    parser.add_argument("--update", action="store_true", help="with --long: writes them to deploy/SCALE.md")
    arguments = parser.parse_args()
    if arguments.update and not arguments.long:
        parser.error("--update needs --long")

    def test(context):
        support.need("prometheus", "promtool")
        support.need_frames()
        if arguments.long:
            test_long(context, arguments.update)
        else:
            test_short(context)

    support.main(test)


main()
