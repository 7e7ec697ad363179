"""The systemd unit and its drop-ins remove nothing that the exporter needs: runs the exporter under the unit's limits,
and measures the cost of settings that the unit avoids. systemd-analyze rates what is left."""

import base64
import json
import os
import queue
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

import activation
import sandbox
import support
from support import check

SANDBOX = os.path.join(os.path.dirname(os.path.realpath(__file__)), "sandbox.py")
PAGES = 400
WRITTEN = 150
# Features that the kernel and the rights allow; delayacct depends on kernel.task_delayacct.
FEATURES = {"all_processes", "exclusive_marks", "frames", "kpagecount", "kpageflags", "ptrace"}
# Calls with which the processes of the exporter start each other and confine themselves, and remove their unix socket.
OWN_CALLS = {"capset", "clone", "close_range", "execveat", "kill", "landlock_add_rule", "landlock_create_ruleset",
             "landlock_restrict_self", "memfd_create", "pidfd_open", "prctl", "prlimit64", "seccomp", "socketpair", "unlink",
             "unlinkat", "waitid", "wait4"}
# What systemd 252 holds against the unit; the unit gives the reasons. Later versions may ask for more.
REMAINING = {"AmbientCapabilities", "CapabilityBoundingSet_CAP_DAC_FOWNER_IPC_OWNER", "CapabilityBoundingSet_CAP_NET_ADMIN",
             "CapabilityBoundingSet_CAP_SYS_ADMIN", "CapabilityBoundingSet_CAP_SYS_PTRACE", "DeviceAllow",
             "PrivateUsers", "ProcSubset", "ProtectProc", "RestrictAddressFamilies_AF_UNIX", "RootDirectoryOrRootImage",
             "SystemCallFilter_debug", "SystemCallFilter_privileged"}
NETLINK = {"CapabilityBoundingSet_CAP_NET_ADMIN"}
PTRACE = {"CapabilityBoundingSet_CAP_SYS_PTRACE"}
# The exposure level with some drop-ins, and what they remove from the list.
LEVELS = {(): (1.8, set()), ("without-ptrace",): (1.5, PTRACE), ("without-fork-events",): (1.6, NETLINK),
          ("without-ptrace", "without-fork-events"): (1.3, PTRACE | NETLINK)}
# bcrypt of "secret" at the lowest cost
HASH_SALT = "$2y$04$abcdefghijklmnopqrstuu"


def bcrypt_of(password):
    import ctypes
    crypt = ctypes.CDLL("libcrypt.so.1").crypt
    crypt.restype = ctypes.c_char_p
    return crypt(password.encode(), HASH_SALT.encode()).decode()


def sandboxed(*settings):
    return [sys.executable, "-B", SANDBOX, *settings]


def features(directory, *settings):
    """Returns the features of a pass under the limits."""
    run = subprocess.run([*sandboxed(*settings), directory, f"{directory}/cow_exporter", "--once"], capture_output=True, text=True,
                         check=False)
    check(run.returncode == 0, f"{settings}: {run.returncode}: {run.stderr}")
    return {dict(labels)["feature"] for (name, labels), value in support.Samples(run.stdout).values.items()
            if name == "cow_exporter_capability" and value == 1}


def prepare(context):
    """The only directory that the service may write to."""
    directory = tempfile.mkdtemp(prefix="cow_exporter_unit_", dir="/run")
    context.callback(shutil.rmtree, directory)
    os.chmod(directory, 0o755)
    shutil.copy(support.binary("COW_EXPORTER"), f"{directory}/cow_exporter")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days",
                    "2", "-keyout", f"{directory}/key.pem", "-out", f"{directory}/cert.pem", "-subj", "/CN=x"],
                   capture_output=True, check=True)
    with open(f"{directory}/web.yml", "w", encoding="utf-8") as file:
        file.write("tls_server_config: {cert_file: cert.pem, key_file: key.pem}\n"
                   f"basic_auth_users: {{someone: {bcrypt_of('secret')}}}\n")
    with open(f"{directory}/config.yml", "w", encoding="utf-8") as file:
        file.write("groups: [{name: pair, comm: [cow_pair]}]\ndefault_group: drop\n")
    return directory


