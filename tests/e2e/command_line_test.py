"""Servers that rewrite their command line after the start end up in the group of their final name, by the
expressions of deploy/RECIPES.md. Uses real Redis (at an IPv6 address if there is one), unicorn and puma."""

import pathlib
import re
import socket
import subprocess

import support
from support import check, wait_for

RECIPES = pathlib.Path(__file__).resolve().parents[2] / "deploy" / "RECIPES.md"
SERVERS = 10
RACK = "run ->(_) { [200, {}, ['']] }\n"


def recipe(name):
    """Returns the entry of `groups` with this name from the recipe."""
    found = re.search(rf'^  - name: "?{re.escape(name)}.*?(?=^  - name|^```|^default_group)', RECIPES.read_text(), re.M | re.S)
    check(found, f"no recipe for {name}")
    return found.group(0)


def loopback():
    try:
        with socket.socket(socket.AF_INET6) as listener:
            listener.bind(("::1", 0))
        return "::1"
    except OSError:
        return "127.0.0.1"


def test(context):
    support.need("redis-server", "unicorn", "puma")
    groups = recipe("redis-{{.Matches.port}}")
    for name in ("unicorn", "puma"):
        groups += recipe(name)
    config = context.path("config.yml")
    with open(config, "w") as file:
        file.write(f"scan: {{interval: 300ms, full_every: 1h}}\ngroups:\n{groups}")
    exporter = context.start(support.Exporter(f"--config.file={config}"))
    wait_for(lambda: exporter.scrape().get("cow_scan_passes_total", kind="full"), 20, "a pass")

    wanted = {"unicorn", "puma"}
    address = loopback()
    for _ in range(SERVERS):
        port = support.free_port()
        wanted.add(f"redis-{port}")
        context.start(support.Process(["redis-server", "--bind", address, "--port", str(port), "--save", "", "--dir", context.directory],
                                      stdout=subprocess.DEVNULL))
    rack = context.path("config.ru")
    with open(rack, "w") as file:
        file.write(RACK)
    context.start(support.Process(["unicorn", "-l", f"127.0.0.1:{support.free_port()}", rack], stderr=subprocess.DEVNULL))
    context.start(support.Process(["puma", "-w", "2", "-b", f"tcp://127.0.0.1:{support.free_port()}", rack], stdout=subprocess.DEVNULL))

    def right():
        samples = exporter.scrape()
        return {group for group in wanted if (samples.get("cow_processes", group=group) or 0) >= 1}

    wait_for(lambda: right() == wanted, 30, "each server in its group", 0.3)
    print(f"{len(wanted)} servers are in their groups: Redis at {address}, unicorn, puma")
    check(not exporter.scrape().get("cow_processes", group="redis-server"), "a Redis is in the group of its name still")


support.main(test)
