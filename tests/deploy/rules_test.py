"""Prometheus' configuration, the rules and alerts, the rendered files of the mixin, and the runbooks match each
other."""

import concurrent.futures
import glob
import json
import os
import re
import shutil
import subprocess

import support
import yaml
from support import check

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
DEPLOY = os.path.join(ROOT, "deploy")
PROMETHEUS = os.path.join(DEPLOY, "prometheus")
MIXIN = os.path.join(DEPLOY, "mixin")
RUNBOOKS = os.path.join(DEPLOY, "runbooks")

# Metrics of other programs, and which.
FOREIGN = {"node_memory_MemAvailable_bytes": "node_exporter", "up": "Prometheus", "kube_pod_info": "kube-state-metrics",
           "kube_pod_container_info": "kube-state-metrics"}

# A metric's name: followed by a selector or a window, or with a prefix of ours or node_exporter's anywhere.
METRIC = re.compile(r"\b(?:(?:cow|node|process|group:cow|instance:cow)[a-zA-Z0-9_:]*\b(?!\()|[a-zA-Z_:][a-zA-Z0-9_:]*(?=[{\[]))")

# Each alert's text ends with the command to run.
COMMAND = re.compile(r"Run on \{\{.*\}\}: (cow_exporter (explain --group '\{\{.*\}\}' --config\.file=\S+|--config\.check --config\.file=\S+)|"
                     r"systemctl status cow_exporter|journalctl -u cow_exporter -n 50)$")

FAST = """{
  fastWindow: '10s', slowWindow: '30s', consumedWindow: '1m', interval: '1s', slowInterval: '1s',
  explosionFor: '2s', exceedsFor: '2s', collapseFor: '2s', forkFor: '2s',
}"""


def run(*command, **options):
    """Returns the output; the test fails if the command does."""
    result = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    check(result.returncode == 0, f"{' '.join(command)}: {result.returncode}\n{result.stdout}{result.stderr}")
    return result.stdout


def load(path):
    with open(path, encoding="utf-8") as file:
        return yaml.safe_load(file)


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def rules_below(directory):
    """Returns alerts and recording rules."""
    rules = [rule for path in sorted(glob.glob(os.path.join(directory, "*.yml")))
             for group in load(path)["groups"] for rule in group["rules"]]
    return [rule for rule in rules if "alert" in rule], [rule for rule in rules if "record" in rule]


def metrics_of(expression):
    """Returns names of metrics without those of histogram parts."""
    bare = re.sub(r'"(?:[^"\\]|\\.)*"', '""', expression)
    return {re.sub(r"^(cow_fork_break_bytes)_(count|sum|bucket)$", r"\1", name) for name in METRIC.findall(bare)}


def published():
    """Returns the exporter's metrics by METRICS.md, which golden.reference compares with the code. The metrics
    published on this host depend on the rights here."""
    return set(re.findall(r"^### `(\w+)`$", read(os.path.join(ROOT, "collectors", "METRICS.md")), re.MULTILINE))


def check_references(alerts, records, what):
    """Names of recorded series follow the windows, so used and recorded names must be equal."""
    recorded = {rule["record"] for rule in records}
    texts = [rule["expr"] for rule in alerts + records]
    texts += [text for rule in alerts for text in rule["annotations"].values()]
    used = {name for text in texts for name in re.findall(r"\b(?:group|instance):[a-z0-9_:]+", text)}
    check(used <= recorded, f"{what}: used, but not recorded: {sorted(used - recorded)}")


def check_metrics(texts, known, what):
    unknown = {name for text in texts for name in metrics_of(text)} - known
    check(not unknown, f"{what}: no such metrics: {sorted(unknown)}")