class Client:
    def __init__(self, exporter):
        self.context = ssl.create_default_context()
        self.context.check_hostname = False
        self.context.verify_mode = ssl.CERT_NONE
        address = re.findall(r"address=(127\S+)", "".join(exporter.log))[0]
        self.url = f"https://{address}"

    def get(self, path="/metrics", **headers):
        password = base64.b64encode(b"someone:secret").decode()
        request = urllib.request.Request(self.url + path, headers={"Authorization": f"Basic {password}", **headers})
        with urllib.request.urlopen(request, context=self.context, timeout=20) as response:
            return response.read()


class Manager:
    """Plays the service manager. Receives every message at once, so that no sender waits."""

    def __init__(self, context, path):
        self.socket = context.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        self.socket.bind(path)
        os.chmod(path, 0o777)
        self.lines = queue.SimpleQueue()
        threading.Thread(target=self._take, daemon=True).start()
        context.callback(self.socket.shutdown, socket.SHUT_RDWR)

    def _take(self):
        while message := self.socket.recv(4096):
            for line in message.decode().splitlines():
                self.lines.put(line)

    def wait_until_told(self, line, seconds=60):
        """Waits for a message that comes after the last awaited one."""
        end = time.monotonic() + seconds
        seen = []
        while line not in seen:
            try:
                seen.append(self.lines.get(timeout=max(0, end - time.monotonic())))
            except queue.Empty:
                raise support.Failure(f"{line} was not told within {seconds} s; told were {seen}") from None


def fork_events_of_root(context):
    """True if this kernel and these namespaces report forks without the limits."""
    exporter = context.start(support.Exporter("--scan.interval=500ms", "--scan.max-cpu=0"))
    found = support.wait_for(lambda: [value for (name, labels), value in exporter.scrape().values.items()
                                      if name == "cow_exporter_capability" and ("feature", "fork_events") in labels],
                             60, "fork events or none, as root")
    exporter.end()
    return found[0]


