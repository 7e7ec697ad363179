"""Every flag in --help does what its text says. A flag without a check here fails the test.

The exporter reads a procfs with five processes, so that a pass costs the same on every host.
"""

import concurrent.futures
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import privileges
import activation
import support
from support import check, wait_for

# For each collector a metric that no other one publishes.
COLLECTORS = {"cow": "cow_forks_total", "delayacct": "cow_delayacct_lost_records_total", "faults": "cow_minor_faults_total",
              "ksm": "cow_ksm_profit_bytes", "process": "cow_process_private_bytes", "sharing": "cow_footprint_bytes",
              "smaps": "cow_smaps_skipped_processes", "thp": "cow_huge_page_bytes",
              "writers": "cow_writer_lost_records_total", "zero_page": "cow_zero_page_bytes"}
ON_BY_DEFAULT = {"cow", "faults", "sharing", "thp", "zero_page"}
CHECKS = {}
MEMBERS = 5
PAGES = 51200  # of each process: a pass over all of them takes some milliseconds


def checks(*flags):
    """Marks a function as the check of these flags."""
    def mark(function):
        for flag in flags:
            CHECKS[flag] = function
        return function
    return mark


def run(*arguments, **options):
    """Returns exit code, standard output and standard error."""
    done = subprocess.run([support.binary("COW_EXPORTER"), *arguments], capture_output=True, check=False, text=True,
                          timeout=30, **options)
    return done.returncode, done.stdout, done.stderr


def small_proc(context):
    """Returns the flag for it and the family's root."""
    workload = context.start(support.Workload())
    workload.do(f"map 0 a {PAGES} nohuge")
    workload.do(f"write 0 a 0 {PAGES}")
    pids = [workload.do("pid 0"), *(workload.do("fork 0").split()[1] for _ in range(MEMBERS - 1))]
    names = [name for name in os.listdir("/proc") if not name.isdigit()]
    for pid in pids:
        os.makedirs(context.path(f"proc/{pid}"))
        names += [f"{pid}/{name}" for name in os.listdir(f"/proc/{pid}")]
    for name in names:
        os.symlink(f"/proc/{name}", context.path(f"proc/{name}"))
    context.pid = pids[0]
    context.proc = f"--path.procfs={context.path('proc')}"


def serve(context, *flags, **options):
    return context.start(support.Exporter(context.proc, *flags, **options))


def once(context, *flags):
    code, text, log = run("--once", context.proc, *flags)
    check(code == 0, f"--once {' '.join(flags)}: {code} {log}")
    return support.Samples(text)


def names(samples):
    return {name for name, _ in samples.values}


def ask(exporter, path, method="GET"):
    """Returns status and body."""
    try:
        with urllib.request.urlopen(urllib.request.Request(exporter.url(path), method=method), timeout=30) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def write(context, name, text):
    os.makedirs(os.path.dirname(context.path(name)), exist_ok=True)
    with open(context.path(name), "w", encoding="utf-8") as file:
        file.write(text)
    return context.path(name)


def flags_of(help_text):
    text = re.sub(r"--\[no-\](\S+)", r"--\1\n  --no-\1", help_text)
    return [flag for line in text.splitlines() for flag in re.findall(r"^  (?:-\w,)?(--[\w.-]+)", line)]


@checks("--help", "explain --help")
def check_help(_context):
    for command in ((), ("explain",)):
        code, text, log = run(*command, "--help")
        check(code == 0 and "Usage: cow_exporter" in text and not log, f"--help: {code} {log}")
        check(run(*command, "-h")[1] == text, "-h")


@checks("--version")
def check_version(context):
    code, text, _ = run("--version")
    found = re.fullmatch(r"cow_exporter, version (\d+\.\d+\.\d+\S*) \(revision: (\S+)\)\n  compiler: (.+)\n", text)
    check(code == 0 and found, f"--version: {code} {text}")
    build = [dict(labels) for name, labels in once(context).values if name == "cow_exporter_build_info"]
    check(build == [dict(zip(("version", "revision", "compiler"), found.groups()))], f"--version: {text} and {build}")