def check_tests(alerts, records):
    """Each alert has a test that fires, for each severity, and one that does not; each recording rule has a test of
    its values."""
    fires, silent, values = set(), set(), set()
    for path in glob.glob(os.path.join(PROMETHEUS, "tests", "*.yml")):
        for case in load(path)["tests"]:
            for each in case.get("alert_rule_test", []):
                if not each["exp_alerts"]:
                    silent.add(each["alertname"])
                for alert in each["exp_alerts"]:
                    fires.add((each["alertname"], alert["exp_labels"]["severity"]))
            for each in case.get("promql_expr_test", []):
                if each["exp_samples"]:
                    values |= metrics_of(each["expr"])
    defined = {(rule["alert"], rule["labels"]["severity"]) for rule in alerts}
    check(fires == defined, f"alerts and the tests that fire: {sorted(defined ^ fires)}")
    names = {name for name, _ in defined}
    check(silent == names, f"alerts and the tests that are silent: {sorted(names ^ silent)}")
    recorded = {rule["record"] for rule in records}
    check(recorded <= values, f"recorded, but in no test: {sorted(recorded - values)}")


def check_runbooks(alerts, known):
    names = {rule["alert"] for rule in alerts}
    pages = {os.path.basename(path)[:-len(".md")] for path in glob.glob(os.path.join(RUNBOOKS, "*.md"))}
    check(pages == names, f"alerts and runbooks: {sorted(names ^ pages)}")
    queries = []
    for name in sorted(names):
        text = read(os.path.join(RUNBOOKS, name + ".md"))
        check(text.startswith(f"# {name}\n"), f"{name}.md has another title")
        queries += re.findall(r"```promql\n(.*?)```", text, re.DOTALL)
    for rule in alerts:
        check(f":10066{{{{ end }}}}/runbooks/{rule['alert']}" in rule["annotations"]["runbook_url"], f"{rule['alert']}: runbook_url")
        check(COMMAND.search(rule["annotations"]["description"]), f"{rule['alert']}: no command to run")
        check(set(rule["annotations"]) == {"summary", "description", "runbook_url"}, f"{rule['alert']}: annotations")
    check_metrics(queries, known, "runbooks")
    return queries


def check_queries(context, queries):
    """promtool parses rules, so each query becomes one."""
    rules = [{"record": f"query:{number}", "expr": query} for number, query in enumerate(queries)]
    with open(context.path("queries.yml"), "w", encoding="utf-8") as file:
        yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}, file)
    run("promtool", "check", "rules", context.path("queries.yml"))


def check_rendered(directory, what):
    """Prometheus accepts these rules, and they refer to one another."""
    run("promtool", "check", "rules", "--lint=all", "--lint-fatal", *glob.glob(os.path.join(directory, "*.yml")))
    alerts, records = rules_below(directory)
    check_references(alerts, records, what)
    return alerts, records


def check_windows_alike(context):
    """A series is recorded once if both windows are equal."""
    directory = context.path("alike")
    os.mkdir(directory)
    run("jsonnet", "--string", "--multi", directory, "--tla-code",
        "overrides={ fastWindow: '5m', slowWindow: '5m', nodeLabel: 'node', forkGroups: 'redis.*', forkGroupsExcept: 'php.*' }",
        os.path.join(MIXIN, "render_rules.jsonnet"))
    check_rendered(directory, "windows alike")


def check_render(context):
    """Committed files equal the rendered ones. Changed settings take effect. --check finds different and obsolete
    files."""
    render = os.path.join(MIXIN, "render")
    run(render, "--check")

    with open(context.path("fast.jsonnet"), "w", encoding="utf-8") as file:
        file.write(FAST)
    directory = context.path("fast")
    rules = os.path.join(directory, "prometheus", "rules")
    fast = [render, "--config", context.path("fast.jsonnet"), "--output", directory]
    run(*fast)
    alerts, records = check_rendered(rules, "fast windows")
    check(any(rule["record"] == "group:cow_break_bytes:rate10s" for rule in records), "names don't follow the window")
    check(any(rule.get("for") == "2s" for rule in alerts), "knobs don't arrive")

    with open(os.path.join(rules, "cow_exporter_rules.yml"), "a", encoding="utf-8") as file:
        file.write("# more\n")
    with open(os.path.join(rules, "stray.yml"), "w", encoding="utf-8"):
        pass
    result = subprocess.run([*fast, "--check"], capture_output=True, text=True, check=False)
    changes = [line for line in result.stdout.splitlines() if re.match(r"[-+](?![-+])", line)]
    check(result.returncode == 1 and changes == ["-# more"], f"render --check: {result.returncode}, {changes}")
    check("stray.yml" in result.stderr, "render --check does not see a stray file")


