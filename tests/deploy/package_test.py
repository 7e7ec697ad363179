"""The packages, made from the existing build: their contents, the results of lintian and systemd, and that manual
page, completion and program have the same flags."""

import concurrent.futures
import glob
import os
import re
import shutil
import subprocess

import support
from support import check

SOURCE = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))
BUILD = support.binary("COW_BUILD")
MAX_EXPOSURE = 1.9
LINKS = ["deploy/prometheus/prometheus.yml", "deploy/prometheus/rules", "deploy/prometheus/fleet", "deploy/mixin/config.libsonnet",
         "deploy/systemd/drop-ins"]
EXECUTABLE = {"/usr/bin/cow_exporter", "/usr/share/cow_exporter/mixin/render"}
CONFIGURATION = ["/etc/cow_exporter/config.yml", "/etc/default/cow_exporter"]


def output(*command, status=0, **options):
    run = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, **options)
    check(run.returncode == status, f"{' '.join(command)}: {run.returncode}\n{run.stdout}")
    return run.stdout


def shared_files():
    """Returns the installed parts of the source tree by their place below /usr/share."""
    files = {"bash-completion/completions/cow_exporter", "man/man1/cow_exporter.1.gz"}
    doc = ["README.md", "deploy/*.md", "config/reference.yml", "collectors/*.md", "collectors/memory/*.md",
           "tests/bench/REPORT.md", "tests/bench/PROFILE.md", "tests/bench/plots/*.svg", "deploy/runbooks/*.md",
           "deploy/grafana/README.md", "deploy/mixin/README.md", "deploy/prometheus/CONSOLES.md", "deploy/prometheus/pictures/*.svg",
           "deploy/prometheus/tests/*.yml", "deploy/examples/*.yml", "deploy/helm/cow-exporter/README.md", "deploy/helm/cow-exporter/files/kubernetes_rules.yml",
           *LINKS]
    doc += [".github/*.md", "config/*.md", "exporter/*/*.md", "tests/fuzz/*.md", "deploy/prometheus/*.md"]
    for pattern in doc:
        files |= {f"doc/cow-exporter/{path}" for path in glob.glob(pattern, root_dir=SOURCE)}
    for pattern in ("prometheus/*.yml", "prometheus/rules/*.yml", "prometheus/fleet/*.yml",
                    "prometheus/fleet/rules/*.yml", "prometheus/console*/*.*", "grafana/**/*.json",
                    "grafana/**/*.yml", "mixin/render", "mixin/**/*.*sonnet"):
        files |= {f"cow_exporter/{path}" for path in glob.glob(pattern, root_dir=f"{SOURCE}/deploy", recursive=True)}
    files |= {f"cow_exporter/systemd/{name}" for name in os.listdir(f"{SOURCE}/deploy/systemd/drop-ins")}
    return {f"/usr/share/{path}" for path in files}


def pack(context, generator):
    output("cpack", "-G", generator, "--config", f"{BUILD}/CPackConfig.cmake", "-B", context.path(generator), cwd=BUILD)
    found = glob.glob(f"{context.path(generator)}/cow*.{generator.lower()}")
    check(len(found) == 1, f"{found}")
    print(f"{os.path.basename(found[0])}: {os.path.getsize(found[0]) / 1000:.0f} kB")
    return found[0]


def check_lintian(package):
    # Only root gets the full result. Builds without COW_CONTACT name root@localhost, which Debian's archive refuses.
    text = output("lintian", "--fail-on", "error,warning", "--display-info", "--allow-root", "--no-cfg", "--tag-display-limit", "0",
                  "--suppress-tags", "bogus-mail-host,bogus-mail-host-in-debian-changelog,root-in-contact", package)
    print("lintian:", text.strip() or "nothing")


def check_deb(context, package):
    root = context.path("root")
    output("dpkg-deb", "--extract", package, root)
    output("dpkg-deb", "--control", package, context.path("control"))
    listing = output("dpkg-deb", "--contents", package)
    check(all(line.split()[1] == "root/root" for line in listing.splitlines()), "not all is root's: " + listing)
    files = {os.path.join(folder, name).removeprefix(root) for folder, folders, names in os.walk(root)
             for name in names + [name for name in folders if os.path.islink(os.path.join(folder, name))]}
    expected = shared_files() | {
        "/usr/bin/cow_exporter", "/lib/systemd/system/cow_exporter.service", "/lib/systemd/system/cow_exporter.socket",
        "/lib/systemd/system/cow_exporter-netlink.socket",
        "/usr/share/doc/cow-exporter/LICENSE",
        "/usr/share/doc/cow-exporter/copyright", "/usr/share/doc/cow-exporter/changelog.gz", *CONFIGURATION}
    check(files == expected, f"not in both package and list: {sorted(files ^ expected)}")
    for path in files:
        if os.path.islink(root + path):
            continue
        wanted = 0o755 if path in EXECUTABLE else 0o644
        mode = os.stat(root + path).st_mode & 0o7777
        check(mode == wanted, f"{path} has mode {mode:o}")
    with open(context.path("control/conffiles"), encoding="utf-8") as file:
        check(file.read().split() == CONFIGURATION, "conffiles")
    depends = output("dpkg-deb", "--field", package, "Depends")
    for library in ("procps", "libc6", "libmicrohttpd12", "libprometheus-cpp-core1.0", "libsystemd0", "libgnutls30",
                    "libseccomp2", "libcap2"):
        check(re.search(rf"(^|, ){re.escape(library)}( |,|$)", depends), f"no {library} in {depends}")
    version = output("dpkg-deb", "--field", package, "Version").strip()
    said = output(f"{root}/usr/bin/cow_exporter", "--version").split()[2]
    changelog = output("zcat", f"{root}/usr/share/doc/cow-exporter/changelog.gz")
    check(version == said, f"version {version} of {said}")
    check(changelog.startswith(f"cow-exporter ({version}) "), f"the changelog does not begin with {version}")
    output("shellcheck", *(context.path(f"control/{name}") for name in ("postinst", "prerm", "postrm")))
    return root