@checks("--config.file", "--config.check")
def check_config(context):
    good = write(context, "good.yml", "scan: {interval: 123s, full_every: 77s}\n")
    bad = write(context, "bad.yml", "scan: {intervall: 123s}\n")
    code, text, log = run("--config.check", f"--config.file={good}")
    check((code, text, log) == (0, f"SUCCESS: {good} is valid\n", ""), f"--config.check of a good file: {code} {text} {log}")
    check(run("--config.check")[1].startswith("SUCCESS: the flags are valid"), "--config.check without a file")
    code, text, log = run("--config.check", f"--config.file={bad}")
    check(not text, f"--config.check of a bad file prints {text}")
    check(code == 1 and log.startswith(f"{bad}:1:8: "), f"--config.check of a bad file: {code} {log}")
    exporter = serve(context, f"--config.file={good}", "--scan.full-every=88s")
    shown = ask(exporter, "/config")[1]
    check("interval: 2m3s" in shown and "full_every: 1m28s" in shown, f"--config.file: {shown}")


@checks("--once")
def check_once(context):
    code, text, _ = run("--once", context.proc, "--web.listen-address=127.0.0.1:1")  # a port where nothing else can listen
    samples = support.Samples(text)
    check(code == 0 and sum(samples.value("cow_scan_passes_total", kind=kind) for kind in ("full", "incremental")) == 1,
          "--once: not one pass")


@checks("--web.listen-address")
def check_listen_address(context):
    path = context.path("socket")
    exporter = serve(context, f"--web.listen-address=unix:{path}")
    check(ask(exporter, "/-/healthy")[0] == 200, "--web.listen-address of TCP")
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        connection.sendall(b"GET /-/healthy HTTP/1.0\r\n\r\n")
        check(b"200 OK" in connection.recv(4096), "--web.listen-address of a unix socket")
    if privileges.missing("a network namespace"):
        return  # the default port of the host's network may be in use
    alone = context.start(support.Process(["unshare", "--net", support.binary("COW_EXPORTER"), context.proc],
                                          stderr=subprocess.PIPE))
    lines = [alone.line(alone.stderr) for _ in range(4)]
    check(any(re.search(r" address=(\[::\]|0\.0\.0\.0):10066$", line) for line in lines), f"the default address: {lines}")


@checks("--web.systemd-socket")
def check_systemd_socket(context):
    listener = activation.tcp(context)
    with activation.passed([listener]) as high:
        exporter = serve(context, "--web.systemd-socket", pass_fds=high, wrapper=activation.wrapper([listener]))
    check(exporter.address == "127.0.0.1:%d" % listener.getsockname()[1], f"--web.systemd-socket: {exporter.address}")
    check(ask(exporter, "/-/healthy")[0] == 200, "--web.systemd-socket")
    check(run("--web.systemd-socket")[0] == 1, "--web.systemd-socket without a socket")
    code, _, text = run("--web.systemd-socket", "--web.listen-address=127.0.0.1:0")
    check(code == 2 and "ListenStream=" in text, f"--web.systemd-socket and --web.listen-address: {code}: {text}")


@checks("--web.config.file")
def check_web_config(context):
    # A hash of an unknown password.
    web = write(context, "web.yml", "basic_auth_users: {a: $2y$10$abcdefghijklmnopqrstuuPC8rIIWQR0Txc4lPb.OXo6IgXvA7Bra}\n")
    exporter = serve(context, f"--web.config.file={web}")
    check(ask(exporter, "/metrics")[0] == 401, "--web.config.file")


@checks("--web.healthcheck")
def check_healthcheck(context):
    exporter = serve(context)
    code, text, _ = run("--web.healthcheck", f"--web.listen-address={exporter.address}")
    check(code == 0 and text == f"{exporter.address}: healthy\n", f"--web.healthcheck: {code}, {text}")
    exporter.end()
    code, _, text = run("--web.healthcheck", f"--web.listen-address={exporter.address}")
    check(code == 1 and "refused" in text, f"--web.healthcheck of nobody: {code}, {text}")


