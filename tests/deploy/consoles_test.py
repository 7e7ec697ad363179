"""The console templates, rendered by a real Prometheus and shown by a real browser: groups, values and graphs are
there, the browser reports no error, and parameters of a link can't inject markup."""

import re
import urllib.parse
import urllib.request
from xml.etree import ElementTree

import monitored
import support
from console_page import Page
from support import check

UNITS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}


def bytes_of(text):
    number, unit = text.split()
    return float(number) * UNITS[unit]


def hold_number(prometheus, shown, expression):
    """Checks that the shown value lies between the minimum and the maximum of the last seconds, within its digits."""
    bounds = [prometheus.value(f"{which}_over_time({expression}[20s])") for which in ("min", "max")]
    print(f"{expression}: {shown:.0f} shown, between {bounds[0]:.0f} and {bounds[1]:.0f} as Prometheus has it")
    check(bounds[0] * 0.995 <= shown <= bounds[1] * 1.005, f"{expression} is another")


def test_overview(context, host):
    text, complaints = support.browse(context, host.prometheus.url("/consoles/cow_overview.html?window=15s"),
                                      "--window-size=1280,800", "--dump-dom")
    check(not complaints, f"{complaints}")
    page = Page(text)
    rows = {row[0]: row for row in page.rows if row}
    check(monitored.GROUP in rows, f"groups: {list(rows)}")
    group, instance, processes, exposure, _, footprint, broken, shared, used_up, coverage = rows[monitored.GROUP]
    print(f"{group} on {instance}: {processes} processes, {exposure}, {footprint}, {broken}, {shared}, {used_up}, {coverage}")
    check(instance == monitored.HOST, f"instance {instance}")
    selector = f'{{job="cow_exporter",instance="{monitored.HOST}",group="{monitored.GROUP}"}}'
    hold_number(host.prometheus, float(processes), f"cow_processes{selector}")
    hold_number(host.prometheus, bytes_of(exposure), f"cow_exposure_bytes{selector}")
    hold_number(host.prometheus, bytes_of(footprint), f"cow_footprint_bytes{selector}")
    check(broken.endswith("/s") and bytes_of(broken[:-2]) > 0, f"broken {broken}")
    check(all(re.fullmatch(r"[\d.]+%", share) for share in (shared, coverage)), f"shares {shared}, {coverage}")
    check(re.fullmatch(r"(\d+[dhms] ?)+", used_up), f"used up in {used_up}")
    order = [bytes_of(row[3]) for row in page.rows if row]
    check(order == sorted(order, reverse=True), f"not by exposure: {order}")
    titles = ["Exposure", "Footprint", "Broken", "Shared part", "First used up in", "Groups", "Worst coverage"]
    check(list(page.tiles) == titles and "–" not in page.tiles.values(), f"tiles: {page.tiles}")
    check(int(page.tiles["Groups"]) >= len(rows), f"{page.tiles['Groups']} groups, of which the table shows {len(rows)}")


def test_group(context, host):
    query = urllib.parse.urlencode({"group": monitored.GROUP, "instance": monitored.HOST, "window": "15s"})
    span = urllib.parse.quote('{"duration":60,"endTime":0}')
    text, complaints = support.browse(context, host.prometheus.url(f"/consoles/cow_group.html?{query}#pctc{span}"),
                                      "--window-size=1280,1500", "--virtual-time-budget=8000", "--dump-dom")
    check(not complaints, f"{complaints}")
    page = Page(text)
    check(len(page.tiles) == 8 and "–" not in page.tiles.values(), f"tiles: {page.tiles}")
    for legend in ("process view", "physical view", "exposure", "parent", "child", "anon", "heap", "shared", "private", "exit", "unmap",
                   "cost of a fork", "file, copied", "zero", "huge", "swapped", "coverage", "unattributed, of all resident"):
        check(legend in page.legends, f"no {legend} among {page.legends}")
    check(page.paths >= len(page.legends), f"{page.paths} lines for {len(page.legends)} names")
    for failure in ("No timeseries returned", "Error loading data"):
        check(failure not in text, failure)
    print(f"{monitored.GROUP}: {page.tiles}; {len(page.legends)} lines in 8 graphs")


def get(host, page, **parameters):
    url = host.prometheus.url(f"/consoles/{page}?" + urllib.parse.urlencode(parameters))
    with urllib.request.urlopen(url, timeout=10) as response:
        return response.read().decode()


def test_parameters(host):
    hostile = '"></title></script><script>alert(1)</script>\\{}\'`'
    for page in ("cow_overview.html", "cow_group.html"):
        text = get(host, page, job=hostile, instance=hostile, group=hostile, window=hostile)
        check("alert(1)</script>" not in text, f"{page} lets script in")
        check("<b>1m</b>" in text, f"{page}: the window is not its own")
    check(len(Page(get(host, "cow_overview.html", limit="1")).rows) == 2, "limit=1 is not one line")
    check(monitored.GROUP not in get(host, "cow_overview.html", group="another"), "group=another shows others")
    check("No series" in get(host, "cow_overview.html", job="another"), "nothing is said where there is nothing")


def test_pictures():
    for name in ("overview", "group"):
        path = monitored.PICTURES / f"{name}.svg"
        check(path.stat().st_size < monitored.PICTURE_BYTES, f"{path} is too large")
        ElementTree.parse(path)


def test(context):
    support.need("chromium")
    host = monitored.Host(context, f"--web.console.templates={monitored.DEPLOY / 'prometheus/consoles'}",
                          f"--web.console.libraries={monitored.DEPLOY / 'prometheus/console_libraries'}")
    host.wait_for_events()
    test_overview(context, host)
    test_group(context, host)
    test_parameters(host)
    test_pictures()


support.main(test)
