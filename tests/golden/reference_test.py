"""The reference of metrics (collectors/METRICS.md) matches the declarations in the code, and the metrics that the
program publishes for a fixture and for this host, with all collectors, match the reference: types, help, labels and
their values. Its examples are valid queries. --update writes the reference."""

import argparse
import difflib
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import fixture

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/e2e"))

import pages  # noqa: E402

PAGE = "collectors/METRICS.md"
REFERENCE = ROOT / PAGE
LABEL = re.compile(r'([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"')


class Entry:
    """One metric of the reference."""

    def __init__(self, text):
        lines = text.split("\n")
        self.name = lines[0].strip("`")
        body = " ".join(" ".join(lines[1:]).split())
        self.help, kind = re.fullmatch(r"(.*?) - ((?:Gauge|Counter|Histogram)\b.*?)(?: - [A-Z].*)?", body).groups()
        self.help = self.help.replace("`", "")
        self.type = kind.split(",")[0].split(".")[0].lower()
        self.labels = {}
        for name, values, _ in re.findall(r"(?:: |, )`(\w+)`(?:=((?:`\w+`(?:\\\|)?)+)|( \([^)]*\)))?", kind):
            self.labels[name] = re.findall(r"`(\w+)`", values) or None


def entries():
    return [Entry(text) for text in REFERENCE.read_text(encoding="utf-8").split("\n### ")[1:]]


def strays(text, by_name):
    """Returns what differs between the published metrics and the reference."""
    found = []
    for line in text.splitlines():
        if line.startswith("# "):
            _, what, name, rest = line.split(" ", 3)
            if name not in by_name:
                found.append(f"{name} is not in the reference")
            elif what == "TYPE" and rest != by_name[name].type or what == "HELP" and rest != by_name[name].help:
                found.append(f"{line}: not what the reference says")
            continue
        series = line.rsplit(" ", 1)[0]
        name, _, labels = series.partition("{")
        if name not in by_name:
            name = re.sub(r"_(bucket|count|sum)$", "", name)
        labels = dict(LABEL.findall(labels))
        labels.pop("le", None)
        entry = by_name.get(name)
        if entry is None or list(labels) != list(entry.labels):
            found.append(f"{series}: not the labels of the reference")
            continue
        found += [f"{series}: {value} is not in the reference" for label, value in labels.items()
                  if entry.labels[label] is not None and value not in entry.labels[label]]
    return found


def hold_examples(directory):
    """Checks the examples if promtool is installed."""
    examples = re.findall(r"^- Example: `(.*)`$", REFERENCE.read_text(encoding="utf-8"), re.MULTILINE)
    rules = [{"record": f"example:{number}", "expr": example} for number, example in enumerate(examples)]
    path = pathlib.Path(directory) / "rules.yml"  # JSON is YAML
    path.write_text(json.dumps({"groups": [{"name": "examples", "rules": rules}]}), encoding="utf-8")
    if shutil.which("promtool") is None:
        return
    check = subprocess.run(["promtool", "check", "rules", path], capture_output=True, text=True, timeout=30, check=False)
    if check.returncode != 0:
        sys.exit(f"FAILED: examples: {check.stdout}{check.stderr}")
    print(f"{len(examples)} examples")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reference", default="build/release/cow_reference", help="the program that makes it")
    parser.add_argument("--exporter", default="build/release/cow_exporter", help="the program")
    parser.add_argument("--update", action="store_true")
    arguments = parser.parse_args()
    made = subprocess.run([arguments.reference], capture_output=True, text=True, timeout=30, check=True).stdout
    made = pages.with_line(PAGE, made)
    if arguments.update:
        REFERENCE.write_text(made, encoding="utf-8")
    difference = list(difflib.unified_diff(REFERENCE.read_text(encoding="utf-8").splitlines(keepends=True),
                                           made.splitlines(keepends=True), "collectors/METRICS.md", "declared"))
    if difference:
        sys.stdout.writelines(difference)
        sys.exit("FAILED: the reference is not what is declared (--update, if that is as it should be)")
    by_name = {entry.name: entry for entry in entries()}
    collectors = sorted(set(re.findall(r"^## Collector `(\w+)`", made, re.MULTILINE)))
    enabled = [f"--collector.{name}" for name in collectors]
    with tempfile.TemporaryDirectory(prefix="cow_golden_") as directory:
        hold_examples(directory)
        for name, flags in (("fixture", fixture.build(directory)), ("host", [])):
            once = subprocess.run([arguments.exporter, "--once", *enabled, *flags], capture_output=True, text=True,
                                  timeout=30, check=True)
            found = strays(once.stdout, by_name)
            if found or "cow_processes" not in once.stdout:
                sys.exit("\n".join([f"FAILED: {name}:", *found]))
            print(f"{name}: {once.stdout.count('# TYPE')} of {len(by_name)} metrics, all as the reference says")


main()
