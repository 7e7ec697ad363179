"""Everything that a page of the documentation names exists: linked files and headings, files, flags, metrics, recorded
series and keys. Configurations are valid. Shell commands (blocks marked sh) work unchanged in a directory that looks
like a clone, with a running exporter and demo. The line of links at the top of each page is the same everywhere
(--update writes it), and the README stays short."""

import argparse
import os
import re
import shutil
import signal
import subprocess

import pages
import support
import yaml
from pages import ROOT
from support import check

README_LINES = 150
COLUMNS = 120
# Names of ours that look like metrics and are none.
NO_METRICS = {"cow_exporter", "cow_demo", "cow_workload", "cow_bench", "cow_reference", "cow_inject",
              "cow_graph_scripts"}
GUIDE = "collectors/README.md"  # its example collector has a metric of its own
RENDERED = {"group:cow_break_bytes:rate30s"}  # an example of the mixin's page, with another window
# Commands of others. After them, flags are ours only behind a program of ours.
FOREIGN = re.compile(r"^(apt-get|apt|build/fuzz/\S+|cmake|cpack|ctest|curl|diff|docker|dpkg-query|git|helm|htpasswd|install|jsonnet|kubectl|"
                     r"podman|promtool|ps|python3 -c|rpm|sha256sum|skopeo|setpriv|setcap|cp|systemctl)\b")
OURS = re.compile(r"\b(?:cow_exporter|deploy/quickstart|tests/run) ")
# Flags of others that pages set as code by themselves.
FOREIGN_FLAGS = {
    "--cap-add", "--cgroupns", "--health-cmd", "--network", "--pid", "--preload", "--publish", "--security-opt", "--user",
    "--userns-remap", "--web.console.libraries", "--web.console.templates", "--web.enable-remote-write-receiver"}
FLAG = re.compile(r"(?<![\w-])--[a-z][\w.-]*")
# Phrases that a reader has to read twice.
DIALECT = re.compile(r"unless told otherwise|whoever|of those that|so many at|that which|is not to be told|has not to",
                     re.IGNORECASE)
# Commands of a runbook that work without the service that it is about.
OF_A_RUNBOOK = re.compile(r"cow_exporter |curl ")
CONFIGURATION = {"scan", "limits", "collectors", "groups", "default_group"}
WEB_CONFIGURATION = {"tls_server_config", "http_server_config", "basic_auth_users", "rate_limit"}


class Page:
    """One page. `path` is relative to the root."""

    def __init__(self, path):
        self.path = path
        self.text = (ROOT / path).read_text(encoding="utf-8")
        self.prose = re.sub(r"^( *)```.*?^\1```$", "", self.text, flags=re.MULTILINE | re.DOTALL)

    def fences(self, kind):
        return re.findall(rf"^```{kind}\n(.*?)^```$", self.text, re.MULTILINE | re.DOTALL)

    def code(self):
        """Returns everything set as code: lines of blocks, and spans."""
        for block in re.findall(r"^```\w*\n(.*?)^```$", self.text, re.MULTILINE | re.DOTALL):
            yield from block.replace("\\\n", " ").splitlines()
        yield from (" ".join(span.split()) for span in re.findall(r"`([^`]+)`", self.prose))

    def headings(self):
        """Returns headings as anchors."""
        return {re.sub(r"[^\w\- ]", "", line.lower()).replace(" ", "-") for line in re.findall(r"^#+ (.*)$", self.prose, re.MULTILINE)}


def hold_form(all_pages):
    for page in all_pages:
        if pages.has_line(page.path):
            check(pages.line_of(page.path) in page.text.splitlines()[:20],
                  f"{page.path}: not the line of links that all pages have: run readme_test.py --update")
        found = DIALECT.search(page.prose)
        check(not found, f"{page.path}: {found and found.group()}")
        written = re.sub(r"<!--.*?writes from here.*?to here -->", "", page.prose, flags=re.DOTALL)
        for line in written.splitlines():
            check(len(line) <= COLUMNS or line.startswith(("|", "![", "- Example: `")) or pages.LINE.match(line) or " " not in line.strip(),
                  f"{page.path}: more than {COLUMNS} columns: {line}")
    lines = (ROOT / "README.md").read_text(encoding="utf-8").count("\n")
    check(lines <= README_LINES, f"README.md has {lines} lines, {README_LINES} are allowed")
    print(f"{len(all_pages)} pages, {lines} lines of README")