def check_runbook_links(context):
    """Links lead to the user's own runbooks, or to the exporters with the user's scheme and port."""
    for overrides, expected in (("{ runbookUrl: 'https://wiki/r/' }", r"https://wiki/r/NAME\.md"),
                                ("{ exporterScheme: 'https', exporterPort: 443 }", r"https://\{\{.*\}\}:443\{\{ end \}\}/runbooks/NAME")):
        directory = context.path(f"links-{len(overrides)}")
        os.mkdir(directory)
        run("jsonnet", "--string", "--multi", directory, "--tla-code", f"overrides={overrides}", os.path.join(MIXIN, "render_rules.jsonnet"))
        alerts, _ = check_rendered(directory, overrides)
        wrong = [rule["annotations"]["runbook_url"] for rule in alerts
                 if not re.search(expected.replace("NAME", rule["alert"]), rule["annotations"]["runbook_url"])]
        check(alerts and not wrong, f"{overrides}: {wrong}")


def check_example(context):
    """The example in the mixin's README works."""
    text = read(os.path.join(MIXIN, "README.md"))
    example = re.search(r"```jsonnet\n(.*?)```", text, re.DOTALL).group(1)
    with open(context.path("example.jsonnet"), "w", encoding="utf-8") as file:
        file.write(example)
    rendered = json.loads(run("jsonnet", "-J", MIXIN, context.path("example.jsonnet")))
    names = [rule["alert"] for group in rendered["groups"] for rule in group["rules"] if "alert" in rule]
    check("CowExplosion" in names, "the example has no alerts")
    with open(context.path("example.yml"), "w", encoding="utf-8") as file:
        json.dump(rendered, file)
    run("promtool", "check", "rules", context.path("example.yml"))


def check_names(context, files):
    """Everything named exists: recorded series, metrics, tests, runbooks."""
    alerts, records = rules_below(os.path.join(PROMETHEUS, "rules"))
    check_references(alerts, records, "rules")
    known = published() | set(FOREIGN) | {rule["record"] for rule in records}
    check_metrics([rule["expr"] for rule in alerts + records], known, "rules")
    check_metrics([series["series"] for path in files for case in load(path)["tests"] for series in case["input_series"]], known,
                  "tests of rules")
    check_tests(alerts, records)
    queries = check_runbooks(alerts, known)
    check_queries(context, queries)
    print(f"{len(alerts)} alerting rules, {len(records)} recording rules, {len(files)} files of tests, {len(queries)} queries of runbooks")


def test(context):
    support.need("promtool", "jsonnet")
    files = sorted(glob.glob(os.path.join(PROMETHEUS, "tests", "*.yml")))
    rule_files = glob.glob(os.path.join(PROMETHEUS, "rules", "*.yml"))
    with concurrent.futures.ThreadPoolExecutor(max_workers=2) as pool:
        parts = [
            pool.submit(check_render, context),
            pool.submit(check_names, context, files),
            pool.submit(check_windows_alike, context),
            pool.submit(check_example, context),
            pool.submit(check_runbook_links, context),
            pool.submit(run, "promtool", "check", "config", os.path.join(PROMETHEUS, "prometheus.yml")),
            pool.submit(run, "promtool", "check", "rules", "--lint=all", "--lint-fatal", *rule_files),
            *(pool.submit(run, "promtool", "test", "rules", path) for path in files),
        ]
        for part in parts:
            part.result()


support.main(test)
