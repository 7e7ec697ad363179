"""Checks the dashboards against the types that Grafana publishes: compiles each as a literal of the type in
grafana/dashboard.ts. Each of a list of misspelt names and values must be an error, which proves that the check
works."""

import copy
import json
import os
import pathlib
import re
import shutil
import subprocess

import monitored
import npm
import support
from support import check

SOURCE = pathlib.Path(__file__).resolve().parent / "grafana"
COMPILER = {
    "strict": True, "noEmit": True, "target": "es2022", "module": "esnext", "moduleResolution": "bundler",
    "skipLibCheck": True, "types": [],
}
# (text in the JSON, replacement): the first occurrence in any dashboard is changed.
MISSPELT = [
    ('"schemaVersion": 42', '"schemaVersion": "42"'), ('"refresh": "30s"', '"refresch": "30s"'), ('"graphTooltip": 1', '"graphTooltip": 7'),
    ('"timezone"', '"timeZone"'), ('"iconColor"', '"iconColour"'), ('"titleFormat"', '"titelFormat"'), ('"keepTime"', '"keeptime"'),
    ('"multi": true', '"multy": true'), ('"refresh": 2', '"refresh": 4'), ('"query": "prometheus"', '"query": "loki"'),
    ('"gridPos"', '"gridpos"'), ('"w": 24', '"w": "24"'), ('"type": "stat"', '"type": "graph"'), ('"description"', '"desription"'),
    ('"fieldConfig"', '"fieldconfig"'), ('"unit": "bytes"', '"units": "bytes"'), ('"noValue"', '"novalue"'),
    ('"mode": "palette-classic"', '"mode": "palette-classical"'), ('"continuous-BlYlRd"', '"continuous-BlYlRx"'),
    ('"mode": "absolute"', '"mode": "absolut"'), ('"type": "value"', '"type": "values"'), ('"value": null', '"value": "none"'),
    ('"legendFormat"', '"legend"'), ('"format": "table"', '"format": "tabel"'), ('"editorMode": "code"', '"editorMode": "text"'),
    ('"instant": true', '"instant": "yes"'), ('"colorMode": "value"', '"colorMode": "valu"'), ('"graphMode"', '"grafMode"'),
    ('"textMode": "name"', '"textMode": "names"'), ('"calcs"', '"calc"'), ('"orientation": "auto"', '"orientation": "automatic"'),
    ('"showPoints": "never"', '"showPoints": "newer"'), ('"fillOpacity": 10', '"fillOpaqueness": 10'),
    ('"axisPlacement": "auto"', '"axisPlacement": "middle"'), ('"drawStyle": "line"', '"drawStyle": "lines"'),
    ('"type": "log"', '"type": "logarithmic"'), ('"lineInterpolation": "stepAfter"', '"lineInterpolation": "step"'),
    ('"mode": "normal"', '"mode": "stacked"'), ('"placement": "bottom"', '"placement": "below"'), ('"sort": "desc"', '"sort": "down"'),
    ('"displayMode": "basic"', '"displayMode": "simple"'), ('"valueMode": "color"', '"valueMode": "colour"'),
    ('"cellHeight": "sm"', '"cellHeight": "small"'), ('"custom.width"', '"custom.witdh"'), ('"type": "gauge"', '"type": "gage"'),
    ('"id": "min"', '"id": "minimum"'), ('"id": "byName"', '"id": "byname"'), ('"id": "organize"', '"id": "organise"'),
    ('"renameByName"', '"rename"'), ('"cellGap"', '"cellgap"'), ('"scale": "exponential"', '"scale": "exp"'),
    ('"showValue": "never"', '"showValue": false'), ('"filterValues"', '"filterValue"'),
]


def tools(directory):
    """Installs the packages of package.json, once for each version of it."""
    wanted = (SOURCE / "package.json").read_text(encoding="utf-8")
    mark = directory / "installed.json"
    if mark.exists() and mark.read_text(encoding="utf-8") == wanted:
        return
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    (directory / "package.json").write_text(wanted, encoding="utf-8")
    npm.run(["install", "--no-package-lock"], directory, 100)
    mark.write_text(wanted, encoding="utf-8")


def compile_all(directory, literals):
    """Returns the compiler's errors by name of the literal."""
    written = directory / "literals"
    shutil.rmtree(written, ignore_errors=True)
    written.mkdir()
    for name, text in literals.items():
        (written / f"{name}.ts").write_text("import type { Dashboard } from '../dashboard';\n"
                                            f"export const dashboard: Dashboard = {text};\n", encoding="utf-8")
    shutil.copy(SOURCE / "dashboard.ts", directory)
    configuration = {"compilerOptions": COMPILER, "files": [f"literals/{name}.ts" for name in literals]}
    (directory / "tsconfig.json").write_text(json.dumps(configuration), encoding="utf-8")
    run = subprocess.run(["node", "node_modules/typescript/bin/tsc", "-p", "."], cwd=directory, capture_output=True, text=True,
                         timeout=100)
    errors = {name: [] for name in literals}
    for line in run.stdout.splitlines():
        found = re.match(r"literals/([\w-]+)\.ts\(\d+,\d+\): error (.*)", line)
        if found:
            errors[found[1]].append(found[2])
        else:
            check("error" not in line.split(":")[0], line)
    check(run.returncode == 0 or any(errors.values()), f"the compiler: {run.stdout}{run.stderr}")
    return errors


def smaller(dashboard, text, kinds):
    """Returns the dashboard with only the panel that has `text`, if a panel has it: whole dashboards take the
    compiler long."""
    for panel in dashboard["panels"]:
        if panel["type"] in kinds and text in json.dumps(panel, indent=1):
            return dict(copy.deepcopy(dashboard), panels=[panel])
    return dict(copy.deepcopy(dashboard), panels=dashboard["panels"][:2])


def misspelt(dashboards):
    literals = {}
    kinds = {panel["type"] for dashboard in dashboards.values() for panel in dashboard["panels"]}
    for number, (right, wrong) in enumerate(MISSPELT):
        for dashboard in dashboards.values():
            text = json.dumps(smaller(dashboard, right, kinds), indent=1)
            if right in text:
                literals[f"misspelt-{number}"] = text.replace(right, wrong, 1)
                break
        else:
            raise support.Failure(f"no dashboard has {right}")
    return literals


def test(context):
    del context
    support.need("node", "npm")
    directory = pathlib.Path(os.environ["COW_NPM_DIRECTORY"])
    tools(directory)
    dashboards = {path.stem: json.loads(path.read_text(encoding="utf-8"))
                  for path in sorted((monitored.DEPLOY / "grafana").glob("*.json"))}
    check(dashboards, "no dashboard was found")
    literals = {name: json.dumps(dashboard, indent=1) for name, dashboard in dashboards.items()}
    errors = compile_all(directory, {**literals, **misspelt(dashboards)})
    for name in dashboards:
        check(not errors[name], f"{name}: " + "\n".join(errors[name]))
    for number, (right, wrong) in enumerate(MISSPELT):
        check(errors[f"misspelt-{number}"], f"{wrong} for {right} is no error to the compiler")
    print(f"{', '.join(dashboards)}: no error; {len(MISSPELT)} misspelt names and values, each an error")


support.main(test)