@checks("--web.telemetry-path", "--web.enable-api", "--web.enable-lifecycle", "--web.disable-exporter-metrics")
def check_web_switches(context):
    plain = serve(context)
    switched = serve(context, "--web.telemetry-path=/m", "--web.enable-api", "--web.enable-lifecycle",
                     "--web.disable-exporter-metrics")
    for path, method, before, after in (("/metrics", "GET", 200, 404), ("/m", "GET", 404, 200),
                                        ("/api/v1/families", "GET", 403, 200), ("/-/reload", "POST", 403, 200)):
        found = (ask(plain, path, method)[0], ask(switched, path, method)[0])
        check(found == (before, after), f"{method} {path}: {found}")
    wait_for(lambda: ask(plain, "/-/ready")[0] == ask(switched, "/-/ready")[0] == 200, 10, "a first pass")
    with_them, without = names(plain.scrape()), names(support.Samples(ask(switched, "/m")[1]))
    own = {name for name in with_them if name.startswith("process_")}
    check({"process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds"} <= own, f"process_*: {own}")
    check(not any(name.startswith("process_") for name in without), "--web.disable-exporter-metrics leaves process_*")
    stay = {name for name in with_them if name.startswith(("cow_scan_", "cow_scrape_", "cow_exporter_"))}
    missing = stay - without - {"cow_scan_timestamp_seconds"}
    check("cow_scan_cpu_seconds_total" in stay and not missing, f"--web.disable-exporter-metrics takes {missing}")


@checks("--web.external-url")
def check_external_url(context):
    def statuses(*flags):
        exporter = serve(context, *flags)
        found = []
        for host in ("proxy.example", "localhost", os.uname().nodename, "127.0.0.1:1"):
            request = urllib.request.Request(exporter.url("/config"), headers={"Host": host})
            try:
                with urllib.request.urlopen(request, timeout=30) as response:
                    found.append(response.status)
            except urllib.error.HTTPError as error:
                found.append(error.code)
        return found

    found = statuses(), statuses("--web.external-url=https://proxy.example/cow")
    check(found == ([421, 200, 200, 200], [200] * 4), f"--web.external-url: {found}")


@checks("--web.max-requests")
def check_max_requests(context):
    def statuses(exporter):
        with concurrent.futures.ThreadPoolExecutor(20) as pool:
            return [answer[0] for answer in pool.map(lambda _: ask(exporter, "/metrics"), range(20))]

    def start(limit):
        return serve(context, "--scan.interval=0s", f"--web.max-requests={limit}")

    one, twenty = start(1), start(20)
    end = time.monotonic() + 20
    few = statuses(one)
    while set(few) == {200} and time.monotonic() < end:  # on a busy machine the requests may not overlap at first
        few = statuses(one)
    check(set(few) == {200, 503}, f"--web.max-requests=1: {few}")
    many = statuses(twenty)
    check(set(many) == {200}, f"--web.max-requests=20: {many}")


@checks("--path.procfs", "explain --path.procfs")
def check_procfs(context):
    """All other checks use this flag too."""
    samples = once(context)
    groups = {dict(labels)["group"]: value for (name, labels), value in samples.values.items() if name == "cow_processes"}
    check(groups == {"cow_workload": MEMBERS}, f"--path.procfs: {groups}")
    for pid, expected in ((context.pid, 0), (os.getpid(), 1)):
        code, text, log = run("explain", context.proc, str(pid))
        check(code == expected, f"explain --path.procfs of {pid}: {code} {text} {log}")


@checks("--path.sysfs", "explain --path.sysfs")
def check_sysfs(context):
    size = write(context, "sys/kernel/mm/transparent_hugepage/hpage_pmd_size", "nonsense\n")
    for command in (("--once",), ("explain", context.pid)):
        code, _, log = run(*command, context.proc, f"--path.sysfs={context.path('sys')}")
        check(code == 1 and size in log, f"{command} --path.sysfs: {code} {log}")


@checks("--scan.interval", "--scan.full-every")
def check_interval(context):
    def passes(samples, kind):
        return samples.value("cow_scan_passes_total", kind=kind)

    exporter = serve(context, "--scan.interval=0s", "--scan.full-every=0s")
    before, after = exporter.scrape(), [exporter.scrape() for _ in range(2)][-1]
    check(passes(after, "full") == passes(before, "full") + 2, "--scan.interval=0s: not one pass at each scrape")
    check(passes(after, "incremental") == 0, "--scan.full-every=0s: not everything is read")
    exporter = serve(context, "--scan.interval=100ms", "--scan.max-cpu=0")
    wait_for(lambda: passes(exporter.scrape(), "incremental") > 2, 10, "--scan.interval=100ms: passes by themselves")
    check(passes(exporter.scrape(), "full") <= 2, "--scan.full-every: everything is read again and again")


