"""promtool finds no fault in the metrics of the fixture and of this host."""

import argparse
import shutil
import subprocess
import sys
import tempfile

import fixture

SKIP = 77


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--exporter", required=True, help="the program")
    arguments = parser.parse_args()
    if shutil.which("promtool") is None:
        print("skipped: promtool is not installed")
        sys.exit(SKIP)
    with tempfile.TemporaryDirectory(prefix="cow_golden_") as directory:
        for name, flags in (("fixture", fixture.build(directory)), ("host", [])):
            once = subprocess.run([arguments.exporter, "--once", *flags], capture_output=True, timeout=30, check=True)
            if b"cow_processes" not in once.stdout:
                sys.exit(f"FAILED: no metrics of the {name}")
            check = subprocess.run(["promtool", "check", "metrics"], input=once.stdout, stdout=subprocess.PIPE,
                                   stderr=subprocess.STDOUT, timeout=30, check=False)
            if check.returncode != 0 or check.stdout.strip():
                sys.exit(f"FAILED: {name}: promtool, exit code {check.returncode}:\n{check.stdout.decode()}")
            print(f"{name}: {once.stdout.count(10)} lines, no complaint")


main()
