"""Groups from a configuration, and its reload by SIGHUP and POST, with bad files and during a scan. No counter of an
exported group ever decreases."""

import os
import signal
import time
import urllib.error
import urllib.request

import support
from support import check, wait_for

PAGES = 4096
SUCCESSFUL = "cow_exporter_config_last_reload_successful"
TIMESTAMP = "cow_exporter_config_last_reload_success_timestamp_seconds"
SCAN = "scan: {interval: 200ms, max_cpu: 0}\n"
NAMED = SCAN + """
groups:
  - name: "work-{{.ExeBase}}-{{.Username}}-{{.Matches.rest}}"
    comm: [cow_workload]
    exe: [cow_workload]
    cmdline: ['cow_(?P<rest>workload)$']
    user: [0, nobody]
  - name: nothing
    comm: [no-such-process]
default_group: drop
"""
BAD = """
scan: {intervall: 10s, max_cpu: 2}
groups:
  - {name: "{{.Matches.x}}", comm: [a], cmdline: ['(']}
  - {comm: [a], cgrup: [b]}
"""
# Series with whole numbers that only grow.
COUNTERS = ("cow_breaks_total", "cow_break_bytes_total", "cow_minor_faults_total", "cow_forks_total",
            "cow_unshared_bytes_total", "cow_unattributed_bytes_total", "cow_process_breaks_total", "cow_scan_pages_total",
            "cow_scan_passes_total", "cow_scan_cpu_seconds_total", "cow_scan_early_passes_total")


class Watch:
    """Scrapes, and compares each counter with all its earlier values."""

    def __init__(self, exporter):
        self.exporter = exporter
        self.seen = {}

    def scrape(self):
        samples = self.exporter.scrape()
        for (name, labels), value in samples.values.items():
            if name not in COUNTERS:
                continue
            before = self.seen.get((name, labels), 0)
            check(value >= before, f"{name} {sorted(labels)} went from {before} to {value}")
            self.seen[name, labels] = value
        return samples


def write(path, text):
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def request(exporter, method, path="/-/reload"):
    """Returns status, headers and body."""
    try:
        with urllib.request.urlopen(urllib.request.Request(exporter.url(path), method=method), timeout=30) as response:
            return response.status, response.headers, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read().decode()


def reload_well(exporter, path, text):
    write(path, text)
    status, _, body = request(exporter, "POST")
    check((status, body) == (200, "reloaded\n"), f"reload: {status} {body}")


def breaks_of(watch, group):
    return sum(value for (name, labels), value in watch.scrape().values.items()
               if name == "cow_breaks_total" and ("group", group) in labels)


def breaks_of_child(watch, state):
    return watch.scrape().get("cow_process_breaks_total", group="cow_workload", comm="cow_workload", pid=state["child"])


def write_and_count(watch, workload, state, group, pages):
    """Breaks this many pages that were never broken before, and waits until the group counts them."""
    before = breaks_of(watch, group)
    workload.do(f"write 1 a {state['next']} {pages}")
    state["next"] += pages
    wait_for(lambda: breaks_of(watch, group) >= before + pages, 20, f"{pages} breaks of {group}")
    check(breaks_of(watch, group) < before + pages + 100, f"too many breaks of {group}")


def check_groups(watch, workload, state, path):
    samples = watch.scrape()
    named = "work-cow_workload-root-workload"
    wait_for(lambda: watch.scrape().get("cow_processes", group=named) == 2, 10, "the named group")
    samples = watch.scrape()
    check(samples.value("cow_processes", group="nothing") == 0, "a group without a process")
    exported = {dict(labels)["group"] for (name, labels) in samples.values if name == "cow_processes"}
    check(exported == {named, "nothing"}, f"groups: {exported}")
    write_and_count(watch, workload, state, named, 100)
    # Another name for the same family: earlier counts stay in the old group.
    counted = breaks_of(watch, named)
    reload_well(watch.exporter, path, SCAN)
    wait_for(lambda: watch.scrape().get("cow_processes", group="cow_workload") == 2, 10, "the group by name")
    check(watch.scrape().value("cow_processes", group=named) == 0, "the former group has processes")
    check(breaks_of(watch, "cow_workload") < 100, "counts were moved")
    write_and_count(watch, workload, state, "cow_workload", 50)
    check(breaks_of(watch, named) == counted, "the former group counts on")


def check_bad_files(watch, exporter, path):
    before = watch.scrape().value(TIMESTAMP)
    in_force = request(exporter, "GET", "/config")[2]
    write(path, BAD)
    status, _, body = request(exporter, "PUT")
    errors = body.splitlines()
    check(status == 500, f"a bad file: {status}")
    places = [error[len(path):].split(" ")[0] for error in errors]
    check(places == [":2:8:", ":2:33:", ":4:51:", ":5:17:"], f"errors: {errors}")
    samples = watch.scrape()
    check(samples.value(SUCCESSFUL) == 0 and samples.value(TIMESTAMP) == before, "the metrics of a failed reload")
    check(request(exporter, "GET", "/config")[2] == in_force, "a bad file came into force")
    wait_for(lambda: sum(1 for line in exporter.log if "bad configuration" in line) == 4, 10, "the errors in the log")
    os.unlink(path)
    exporter.send_signal(signal.SIGHUP)
    wait_for(lambda: any("No such file" in line for line in exporter.log), 10, "the log of a missing file")
    write(path, SCAN)
    exporter.send_signal(signal.SIGHUP)
    wait_for(lambda: watch.scrape().value(SUCCESSFUL) == 1, 10, "a good reload by SIGHUP")
    check(watch.scrape().value(TIMESTAMP) > before, "the time of the reload")


