"""fuzz.py --replay NAME PROGRAM: runs a target on its seeds. fuzz.py --fuzz NAME PROGRAM: lets libFuzzer search for
COW_FUZZ_SECONDS (600), keeps what it finds beside the program and prints an input that has failed."""

import base64
import os
import pathlib
import re
import subprocess
import sys
import tempfile

import seeds

# libFuzzer's own limits. An input that takes longer or more memory is a fault.
SECONDS_PER_INPUT = 30
MEMORY_MIB = 2048
MOST_BYTES = {"elf_symbols": 8192, "http": 16384, "config": 16384, "web_config": 16384, "ledger": 400, "pagemap": 600}
# Targets that read files write their input first, which is fast in memory.
ENVIRONMENT = {**os.environ, **({"TMPDIR": "/dev/shm"} if os.path.isdir("/dev/shm") else {})}


def replay(name, program):
    with tempfile.TemporaryDirectory(prefix="cow_fuzz_") as directory:
        seeds.write(name, directory)
        return subprocess.run([program, directory], env=ENVIRONMENT, check=False).returncode


def search(name, program):
    seconds = int(os.environ.get("COW_FUZZ_SECONDS", "600"))
    corpus = pathlib.Path(program).parent / "corpus" / name
    corpus.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="cow_fuzz_") as directory:
        first = pathlib.Path(directory) / "seeds"
        first.mkdir()
        seeds.write(name, first)
        run = subprocess.run(
            [program, f"-max_total_time={seconds}", f"-timeout={SECONDS_PER_INPUT}", f"-rss_limit_mb={MEMORY_MIB}",
             f"-max_len={MOST_BYTES.get(name, 4096)}", f"-artifact_prefix={directory}/", "-print_final_stats=1", corpus, first],
            env=ENVIRONMENT, stderr=subprocess.PIPE, check=False)
        log = run.stderr.decode(errors="replace")
        failed = [path for path in pathlib.Path(directory).iterdir() if path.is_file()]
        if run.returncode == 0 and not failed:
            executions = re.search(r"stat::number_of_executed_units:\s+(\d+)", log).group(1)
            coverage = re.findall(r" cov: (\d+)", log)[-1]
            print(f"{name}: {executions} executions in {seconds} s, coverage {coverage}, no fault")
            return 0
        print(log[-20000:])
        for path in failed:
            print(f"{name}: {path.name} as base64, to add to seeds.py:\n{base64.b64encode(path.read_bytes()).decode()}")
        return 1


def main():
    mode, name, program = sys.argv[1:]
    sys.exit({"--replay": replay, "--fuzz": search}[mode](name, program))


main()