def check_links(root):
    """The package contains every link target of its pages."""
    links, dead = 0, []
    for path in glob.glob(f"{root}/usr/share/doc/**/*.md", recursive=True):
        with open(path, encoding="utf-8") as file:
            text = file.read()
        for target in re.findall(r"\]\((?!https?:|#)([^)\s#]+)[^)]*\)", text):
            links += 1
            place = os.path.realpath(os.path.join(os.path.dirname(path), target))
            if not (place.startswith(root + "/") and os.path.exists(place)):
                dead.append(f"{path.removeprefix(root)}: {target}")
    check(links > 50 and not dead, f"of {links} links lead nowhere: {sorted(set(dead))}")
    print(f"{links} links of packaged pages")


def check_hardening(program):
    text = output("readelf", "--wide", "--file-header", "--dynamic", "--program-headers", "--sections", "--dyn-syms", program)
    for what, pattern in (("position independent", r"Type: +DYN .*[Pp]osition|Flags: .*PIE"), ("RELRO", "GNU_RELRO"),
                          ("bound at start", "BIND_NOW|Flags: NOW"), ("stack protector", "__stack_chk_fail"),
                          ("fortified", r"__\w+_chk@")):
        check(re.search(pattern, text), f"the program is not {what}")
    check(" .symtab " not in text, "the program is not stripped")
    check(not re.search(r"GNU_STACK .* RWE", text), "an executable stack")


def check_units(root):
    """Makes a root with only those units of the host that ours refer to."""
    for path in (*glob.glob("/lib/systemd/system/*.target"), "/bin/kill"):
        os.makedirs(os.path.dirname(root + path), exist_ok=True)
        shutil.copy(path, root + path)
    units = ("cow_exporter.service", "cow_exporter.socket", "cow_exporter-netlink.socket")
    text = output("systemd-analyze", "verify", "--man=no", f"--root={root}", *units)
    check(text == "", f"systemd-analyze verify: {text}")
    text = output("systemd-analyze", "security", "--no-pager", "--offline=true", f"--root={root}",
                  f"--threshold={MAX_EXPOSURE * 10:.0f}", units[0])
    print(text.strip().splitlines()[-1])


def flags_of_help(program, *command):
    """Returns the flags by name, with a value's name if they take one."""
    text = re.sub(r"--\[no-\](\S+)", r"--\1\n  --no-\1", output(program, *command, "--help"))
    return set(re.findall(r"^  (?:-h,)?(--[a-z_.-]+)", text, re.MULTILINE))


def check_manual(root):
    program = f"{root}/usr/bin/cow_exporter"
    page = f"{root}/usr/share/man/man1/cow_exporter.1.gz"
    text = output("man", "--warnings", "--local-file", "--encoding=UTF-8", page, env={**os.environ, "MANWIDTH": "120",
                                                                                     "LC_ALL": "C.UTF-8"})
    check("warning" not in text and "error" not in text.splitlines()[0], text)
    source = output("zcat", page)
    options, explain = source.split(".Sh OPTIONS")[1].split(".Sh EXPLAIN")
    explain = explain.split(".Sh SIGNALS")[0]
    for name, part, command in (("", options, ()), ("explain", explain, ("explain",))):
        written = {f"-{flag}" for line in part.splitlines() if line.startswith(".It Fl ")
                   for flag in re.findall(r"(?<![\w.])-[a-z_.-]+", line)}
        shown = flags_of_help(program, *command)
        check(written == shown, f"{name} --help and the manual page differ in {sorted(written ^ shown)}")
        print(f"{len(shown)} flags {name}")


def complete(root, *words):
    """Returns bash's completions of the last word."""
    script = """
        source "$1"; shift
        COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
        _cow_exporter; printf '%s\\n' "${COMPREPLY[@]}"
    """
    return output("bash", "-c", script, "bash", f"{root}/usr/share/bash-completion/completions/cow_exporter",
                  f"{root}/usr/bin/cow_exporter", *words).split()


