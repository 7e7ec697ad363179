"""Debian's services together, monitored as in production: cow_exporter and node_exporter, Prometheus with the rules of
deploy/, Alertmanager, and a receiver that stores notifications with their times.

 - Redis is written to while it saves: CowExplosion fires, and resolves when writing stops. The breaks are compared with
   the saving child's Private_Dirty and Redis' own current_cow_size.
 - Two gunicorns with the same preloaded application get the same requests; one called gc.freeze before it forked.
 - PostgreSQL with backends, PHP-FPM and Apache prefork in front of it give no reason for an alert, and get none.
 - While the services are idle, their values are compared with the kernel's own sums.

The short form, in every run, has the mixin rendered with windows of seconds. --long uses the shipped rules and
intervals; Redis must then be large and written to for long enough that the alerts fire.
"""

import argparse
import collections
import contextlib
import dataclasses
import json
import os
import re
import signal
import socket
import threading
import time

import kernel_sums
import monitoring
import servers
import support
from support import check, check_close, wait_for

PAGE = os.sysconf("SC_PAGESIZE")
# Two values fill a page. With larger values the saving child drops pages once they are saved, including originals that
# its parent's writes left to it; Private_Dirty would then be too small.
VALUES_PER_PAGE = 2
VALUE_BYTES = 2000


@dataclasses.dataclass(frozen=True)
class Form:
    interval: str  # of scans, scrapes and rules; empty: the shipped one
    scan_seconds: int
    still_within: int  # time until a service is idle
    pages: int  # of Redis' values
    save_seconds: int  # unless it is ended
    pages_per_second: int  # broken by writes during the save
    fires_within: int
    resolves_within: int
    records: int  # of the web application
    workers: int
    requests: int
    backends: int
    children: int  # of PHP and of Apache
    exploding: tuple  # groups that may fire CowExplosion


SHORT = Form(interval="1s", scan_seconds=1, still_within=60, pages=25_000, save_seconds=60, pages_per_second=1500,
             fires_within=20, resolves_within=20, records=60_000, workers=3, requests=90, backends=5, children=3,
             exploding=("redis", "gunicorn"))  # it breaks fast enough for the settings below
LONG = Form(interval="", scan_seconds=10, still_within=300, pages=900_000, save_seconds=900, pages_per_second=4800,
            fires_within=240, resolves_within=300, records=200_000, workers=4, requests=300, backends=20, children=5,
            exploding=("redis",))

class Watch:
    """Everything that monitors the services of one test."""

    def __init__(self, context, form, rules, groups):
        self.form = form
        configuration = context.path("exporter.yml")
        with open(configuration, "w", encoding="utf-8") as file:
            # JSON is YAML. Other programs on this host do not matter here.
            json.dump({"groups": [{"name": name, "cmdline": [re.escape(directory + "/")]}
                                  for name, directory in groups.items()], "default_group": "drop"}, file)
        self.exporter = context.start(support.Exporter(
            f"--config.file={configuration}", *([f"--scan.interval={form.interval}"] if form.interval else [])))
        self.node_exporter = monitoring.NodeExporter(context)
        self.receiver = monitoring.Receiver(context)
        self.alertmanager = monitoring.Alertmanager(context, self.receiver)
        port = support.free_port()
        addresses = {"cow_exporter": self.exporter.address, "node_exporter": self.node_exporter.address,
                     "prometheus": f"127.0.0.1:{port}", "alertmanager": self.alertmanager.address}
        self.prometheus = monitoring.Prometheus(
            context, monitoring.shipped_configuration(rules, addresses, form.interval), port=port)

    def read_since(self, moment, groups):
        """Returns a scrape without readings older than that."""
        def ask():
            samples = self.exporter.scrape()
            if all((samples.get("cow_scan_timestamp_seconds", group=group) or 0) > moment for group in groups):
                return samples
            return None

        return wait_for(ask, 90, "all groups were read", pause=0.2)

    def sleep_until_scan(self):
        """If scans are rare, waits until two seconds before the next one, so that little happens in between."""
        newest = max(value for (name, _), value in self.exporter.scrape().values.items()
                     if name == "cow_scan_timestamp_seconds")
        time.sleep(max(0, newest + self.form.scan_seconds - 2 - time.time()))