def check_collectors(watch, workload, state, exporter, path):
    """A collector is switched off and on again: its counters continue."""
    reload_well(exporter, path, SCAN + "collectors: {process: {top: 100}}\n")
    wait_for(lambda: breaks_of_child(watch, state) is not None, 10, "one more collector")
    write_and_count(watch, workload, state, "cow_workload", 20)
    wait_for(lambda: breaks_of_child(watch, state) >= 20, 10, "its breaks")
    by_child = breaks_of_child(watch, state)
    counted = breaks_of(watch, "cow_workload")
    check(counted > 0, "no breaks to begin with")
    reload_well(exporter, path, SCAN + "collectors: {cow: false}\n")
    wait_for(lambda: watch.scrape().get("cow_forks_total", group="cow_workload") is None, 10, "the collector's end")
    workload.do(f"write 1 a {state['next']} 200")
    state["next"] += 200
    time.sleep(1)
    reload_well(exporter, path, SCAN + "collectors: {cow: true, process: {top: 100}, smaps: {max_rss: 1GiB}}\n")
    wait_for(lambda: watch.scrape().get("cow_forks_total", group="cow_workload") is not None, 10, "the collector")
    check(counted <= breaks_of(watch, "cow_workload") < counted + 100, "counts went back, or on meanwhile")
    check(breaks_of_child(watch, state) == by_child, f"of the child: {by_child}, then {breaks_of_child(watch, state)}")
    wait_for(lambda: watch.scrape().get("cow_smaps_bytes", group="cow_workload", field="rss"), 10, "another collector")
    write_and_count(watch, workload, state, "cow_workload", 20)


def check_mid_scan(watch, workload, state, exporter, path):
    """A reload ends passes that wait for their budget, and the new budget applies at once."""
    for number in range(3):
        reload_well(exporter, path, "scan: {interval: 1h, max_cpu: 0.0000001, full_every: 0s}\n")
        time.sleep(0.3)  # now a pass has exhausted its budget
        start = time.monotonic()
        reload_well(exporter, path, SCAN + f"limits: {{max_groups: {100 + number}}}\n")
        took = time.monotonic() - start
        print(f"reloaded in mid-scan in {took * 1000:.0f} ms")
        check(took < 2, f"a reload in mid-scan took {took:.1f} s")
        write_and_count(watch, workload, state, "cow_workload", 20)
    # Change to passes at scrapes and back.
    reload_well(exporter, path, "scan: {interval: 0s}\n")
    write_and_count(watch, workload, state, "cow_workload", 20)
    for _ in range(10):
        reload_well(exporter, path, SCAN)
        watch.scrape()
        reload_well(exporter, path, "scan: {interval: 0s, threads: 2}\n")
        watch.scrape()
    reload_well(exporter, path, SCAN)
    write_and_count(watch, workload, state, "cow_workload", 20)


def check_methods(exporter, without):
    status, headers, _ = request(exporter, "GET")
    check(status == 405 and headers["Allow"] == "POST, PUT", f"GET: {status} {headers['Allow']}")
    check(request(without, "POST")[0] == 403, "reload without --web.enable-lifecycle")
    status, headers, body = request(exporter, "GET", "/config")
    check(status == 200 and "default_group: drop" in body and "interval: 200ms" in body, f"/config: {status} {body}")


def test(context):
    support.need_frames()
    path = context.path("config.yml")
    write(path, NAMED)
    workload = context.start(support.Workload())
    workload.do(f"map 0 a {PAGES} nohuge")
    workload.do(f"write 0 a 0 {PAGES}")
    exporter = context.start(support.Exporter(f"--config.file={path}", "--web.enable-lifecycle"))
    without = context.start(support.Exporter("--scan.interval=1h"))
    watch = Watch(exporter)
    wait_for(lambda: watch.scrape().get("cow_processes", group="work-cow_workload-root-workload"), 10, "a first pass")
    state = {"next": 0, "child": workload.do("fork 0").split()[1]}
    check_methods(exporter, without)
    check_groups(watch, workload, state, path)
    check_bad_files(watch, exporter, path)
    check_collectors(watch, workload, state, exporter, path)
    check_mid_scan(watch, workload, state, exporter, path)
    took = exporter.end()
    check(exporter.returncode == 0 and took < 1, f"the end: {exporter.returncode} in {took:.1f} s")


support.main(test)
