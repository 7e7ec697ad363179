"""The rules that a dashboard must follow: those that grafana/dashboard-linter documents, by its names, and some of
our own. A finding is (rule, message)."""

import re

VARIABLES = ["datasource", "job", "instance", "group"]
PANELS = {"timeseries", "stat", "table", "heatmap", "bargauge"}
# Grafana's units for our values.
UNITS = {"bytes", "binBps", "s", "percentunit", "none", "short", "cps", "bool_yes_no"}
GRID = 24
OWN = re.compile(r"^(cow_|process_|scrape_|up$|ALERTS$)")
METRIC = re.compile(r"\b(?:cow|process|scrape|node)_\w+|\b(?:up|ALERTS)\b")
SELECTOR = re.compile(r"([a-zA-Z_:][\w:]*)\{([^}]*)\}")
NEED_RATE = re.compile(r"(_total|_bucket|_sum|_count)$")
RATE_OF = re.compile(r"\b(?:rate|irate|increase|changes)\($")


def targets(dashboard):
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            yield panel, target


def expressions(dashboard):
    yield from ((panel["title"], target["expr"]) for panel, target in targets(dashboard))
    yield from ((annotation["name"], annotation["target"]["expr"]) for annotation in dashboard["annotations"]["list"])


def own(expression):
    """True if only our exporter's metrics are needed."""
    return all(OWN.match(metric) for metric, _ in SELECTOR.findall(expression))


def walk(value, path=""):
    """Returns all (path, object) of the JSON."""
    if isinstance(value, dict):
        yield path, value
        for key, inner in value.items():
            yield from walk(inner, f"{path}.{key}")
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from walk(inner, f"{path}[{index}]")


def dashboard_findings(dashboard):
    for key in ("uid", "title", "description", "tags", "timezone", "refresh"):
        if not dashboard.get(key):
            yield "dashboard", f"no {key}"
    if dashboard.get("editable") is not False:
        yield "template-uneditable-rule", "what is provisioned can't be edited in place"
    if not re.fullmatch(r"cow-[a-z]+", dashboard.get("uid", "")):
        yield "dashboard", f"uid {dashboard.get('uid')}"


def variable_findings(dashboard):
    variables = dashboard["templating"]["list"]
    names = [variable["name"] for variable in variables]
    if names != VARIABLES:
        yield "variables", f"they are {names}"
    for variable in variables:
        name = variable["name"]
        if name == "datasource":
            if (variable["type"], variable["query"], variable["label"]) != ("datasource", "prometheus", "Data source"):
                yield "template-datasource-rule", "not a choice of Prometheus, labelled Data source"
            continue
        if variable["type"] != "query" or variable["label"] != name.capitalize():
            yield f"template-{name}-rule", "not a query, or not labelled by its name"
        if name != "group" and not (variable["multi"] and variable["includeAll"] and variable["allValue"] == ".+"):
            yield f"template-{name}-rule", "several, and all, can't be chosen"
        if variable["refresh"] != 2:
            yield "template-on-time-change-reload-rule", name
        if not re.fullmatch(r"label_values\(\w+(\{[^}]*\})?, " + name + r"\)", variable["query"]):
            yield "template-label-promql-rule", f"{name}: {variable['query']}"
    used = " ".join([expression for _, expression in expressions(dashboard)] +
                    [variable["query"] for variable in variables])
    for name in names:
        if name != "datasource" and not re.search(rf"\${name}\b", used):
            yield "unused-variable", name
    if "group" in names and "$group" not in " ".join(expression for _, expression in expressions(dashboard)):
        yield "unused-variable", "group"


def datasource_findings(dashboard):
    for path, value in walk(dashboard):
        source = value.get("datasource")
        if source is not None and source != {"type": "prometheus", "uid": "${datasource}"}:
            yield "panel-datasource-rule", f"{path}: {source}"
    for panel in dashboard["panels"]:
        if panel["type"] != "row" and "datasource" not in panel:
            yield "panel-datasource-rule", panel["title"]


def panel_findings(dashboard, uids):
    taken = {}
    ids = [panel["id"] for panel in dashboard["panels"]]
    if len(set(ids)) != len(ids):
        yield "panel-id", "one is there twice"
    for panel in dashboard["panels"]:
        title = panel.get("title", "")
        place = panel["gridPos"]
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                if x >= GRID or (x, y) in taken:
                    yield "panel-place", f"{title} lies outside, or on {taken.get((x, y))}"
                    return
                taken[x, y] = title
        if panel["type"] == "row":
            continue
        if panel["type"] not in PANELS:
            yield "panel-type", f"{title}: {panel['type']}"
        if not title or not panel.get("description", "").endswith("."):
            yield "panel-title-description-rule", title
        if not panel.get("targets"):
            yield "panel-no-targets-rule", title
        units = [panel["fieldConfig"]["defaults"].get("unit")] + [
            item["value"] for override in panel["fieldConfig"]["overrides"] for item in override["properties"]
            if item["id"] == "unit"]
        if not set(units) <= UNITS:
            yield "panel-units-rule", f"{title}: {units}"
    for path, value in walk(dashboard):
        url = value.get("url")
        if url is not None and (re.match(r"/d/([\w-]+)", url) or [None, None])[1] not in uids:
            yield "link", f"{path}: {url}"


def target_findings(dashboard):
    for panel, target in targets(dashboard):
        where = f"{panel['title']}, {target['refId']}"
        legend = target.get("legendFormat", "")
        if panel["type"] == "timeseries" and legend in ("", "__auto"):
            yield "legend", f"{where}: none"
        kept = set(re.split(r",\s*", ",".join(re.findall(r"by \(([^)]*)\)", target["expr"]))))
        if panel["type"] != "heatmap" and not set(re.findall(r"\{\{(\w+)\}\}", legend)) <= kept:
            yield "legend", f"{where}: {legend} has a label that the query drops"
        if "histogram_quantile" in target["expr"] and not re.search(r"by \([^)]*\ble\b", target["expr"]):
            yield "target-histogram-rule", where
    for panel in dashboard["panels"]:
        names = [target["refId"] for target in panel.get("targets", [])]
        if len(set(names)) != len(names):
            yield "refId", panel["title"]


def expression_findings(dashboard):
    for where, expression in expressions(dashboard):
        for name in METRIC.findall(SELECTOR.sub("", re.sub(r"by \([^)]*\)", "", expression))):
            yield "target-instance-rule", f"{where}: {name} without matchers"
        for found in SELECTOR.finditer(expression):
            metric, matchers = found.groups()
            if OWN.match(metric) and 'job=~"$job"' not in matchers:
                yield "target-job-rule", f"{where}: {metric}"
            if 'instance=~"$instance"' not in matchers:
                yield "target-instance-rule", f"{where}: {metric}"
            if NEED_RATE.search(metric) and not RATE_OF.search(expression[:found.start()]):
                yield "target-counter-agg-rule", f"{where}: {metric}"
        for window in re.findall(r"\[([^\]]*)\]", expression):
            if window != "$__rate_interval":
                yield "target-rate-interval-rule", f"{where}: [{window}]"


def findings(dashboard, uids):
    """`uids`: those of all our dashboards."""
    return [*dashboard_findings(dashboard), *variable_findings(dashboard), *datasource_findings(dashboard),
            *panel_findings(dashboard, uids), *target_findings(dashboard), *expression_findings(dashboard)]