class Writer(threading.Thread):
    """Writes in place to one value of each page in turn, at a steady pace, until it is stopped."""

    def __init__(self, redis, pages, per_second):
        super().__init__(daemon=True)
        self.redis, self.pages, self.per_second = redis, pages, per_second
        self.written = 0
        self.failed = None
        self._told_to_stop = threading.Event()

    def run(self):
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(25)
                connection.connect(self.redis.socket)
                self._write(connection)
        except (OSError, support.Failure) as error:
            self.failed = error

    def _write(self, connection):
        answers = connection.makefile("rb")
        begin = time.monotonic()
        while not self._told_to_stop.wait(0.05):
            due = min(int((time.monotonic() - begin) * self.per_second), self.pages)
            names = [f"key:{number * VALUES_PER_PAGE:012}" for number in range(self.written, due)]
            connection.sendall("".join(f"*4\r\n$8\r\nsetrange\r\n${len(name)}\r\n{name}\r\n$1\r\n0\r\n$7\r\nwritten\r\n"
                                       for name in names).encode())
            for _ in names:
                check(answers.readline().startswith(b":"), "Redis did not write")
            self.written = due

    def stop(self):
        self._told_to_stop.set()
        self.join(30)
        check(not self.is_alive(), "writing does not end: Redis does not answer")
        check(self.failed is None, f"writing failed: {self.failed}")


def sums_of(service):
    """Returns the kernel's sums; None if one of the processes has ended."""
    with contextlib.suppress(ProcessLookupError, FileNotFoundError):
        return kernel_sums.read(service.pids())
    return None


def hold_against_kernel(watch, services):
    """Reads the kernel's sums, the exporter's values, and the kernel's sums again. For services that did not change
    in between they must be equal, except for a page that the kernel was moving, at most twice, and for pages in
    swap. Returns (the kernel's, ours) of each."""
    missing = dict(services)
    held = {}
    excused = collections.Counter()
    swapped = {}
    end = time.monotonic() + watch.form.still_within
    while missing:
        if time.monotonic() > end:
            if missing.keys() <= swapped.keys():
                support.skip(f"this host has swapped out memory of services, in bytes: {swapped}")
            raise support.Failure(f"services do not come to rest: {list(missing)}")
        watch.sleep_until_scan()
        before = {name: sums_of(service) for name, service in missing.items()}
        samples = watch.read_since(time.time(), missing)
        for name, service in list(missing.items()):
            swapped.pop(name, None)
            if before[name] is None or sums_of(service) != before[name]:
                continue  # it changed in between
            different = differences(samples, name, before[name])
            if different and before[name].swapped:
                swapped[name] = before[name].swapped
                print(f"{name}: {different}, with {swapped[name]} bytes in swap")
                continue
            if different:
                excused[name] += 1
                print(f"{name}: {different}")
                check(excused[name] <= 2, f"{name}: not what the kernel says")
                continue
            held[name] = before[name], samples
            del missing[name]
    return {name: held[name] for name in services}


def differences(samples, group, kernel):
    """Returns differences as text. Sizes must be equal to the page; footprint and exposure within the kernel's
    rounding of shares."""
    def value(name, **labels):
        return samples.value(name, group=group, **labels)

    private = value("cow_resident_bytes", backing="anon", sharing="private")
    anonymous = private + value("cow_resident_bytes", backing="anon", sharing="shared")
    footprint = value("cow_footprint_bytes")
    exposure = value("cow_exposure_bytes")
    resident = sum(value for (name, labels), value in samples.values.items()
                   if name == "cow_resident_bytes" and ("group", group) in labels)
    exact = {"processes": (value("cow_processes"), kernel.processes),
             "resident": (resident, kernel.resident),
             "private anonymous": (private, kernel.private_anonymous),
             "anonymous": (anonymous, kernel.anonymous),
             "exposure + footprint": (exposure + footprint, kernel.anonymous)}
    found = [f"{what}: {ours:.0f}, the kernel says {theirs}" for what, (ours, theirs) in exact.items() if ours != theirs]
    if not 0 <= footprint - kernel.anonymous_shares < kernel.shares_cut:
        found.append(f"footprint: {footprint:.0f}, the kernel's shares are {kernel.anonymous_shares}")
    return found