def check_life(context, directory):
    manager = Manager(context, f"{directory}/notify")
    pair = context.start(support.Workload())
    pair.do("name 0 cow_pair")
    pair.do(f"map 0 a {PAGES} nohuge")
    pair.do(f"write 0 a 0 {PAGES}")
    child = pair.do("fork 0").split()[0]

    fork_events = fork_events_of_root(context)
    collectors = [f"--collector.{name}" for name in ("delayacct", "ksm", "process", "smaps", "writers")]
    sockets = [activation.tcp(context), activation.unix(context, f"{directory}/api"), *activation.netlink(context)]
    with activation.passed(sockets) as high:
        exporter = context.start(support.Exporter(
            "--web.systemd-socket", "--scan.interval=500ms", "--scan.max-cpu=0", f"--config.file={directory}/config.yml",
            f"--web.config.file={directory}/web.yml", "--web.enable-lifecycle", "--scan.threads=2", *collectors,
            program=f"{directory}/cow_exporter", pass_fds=high,
            wrapper=["env", f"NOTIFY_SOCKET={directory}/notify", "WATCHDOG_USEC=2000000", *activation.wrapper(sockets),
                     *sandboxed(), directory]))
    manager.wait_until_told("READY=1")
    manager.wait_until_told("WATCHDOG=1")
    client = Client(exporter)
    support.wait_for(lambda: support.Samples(client.get().decode()).get("cow_forks_total", group="pair") is not None, 60, "a pass")
    before = support.Samples(client.get().decode()).breaks("pair")
    pair.do(f"write {child} a 0 {WRITTEN}")

    def broken():
        samples = support.Samples(client.get().decode())
        return samples if samples.breaks("pair")["child"] >= before["child"] + WRITTEN else None

    samples = support.wait_for(broken, 60, "the pages that were written")
    check(samples.breaks("pair")["child"] - before["child"] <= WRITTEN + 16, f"{samples.breaks('pair')}")
    check(samples.value("cow_group_mode", group="pair", mode="full") == 1, "not in full mode")
    for name, labels in samples.values:
        if name == "cow_scrape_collector_success":
            check(samples.values[name, labels] == 1, f"collector {dict(labels)} failed")
    with open("/proc/sys/kernel/task_delayacct", encoding="utf-8") as file:
        accounting = int(file.read())
    check(samples.value("cow_exporter_capability", feature="writers") == 1, "the collector writers can't record page faults")
    sampled = sum(value for (name, labels), value in samples.values.items() if name == "cow_writer_samples_total")
    check(sampled >= WRITTEN / 16 / 2, f"{sampled} samples of {WRITTEN} breaks")
    print(f"delayacct: {samples.value('cow_exporter_capability', feature='delayacct'):.0f}, kernel.task_delayacct {accounting}")
    check(samples.value("cow_exporter_capability", feature="fork_events") == fork_events, "fork events differ from those of root")
    with open(f"/proc/{exporter.pid}/net/dev", encoding="ascii") as file:
        interfaces = [line.split(":")[0].strip() for line in file if ":" in line]
    check(interfaces == ["lo"], f"the service has {interfaces}")
    print(f"fork events: {fork_events:.0f}")
    check(samples.value("cow_smaps_bytes", group="pair", field="pss") > 0, "no smaps")
    compressed = client.get(Accept="application/openmetrics-text;version=1.0.0", **{"Accept-Encoding": "gzip"})
    check(compressed[:2] == b"\x1f\x8b", "gzip")

    answer = subprocess.run(["curl", "--silent", "--insecure", "--user", "someone:secret", "--unix-socket", f"{directory}/api",
                             f"https://localhost/api/v1/explain?pid={pair.do('pid 0')}"], capture_output=True, check=True)
    check(json.loads(answer.stdout).get("pid") == int(pair.do("pid 0")), f"explain: {answer.stdout[:300]}")
    with open(f"{directory}/config.yml", "a", encoding="utf-8") as file:
        file.write("limits: {max_groups: 7}\n")
    os.kill(exporter.pid, signal.SIGHUP)
    manager.wait_until_told("RELOADING=1")
    manager.wait_until_told("READY=1")
    check(b"max_groups: 7" in client.get("/config"), "not reloaded")
    os.kill(exporter.pid, signal.SIGTERM)
    manager.wait_until_told("STOPPING=1")
    check(exporter.wait(20) == 0, f"ended with {exporter.returncode}: {''.join(exporter.log)}")
    bad = [line for line in exporter.log if "level=error" in line or "Operation not permitted" in line]
    check(not bad, "".join(bad))
    print(f"{WRITTEN} pages written, {samples.breaks('pair')['child'] - before['child']:.0f} counted, all features, TLS, explain, reload")


def drop_in(name):
    return os.path.join(os.path.dirname(sandbox.UNIT), "drop-ins", f"{name}.conf")


def drop_ins(*names):
    return [f"--drop-in={drop_in(name)}" for name in names]


def check_levels(context):
    """The rating of the unit and of what each drop-in leaves. systemd-analyze is given one file with all of it."""
    for names, (level, removed) in LEVELS.items():
        unit = context.path("cow_exporter.service")
        with open(unit, "w", encoding="utf-8") as whole:
            for path in (sandbox.UNIT, *map(drop_in, names)):
                with open(path, encoding="utf-8") as part:
                    whole.write(part.read())
        command = ["systemd-analyze", "security", "--offline=true", "--no-pager", unit]
        told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        found = float(re.search(r"Overall exposure level[^:]*: ([0-9.]+)", told).group(1))
        lines = json.loads(subprocess.run([*command, "--json=short"], capture_output=True, text=True, check=True).stdout)
        left = {line["json_field"] for line in lines if line["exposure"] not in (None, "0.0")}
        title = " + ".join(("the unit", *names))
        print(f"{title}: exposure level {found}")
        check(found <= level, f"{title}: {found} instead of {level}")
        if systemd_version() == 252:
            check(left == REMAINING - removed, f"{title}: differs: {left ^ (REMAINING - removed)}")


