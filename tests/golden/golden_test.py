"""The program's whole output for a fixture, against the committed text. --update writes that text anew: look at the
difference before it is committed."""

import argparse
import difflib
import pathlib
import re
import subprocess
import sys
import tempfile

import fixture

GOLDEN = pathlib.Path(__file__).parent / "once.txt"
# Series whose value is of the moment, of the build or of the machine, not of the fixture.
VOLATILE = re.compile(
    r"^(cow_scan_duration_seconds|cow_scan_cpu_seconds_total|cow_scan_timestamp_seconds|cow_scan_rests_total"
    r"|cow_scrape_collector_duration_seconds|cow_exporter_config_last_reload_success_timestamp_seconds"
    r"|cow_ledger_bytes)((?:\{.*\})?) \S+$")
BUILD_INFO = re.compile(r"^cow_exporter_build_info\{.*\} 1$")


def stable(line):
    if BUILD_INFO.match(line):
        return "cow_exporter_build_info{VOLATILE} 1"
    return VOLATILE.sub(r"\1\2 VOLATILE", line)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--exporter", required=True, help="the program")
    parser.add_argument("--update", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="cow_golden_") as directory:
        run = subprocess.run([arguments.exporter, "--once", *fixture.build(directory)], capture_output=True, text=True,
                             timeout=30, check=False)
    sys.stderr.write(run.stderr)
    if run.returncode != 0:
        sys.exit(f"FAILED: exit code {run.returncode}")
    lines = [stable(line) + "\n" for line in run.stdout.splitlines()]
    if arguments.update:
        GOLDEN.write_text("".join(lines), encoding="utf-8")
        return
    expected = GOLDEN.read_text(encoding="utf-8").splitlines(keepends=True)
    difference = list(difflib.unified_diff(expected, lines, "expected", "output"))
    sys.stdout.writelines(difference)
    if difference:
        sys.exit("FAILED: the output is not the expected one (--update, if it should be)")


main()
