"""Consoles and dashboards show no misleading values. Prometheus scrapes an exporter of this test with groups that would
cause them:

 - "redis" on one host has ended a save: its breaks still have a rate, but nothing is shared any more. On another host
   it saves.
 - "moment" lived only a moment: it has a family of which nothing was read.
 - "ended" has no process any more, and zeros everywhere.

No value is NaN. The time to the end of exposure is that of the group that saves, and coverage is that of groups that
share memory.
"""

import http.server
import json
import math
import threading
import time
import urllib.parse
import urllib.request

import monitored
import monitoring
import support
from console_page import Page
from dashboard_rules import targets
from support import check

MIB = 1 << 20
EXPOSURE = 6000 * MIB
BROKEN_PER_SECOND = 10 * MIB
WINDOW = "8s"
GROUPS = ("redis", "moment", "ended")


def group(name, processes=0, families=0, exposure=0, broken=0, coverage=None, resident=0):
    """Returns the series of a group."""
    labels = f'group="{name}"'
    lines = [f"cow_processes{{{labels}}} {processes}", f"cow_families{{{labels}}} {families}",
             f"cow_exposure_bytes{{{labels}}} {exposure}", f"cow_footprint_bytes{{{labels}}} {resident}",
             f'cow_break_bytes_total{{{labels},mapping="anon"}} {broken}',
             f'cow_breaks_total{{{labels},side="parent"}} {broken // 4096}',
             f"cow_unattributed_bytes_total{{{labels}}} 0",
             f"cow_fork_break_bytes_sum{{{labels}}} 0", f"cow_fork_break_bytes_count{{{labels}}} 0"]
    lines += [f'cow_resident_bytes{{{labels},backing="anon",sharing="{sharing}"}} {resident}' for sharing in ("shared", "private")]
    lines += [f'cow_fork_break_bytes_bucket{{{labels},le="{bound}"}} 0' for bound in ("65536", "+Inf")]
    if coverage is not None:
        lines.append(f"cow_scan_coverage_ratio{{{labels}}} {coverage}")
    if coverage:
        lines.append(f"cow_scan_timestamp_seconds{{{labels}}} {time.time()}")
    return lines


class Exporter(http.server.ThreadingHTTPServer):
    """`saves`: whether its Redis still saves."""

    def __init__(self, saves):
        started = time.monotonic()

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                broken = int((time.monotonic() - started) * BROKEN_PER_SECOND)
                lines = group("redis", processes=2 if saves else 1, families=int(saves), exposure=EXPOSURE if saves else 0,
                              broken=broken if saves else 100 * broken, coverage=0.75 if saves else 1, resident=EXPOSURE)
                lines += group("moment", processes=2, families=1, coverage=0)
                lines += group("ended")
                lines.append('cow_exporter_build_info{version="0"} 1')
                body = ("\n".join(lines) + "\n").encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments):
                del arguments

        super().__init__(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, daemon=True).start()


def console(prometheus, page, **parameters):
    url = prometheus.url(f"/consoles/{page}?" + urllib.parse.urlencode({"window": WINDOW, **parameters}))
    with urllib.request.urlopen(url, timeout=10) as response:
        text = response.read().decode()
    check("NaN" not in text and "under 1s" not in text, f"{page} {parameters}: NaN, or used up within a second")
    check("0%" not in [cell for row in Page(text).rows for cell in row[-1:]], f"{page} {parameters}: a coverage of 0")
    return Page(text)


def seconds_of(text):
    units = {"d": 86400, "h": 3600, "m": 60, "s": 1}
    return sum(int(part[:-1]) * units[part[-1]] for part in text.split())


def check_consoles(prometheus):
    page = console(prometheus, "cow_overview.html")
    rows = {(row[0], row[1]): row for row in page.rows if row}
    print(page.tiles, *rows.values(), sep="\n")
    check(len(rows) == 2 * len(GROUPS), f"groups: {list(rows)}")
    used_up = seconds_of(page.tiles["First used up in"])
    check(abs(used_up - EXPOSURE / BROKEN_PER_SECOND) < 60, f"used up in {used_up} s")
    check(page.tiles["Worst coverage"] == "75%", f"coverage {page.tiles['Worst coverage']}")
    check(page.tiles["Shared part"] == "50%", f"shared part {page.tiles['Shared part']}")
    for (name, instance), row in rows.items():
        shows = name == "redis" and instance == "saving"
        check((row[-2] != "–") == shows and (row[-1] != "–") == shows, f"used up and coverage of {name} on {instance}: {row}")
        check((row[-3] == "–") == (name != "redis"), f"shared part of {name} on {instance}: {row}")
    for name in GROUPS:
        page = console(prometheus, "cow_group.html", group=name)
        shown = page.tiles["Used up in"]
        print(name, page.tiles)
        if name == "redis":
            # The host that does not save any more breaks a hundred times as fast.
            check(abs(seconds_of(shown) - EXPOSURE / BROKEN_PER_SECOND) < 60, f"used up in {shown}")
        else:
            check({page.tiles[tile] for tile in ("Used up in", "Shared part", "Coverage")} == {"–"}, f"{name}: {page.tiles}")


def check_dashboards(prometheus):
    asked, smallest = 0, math.inf
    for path in sorted((monitored.DEPLOY / "grafana").glob("*.json")):
        dashboard = json.loads(path.read_text(encoding="utf-8"))
        for panel, target in targets(dashboard):
            for chosen in (".+", *GROUPS):
                query = target["expr"]
                for variable, value in (("$__rate_interval", WINDOW), ("$job", ".+"), ("$instance", ".+"), ("$group", chosen)):
                    query = query.replace(variable, value)
                found = prometheus.query(query)
                asked += 1
                where = f"{dashboard['title']}, {panel['title']}: {query}"
                check(not any(math.isnan(value) for _, value in found), f"NaN: {where}")
                if "sed up in" in panel["title"]:
                    smallest = min([smallest, *(value for _, value in found)])
                if "cow_scan_coverage_ratio" in query:
                    check(all(value >= 0.75 for _, value in found), f"{where}: {found}")
    check(abs(smallest - EXPOSURE / BROKEN_PER_SECOND) < 60, f"used up in {smallest} s")
    print(f"{asked} queries, none with NaN; exposure is used up in {smallest:.0f} s at the earliest")


def test(context):
    support.need("prometheus")
    exporters = {"saving": Exporter(saves=True), "saved": Exporter(saves=False)}
    for exporter in exporters.values():
        context.callback(exporter.shutdown)
    prometheus = monitored.start_prometheus(
        context, [("cow_exporter", name, exporter.address) for name, exporter in exporters.items()],
        f"--web.console.templates={monitored.DEPLOY / 'prometheus/consoles'}",
        f"--web.console.libraries={monitored.DEPLOY / 'prometheus/console_libraries'}")
    support.wait_for(lambda: len(prometheus.query(f"rate(cow_break_bytes_total{{group=\"redis\"}}[{WINDOW}]) > 0")) == 2, 30, "rates",
                     pause=0.2)
    time.sleep(8)  # the window is full
    check_consoles(prometheus)
    check_dashboards(prometheus)


support.main(test)
