"""deploy/examples/services.yml with real services: Redis, gunicorn and PostgreSQL each have a group with all their
processes, and no other program has one."""

import os
import subprocess

import servers
import support
from support import check, wait_for

EXAMPLE = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", "..", "deploy", "examples", "services.yml"))
GROUPS = {"redis", "gunicorn", "postgres"}


def start_services(context):
    directories = {name: context.path(name) for name in GROUPS}
    for directory in directories.values():
        os.mkdir(directory)
    for directory in (context.directory, *directories.values()):
        os.chmod(directory, 0o755)  # for the users that servers become
    redis = context.start(servers.Redis(directories["redis"]))
    redis.fill(20_000, 2000)
    postgres = context.start(servers.Postgres(directories["postgres"]))
    postgres.bench(1, 2, 10)
    context.start(postgres.session())
    gunicorn = context.start(servers.Gunicorn(directories["gunicorn"], 20_000, 3, freeze=False))
    context.start(support.Process([support.binary("COW_DEMO"), "--heap-mib=4"], stdout=subprocess.DEVNULL))
    return {"redis": redis, "gunicorn": gunicorn, "postgres": postgres}


def groups_of(samples, metric="cow_processes"):
    return {dict(labels)["group"] for name, labels in samples.values if name == metric}


def has_all(samples, services):
    """True if each group has a family that shares memory, and at least the processes of this test's service: others
    of its kind may run on this host."""
    for name, service in services.items():
        if (samples.get("cow_processes", group=name) or 0) < len(service.pids()):
            return False
        if not samples.get("cow_families", group=name) or not samples.get("cow_exposure_bytes", group=name):
            return False
    return True


def test(context):
    checked = subprocess.run([support.binary("COW_EXPORTER"), "--config.check", f"--config.file={EXAMPLE}"], capture_output=True,
                             text=True, check=False)
    check(checked.returncode == 0, f"--config.check: {checked.returncode} {checked.stdout}{checked.stderr}")
    support.need("redis-server", "redis-cli", "gunicorn", "setpriv")
    support.need_frames()
    services = start_services(context)
    services["redis"].do("config", "set", "rdb-key-save-delay", 2000)  # a save of 40 seconds
    services["redis"].do("bgsave")
    wait_for(services["redis"].child, 10, "the saving child")
    exporter = context.start(support.Exporter(f"--config.file={EXAMPLE}", "--scan.interval=1s"))
    samples = wait_for(lambda: (scrape := exporter.scrape()) and has_all(scrape, services) and scrape, 30, "all services", pause=0.5)
    check(groups_of(samples) == GROUPS, f"groups: {groups_of(samples)}")
    for name in sorted(GROUPS):
        processes, exposure = (samples.value(metric, group=name) for metric in ("cow_processes", "cow_exposure_bytes"))
        print(f"{name}: {processes:.0f} processes, {exposure / (1 << 20):.1f} MiB exposure")


support.main(test)
