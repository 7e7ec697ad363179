"""Sends every query of the dashboards to a real Prometheus that scrapes real exporters: none is refused, none is
empty."""

import json
import math
import re
import time

import monitored
import support
from support import check

CHOSEN = {"$job": "cow_exporter", "$instance": monitored.HOST, "$group": monitored.GROUP}
# The dashboard's value for "All".
ALL = {"$job": ".+", "$instance": ".+", 'group=~"$group"': 'group=~".+"', "$group": monitored.GROUP}


def filled(text, variables):
    for variable, value in {"$__rate_interval": "15s", **variables}.items():
        text = text.replace(variable, value)
    check("$" not in text, f"a variable without a value: {text}")
    return text


def queries(dashboard):
    """Returns (place, expression, whether it is an instant query) of all panels and annotations."""
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            yield f"{dashboard['title']}, {panel['title']}, {target['refId']}", target["expr"], target["instant"]
    for annotation in dashboard["annotations"]["list"]:
        yield f"{dashboard['title']}, annotation {annotation['name']}", annotation["target"]["expr"], False


def numbers(prometheus, expression, instant):
    """Returns all values of the query except NaN: now, or over the last 15 seconds."""
    if instant:
        values = [value for _, value in prometheus.query(expression)]
    else:
        now = time.time()
        result = prometheus.api("/api/v1/query_range", query=expression, start=now - 15, end=now, step=1)["data"]["result"]
        values = [value for series in result for _, value in series["values"]]
    return [value for value in map(float, values) if not math.isnan(value)]


def may_be_empty(host, where, expression):
    """True if the query always has a value, or its feature is available on this host."""
    if not host.cgroup and "cow_cgroup_memory_" in expression:
        print(f"empty, for no memory cgroup could be made: {where}")
        return True
    if not host.accounted and "cow_kernel_copies_total" in expression:
        print(f"empty, for the kernel does not account delays: {where}")
        return True
    return False


def test_variables(prometheus, dashboard):
    found = {}
    for variable in dashboard["templating"]["list"]:
        if variable["type"] != "query":
            continue
        matched = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"])
        check(matched, f"{variable['name']}: {variable['query']} is not understood")
        series, label = matched.groups()
        answer = prometheus.api(f"/api/v1/label/{label}/values", **{"match[]": filled(series, CHOSEN)})
        found[variable["name"]] = answer["data"]
    check(found["job"] == ["cow_exporter"], f"job: {found['job']}")
    check(found["instance"] == [monitored.HOST], f"instance: {found['instance']}")
    check(monitored.GROUP in found["group"], f"group: {found['group']}")


def test(context):
    support.need_everything()  # otherwise some queries have no value
    host = monitored.Host(context, alert=monitored.ALERT)
    prometheus = host.prometheus
    host.wait_for_events()
    asked, empty = 0, []
    for path in sorted((monitored.DEPLOY / "grafana").glob("*.json")):
        dashboard = json.loads(path.read_text(encoding="utf-8"))
        test_variables(prometheus, dashboard)
        for where, expression, instant in queries(dashboard):
            for variables in (CHOSEN, ALL):
                asked += 1
                query = filled(expression, variables)
                if not numbers(prometheus, query, instant) and not may_be_empty(host, where, expression):
                    empty.append(f"{where}: {query}")
    check(asked > 0, "no dashboard was found")
    check(not empty, "no values:\n" + "\n".join(empty))
    print(f"{asked} queries, all answered")


support.main(test)