def hold_links(all_pages):
    headings = {page.path: page.headings() for page in all_pages}
    reached, count = {"README.md"}, 0
    for page in all_pages:
        for link in re.findall(r"\]\(([^)\s]+)\)", page.prose):
            count += 1
            if link.startswith(("https://", "http://localhost")):
                continue
            path, _, anchor = link.partition("#")
            target = os.path.normpath(os.path.join(os.path.dirname(page.path), path)) if path else page.path
            check((ROOT / target).exists(), f"{page.path}: {link}: no such file")
            check(not anchor or anchor in headings.get(target, ()), f"{page.path}: {link}: no such heading")
            reached.add(target)
            if (ROOT / target).is_dir():
                reached |= {found.path for found in all_pages if os.path.dirname(found.path) == target}
    lost = {page.path for page in all_pages} - reached
    check(not lost, f"no link leads to {sorted(lost)}")
    print(f"{count} links")


def hold_paths(all_pages):
    named = {(page.path, piece.split()[0].rstrip("/:")) for page in all_pages for piece in page.code()
             if re.match(r"(collectors|config|deploy|exporter|tests)/[\w/.*-]+", piece)}
    for page, path in named:
        if not re.search(r"[{}$A-Z]{3}|…", path):
            check(any(ROOT.glob(path)), f"{page}: {path}: no such file")
    print(f"{len(named)} files")


def hold_flags(all_pages, exporter):
    commands = ([exporter], [exporter, "explain"], [ROOT / "deploy/quickstart"], [ROOT / "tests/run"],
                [ROOT / "tests/kernels/run"], [ROOT / "tests/bench/run"], [ROOT / "deploy/mixin/render"], [ROOT / "deploy/release"],
                ["python3", ROOT / "tests/golden/reference_test.py"], ["python3", ROOT / "tests/e2e/readme_test.py"],
                ["python3", ROOT / "tests/e2e/scale_test.py"])
    known = {"--collector.NAME", "--no-collector.NAME"}
    for command in commands:
        text = subprocess.run([*command, "--help"], capture_output=True, text=True, timeout=30, check=True).stdout
        text = re.sub(r"--\[no-\](\S+)", r"--\1 --no-\1", text)
        known |= set(FLAG.findall(text))
    named = set()
    for page in all_pages:
        pieces = (part.strip() for piece in page.code() for part in re.split(r" && | \| ", piece))
        for piece in pieces:
            if FOREIGN.match(piece):
                piece = OURS.split(piece)[-1] if OURS.search(piece) else ""
            flags = set(FLAG.findall(piece))
            check(flags <= known | FOREIGN_FLAGS, f"{page.path}: no such flags: {sorted(flags - known - FOREIGN_FLAGS)} in {piece}")
            named |= flags & known
    print(f"{len(named)} flags")


def hold_metrics(all_pages):
    known = set(re.findall(r"^### `(\w+)`", (ROOT / "collectors/METRICS.md").read_text(encoding="utf-8"), re.MULTILINE))
    rules = "".join(path.read_text(encoding="utf-8") for path in ROOT.glob("deploy/**/*.yml"))
    recorded = set(re.findall(r"record: \"?([\w:]+)", rules))
    used, series = set(), set()
    for page in all_pages:
        text = re.sub(r"^```cpp\n.*?^```$", "", page.text, flags=re.MULTILINE | re.DOTALL)
        # A target of a link, a file and a directory are no metrics.
        text = re.sub(r"\]\([^)]*\)|[\w/.-]*/cow_\w+|cow_\w+(?:\.\w+|/)", "", text)
        found = set(re.findall(r"\b\w+:cow_[\w:]+\w", text))
        wrong = {re.sub(r"_(bucket|sum|count)(?=:|$)", "_bucket", name) for name in found} - recorded - RENDERED
        check(not wrong, f"{page.path}: no such recorded series: {sorted(wrong)}")
        series |= found
        names = set(re.findall(r"(?<![:\w])cow_[a-z_]*[a-z]\b(?![:*…])", text)) - NO_METRICS
        names = {re.sub(r"_(bucket|sum|count)$", "", name) for name in names}
        check(names <= known, f"{page.path}: no such metrics: {sorted(names - known)}")
        used |= names
    print(f"{len(used)} of {len(known)} metrics, {len(series)} recorded series")


