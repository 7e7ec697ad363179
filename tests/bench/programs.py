"""The programs of the benchmark: the target, and the readers."""

import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))
import support  # noqa: E402

PROCESS_EXPORTER = "prometheus-process-exporter"


def process_exporter_version():
    run = subprocess.run([PROCESS_EXPORTER, "-version"], capture_output=True, text=True, check=True)
    found = re.search(r"revision: ([^\s)]+)", run.stdout + run.stderr)
    return "process-exporter " + (found.group(1) if found else "of unknown version")


def cpu_nanoseconds(pid):
    """Returns the CPU time of a process, including ended threads (clock_getcpuclockid(3))."""
    return time.clock_gettime_ns((~pid << 3) | 2)


def serve_first(pid, cpus):
    """Pins the process to these CPUs and raises its priority above all others, including those of other sessions,
    which the kernel weighs as one (sched(7), autogroup)."""
    for thread in os.listdir(f"/proc/{pid}/task"):
        os.sched_setaffinity(int(thread), cpus)
        os.setpriority(os.PRIO_PROCESS, int(thread), -20)
    with contextlib.suppress(FileNotFoundError), open(f"/proc/{pid}/autogroup", "w", encoding="ascii") as autogroup:
        autogroup.write("-20")


class Commanded(support.Process):
    """A program that answers each line with one line (commands.h)."""

    def __init__(self, *command):
        super().__init__(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def begin(self, command):
        self.stdin.write(command + "\n")
        self.stdin.flush()

    def answer(self):
        """Returns the words after "ok" as numbers."""
        line = self.stdout.readline().strip()
        support.check(line.split()[:1] == ["ok"], f"{self.args[0]}: {line or 'has ended'}")
        return [int(word) for word in line.split()[1:]]

    def do(self, command):
        self.begin(command)
        return self.answer()


class Family(Commanded):
    """A parent and its children with one heap (family.cc)."""

    def __init__(self, members, mib, pages="small"):
        super().__init__(support.binary("COW_BENCH_FAMILY"), str(members), str(mib), pages)
        self.heap_address, self.heap_bytes, *self.pids = self.answer()

    def write(self, pages):
        self.do(f"write {pages}")

    def huge_share(self):
        """Returns the huge-page part of the parent's heap."""
        with open(f"/proc/{self.pids[0]}/smaps_rollup", encoding="ascii") as rollup:
            kib = next(int(line.split()[1]) for line in rollup if line.startswith("AnonHugePages:"))
        return kib * 1024 / self.heap_bytes


class BreakTarget(Commanded):
    """A child that writes shared pages, and our recorder (breaks.cc)."""

    def __init__(self, pages):
        super().__init__(support.binary("COW_BENCH_BREAKS"), str(pages))

    def measure(self, watcher):
        """Returns the child's CPU time in nanoseconds, and our recorder's records and lost ones."""
        pid, = self.do("fork")
        with perf_of(watcher, pid) if watcher in PERF else contextlib.nullcontext():
            if watcher.startswith("recorder_"):
                self.do("watch " + watcher.removeprefix("recorder_"))
            nanoseconds, = self.do("write")
        return nanoseconds, *self.do("end")


PERF = {
    "perf_stat": ["stat", "-e", "minor-faults"],
    "perf_record": ["record", "-q", "-e", "minor-faults", "-c", "1", "-d"],
}


@contextlib.contextmanager
def perf_of(watcher, pid):
    """perf, which counts or records the minor faults of a process, on the first CPU like our recorder's reader."""
    acknowledged, acknowledge = os.pipe()
    control, controlled = os.pipe()
    command = ["taskset", "-c", "0", "perf", *PERF[watcher], "-p", str(pid), "-D", "-1", "--control",
               f"fd:{control},{acknowledge}", "-o", os.devnull]
    with subprocess.Popen(command, pass_fds=(control, acknowledge), stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL) as perf:
        os.write(controlled, b"enable\n")
        os.read(acknowledged, 16)
        try:
            yield
        finally:
            perf.terminate()
            perf.wait()
            for descriptor in (acknowledged, acknowledge, control, controlled):
                os.close(descriptor)


class Readers(Commanded):
    """Our passes and the bare loops (readers.h), in one process."""

    def __init__(self):
        super().__init__(support.binary("COW_BENCH"))

    def set_family(self, family):
        self.set_processes(family.heap_address, family.heap_bytes, family.pids)

    def set_processes(self, address, size, pids):
        self.do(" ".join(str(word) for word in ("family", address, size, *pids)))

    def read(self, reader):
        """Returns nanoseconds of CPU."""
        return self.do(f"read {reader}")[0]


class ProcessExporter(support.Process):
    """Debian's process-exporter with -gather-smaps, on every process."""

    def __init__(self, directory):
        port = support.free_port()
        config = os.path.join(directory, "process-exporter.json")  # JSON is YAML
        with open(config, "w", encoding="ascii") as file:
            json.dump({"process_names": [{"name": "{{.Comm}}", "cmdline": [".+"]}]}, file)
        self.url = f"http://127.0.0.1:{port}/metrics"
        self.port = port
        super().__init__([PROCESS_EXPORTER, "-gather-smaps", f"-config.path={config}",
                          f"-web.listen-address=127.0.0.1:{port}"],
                         stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        support.wait_for(self.listens, 60, "process-exporter listens")

    def listens(self):
        with contextlib.suppress(OSError):
            self.scrape()
            return True
        return False

    def scrape(self):
        with urllib.request.urlopen(self.url, timeout=300) as response:
            return response.read()

    def read(self):
        """Returns nanoseconds of CPU of one scrape, including its work after the answer."""
        before = cpu_nanoseconds(self.pid)
        self.scrape()
        time.sleep(0.02)
        return cpu_nanoseconds(self.pid) - before


class Sleepers(support.Process):
    """Sleeping processes, each with its own image: `count` of them, or one for each of `names`."""

    def __init__(self, count=0, names=()):
        self.directory = tempfile.TemporaryDirectory(prefix="cow_bench_")
        programs = ["sleep"] * count
        for name in names:
            programs.append(os.path.join(self.directory.name, name))
            os.symlink("/bin/sleep", programs[-1])
        super().__init__(["sh", "-c", 'for program; do "$program" infinity & done; echo; wait', "sh", *programs],
                         stdout=subprocess.PIPE)
        self.stdout.readline()

    def end(self, *arguments):
        super().end(*arguments)
        self.directory.cleanup()
