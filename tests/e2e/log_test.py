"""The log of an exporter without many rights: each reason once, whatever the number of passes, scrapes and requests,
and every line valid, whatever the names of processes."""

import json
import os
import re
import shutil
import subprocess
import sys

import support
from support import check, wait_for

NOBODY = 65534
# Quotes, a backslash, a newline, a terminal escape sequence, a byte that is never UTF-8, half a character.
NAME = b'"\\\n\x1b[1m\xff= {\xc3'
SHOWN = '"\\\n\x1b[1m\ufffd= {\ufffd'
# Sets this name and becomes unreadable without CAP_SYS_PTRACE.
HIDDEN = ("import ctypes, sys, time; prctl = ctypes.CDLL(None).prctl; prctl(15, %r, 0, 0, 0); prctl(4, 0, 0, 0, 0); "
          "print(flush=True); time.sleep(600)" % NAME)
LOGFMT = re.compile(r'(\w+)=("(?:[^"\\]|\\.)*"|[^\s"=]+)(?: |$)')


def parse(line, kind):
    if kind == "json":
        return json.loads(line)
    fields = {}
    end = 0
    while end < len(line):
        found = LOGFMT.match(line, end)
        check(found, f"not logfmt: {line!r} from {end}")
        value = found.group(2)
        fields[found.group(1)] = json.loads(value) if value.startswith('"') else value
        end = found.end()
    return fields


def start_hidden(context):
    process = context.start(support.Process([sys.executable, "-c", HIDDEN], stdout=subprocess.PIPE))
    process.line()
    return process


def passes(exporter):
    samples = exporter.scrape()
    return sum(value for (name, _), value in samples.values.items() if name == "cow_scan_passes_total")


def wait_for_passes(exporter, number):
    end = passes(exporter) + number
    wait_for(lambda: passes(exporter) >= end, 20, f"{number} passes")


def told_of(exporter, kind):
    """Returns the log lines about the process. Every line must have the log's format."""
    lines = [parse(line.rstrip("\n"), kind) for line in exporter.log]
    check(all({"ts", "level", "msg"} <= line.keys() for line in lines), f"{lines}")
    return [line for line in lines if line.get("group") == SHOWN]


def test(context):
    wrapper = ()
    if os.geteuid() == 0:
        support.need("setpriv")
        wrapper = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--inh-caps=-all",
                   "--bounding-set=-all"]
    program = context.path("cow_exporter")
    shutil.copy(support.binary("COW_EXPORTER"), program)
    os.chmod(context.directory, 0o755)
    exporters = {kind: context.start(support.Exporter(
        "--scan.interval=100ms", "--scan.max-cpu=0", f"--log.format={kind}", program=program, wrapper=wrapper))
        for kind in ("json", "logfmt")}
    for exporter in exporters.values():
        wait_for_passes(exporter, 2)
    # The same name twice: not one line per process, nor one per pass.
    for _ in range(2):
        hidden = start_hidden(context)
        for kind, exporter in exporters.items():
            wait_for_passes(exporter, 6)
            told = wait_for(lambda exporter=exporter, kind=kind: told_of(exporter, kind), 10, f"{kind}: a line of the process")
            check(len(told) == 1, f"{kind}: told {len(told)} times: {told}")
            check(told[0]["msg"] == "processes are not seen in full" and "Permission denied" in told[0]["reason"], f"{told}")
        hidden.end()
    for kind, exporter in exporters.items():
        took = passes(exporter)
        exporter.end()
        lines = [parse(line.rstrip("\n"), kind) for line in exporter.log]
        reasons = [(line["msg"], line.get("mode"), line.get("group"), re.sub(r"\d+", "N", line.get("reason", "")))
                   for line in lines]
        print(f"{kind}: {len(lines)} lines in {took:.0f} passes")
        check(len(set(reasons)) == len(reasons), f"told again: {sorted(r for r in reasons if reasons.count(r) > 1)}")


support.main(test)