def start_services(context, form, directories):
    for directory in directories.values():
        os.mkdir(directory)
    for directory in (context.directory, *directories.values()):
        os.chmod(directory, 0o755)  # for the users that servers become
    redis = context.start(servers.Redis(directories["redis"]))
    redis.fill(form.pages * VALUES_PER_PAGE, VALUE_BYTES)
    postgres = context.start(servers.Postgres(directories["postgres"]))
    postgres.bench(2, form.backends, 200)
    for _ in range(form.backends):
        context.start(postgres.session())
    php = context.start(servers.PhpFpm(directories["php-fpm"], form.children))
    services = {
        "redis": redis,
        "gunicorn": context.start(servers.Gunicorn(directories["gunicorn"], form.records, form.workers, freeze=False)),
        "gunicorn-frozen": context.start(servers.Gunicorn(directories["gunicorn-frozen"], form.records, form.workers,
                                                          freeze=True)),
        "postgres": postgres,
        "php-fpm": php,
        "apache": context.start(servers.Apache(directories["apache"], form.children, php)),
    }
    for _ in range(10 * form.children):
        services["apache"].ask()
    return services


def compare_freezing(watch, services, form):
    """Sends the same requests to both and compares the remaining exposure."""
    groups = ("gunicorn", "gunicorn-frozen")
    before = watch.read_since(time.time(), groups)
    answers = {group: services[group].ask_all(form.requests) for group in groups}
    after = watch.read_since(time.time(), groups)
    left = {}
    for group in groups:
        exposure = [samples.value("cow_exposure_bytes", group=group) for samples in (before, after)]
        broken = [sum(samples.breaks(group).values()) for samples in (before, after)]
        left[group] = exposure[1] / exposure[0]
        print(f"{group}: exposure {exposure[0]:.0f}, after {form.requests} requests {exposure[1]:.0f} ({left[group]:.0%}), "
              f"{broken[1] - broken[0]:.0f} pages broken, full collections of the workers "
              f"{sorted(answer['full_collections'] for answer in answers[group].values())}")
    check(all(answer["full_collections"] for answer in answers["gunicorn"].values()), "Python's collector did not run")
    check(left["gunicorn"] < 0.65 and left["gunicorn-frozen"] > 0.75, "freezing should have kept what collecting breaks")


