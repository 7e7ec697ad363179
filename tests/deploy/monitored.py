"""A small monitored host for tests of dashboards and consoles: the demo under a memory limit, an exporter with every
collector and one with sampling, node_exporter, and a Prometheus that scrapes them every second with the labels of
the shipped configuration."""

import contextlib
import os
import pathlib
import subprocess
import time
import uuid

import monitoring
import support
from support import wait_for

ROOT = pathlib.Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
PICTURES = DEPLOY / "prometheus/pictures"
PICTURE_BYTES = 100 << 10
GROUP = "cow_demo"
HOST = "demo-host"
DELAY_ACCOUNTING = "/proc/sys/kernel/task_delayacct"
LIMIT_BYTES = 512 << 20

EVERYTHING = """\
scan: {interval: 1s, max_cpu: 0.5}
collectors: {ksm: true, smaps: true, delayacct: true, process: {top: 5}, writers: {one_in: 1}}
"""
# Replaces the shipped alerts, which do not fire for the demo: dashboards mark firing alerts.
ALERT = """\
groups:
  - name: demo
    interval: 1s
    rules:
      - {alert: CowDemo, expr: cow_exposure_bytes > 0}
"""
# Leaves out all other programs on the host.
GROUPS = """\
groups:
  - {name: cow_demo, comm: [cow_demo]}
  - {name: prometheus, comm: [prometheus]}
default_group: drop
"""
DEMO = ("--heap-mib=16", "--child-pages-per-second=400")


def start_prometheus(context, targets, *flags, alert=None):
    """Scrapes `targets`, each (job, instance, address)."""
    jobs = {}
    for job, instance, address in targets:
        jobs.setdefault(job, []).append({"targets": [address], "labels": {"instance": instance}})
    configuration = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
        "scrape_configs": [{"job_name": job, "static_configs": configs} for job, configs in jobs.items()]}
    if alert:
        pathlib.Path(context.path("alert.yml")).write_text(alert, encoding="utf-8")
        configuration["rule_files"] = ["alert.yml"]
    return monitoring.Prometheus(context, configuration, *flags)


def limited_cgroup(context):
    """Returns a new memory cgroup of LIMIT_BYTES, or None if none can be made. Removes old ones of killed tests."""
    with open("/proc/self/cgroup", encoding="utf-8") as file:
        memberships = [line.rstrip("\n").split(":", 2) for line in file]
    name = f"cow_test_{uuid.uuid4().hex[:8]}"
    version1 = [path for _, controllers, path in memberships if "memory" in controllers.split(",")]
    if version1:
        directory, limit = f"/sys/fs/cgroup/memory{version1[0]}/{name}", "memory.limit_in_bytes"
    else:
        directory, limit = f"/sys/fs/cgroup/{name}", "memory.max"
    for old in pathlib.Path(directory).parent.glob("cow_test_*"):
        with contextlib.suppress(OSError):  # it still has processes
            if time.time() - old.stat().st_mtime > 3600:  # a young one may be needed soon
                old.rmdir()
    try:
        os.mkdir(directory)
    except OSError:
        return None

    def remove():
        with contextlib.suppress(OSError):
            wait_for(lambda: not pathlib.Path(directory, "cgroup.procs").read_text(encoding="utf-8"), 10, "an empty cgroup")
            os.rmdir(directory)

    context.callback(remove)
    try:
        pathlib.Path(directory, limit).write_text(str(LIMIT_BYTES), encoding="utf-8")
    except OSError:
        return None
    return directory


def account_delays(context):
    """Makes the kernel count copies of processes started from now on; False if it can't."""
    try:
        before = pathlib.Path(DELAY_ACCOUNTING).read_text(encoding="utf-8")
        pathlib.Path(DELAY_ACCOUNTING).write_text("1", encoding="utf-8")
    except OSError:
        return False
    context.callback(lambda: pathlib.Path(DELAY_ACCOUNTING).write_text(before, encoding="utf-8"))
    return True


class Host:
    """Starts everything. `cgroup` and `accounted` show whether there is a memory limit and delay accounting."""

    def __init__(self, context, *prometheus_flags, demo=DEMO, groups=GROUPS, alert=None):
        """`groups` is added to the exporters' configuration; `alert`: rules for Prometheus."""
        support.need("prometheus", "prometheus-node-exporter")
        support.need_frames()
        self.context = context
        self.cgroup = limited_cgroup(context)
        self.accounted = account_delays(context)
        enter = f"echo $$ >{self.cgroup}/cgroup.procs && " if self.cgroup else ""
        context.start(support.Process(["sh", "-c", f'{enter}exec "$@"', "sh", support.binary("COW_DEMO"), *demo],
                                      stdout=subprocess.DEVNULL))
        self.exporter = self._exporter("everything", EVERYTHING + groups)
        targets = [("cow_exporter", HOST, self.exporter.address)]
        node_exporter = monitoring.NodeExporter(context, "--collector.disable-defaults", "--collector.meminfo")
        targets.append(("node_exporter", HOST, node_exporter.address))
        self.prometheus = start_prometheus(context, targets, *prometheus_flags, alert=alert)

    def _exporter(self, name, configuration):
        path = self.context.path(f"{name}.yml")
        pathlib.Path(path).write_text(configuration, encoding="utf-8")
        return self.context.start(support.Exporter(f"--config.file={path}"))

    def wait_for_events(self):
        """Waits until the last 15 seconds contain breaks of both sides, an ended child and a fork."""
        for expression in (f'min(increase(cow_breaks_total{{instance="{HOST}",group="{GROUP}",side!="unknown"}}[15s])) > 0',
                           f'increase(cow_fork_break_bytes_count{{instance="{HOST}",group="{GROUP}"}}[15s]) > 0',
                           f'increase(cow_forks_total{{instance="{HOST}",group="{GROUP}"}}[15s]) > 0'):
            wait_for(lambda e=expression: self.prometheus.value(e) is not None, 40, expression, pause=0.2)
