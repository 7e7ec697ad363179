"""Compares the program's whole output for a fixture, with pages of 4 KiB and of 64 KiB, with the committed texts.
Compares the output for other page sizes with the one for 4 KiB: the same pages, so bytes are multiplied. --update
writes the texts: look at the difference before you commit it."""

import argparse
import difflib
import pathlib
import re
import subprocess
import sys
import tempfile

import fixture

SMALL_PAGE = 4096
PAGE_SIZES = (SMALL_PAGE, 16384, 65536)
GOLDEN = {SMALL_PAGE: "once.txt", 65536: "once-64k.txt"}
# Series that depend on time, build or machine instead of the fixture.
VOLATILE = re.compile(
    r"^(cow_scan_duration_seconds|cow_scan_cpu_seconds_total|cow_scan_timestamp_seconds|cow_scan_rests_total"
    r"|cow_scrape_collector_duration_seconds|cow_exporter_config_last_reload_success_timestamp_seconds"
    r"|cow_ledger_bytes|cow_scan_looks_bytes|cow_exporter_memory_bytes)((?:\{.*\})?) \S+$")
BUILD_INFO = re.compile(r"^cow_exporter_build_info\{.*\} 1$")
# In bytes, but not of pages.
NOT_OF_PAGES = re.compile(r"^cow_cgroup_memory_(limit|usage)_bytes\{")
# A window spans more pages if pages are larger: fewer reads, with more entries including the holes between mappings.
OF_READING = re.compile(r"^cow_scan_(calls|pages)_total\b")


def stable(line):
    if BUILD_INFO.match(line):
        return "cow_exporter_build_info{VOLATILE} 1"
    return VOLATILE.sub(r"\1\2 VOLATILE", line)


def output(exporter, page_bytes):
    with tempfile.TemporaryDirectory(prefix="cow_golden_") as directory:
        run = subprocess.run([exporter, "--once", *fixture.build(directory, page_bytes)], capture_output=True,
                             text=True, timeout=30, check=False)
    sys.stderr.write(run.stderr)
    if run.returncode != 0:
        sys.exit(f"FAILED: exit code {run.returncode}")
    return [stable(line) + "\n" for line in run.stdout.splitlines()]


def scaled(line, factor):
    """Returns the expected line for pages that are this many times larger."""
    series, value = line.rsplit(" ", 1)
    name = series.split("{")[0]
    in_bytes = re.search(r"_bytes(_total|_sum)?$", name) and not NOT_OF_PAGES.match(series)
    if line.startswith("#") or value == "VOLATILE\n" or not in_bytes:
        return line
    return f"{series} {int(value) * factor}\n"


def differs(expected, lines, what):
    difference = list(difflib.unified_diff(expected, lines, "expected", "output"))
    if difference:
        sys.stdout.writelines([f"{what}:\n", *difference])
    return bool(difference)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--exporter", required=True, help="the program")
    parser.add_argument("--update", action="store_true")
    arguments = parser.parse_args()
    outputs = {page_bytes: output(arguments.exporter, page_bytes) for page_bytes in PAGE_SIZES}
    failed = False
    for page_bytes, name in GOLDEN.items():
        golden = pathlib.Path(__file__).parent / name
        if arguments.update:
            golden.write_text("".join(outputs[page_bytes]), encoding="utf-8")
        expected = golden.read_text(encoding="utf-8").splitlines(keepends=True)
        failed |= differs(expected, outputs[page_bytes], f"{name} (--update, if the output is as it should be)")
    comparable = {size: [line for line in lines if not OF_READING.match(line)] for size, lines in outputs.items()}
    for page_bytes in PAGE_SIZES[1:]:
        expected = [scaled(line, page_bytes // SMALL_PAGE) for line in comparable[SMALL_PAGE]]
        failed |= differs(expected, comparable[page_bytes], f"pages of {page_bytes} bytes, from those of {SMALL_PAGE}")
    if failed:
        sys.exit("FAILED: the output is not the expected one")


main()