def hold_configurations(context, all_pages, exporter):
    reference = (ROOT / "config/reference.yml").read_text(encoding="utf-8")
    keys, section = set(), ""
    for key in re.findall(r"^(\w+|  \w+):", reference, re.MULTILINE):
        section = section if key.startswith(" ") else key
        keys.add(key if key == section else f"{section}.{key.strip()}")
    named = {piece for page in all_pages for piece in page.code() if re.fullmatch(r"(scan|limits|collectors)\.\w+", piece)}
    # Keys that were removed are in the changelog.
    named -= {piece for page in all_pages if page.path == "deploy/CHANGELOG.md" for piece in page.code()}
    check(named <= keys, f"no such keys: {sorted(named - keys)}")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days",
                    "1", "-subj", "/CN=localhost", "-keyout", context.path("server.key"), "-out",
                    context.path("server.pem")], capture_output=True, timeout=30, check=True)
    shutil.copy(context.path("server.pem"), context.path("ca.pem"))
    checked = 0
    for page in all_pages:
        for text in page.fences("yaml"):
            content = yaml.safe_load(text)  # fails if it is no YAML
            if not set(content) & (CONFIGURATION | WEB_CONFIGURATION):
                continue  # Alertmanager's, Helm's
            flag = "--web.config.file" if set(content) & WEB_CONFIGURATION else "--config.file"
            path = context.path(f"{checked}.yml")
            checked += 1
            with open(path, "w", encoding="utf-8") as file:  # any hash is good enough
                file.write(text.replace("$2y$10$…", "$2y$10$" + "." * 21 + "u" + "/" * 31))
            run = subprocess.run([exporter, "--config.check", f"{flag}={path}"], capture_output=True, text=True, timeout=30,
                                 check=False)
            check(run.returncode == 0, f"{page.path}: {text}{run.stderr}")
    check(checked > 5, f"only {checked} configurations")
    print(f"{len(named)} keys, {checked} configurations")


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
    text = (ROOT / "deploy/INSTALL.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (.*) \| (.*) \| (.*) \|$", text.partition("| capabilities |")[2].partition("\n\n")[0], re.MULTILINE)
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


def run_commands(context, all_pages, exporter):
    for name in ("collectors", "config", "deploy", "tests"):
        os.symlink(ROOT / name, context.path(name))
    os.makedirs(context.path("build/quickstart"))
    os.symlink(exporter, context.path("build/quickstart/cow_exporter"))
    inside = own_host(context)
    context.start(support.Process([*inside, support.binary("COW_DEMO"), "--heap-mib=16"], stdout=subprocess.DEVNULL))
    running = context.start(support.Exporter("--web.listen-address=:10066", "--scan.interval=1s", wrapper=inside))
    support.wait_for(lambda: running.scrape().get("cow_breaks_total", group="cow_demo", side="parent"), 10, "no break")
    environment = dict(os.environ, PATH=f"{context.path('bin')}:{os.environ['PATH']}")
    pid = subprocess.run([*inside, "pgrep", "-o", "cow_demo"], capture_output=True, text=True, check=True).stdout.strip()
    maps = subprocess.run([*inside, "cat", f"/proc/{pid}/maps"], capture_output=True, text=True, check=True).stdout
    placeholders = {"FILE": "config/reference.yml", "NAME": "cow_demo", "PID": pid,
                    "ADDRESS": re.search(r"^(\w+)-\w+ rw-p", maps, re.MULTILINE).group(1)}
    for page in all_pages:
        for command in (line for block in page.fences("sh") for line in block.replace("\\\n", " ").splitlines()):
            if page.path.startswith(pages.ALONE) and not OF_A_RUNBOOK.match(command):
                continue
            filled = re.sub(r"\b(FILE|NAME|PID|ADDRESS)\b", lambda word: placeholders[word.group()], command)
            filled = filled.removeprefix("sudo ")  # the test is root
            filled = filled.replace("/etc/cow_exporter/config.yml", "deploy/debian/config.yml")  # what packages install
            endless = "--watch" in command
            run = subprocess.run([*inside, *(["timeout", "8"] if endless else []), "bash", "-euo", "pipefail", "-c", filled],
                                 env=environment, capture_output=True, text=True, timeout=30, check=False)
            check(run.returncode == (124 if endless else 0), f"{page.path}: {command}: exit code {run.returncode}: {run.stderr}")
            check(not endless or run.stdout, f"{page.path}: {command}: no output")
            print(f"{page.path}: {command}: {len(run.stdout.splitlines())} lines")


def update():
    for path in filter(pages.has_line, pages.paths()):
        file = ROOT / path
        file.write_text(pages.with_line(path, file.read_text(encoding="utf-8")), encoding="utf-8")


def test(context):
    support.need("git", "openssl")
    os.chmod(context.directory, 0o755)
    os.mkdir(context.path("bin"))
    exporter = context.path("bin/cow_exporter")  # a path where every user may run it
    shutil.copy(support.binary("COW_EXPORTER"), exporter)
    all_pages = [Page(path) for path in pages.paths()]
    hold_form(all_pages)
    hold_links(all_pages)
    hold_paths(all_pages)
    hold_flags(all_pages, exporter)
    hold_metrics(all_pages)
    hold_configurations(context, all_pages, exporter)
    support.need_frames()
    support.need_privileges("to become another user", "a PID namespace")
    support.need("setpriv", "setcap", "curl", "pgrep", "unshare", "nsenter")
    hold_capabilities(context, exporter)
    run_commands(context, all_pages, exporter)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--update", action="store_true", help="write the line of links of every page, test nothing")
    if parser.parse_args().update:
        update()
    else:
        support.main(test)
