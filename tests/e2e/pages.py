"""The pages of the documentation, and the line of links at the top of each."""

import os
import pathlib
import re
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Words of the line, and where they lead.
MAP = (("cow_exporter", "README.md"), ("Install", "deploy/INSTALL.md"), ("Configure", "config/README.md"),
       ("Explain", "exporter/explain/README.md"), ("Recipes", "deploy/RECIPES.md"), ("Metrics", "collectors/METRICS.md"),
       ("How exact", "collectors/HOW_EXACT.md"), ("Alerts", "deploy/prometheus/README.md"),
       ("Dashboards", "deploy/grafana/README.md"), ("HTTP", "exporter/http/README.md"), ("Cost", "tests/bench/REPORT.md"),
       ("Security", "deploy/THREAT_MODEL.md"), ("How it knows", "collectors/memory/README.md"))
ALL = "README.md#all-pages"
# Each has to stand alone: the exporter serves it, and an alert links to it.
ALONE = "deploy/runbooks/"
LINE = re.compile(r"^(?:\[|\*\*)cow_exporter(?:\]\([^)]*\)|\*\*) · .*$", re.MULTILINE)


def paths():
    """Returns all pages, relative to the root."""
    if (ROOT / ".git").exists():
        run = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "*.md"], cwd=ROOT, capture_output=True, text=True,
                             check=True)
        found = [path for path in run.stdout.splitlines() if (ROOT / path).exists()]
    else:
        found = [str(path.relative_to(ROOT)) for path in ROOT.rglob("*.md") if "build" not in path.relative_to(ROOT).parts]
    return sorted(found)


def has_line(path):
    return not path.startswith(ALONE)


def line_of(path):
    """Returns the line of links that belongs to the page."""
    def link(words, target):
        if target == path:
            return f"**{words}**"
        return f"[{words}]({os.path.relpath(target, os.path.dirname(path) or '.')})"

    return " · ".join(link(*entry) for entry in (*MAP, ("All pages", ALL)))


def with_line(path, text):
    """Returns the text with its line of links replaced, or added below the title."""
    line = line_of(path)
    if LINE.search(text):
        return LINE.sub(lambda _: line, text, count=1)
    return re.sub(r"^# .*\n", lambda title: f"{title.group()}\n{line}\n", text, count=1, flags=re.MULTILINE)
