"""Everything that the README names exists: linked files and headings, files, flags, metrics and keys. Its
configurations are valid, and its shell commands (blocks marked sh) work unchanged in a directory that looks like a
clone, with a running exporter and demo."""

import os
import pathlib
import re
import shutil
import signal
import subprocess

import support
from support import check

ROOT = pathlib.Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
# Programs, not metrics.
PROGRAMS = {"cow_exporter", "cow_demo", "cow_workload"}
FOREIGN = re.compile(r"^(apt-get|cmake|cpack|curl|docker|setpriv|setcap|cp|htpasswd)\b")


def fences(kind):
    return re.findall(rf"^```{kind}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def code():
    """Returns everything set as code: lines of blocks, and spans."""
    for block in re.findall(r"^```\w*\n(.*?)^```$", README, re.MULTILINE | re.DOTALL):
        yield from block.replace("\\\n", " ").splitlines()
    yield from re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```$", "", README, flags=re.MULTILINE | re.DOTALL))


def headings(path):
    """Returns headings as anchors."""
    lines = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", line.lower()).replace(" ", "-") for line in lines}


def hold_links():
    links = re.findall(r"\]\(([^)\s]+)\)", README)
    for link in links:
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = ROOT / path if path else ROOT / "README.md"
        check(target.exists(), f"{link}: no such file")
        check(not anchor or anchor in headings(target), f"{link}: no such heading")
    print(f"{len(links)} links")


def hold_paths():
    named = {piece.split()[0].rstrip("/") for piece in code()
             if re.match(r"(collectors|config|deploy|exporter|tests)/[\w/.-]+", piece)}
    for path in named:
        check((ROOT / path).exists(), f"{path}: no such file")
    print(f"{len(named)} files")


def hold_flags(exporter):
    commands = ([exporter], [exporter, "explain"], [ROOT / "deploy/quickstart"], [ROOT / "tests/run"],
                [ROOT / "tests/kernels/run"], [ROOT / "tests/bench/run"],
                ["python3", ROOT / "tests/golden/reference_test.py"])
    known = {"--collector.NAME", "--no-collector.NAME"}
    for command in commands:
        text = subprocess.run([*command, "--help"], capture_output=True, text=True, timeout=30, check=True).stdout
        known |= set(re.findall(r"--[a-z][\w.-]*", text))
    named = set()
    for piece in code():
        ours = piece.partition("cow_exporter ")[2] if FOREIGN.match(piece) else piece
        named |= set(re.findall(r"(?<![\w-])--[a-z][\w.-]*", ours))
    check(named <= known, f"no such flags: {sorted(named - known)}")
    print(f"{len(named)} flags")


def hold_metrics():
    known = set(re.findall(r"^### `(\w+)`", (ROOT / "collectors/METRICS.md").read_text(encoding="utf-8"), re.MULTILINE))
    named = set(re.findall(r"\bcow_[a-z_]*[a-z]\b", README)) - PROGRAMS
    check(named <= known, f"no such metrics: {sorted(named - known)}")
    print(f"{len(named)} of {len(known)} metrics")


def hold_configurations(context, exporter):
    reference = (ROOT / "config/reference.yml").read_text(encoding="utf-8")
    keys, section = set(), ""
    for key in re.findall(r"^(\w+|  \w+):", reference, re.MULTILINE):
        section = section if key.startswith(" ") else key
        keys.add(key if key == section else f"{section}.{key.strip()}")
    named = {piece for piece in code() if re.fullmatch(r"(scan|limits|collectors)\.\w+", piece)}
    check(named <= keys, f"no such keys: {sorted(named - keys)}")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days",
                    "1", "-subj", "/CN=localhost", "-keyout", context.path("server.key"), "-out",
                    context.path("server.pem")], capture_output=True, timeout=30, check=True)
    shutil.copy(context.path("server.pem"), context.path("ca.pem"))
    for number, text in enumerate(fences("yaml")):
        flag = "--web.config.file" if text.startswith("tls_server_config") else "--config.file"
        path = context.path(f"{number}.yml")
        with open(path, "w", encoding="utf-8") as file:  # any hash is good enough
            file.write(text.replace("$2y$10$…", "$2y$10$" + "." * 21 + "u" + "/" * 31))
        run = subprocess.run([exporter, "--config.check", f"{flag}={path}"], capture_output=True, text=True, timeout=30,
                             check=False)
        check(run.returncode == 0, f"configuration {number}: {run.stderr}")
    print(f"{len(named)} keys, {len(fences('yaml'))} configurations")


def setpriv(user, capabilities):
    names = ",".join(f"+{name}" for name in capabilities)
    given = [f"--inh-caps={names}", f"--ambient-caps={names}"] if names else ["--inh-caps=-all", "--bounding-set=-all"]
    return ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", *given]


def hold_capabilities(context, exporter):
    """Checks each row of the table of what an unprivileged user's exporter shows."""
    own, other = 65534, 1
    configuration = context.path("groups.yml")
    with open(configuration, "w", encoding="utf-8") as file:
        file.write("groups: [{name: readme_own, comm: [readme_own]}, {name: readme_other, comm: [readme_other]}]\n"
                   "default_group: drop\n")
    for name, user in ("own", own), ("other", other):
        workload = context.start(support.Workload(setpriv(user, ())))
        workload.do(f"name 0 readme_{name}")
        workload.do("map 0 a 100 nohuge")
        workload.do("write 0 a 0 100")
        workload.do("fork 0")
    new = tuple(map(int, os.uname().release.split(".")[:2])) >= (6, 15)
    rows = re.findall(r"^\| (.*) \| (.*) \| (.*) \|$", README.partition("| capabilities |")[2].partition("\n\n")[0],
                      re.MULTILINE)
    check(len(rows) > 5, "no table of capabilities")
    for capabilities, *expected in rows:
        sets = [re.findall(r"`(\w+)`", capabilities)] + ([[]] if capabilities.startswith("none") else [])
        for names in sets:
            run = subprocess.run([*setpriv(own, names), exporter, "--once", "--log.level=error",
                                  f"--config.file={configuration}"], capture_output=True, text=True, timeout=30, check=True)
            for group, cell in zip(("own", "other"), expected):
                mode = re.findall(r"`(\w+)`", cell)[0 if new else -1]
                check(support.Samples(run.stdout).get("cow_group_mode", group=f"readme_{group}", mode=mode) == 1,
                      f"{names}: {group} is not in mode {mode}")
    print(f"{len(rows)} sets of capabilities")


def own_host(context):
    """Returns a command that enters namespaces in which the README's port is free and no foreign process is visible."""
    support.own_namespaces(support.CLONE_NEWNET)
    init = support.Process(["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", "echo ready; exec sleep infinity"],
                           stdout=subprocess.PIPE)
    context.callback(init.end, signal.SIGKILL)  # init ignores other signals
    check(init.line() == "ready\n", "no namespaces of processes and mounts")
    return ["nsenter", f"--pid=/proc/{init.pid}/ns/pid_for_children", f"--mount=/proc/{init.pid}/ns/mnt",
            "env", f"--chdir={context.directory}"]


def run_commands(context, exporter):
    for name in ("collectors", "config", "deploy", "tests"):
        os.symlink(ROOT / name, context.path(name))
    os.makedirs(context.path("build/quickstart"))
    os.symlink(exporter, context.path("build/quickstart/cow_exporter"))
    inside = own_host(context)
    context.start(support.Process([*inside, support.binary("COW_DEMO"), "--heap-mib=16"], stdout=subprocess.DEVNULL))
    running = context.start(support.Exporter("--web.listen-address=:10066", "--scan.interval=1s", wrapper=inside))
    support.wait_for(lambda: running.scrape().get("cow_breaks_total", group="cow_demo", side="parent"), 10, "no break")
    environment = dict(os.environ, PATH=f"{context.path('bin')}:{os.environ['PATH']}")
    for block in fences("sh"):
        commands = block.replace("\\\n", " ").splitlines()
        for command in commands:
            run = subprocess.run([*inside, "bash", "-euo", "pipefail", "-c", command], env=environment,
                                 capture_output=True, text=True, timeout=30, check=False)
            check(run.returncode == 0, f"{command}: exit code {run.returncode}: {run.stderr}")
            print(f"{command}: {len(run.stdout.splitlines())} lines")


def test(context):
    support.need("openssl")
    os.chmod(context.directory, 0o755)
    os.mkdir(context.path("bin"))
    exporter = context.path("bin/cow_exporter")  # a path where every user may run it
    shutil.copy(support.binary("COW_EXPORTER"), exporter)
    hold_links()
    hold_paths()
    hold_flags(exporter)
    hold_metrics()
    hold_configurations(context, exporter)
    support.need_frames()
    support.need_privileges("to become another user", "a PID namespace")
    support.need("setpriv", "setcap", "curl", "pgrep", "unshare", "nsenter")
    hold_capabilities(context, exporter)
    run_commands(context, exporter)


if __name__ == "__main__":
    support.main(test)