def systemd_version():
    return int(subprocess.run(["systemd-analyze", "--version"], capture_output=True, text=True, check=True).stdout.split()[1])


def check_own_calls():
    missing = OWN_CALLS - sandbox.allowed_calls(sandbox.settings())
    check(not missing, f"the unit forbids {sorted(missing)}")


def check_foreign_memory(context, directory):
    """Nothing in the service can write the memory of another process, and without CAP_SYS_PTRACE nothing can read it."""
    other = context.start(support.Process(["sleep", "600"]))
    shutil.copy("/bin/busybox", f"{directory}/busybox")
    tries = f"b={directory}/busybox; m=/proc/{other.pid}/mem; ( : <$m ) 2>&- && echo read; ( : >>$m ) 2>&- && echo written; $b true"
    for drop, can in (((), ["read"]), (("without-ptrace",), [])):
        run = subprocess.run([*sandboxed(*drop_ins(*drop)), directory, f"{directory}/busybox", "sh", "-c", tries],
                             capture_output=True, text=True, check=False)
        check(run.returncode == 0 and run.stdout.split() == can, f"{drop}: {run.stdout} {run.stderr}")
        print(f"memory of another process{' without CAP_SYS_PTRACE' if drop else ''}: {can or 'nothing'}")


def check_drop_ins(directory):
    """Each removes what it says, and no other feature."""
    whole = features(directory)
    for name, lost in (("without-ptrace", {"ptrace"}), ("without-fork-events", {"fork_events"})):
        without = whole - features(directory, *drop_ins(name))
        if name == "without-ptrace" and "all_processes" in without:
            print("this kernel hides page tables without CAP_SYS_PTRACE (Linux 6.15)")
            continue
        check(without == lost & whole, f"{name} costs {sorted(without)}")
        print(f"{name} costs {sorted(without)}")


def check_what_is_left_alone(directory):
    found = features(directory)
    check(FEATURES <= found, f"under the unit's limits: {sorted(found)}")
    print(f"as it is: {sorted(found)}")
    for title, missing, settings in (("ProtectProc=invisible", {"all_processes"}, ["--proc=hidepid=invisible"]),
                                     ("ProcSubset=pid", {"kpagecount", "kpageflags"}, ["--proc=subset=pid"]),
                                     ("PrivateUsers=yes", {"frames"}, ["--private-users"])):
        lost = found - features(directory, *settings)
        check(missing <= lost, f"{title} costs {sorted(lost)} only: the unit could have it")
        print(f"{title} would cost {sorted(lost)}")


def check_that_limits_hold(directory):
    """The sandbox works: forbidden calls fail in it."""
    shutil.copy("/bin/busybox", f"{directory}/busybox")
    script = f"b={directory}/busybox; try() {{ $b \"$@\" >/dev/null 2>&1 && echo yes || echo no; }}\n"
    expected = []
    for command, can in ((f"touch {directory}/x", "yes"), ("ls /", "yes"), ("touch /etc/x", "no"), ("cat /root/.profile", "no"),
                         (f"mount -t tmpfs x {directory}", "no"), ("unshare -m true", "no"), ("chroot / true", "no"),
                         ("nice -n 5 true", "no"), ("ping -c1 127.0.0.1", "no"),
                         ("sh -c 'echo 1 >/proc/sys/vm/stat_interval'", "no")):
        script += f"try {command}\n"
        expected.append((command, can))
    run = subprocess.run([*sandboxed(), directory, f"{directory}/busybox", "sh", "-c", script], capture_output=True, text=True,
                         check=False)
    found = [(command, can) for (command, _), can in zip(expected, run.stdout.split())]
    check(found == expected, f"what can be done: {found}, {run.stderr}")


def test(context):
    support.need("systemd-analyze", "openssl", "curl")
    support.need_everything()
    support.need_privileges("mounts of its own")
    directory = prepare(context)
    check_levels(context)
    check_own_calls()
    check_that_limits_hold(directory)
    check_foreign_memory(context, directory)
    check_drop_ins(directory)
    check_what_is_left_alone(directory)
    check_life(context, directory)


support.main(test)