def save_under_writes(watch, redis, form):
    """Returns when CowExplosion fired and resolved, in seconds since writing began and since it ended, and the
    comparison with the kernel during the save."""
    before = watch.read_since(time.time(), ["redis"])
    keys = form.pages * VALUES_PER_PAGE
    redis.do("config", "set", "rdb-key-save-delay", max(1, form.save_seconds * 1_000_000 // keys - 60))
    redis.do("bgsave")
    child = wait_for(redis.child, 10, "the saving child")
    watch.read_since(time.time(), ["redis"])
    writer = Writer(redis, form.pages, form.pages_per_second)
    began = time.time()
    writer.start()
    try:
        fired = wait_for(lambda: watch.receiver.first("firing", alertname="CowExplosion", group="redis"), form.fires_within,
                         "CowExplosion fires")
        active = [alert["labels"] for alert in watch.alertmanager.active()]
        check(any(labels["alertname"] == "CowExplosion" and labels["group"] == "redis" for labels in active),
              f"not active in Alertmanager: {active}")
    finally:
        writer.stop()
    ended = time.time()
    print(f"{utc(fired.time)}: CowExplosion fired after {fired.time - began:.1f} s and {writer.written} pages written to: {fired.labels}\n"
          f"  {fired.annotations['description']}")

    reported = redis.measured_cow_bytes()
    dirty = kernel_sums.private_dirty(child)
    held = hold_against_kernel(watch, {"redis": redis})["redis"]
    check(redis.child() == child, "saving was over too early")
    samples = held[1]
    sides = {side: pages - before.breaks("redis")[side] for side, pages in samples.breaks("redis").items()}
    broken = sum(sides.values()) * PAGE
    print(f"pages broken: {sides}")
    # Theirs includes the child's own allocations, about a hundred pages; ours does not.
    check_close(broken, dirty, 0.02, "bytes broken, to the child's Private_Dirty")
    check_close(broken, reported, 0.02, "bytes broken, to current_cow_size")
    check(sides["parent"] > 0.95 * writer.written, "each write should have broken a page")

    resolved = wait_for(lambda: watch.receiver.first("resolved", alertname="CowExplosion", group="redis"),
                        form.resolves_within, "CowExplosion resolves")
    print(f"{utc(resolved.time)}: CowExplosion resolved {resolved.time - ended:.1f} s after the last write")
    os.kill(child, signal.SIGUSR1)  # Redis itself ends an unwanted child this way
    wait_for(lambda: redis.child() is None, 30, "the end of saving", pause=0.2)
    return fired.time - began, resolved.time - ended, held


def report(held):
    heads = ["service", "processes", "Σ RSS", "Σ PSS", "footprint", "exposure", "pages broken"]
    rows = []
    for name, (kernel, samples) in held.items():
        group = name.partition(",")[0]
        rows.append([name, f"{kernel.processes}", mib(kernel.resident), mib(kernel.shares),
                     mib(samples.value("cow_footprint_bytes", group=group)),
                     mib(samples.value("cow_exposure_bytes", group=group)), f"{sum(samples.breaks(group).values()):.0f}"])
    widths = [max(len(row[column]) for row in [heads, *rows]) for column in range(len(heads))]
    for row in [heads, *rows]:
        print("  ".join(cell.ljust(width) if not column else cell.rjust(width)
                        for column, (cell, width) in enumerate(zip(row, widths))))


def utc(moment):
    return time.strftime("%H:%M:%S UTC", time.gmtime(moment))


def mib(value):
    return f"{value / (1 << 20):.1f} MiB"


def test(context, form):
    support.need("redis-server", "redis-cli", "gunicorn", "apache2", "setpriv", "jsonnet", "prometheus",
                 "prometheus-alertmanager", "prometheus-node-exporter")
    support.need_frames()
    support.need_memory(2 * form.pages * PAGE + (2 << 30))  # Redis, the copies of its pages, and the others
    rules = monitoring.fast_rules(context) if form is SHORT else monitoring.SHIPPED_RULES
    directories = {name: context.path(name) for name in ("redis", "gunicorn", "gunicorn-frozen", "postgres", "php-fpm",
                                                         "apache")}
    watch = Watch(context, form, rules, directories)
    services = start_services(context, form, directories)
    hold_against_kernel(watch, services)
    compare_freezing(watch, services, form)
    fired, resolved, saving = save_under_writes(watch, services["redis"], form)
    report({"redis, saving": saving, **hold_against_kernel(watch, services)})
    print(f"CowExplosion: fired {fired:.1f} s after writing began, resolved {resolved:.1f} s after it ended")
    check_quiet(watch, form)


def check_quiet(watch, form):
    broken = [rule for rule in watch.prometheus.rules() if rule["health"] != "ok"]
    check(not broken, f"rules fail: {broken}")
    check(not watch.prometheus.query("up != 1"), "a target is down")
    told = {(said.labels["alertname"], said.labels.get("group")) for said in watch.receiver.received}
    check(told <= {("CowExplosion", group) for group in form.exploding}, f"notified of {told}")
    active = [alert["labels"] for alert in watch.alertmanager.active()]
    check(not active, f"still active: {active}")


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--long", action="store_true", help="the shipped rules and intervals, and sizes that make them fire")
ARGUMENTS = parser.parse_args()
support.main(lambda context: test(context, LONG if ARGUMENTS.long else SHORT))