@checks("--scan.max-cpu")
def check_max_cpu(context):
    flags = ("--scan.interval=100ms", "--scan.full-every=0s")
    exporters = {limit: serve(context, *flags, f"--scan.max-cpu={limit}") for limit in ("0.02", "0")}

    def measured():
        shares = {}
        start = time.monotonic()
        before = {limit: exporter.scrape().value("cow_scan_cpu_seconds_total") for limit, exporter in exporters.items()}
        time.sleep(1.5)
        for limit, exporter in exporters.items():
            used = exporter.scrape().value("cow_scan_cpu_seconds_total") - before[limit]
            shares[limit] = used / (time.monotonic() - start)
        print("scanning takes " + ", ".join(f"{share:.1%} with --scan.max-cpu={limit}" for limit, share in shares.items()))
        return shares

    def kept(shares):
        # Each interval may begin with one step, whatever the budget.
        return shares["0.02"] < 0.05 and shares["0"] > 1.5 * shares["0.02"]

    shares = measured()
    end = time.monotonic() + 15
    while not kept(shares) and time.monotonic() < end:  # with little CPU left the exporter scans less
        shares = measured()
    check(kept(shares), f"--scan.max-cpu: {shares}")


@checks("--scan.threads")
def check_threads(context):
    def threads(number):
        exporter = serve(context, f"--scan.threads={number}")
        wait_for(lambda: ask(exporter, "/-/ready")[0] == 200, 10, "a first pass")
        return len(os.listdir(f"/proc/{exporter.pid}/task"))

    wait_for(lambda: threads(4) - threads(1) == 3, 10, "--scan.threads=4: three threads more")


@checks("--sandbox")
def check_sandbox(context):
    for mode, filtered in (("off", "0"), ("auto", "2"), ("require", "2")):
        exporter = serve(context, f"--sandbox={mode}")
        with open(f"/proc/{exporter.pid}/status", encoding="ascii") as file:
            found = re.search(r"^Seccomp:\t(\d)$", file.read(), re.MULTILINE).group(1)
        check(found == filtered, f"--sandbox={mode}: the process is in seccomp's mode {found}")
        feature = exporter.scrape().value("cow_exporter_capability", feature="sandbox")
        check(feature == (filtered == "2"), f"--sandbox={mode}: the feature is {feature}")


@checks("--log.level", "--log.format")
def check_log(context):
    def lines(*flags):
        """Returns the log lines of a start, a request and the end."""
        port = support.free_port()
        process = context.start(support.Process(
            [support.binary("COW_EXPORTER"), context.proc, f"--web.listen-address=127.0.0.1:{port}", *flags], stderr=subprocess.PIPE))

        def answered():
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/-/ready", timeout=10):
                    return True
            except OSError:
                return False

        wait_for(answered, 10, "an answer")
        with socket.create_connection(("127.0.0.1", port)) as connection:
            # Too long: the HTTP library logs it at level debug.
            connection.sendall(b"GET /" + b"x" * 70000 + b" HTTP/1.1\r\n\r\n")
            check(b" 414 " in connection.recv(4096), "a long request")
        process.send_signal(signal.SIGTERM)
        return process.communicate(timeout=10)[1].splitlines()

    for level, wanted in (("debug", {"debug", "info"}), ("info", {"info"}), ("warn", set()), ("error", set())):
        found = {re.match(r"ts=\S+ level=(\w+) msg=", line).group(1) for line in lines(f"--log.level={level}")}
        known = ["debug", "info", "warn", "error"]
        check(wanted <= found <= set(known[known.index(level):]), f"--log.level={level}: {found}")
    told = [json.loads(line) for line in lines("--log.format=json")]
    check({"starting", "listening", "ending"} <= {line["msg"] for line in told}, f"--log.format=json: {told}")
    check(all(line.startswith("ts=") for line in lines("--log.format=logfmt")), "--log.format=logfmt")


def check_collectors_of(samples, wanted, message):
    succeeded = {dict(labels)["collector"] for (name, labels) in samples.values if name == "cow_scrape_collector_success"}
    check(succeeded == wanted, f"{message}: {sorted(succeeded)}")
    published = {name for name, metric in COLLECTORS.items() if metric in names(samples)}
    # Some collectors publish nothing on some hosts, but one that is off never publishes.
    check(published <= wanted and {"cow", "faults", "sharing"} & wanted <= published, f"{message}: of {sorted(published)}")


@checks("--collector.disable-defaults", *(f"--collector.{name}" for name in COLLECTORS),
        *(f"--no-collector.{name}" for name in COLLECTORS))
