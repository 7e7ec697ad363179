"""Processes that any user can start and that are expensive to read, with an exporter in a memory cgroup of 256 MiB.
It survives, reports which processes it could not read, and counts all others to the page. hostile.py has the
processes."""

import contextlib
import os
import time

import hostile
import support
from support import check, wait_for

LIMIT = 256 << 20
PAGES = 1000
PAGE = os.sysconf("SC_PAGESIZE")
CONFIG = """
scan: {interval: 1s, max_cpu: 0.5, full_every: 0s}
groups:
  - name: counted
    comm: [cow_counted]
    cmdline: [cow_workload]
  - name: by-command-line
    cmdline: ['x{7}']
"""

class MemoryGroup:
    """A memory cgroup of version 1 or 2 with a limit, for a program that starts in it."""

    def __init__(self):
        for parent, limit in (("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")):
            self.path = f"{parent}/cow_hostile_test_{os.getpid()}"
            with contextlib.suppress(OSError):
                os.mkdir(self.path)
                try:
                    with open(f"{self.path}/{limit}", "w") as file:
                        file.write(str(LIMIT))
                    self.version = 1 if limit.endswith("in_bytes") else 2
                    return
                except OSError:
                    os.rmdir(self.path)
        support.skip("missing privilege: a memory cgroup")

    def wrapper(self):
        return ["sh", "-c", f'echo $$ > {self.path}/cgroup.procs && exec "$@"', "sh"]

    def peak(self):
        for name in ("memory.max_usage_in_bytes", "memory.peak", "memory.current"):
            with contextlib.suppress(OSError), open(f"{self.path}/{name}") as file:
                return int(file.read())
        return 0

    def killed(self):
        name = "memory.oom_control" if self.version == 1 else "memory.events"
        with open(f"{self.path}/{name}") as file:
            return any(line.split()[0] == "oom_kill" and line.split()[1] != "0" for line in file)

    def remove(self):
        wait_for(self._removed, 10, "the cgroup is empty")

    def _removed(self):
        try:
            os.rmdir(self.path)
        except OSError:
            return False
        return True


def resident(pid):
    with open(f"/proc/{pid}/status") as file:
        sizes = {line.split(":")[0]: line.split()[1] for line in file if line.startswith(("VmHWM", "VmRSS"))}
    return {name: int(kilobytes) << 10 for name, kilobytes in sizes.items()}


def test(context):
    support.need_frames()
    support.own_namespaces(support.CLONE_NEWNS)  # mounts made here end with the test
    made = hostile.start(context)
    check(made, "none of the processes can be made here")

    group = MemoryGroup()
    context.callback(group.remove)
    config = context.path("config.yml")
    with open(config, "w") as file:
        file.write(CONFIG)
    workload = context.start(support.Workload())
    workload.do("name 0 cow_counted")
    workload.do(f"map 0 a {PAGES} nohuge")
    workload.do(f"write 0 a 0 {PAGES}")
    workload.do("fork 0")
    for member in (0, 1):
        workload.do(f"stack {member} 4")  # the stack pages that a command writes to are broken before the first look
    exporter = context.start(support.Exporter(f"--config.file={config}", wrapper=group.wrapper()))

    def scrape():
        try:
            return exporter.scrape()
        except OSError as error:
            raise support.Failure(f"the exporter does not answer; {'killed for its memory' if group.killed() else error}") from error

    def passes(samples):
        return sum(samples.value("cow_scan_passes_total", kind=kind) for kind in ("full", "incremental"))

    def after_passes(count):
        start = passes(scrape())
        return wait_for(lambda: (samples := scrape()) and passes(samples) >= start + count and samples, 120, f"{count} passes", 0.2)

    before = after_passes(2)
    check(before.value("cow_processes", group="counted") == 2, "the processes of the workload")
    workload.do("write 0 a 0 300")
    after = after_passes(2)
    broken = after.breaks("counted")["parent"] - before.breaks("counted")["parent"]
    exposure = before.value("cow_exposure_bytes", group="counted") - after.value("cow_exposure_bytes", group="counted")
    print(f"broken: {broken:.0f} pages, exposure fell by {exposure / PAGE:.0f}")
    check(broken == 300, "the parent's breaks")
    check(exposure == 300 * PAGE, "the exposure")
    check(after.value("cow_scan_coverage_ratio", group="counted") == 1, "the coverage")
    if "hostile_maps" in made:
        unread = after.value("cow_unread_processes", group="hostile_maps", reason="too_large")
        check(unread == 2, f"{unread:.0f} processes are too large")
    for name in set(made) - {"hostile_maps"}:
        wanted = "by-command-line" if name == "hostile_args" else name
        check(after.value("cow_processes", group=wanted) == 2, f"the processes of {wanted}")
        check(after.value("cow_unread_processes", group=wanted, reason="too_large") == 0, f"unread processes of {wanted}")
        check(after.value("cow_scan_coverage_ratio", group=wanted) == 1, f"the coverage of {wanted}")

    after_passes(5)
    time.sleep(1)
    sizes = resident(exporter.pid)
    print(f"resident {sizes['VmRSS'] >> 20} MiB, at most {sizes['VmHWM'] >> 20} MiB; with what the kernel keeps for it at most "
          f"{group.peak() >> 20} MiB; beside {', '.join(made)}")
    check(not group.killed(), "the kernel killed it for its memory")
    check(exporter.poll() is None, "the exporter has ended")
    check(sizes["VmHWM"] < LIMIT / 4, "resident memory")


support.main(test)
