"""Every query of the dashboards, asked of a real Prometheus that scrapes real exporters: none is refused, none is empty."""

import json
import math
import re
import time

import monitored
import support
from support import check

# What no host can be made to show within this test, with the reason. A query that is one of these may be empty.
MAY_BE_EMPTY = {}
WITHOUT_LIMIT = re.compile(r"cow_cgroup_memory_\w+")
WITHOUT_ACCOUNTING = re.compile(r"cow_kernel_copies_total")

FILLED = {
    "$__rate_interval": "15s", "$__interval": "1s", "$__range": "1m",
    "$job": "cow_exporter", "$instance": f"{monitored.HOST}|{monitored.SAMPLED_HOST}", "$group": monitored.GROUP,
}


def filled(text):
    for variable, value in FILLED.items():
        text = text.replace(variable, value)
    check("$" not in text, f"a variable without a value: {text}")
    return text


def queries(dashboard):
    """(where, expression, whether it is of a moment) of all panels and annotations."""
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            yield f"{dashboard['title']}, {panel['title']}, {target['refId']}", target["expr"], target["instant"]
    for annotation in dashboard["annotations"]["list"]:
        yield f"{dashboard['title']}, annotation {annotation['name']}", annotation["target"]["expr"], False


def numbers(prometheus, expression, instant):
    """All values, without NaN, that the query gives: now, or over the last 15 seconds."""
    if instant:
        result = prometheus.api("query", query=expression)["result"]
        values = [series["value"][1] for series in result]
    else:
        now = time.time()
        result = prometheus.api("query_range", query=expression, start=now - 15, end=now, step=1)["result"]
        values = [value for series in result for _, value in series["values"]]
    return [value for value in map(float, values) if not math.isnan(value)]


def test_variables(prometheus, dashboard):
    found = {}
    for variable in dashboard["templating"]["list"]:
        if variable["type"] != "query":
            continue
        matched = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"])
        check(matched, f"{variable['name']}: {variable['query']} is not understood")
        series, label = matched.groups()
        found[variable["name"]] = prometheus.api(f"label/{label}/values", **{"match[]": filled(series)})
    check(found["job"] == ["cow_exporter"], f"job: {found['job']}")
    check(found["instance"] == [monitored.HOST, monitored.SAMPLED_HOST], f"instance: {found['instance']}")
    check(monitored.GROUP in found["group"], f"group: {found['group']}")


def test(context):
    host = monitored.Host(context, sampled=True)
    prometheus = host.prometheus
    host.wait_for_events()
    asked, empty = 0, []
    for path in sorted((monitored.DEPLOY / "grafana").glob("*.json")):
        dashboard = json.loads(path.read_text(encoding="utf-8"))
        test_variables(prometheus, dashboard)
        for where, expression, instant in queries(dashboard):
            asked += 1
            if numbers(prometheus, filled(expression), instant):
                continue
            if not host.cgroup and WITHOUT_LIMIT.search(expression):
                print(f"empty, for no memory cgroup could be made: {where}")
            elif not host.accounted and WITHOUT_ACCOUNTING.search(expression):
                print(f"empty, for the kernel does not account delays: {where}")
            elif expression in MAY_BE_EMPTY:
                print(f"empty, {MAY_BE_EMPTY[expression]}: {where}")
            else:
                empty.append(f"{where}: {filled(expression)}")
    check(asked > 0, "no dashboard was found")
    check(not empty, "no values:\n" + "\n".join(empty))
    print(f"{asked} queries, all answered")


if __name__ == "__main__":
    support.main(test)
