"""Checks deploy/container/Dockerfile without an engine: instructions and sources, and that both ways make the same
image."""

import os
import re
import shlex
import subprocess

import support
from support import check

SOURCE = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))
CONTAINER = os.path.join(SOURCE, "deploy", "container")


def read(path):
    with open(os.path.join(CONTAINER, path), encoding="utf-8") as file:
        return file.read()


def instructions():
    """Returns (instruction, arguments) with continued lines joined."""
    lines = [line for line in read("Dockerfile").splitlines() if line and not line.startswith("#")]
    return [tuple(line.split(None, 1)) for line in re.sub(r" *\\\n *", " ", "\n".join(lines)).splitlines()]


def check_bases(found):
    arguments = dict(line.split("=", 1) for name, line in found if name == "ARG" and "=" in line)
    stages = set()
    for name, line in found:
        if name == "FROM":
            base, *rest = line.split()
            base = re.sub(r"\$\{(\w+)\}", lambda match: arguments[match.group(1)], base)
            check(base == "scratch" or base in stages or re.fullmatch(r"[\w./-]+(:[\w.-]+)?(@sha256:[0-9a-f]{64})?", base), base)
            check(base == "scratch" or base in stages or (":" in base and not base.endswith(":latest")), f"{base} is not pinned")
            stages |= set(rest[1:])
    check("debian:12-slim" in arguments.values(), "the libraries must be those of the tests")


def check_copies(found):
    ignored = set(read("Dockerfile.dockerignore").split())
    check({".git", "build"} <= ignored, "what is built here would be copied")
    for name, line in found:
        check(name != "ADD", "ADD fetches and unpacks")
        if name == "COPY" and "--from=" not in line:
            for path in line.split()[:-1]:
                check(os.path.exists(os.path.join(SOURCE, path)) and path not in ignored, f"{path} is not there to copy")


def check_commands(found):
    """The commands come from the source tree, which has the list of packages; shellcheck checks the rest."""
    script = "#!/bin/bash\nset -euo pipefail\n" + "\n".join(line for name, line in found if name == "RUN")
    run = subprocess.run(["shellcheck", "-"], input=script, capture_output=True, text=True, check=False)
    check(run.returncode == 0, run.stdout)
    check("apt" not in script, "packages are named in deploy/packages.sh only")
    programs = [shlex.split(command)[0] for line in script.splitlines()[2:] for command in line.split("&&")]
    for program in programs:
        check(os.access(os.path.join(SOURCE, program), os.X_OK), f"{program} is not a program of the source tree")
    check("deploy/quickstart" in programs, "built in another way than by hand")
    with open(os.path.join(SOURCE, "deploy/quickstart"), encoding="utf-8") as file:
        check('install_packages "${build_packages[@]}"' in file.read(), "quickstart does not install deploy/packages.sh")
    scripts = [os.path.join(CONTAINER, name) for name in ("build", "collect")]
    run = subprocess.run(["shellcheck", "-x", *scripts], cwd=SOURCE, capture_output=True, text=True, check=False)
    check(run.returncode == 0, run.stdout)


def check_image(found):
    last = found[max(i for i, (name, _) in enumerate(found) if name == "FROM"):]
    named = [name for name, _ in last]
    for name in ("USER", "HEALTHCHECK", "ENTRYPOINT", "EXPOSE", "STOPSIGNAL", "LABEL"):
        check(named.count(name) == 1, f"{named.count(name)} {name}")
    values = dict(last)
    check("RUN" not in values, "there is no shell in the image")
    for name in ("ENTRYPOINT", "HEALTHCHECK"):
        check(re.search(r'\["/usr/bin/cow_exporter"', values[name]), f"{name} needs a shell: {values[name]}")
    build = read("build")
    for label in re.findall(r"org\.opencontainers\.image\.\w+", values["LABEL"]):
        check(f"{label}=" in build, f"{label} is not in deploy/container/build")
    check(f"--config.user {values['USER']} " in build, "another user")
    check(f"--config.exposedports {values['EXPOSE']} " in build, "another port")
    check(f"--config.stopsignal {values['STOPSIGNAL']} " in build, "another signal")
    check(f"--config.env {values['ENV']} " in build, "another environment")
    version = subprocess.run([support.binary("COW_EXPORTER"), "--version"], capture_output=True, text=True, check=True).stdout.split()[2]
    check(dict(line.split("=") for name, line in last if name == "ARG")["VERSION"] == version, "another version")


def test(_context):
    support.need("shellcheck")
    found = instructions()
    check_bases(found)
    check_copies(found)
    check_commands(found)
    check_image(found)
    print(f"{len(found)} instructions")


support.main(test)