def check_collectors(context):
    everything, defaults = set(COLLECTORS), "--collector.disable-defaults"
    on = [f"--collector.{name}" for name in COLLECTORS]
    config = write(context, "all.yml", "collectors: {" + ", ".join(f"{name}: true" for name in COLLECTORS) + "}\n")
    check_collectors_of(once(context), ON_BY_DEFAULT, "the default")
    check_collectors_of(once(context, defaults), set(), defaults)
    check_collectors_of(once(context, defaults, *on), everything, "--collector.NAME for all")
    for name in COLLECTORS:
        check_collectors_of(once(context, defaults, f"--collector.{name}"), {name}, f"--collector.{name}")
        check_collectors_of(once(context, f"--config.file={config}", f"--no-collector.{name}"), everything - {name},
                            f"--no-collector.{name}")
    check_collectors_of(once(context, f"--config.file={config}", *(f"--no-collector.{name}" for name in COLLECTORS)), set(),
                        "--no-collector.NAME for all")


@checks("explain --json", "explain --pages", "explain --mapping", "explain --watch", "explain --group", "explain --config.file")
def check_explain(context):
    def explain(*flags):
        code, text, log = run("explain", context.proc, context.pid, *flags)
        check(code == 0, f"explain {' '.join(flags)}: {code} {log}")
        return text

    check(context.pid in json.dumps(json.loads(explain("--json"))), "explain --json")
    with open(f"/proc/{context.pid}/maps", encoding="utf-8") as maps:
        address = next(line.split("-")[0] for line in maps if "[stack]" in line)
    every, one, none = explain("--pages"), explain("--pages", f"--mapping={address}"), explain()
    check(one.count("\n") < every.count("\n") and address in one, "explain --pages --mapping: not the one mapping")
    check(every.count("\n") > none.count("\n"), "explain --pages: no pages")
    watch = context.start(support.Process([support.binary("COW_EXPORTER"), "explain", context.proc, context.pid, "--json",
                                           "--watch=0.1"], stdout=subprocess.PIPE))
    check(all(json.loads(watch.line()) for _ in range(3)), "explain --watch")
    config = write(context, "groups.yml", "groups: [{name: only, comm: [cow_workload]}]\n")
    for group, flags, expected in (("cow_workload", (), 0), ("only", (), 1), ("only", (f"--config.file={config}",), 0),
                                   ("cow_workload", (f"--config.file={config}",), 1)):
        code, text, log = run("explain", context.proc, "--group", group, *flags, "--json")
        check(code == expected and bool(text) == (code == 0), f"explain --group {group} {flags}: {code} {log}")
    bad = write(context, "bad_groups.yml", "scan: []\n")
    code, _, log = run("explain", context.proc, "--group=only", f"--config.file={bad}")
    check(code == 1 and log.startswith(f"{bad}:1:"), f"explain --group with a bad configuration: {code} {log}")


@checks("explain --writers", "explain --stacks", "explain --folded", "explain --pprof")
def check_writers(context):
    folded, pprof = context.path("folded"), context.path("pprof")
    code, text, log = run("explain", context.pid, "--json", "--writers=0.2", "--stacks=fp", f"--folded={folded}", f"--pprof={pprof}")
    check(code == 0 and json.loads(text)["seconds"] >= 0.2, f"explain --writers: {code} {text} {log}")
    check(os.path.exists(folded) and os.path.getsize(pprof) > 0, "explain --folded --pprof: no files")


def test(context):
    support.need("unshare")
    flags = flags_of(run("--help")[1]) + [f"explain {flag}" for flag in flags_of(run("explain", "--help")[1])]
    check(len(flags) > 40, f"--help is not understood: {flags}")
    unchecked = set(flags) - set(CHECKS)
    check(not unchecked, f"flags that nothing checks: {sorted(unchecked)}")
    check(set(CHECKS) <= set(flags), f"no such flags: {sorted(set(CHECKS) - set(flags))}")
    small_proc(context)
    for function in sorted(dict.fromkeys(CHECKS.values()), key=lambda each: each is check_collectors):
        if function is check_collectors:  # last: without these some collectors publish nothing
            support.need_history()
        start = time.monotonic()
        function(context)
        print(f"{function.__name__}: {time.monotonic() - start:.2f} s")
    print(f"{len(flags)} flags")


support.main(test)