def check_completion(context, root):
    path = f"{root}/usr/share/bash-completion/completions/cow_exporter"
    output("bash", "-n", path)
    output("shellcheck", path)
    program = f"{root}/usr/bin/cow_exporter"
    for command in ((), ("explain",)):
        offered = {flag.rstrip("=") for flag in complete(root, *command, "--")}
        check(offered == flags_of_help(program, *command), f"{command}: {offered}")
    check(complete(root, "--web.l") == ["--web.listen-address="], "a flag with a value")
    check(complete(root, "--onc") == ["--once"], "a flag without")
    check(complete(root, "exp") == ["explain"], "the command")
    check({str(os.getpid()), "python3"} <= set(complete(root, "explain", "")), "processes to explain")
    check(complete(root, "--no-collector.z") == ["--no-collector.zero_page"], "the second flag of a collector")
    for words in (("--log.level", "=", "w"), ("--log.level=w",), ("--log.level", "w")):
        check(complete(root, *words) == ["warn"], f"{words}")
    check(complete(root, "--sandbox=r") == ["require"], "--sandbox")
    with open(context.path("some.yml"), "w", encoding="utf-8"):
        pass
    check(complete(root, "--config.file", "=", context.path("so")) == [context.path("some.yml")], "a file")


def check_rpm(package):
    files = set(output("rpm", "-qpl", package).split())
    wanted = shared_files() | {"/usr/bin/cow_exporter", "/usr/share/doc/cow-exporter/LICENSE", *CONFIGURATION,
                               "/usr/lib/systemd/system/cow_exporter.service", "/usr/lib/systemd/system/cow_exporter.socket",
                               "/usr/lib/systemd/system/cow_exporter-netlink.socket"}
    check(wanted <= files, f"missing: {sorted(wanted - files)}")
    listing = output("rpm", "-qp", "--queryformat", "[%{FILENAMES} %{FILEMODES:perms} %{FILEUSERNAME}\\n]", package)
    lines = [line.split() for line in listing.splitlines()]
    others = {path for path, mode, _ in lines if path not in wanted and not mode.startswith("d")}
    check(not others, f"what is {others}")
    check({user for _, _, user in lines} == {"root"}, "not all is root's")
    foreign = {path for path, _, _ in lines if path in ("/etc", "/usr/lib/systemd/system", "/usr/share/man", "/usr/bin")}
    check(not foreign, f"directories of other packages: {foreign}")
    flags = dict(line.split() for line in output(
        "rpm", "-qp", "--queryformat", "[%{FILENAMES} %{FILEFLAGS:fflags}x\\n]", package).splitlines())
    for path in CONFIGURATION:
        check(flags[path] == "cnx", f"{path} is not config(noreplace): {flags[path]}")
    said = output("rpm", "-qp", "--queryformat", "%{PACKAGER}|%{VENDOR}|%{BUILDHOST}|%{DESCRIPTION}", package).split("|")
    check(said[:3] == ["cow_exporter maintainers <root@localhost>", "cow_exporter", "localhost"], f"{said}")
    check(said[3].startswith("Processes that fork share their memory"), f"{said}")
    scripts = output("rpm", "-qp", "--scripts", package)
    for when, pattern in (("postinstall", "preset cow_exporter.service"), ("preuninstall", "disable --now cow_exporter.socket"),
                          ("postuninstall", "try-restart cow_exporter.service")):
        part = re.search(rf"{when} scriptlet.*?(?=\w+ scriptlet|\Z)", scripts, re.DOTALL)
        check(part and pattern in part.group(), f"{when}: {scripts}")
        output("sh", "-n", input=part.group().partition("\n")[2])
    output("shellcheck", "--shell=sh", *glob.glob(f"{SOURCE}/deploy/rpm/*.sh"))
    requires = output("rpm", "-qp", "--requires", package).split()
    for library in ("libc.so.6()(64bit)", "libmicrohttpd.so.12()(64bit)", "libsystemd.so.0()(64bit)", "/bin/sh"):
        check(library in requires, f"{library} is not required: {requires}")
    check({name for name in requires if name.startswith("/")} <= {"/bin/sh", "/bin/bash"}, f"{requires}")


def test(context):
    support.need("cpack", "lintian", "rpm", "rpmbuild", "shellcheck", "systemd-analyze", "man", "readelf")
    deb = pack(context, "DEB")
    # In parallel: most of their time is spent waiting for many small programs.
    pool = context.enter_context(concurrent.futures.ThreadPoolExecutor())
    verdicts = [pool.submit(check_lintian, deb), pool.submit(lambda: check_rpm(pack(context, "RPM")))]
    root = check_deb(context, deb)
    check_links(root)
    check_hardening(f"{root}/usr/bin/cow_exporter")
    check_manual(root)
    check_completion(context, root)
    check_units(root)
    for verdict in verdicts:
        verdict.result()


support.main(test)
