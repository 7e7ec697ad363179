"""The committed dashboards equal the rendered ones, follow the rules of dashboard_rules.py, and need no other
exporter for most panels. A mutation shows for each rule that it finds errors. The provisioning files match the files
beside them."""

import copy
import json
import pathlib
import subprocess

import dashboard_rules
import monitored
import support
import yaml
from support import check

LEAST_OWN = 0.85
WITHOUT_LE = 'histogram_quantile(0.9, sum(rate(a_bucket{job=~"$job",instance=~"$instance"}[$__rate_interval])))'


def set_in(*path, to):
    """Returns a change of one value; `path` holds keys and indices, None as `to` removes the key."""
    def change(dashboard):
        inside = dashboard
        for step in path[:-1]:
            inside = inside[step]
        if to is None:
            del inside[path[-1]]
        else:
            inside[path[-1]] = to
    return change


def replace_in_expressions(old, new):
    def change(dashboard):
        for _, target in dashboard_rules.targets(dashboard):
            target["expr"] = target["expr"].replace(old, new)
    return change


def first(dashboard, kind):
    return next(index for index, panel in enumerate(dashboard["panels"]) if panel["type"] == kind)


def broken(dashboard):
    """Returns (rule, change) pairs for the overview: the rule must find the change."""
    stat, series = first(dashboard, "stat"), first(dashboard, "timeseries")
    panels, variables = ("panels", stat), ("templating", "list")
    return [
        ("dashboard", set_in("refresh", to=None)),
        ("dashboard", set_in("uid", to="another")),
        ("template-uneditable-rule", set_in("editable", to=True)),
        ("variables", lambda d: d["templating"]["list"].append(dict(d["templating"]["list"][1], name="host"))),
        ("template-datasource-rule", set_in(*variables, 0, "query", to="loki")),
        ("template-job-rule", set_in(*variables, 1, "multi", to=False)),
        ("template-instance-rule", set_in(*variables, 2, "label", to="Host")),
        ("template-on-time-change-reload-rule", set_in(*variables, 3, "refresh", to=1)),
        ("template-label-promql-rule", set_in(*variables, 3, "query", to="cow_processes")),
        ("unused-variable", replace_in_expressions("$group", "x")),
        ("panel-datasource-rule", set_in(*panels, "datasource", "uid", to="P1234")),
        ("panel-datasource-rule", set_in(*panels, "datasource", to=None)),
        ("panel-title-description-rule", set_in(*panels, "description", to="")),
        ("panel-title-description-rule", set_in(*panels, "title", to="")),
        ("panel-no-targets-rule", set_in(*panels, "targets", to=[])),
        ("panel-units-rule", set_in(*panels, "fieldConfig", "defaults", "unit", to="Byte")),
        ("panel-units-rule", set_in(*panels, "fieldConfig", "defaults", "unit", to=None)),
        ("panel-type", set_in(*panels, "type", to="graph")),
        ("panel-id", set_in(*panels, "id", to=1)),
        ("panel-place", set_in(*panels, "gridPos", "x", to=22)),
        ("link", set_in("links", 0, "url", to="/d/gone")),
        ("refId", lambda d: d["panels"][stat]["targets"].append(d["panels"][stat]["targets"][0])),
        ("legend", set_in("panels", series, "targets", 0, "legendFormat", to="")),
        ("legend", set_in("panels", series, "targets", 0, "legendFormat", to="{{comm}}")),
        ("target-histogram-rule", set_in(*panels, "targets", 0, "expr", to=WITHOUT_LE)),
        ("target-job-rule", replace_in_expressions('job=~"$job",', "")),
        ("target-instance-rule", replace_in_expressions('instance=~"$instance",', "")),
        ("target-instance-rule", set_in(*panels, "targets", 0, "expr", to="sum(cow_exposure_bytes)")),
        ("target-rate-interval-rule", replace_in_expressions("$__rate_interval", "5m")),
        ("target-counter-agg-rule", replace_in_expressions("rate(", "sum_over_time(")),
    ]


def hold_rendered(context):
    support.need("jsonnet")
    listed = subprocess.run(["jsonnet", "--multi", context.directory, monitored.DEPLOY / "mixin/render_dashboards.jsonnet"],
                            capture_output=True, text=True, check=True).stdout.split()
    rendered = {pathlib.Path(path).name: pathlib.Path(path).read_bytes() for path in listed}
    committed = {path.name: path.read_bytes() for path in (monitored.DEPLOY / "grafana").glob("*.json")}
    different = [name for name in rendered.keys() | committed.keys() if rendered.get(name) != committed.get(name)]
    check(not different, f"not what deploy/mixin/render makes: {different}")


def hold_provisioning(dashboards):
    def load(path):
        return yaml.safe_load((monitored.DEPLOY / path).read_text(encoding="utf-8"))

    sources = load("grafana/provisioning/datasources/cow_exporter.yml")
    providers = load("grafana/provisioning/dashboards/cow_exporter.yml")
    check(sources["apiVersion"] == providers["apiVersion"] == 1, "apiVersion is not 1")
    [source], [provider] = sources["datasources"], providers["providers"]
    wanted = {variable["query"] for dashboard in dashboards for variable in dashboard["templating"]["list"]
              if variable["type"] == "datasource"}
    check(wanted == {source["type"]}, f"the dashboards want {wanted}, the data source is {source['type']}")
    jobs = load("prometheus/prometheus.yml")["scrape_configs"]
    intervals = {job["scrape_interval"] for job in jobs if job["job_name"] == "cow_exporter"}
    check(intervals == {source["jsonData"]["timeInterval"]}, f"scraped every {intervals}, Grafana is told {source['jsonData']}")
    readme = (monitored.DEPLOY / "grafana/README.md").read_text(encoding="utf-8")
    check(f"-t {provider['options']['path']} deploy/grafana/*.json" in readme, "README.md puts the dashboards elsewhere")


def test(context):
    hold_rendered(context)
    dashboards = {path.name: json.loads(path.read_text(encoding="utf-8"))
                  for path in sorted((monitored.DEPLOY / "grafana").glob("*.json"))}
    check(len(dashboards) == 3, f"dashboards: {list(dashboards)}")
    uids = {dashboard["uid"] for dashboard in dashboards.values()}
    check(len(uids) == 3, f"uids: {uids}")
    hold_provisioning(dashboards.values())
    every = []
    for name, dashboard in dashboards.items():
        found = dashboard_rules.findings(dashboard, uids)
        check(not found, f"{name}:\n" + "\n".join(": ".join(finding) for finding in found))
        every += [expression for _, expression in dashboard_rules.expressions(dashboard)]
    own = sum(map(dashboard_rules.own, every)) / len(every)
    print(f"{len(every)} expressions, {own:.1%} of them need no other exporter")
    check(own >= LEAST_OWN, "too many expressions need another exporter")

    overview = dashboards["cow-overview.json"]
    changes = broken(overview)
    for rule, change in changes:
        changed = copy.deepcopy(overview)
        change(changed)
        rules = {found for found, _ in dashboard_rules.findings(changed, uids)}
        check(rule in rules, f"{rule} does not find what it is for; found were {rules}")
    print(f"{len(changes)} broken dashboards, each found by its rule")


support.main(test)
