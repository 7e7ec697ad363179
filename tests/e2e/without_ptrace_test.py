"""Without CAP_SYS_PTRACE the values equal those with it: the exporter as root and as another user, with
CAP_SYS_ADMIN and CAP_DAC_READ_SEARCH, beside forks of other users that are stopped so that their memory stays as it is.

 - `strangers`: parent and child of another user, and a process in the parent's address space.
 - `worker`: root's, with a child that has become another user.
 - `mixed`: as `worker`, and the exporter may inspect the parent by its user alone, but not the child.
 - redis-server of another user during a BGSAVE, and cow_demo of another user.

Kernels before 6.15 hide page tables without CAP_SYS_PTRACE.
"""

import os
import shutil
import signal
import subprocess
import time

import servers
import support
from support import check

TIER = ("sys_admin", "dac_read_search")
WHOLE = (*TIER, "sys_ptrace")
USER, EXPORTER_USER = 4242, 65534
PAGES, WRITTEN = 600, 100
CONFIG = """
default_group: drop
groups:
- {name: strangers, comm: [strangers]}
- {name: worker, comm: [worker]}
- {name: mixed, comm: [mixed]}
- {name: redis, exe: [redis-server, redis-check-rdb]}
- {name: demo, exe: [cow_lone_demo]}
"""
LACKING = "a feature is not available"
GROUPS = ("strangers", "worker", "mixed", "redis", "demo")


def sets(capabilities):
    names = ",".join(["-all", *(f"+{name}" for name in capabilities)])
    return [f"--inh-caps={names}", f"--bounding-set={names}"], names


def root(*capabilities):
    return ["setpriv", *sets(capabilities)[0]]


def user(number, *capabilities):
    options, names = sets(capabilities)
    ambient = [f"--ambient-caps={names}"] if capabilities else []
    return ["setpriv", f"--reuid={number}", f"--regid={number}", "--clear-groups", *options, *ambient]


def start_pair(context, name, wrapper, change_user=False):
    pair = context.start(support.Workload(wrapper))
    pair.do(f"name 0 {name}")
    pair.do(f"map 0 a {PAGES} nohuge")
    pair.do(f"write 0 a 0 {PAGES}")
    child = pair.do("fork 0").split()[0]
    pair.do(f"write {child} a 0 {WRITTEN}")
    if change_user:
        pair.do(f"setuid {child} {USER}")
    return pair


class RedisOfUser(servers.Redis):
    """Belongs to USER: its directory and what it starts as."""

    def __init__(self, directory):
        os.chown(directory, USER, USER)
        self.socket = os.path.join(directory, "redis.sock")
        servers.Server.__init__(self, directory, [*user(USER), "redis-server", "--port", "0", "--unixsocket", self.socket, "--dir",
                                                  directory, "--save", "", "--rdb-key-save-delay", "1000"])
        self.wait_until(lambda: os.path.exists(self.socket) and self.do("ping") == "PONG", "redis-server")


def stop(*pids):
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)

    def stopped(pid):
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            return file.read().rpartition(")")[2].split()[0] == "T"

    support.wait_for(lambda: all(map(stopped, pids)), 10, "stopped processes")


def start_redis(context):
    directory = context.path("redis")
    os.mkdir(directory)
    redis = context.start(RedisOfUser(directory))
    redis.fill(20000, 500)
    redis.do("bgsave")
    child = support.wait_for(redis.child, 10, "a saving child")
    redis.fill(2000, 500)
    stop(redis.pid, child)


def start_demo(context, program):
    demo = context.start(support.Process([*user(USER), program, "--heap-mib=16"], stdout=subprocess.DEVNULL))

    def child():
        with open(f"/proc/{demo.pid}/task/{demo.pid}/children", encoding="utf-8") as file:
            return file.read().split()

    support.wait_for(child, 20, "a child of cow_demo")
    pids = []
    while len(pids) < 3:  # it replaces its children all the time
        os.kill(demo.pid, signal.SIGCONT)
        time.sleep(0.5)
        stop(demo.pid)  # it makes no more children, and reaps none
        pids = support.processes_of(demo.pid)
    stop(*pids[1:])


class Runs:
    def __init__(self, context):
        self.exporter = context.path("cow_exporter")  # where every user may run it
        self.log = ""
        shutil.copy(support.binary("COW_EXPORTER"), self.exporter)
        self.config = context.path("config.yml")
        with open(self.config, "w", encoding="utf-8") as file:
            file.write(CONFIG)

    def run(self, wrapper):
        run = subprocess.run([*wrapper, self.exporter, "--once", f"--config.file={self.config}", "--collector.smaps",
                              "--collector.process"], capture_output=True, text=True, check=False)
        check(run.returncode == 0, f"{wrapper}: {run.stderr}")
        self.log = run.stderr
        return support.Samples(run.stdout)


def of_groups(samples):
    """Omits times of reading, and pages of files: whoever else maps the file, such as a program that has just started,
    changes whether they are shared."""
    found = {}
    for (name, labels), value in samples.values.items():
        of = dict(labels)
        stays = not name.endswith("_timestamp_seconds") and of.get("backing") != "file" and of.get("field") in (None, "anonymous")
        if of.get("group") in GROUPS and stays:
            found[name, labels] = value
    return found


def test(context):
    support.need("setpriv", "redis-server", "redis-cli")
    support.need_privileges("page frames of other processes", "to become another user", "every process of the host")
    os.chmod(context.directory, 0o755)
    runs = Runs(context)
    if runs.run(root(*TIER)).value("cow_exporter_capability", feature="all_processes") == 0:
        print("missing kernel feature: page tables of other users without CAP_SYS_PTRACE (Linux 6.15)")
        raise SystemExit(support.SKIP)
    start_pair(context, "strangers", user(USER)).do("share 0")
    start_pair(context, "worker", [], True)
    start_pair(context, "mixed", root("setuid", "setgid"), True)
    start_redis(context)
    demo = context.path("cow_lone_demo")  # other tests run cow_demo
    shutil.copy(support.binary("COW_DEMO"), demo)
    start_demo(context, demo)

    whole = runs.run(root(*WHOLE))
    check(whole.value("cow_exporter_capability", feature="ptrace") == 1 and LACKING not in runs.log, "with CAP_SYS_PTRACE")
    expected = of_groups(whole)
    check(whole.value("cow_processes", group="strangers") == 3, "the process in the parent's address space is missing")
    for group in GROUPS:
        check(whole.value("cow_families", group=group) == 1, f"{group} is not one family")
        check(whole.value("cow_exposure_bytes", group=group) > 0, f"{group} shares nothing")
    for title, wrapper in (("root", root(*TIER)), ("root, who may inspect a parent", root(*TIER, "setuid", "setgid")),
                           ("another user", user(EXPORTER_USER, *TIER))):
        samples = runs.run(wrapper)
        for feature, has in (("ptrace", 0), ("all_processes", 1), ("frames", 1)):
            check(samples.value("cow_exporter_capability", feature=feature) == has, f"{title}: {feature} is not {has}")
        check(runs.log.count(LACKING) == 1, f"{title}: not in the log: {runs.log}")
        found = of_groups(samples)
        different = {f"{name} {dict(labels)}": (expected.get((name, labels)), found.get((name, labels)))
                     for name, labels in expected.keys() | found.keys()
                     if expected.get((name, labels)) != found.get((name, labels))}
        check(not different, f"{title}: with and without CAP_SYS_PTRACE: {different}")
        print(f"{title}: {len(found)} samples equal those with CAP_SYS_PTRACE")


support.main(test)
