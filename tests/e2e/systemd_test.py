"""The exporter as a systemd service: inherited sockets, and messages to the service manager."""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request

import activation
import support
from support import check

SCAN = ("--scan.interval=500ms", "--scan.max-cpu=0", "--collector.delayacct")
FEATURES = ("fork_events", "delayacct")


def start_activated(context, sockets, *wrapper):
    with activation.passed(sockets) as high:
        return context.start(support.Process(
            [*activation.wrapper(sockets), *wrapper, support.binary("COW_EXPORTER"), "--web.systemd-socket", *SCAN],
            pass_fds=high, stderr=subprocess.PIPE))


class Notifications:
    """Receives the program's messages to the service manager."""

    def __init__(self, context, name="notify"):
        self.path = context.path(name)
        self.socket = context.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        self.socket.bind(self.path)
        self.socket.settimeout(10)

    def next(self):
        return self.socket.recv(4096).decode()


def get(path, connection):
    connection.settimeout(10)
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    answer = b""
    while part := connection.recv(65536):
        answer += part
    return answer.decode()


def check_socket_activation(context):
    tcp, local = activation.tcp(context), activation.unix(context, context.path("activated"))
    process = start_activated(context, [tcp, local])
    with contextlib.ExitStack() as stack:
        connection = stack.enter_context(socket.create_connection(tcp.getsockname()))
        check("200 OK" in get("/-/healthy", connection), "the socket of TCP")
        connection = stack.enter_context(socket.socket(socket.AF_UNIX))
        connection.connect(context.path("activated"))
        check("200 OK" in get("/-/healthy", connection), "the unix socket")
    process.end()
    log = process.stderr.read()
    check(f"address=127.0.0.1:{tcp.getsockname()[1]}" in log, log)
    check(f"address=unix:{context.path('activated')}" in log, log)
    check(os.path.exists(context.path("activated")), "the file is not ours to remove")


def check_private_network(context):
    """In a network namespace of its own, the exporter reads the kernel's reports from netlink sockets that it was given,
    also when it starts again after it was killed and events have filled the socket."""
    if support.privileges.missing("a network namespace"):
        return
    def known(scrape):
        """Returns the features once all are known."""
        found = {name: scrape().get("cow_exporter_capability", feature=name) for name in FEATURES}
        return found if None not in found.values() else None

    whole = context.start(support.Exporter(*SCAN))
    wanted = support.wait_for(lambda: known(whole.scrape), 20, "a pass and a look for forks")
    whole.end()
    tcp, netlink = activation.tcp(context), activation.netlink(context)
    url = f"http://127.0.0.1:{tcp.getsockname()[1]}/metrics"

    def scrape():
        with urllib.request.urlopen(url, timeout=10) as response:
            return support.Samples(response.read().decode())

    for end in (signal.SIGKILL, signal.SIGTERM):
        process = start_activated(context, [tcp, *netlink], "unshare", "--net")
        found = support.wait_for(lambda: known(scrape), 20, "a pass and a look for forks")
        check(found == wanted, f"with given sockets {found}, else {wanted}")
        with open(f"/proc/{process.pid}/net/dev", encoding="ascii") as file:
            check(file.read().count(":") == 1, "the exporter has a network")
        process.send_signal(end)
        process.wait(20)
        if end == signal.SIGKILL and wanted["fork_events"]:
            subprocess.run(["sh", "-c", "i=0; while [ $i -lt 300 ]; do /bin/true; i=$((i+1)); done"], check=True)
            check(netlink[0].recv(1, socket.MSG_PEEK), "no event waits")
    with contextlib.suppress(BlockingIOError):
        while netlink[0].recv(4096):
            pass
    subprocess.run(["true"], check=True)
    with contextlib.suppress(BlockingIOError):
        check(not netlink[0].recv(4096), "events come after a clean end")
    print(f"with given netlink sockets and no network: {found}")


def check_no_sockets():
    run = subprocess.run([support.binary("COW_EXPORTER"), "--web.systemd-socket"], capture_output=True, check=False,
                         text=True, timeout=20)
    check(run.returncode == 1 and "passed no socket" in run.stderr, f"{run.returncode}: {run.stderr}")


def check_real_activation(context):
    if shutil.which("systemd-socket-activate") is None:
        support.skip("systemd-socket-activate is not installed")
    port = support.free_port()
    context.start(support.Process(["systemd-socket-activate", f"--listen=127.0.0.1:{port}", support.binary("COW_EXPORTER"),
                                   "--web.systemd-socket"], stderr=subprocess.DEVNULL))

    def answered():
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)) as connection:
            return "200 OK" in get("/metrics", connection)
        return False

    support.wait_for(answered, 20, "an answer of the activated service")


def check_notifications(context):
    notifications = Notifications(context)
    environment = {**os.environ, "NOTIFY_SOCKET": notifications.path, "WATCHDOG_USEC": "400000"}
    exporter = context.start(support.Exporter("--scan.interval=1h", wrapper=["env", *(
        f"{name}={environment[name]}" for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC"))]))
    told = [notifications.next() for _ in range(8)]
    check(told.count(f"READY=1\nSTATUS=listening on {exporter.address}") == 1, f"{told}")
    check(told.count("WATCHDOG=1") == 7, f"{told}")
    start = time.monotonic()
    for _ in range(5):
        check(notifications.next() == "WATCHDOG=1", "another notification")
    took = time.monotonic() - start
    print(f"5 signs of life in {took:.2f} s, with a watchdog of 0.4 s")
    check(0.5 < took < 2, f"5 signs of life took {took:.2f} s")
    os.kill(exporter.pid, signal.SIGTERM)
    told = [notifications.next()]
    while told[-1] == "WATCHDOG=1":
        told.append(notifications.next())
    check(told[-1] == "STOPPING=1", f"{told}")


def monotonic_microseconds():
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000


def check_reload_states(context):
    """The order that systemd expects with Type=notify-reload: after its SIGHUP it waits for RELOADING=1 with a later
    time, then for READY=1."""
    notifications = Notifications(context, "reload")
    path = context.path("config.yml")

    def write(text):
        with open(path + ".new", "w", encoding="utf-8") as file:
            file.write(text)
        os.rename(path + ".new", path)

    def in_force():
        with urllib.request.urlopen(exporter.url("/config"), timeout=10) as response:
            return response.read().decode()

    def reload(ask, status):
        """No other message comes between the two."""
        before = monotonic_microseconds()
        ask()
        told = notifications.next()
        begun = re.fullmatch(r"RELOADING=1\nMONOTONIC_USEC=(\d+)", told)
        check(begun and before <= int(begun.group(1)) <= monotonic_microseconds(), f"{told!r} after {before}")
        told = notifications.next()
        check(told == f"READY=1\nSTATUS={status}", f"{told!r} in place of {status!r}")

    def hang_up():
        os.kill(exporter.pid, signal.SIGHUP)

    def post():
        request = urllib.request.Request(exporter.url("/-/reload"), method="POST")
        with contextlib.suppress(urllib.error.HTTPError), urllib.request.urlopen(request, timeout=10):
            pass

    write("scan: {interval: 1h}\n")
    exporter = context.start(support.Exporter(f"--config.file={path}", "--web.enable-lifecycle", wrapper=[
        "env", f"NOTIFY_SOCKET={notifications.path}"]))
    check(notifications.next() == f"READY=1\nSTATUS=listening on {exporter.address}", "the start")
    write("scan: {interval: 2h}\n")
    for ask in (hang_up, post):
        reload(ask, "configuration reloaded")
    check("interval: 2h" in in_force(), "a good file is not in force")
    write("scan: {intervall: 1h}\nlimits: {max_groups: 0}\nmore: 1\n")
    for ask in (hang_up, post):
        reload(ask, f'reload failed, the previous configuration stays in force: {path}:1:8: scan: unknown key "intervall"; '
               'did you mean "interval"? (and 2 more)')
    check("interval: 2h" in in_force(), "a bad file is in force")
    os.unlink(path)
    reload(hang_up, f"reload failed, the previous configuration stays in force: {path}: No such file or directory")
    os.mkfifo(path)
    reload(hang_up, "reload failed, the previous configuration stays in force: "
           f"{path}: expected a regular file, got a pipe")
    os.kill(exporter.pid, signal.SIGTERM)
    check(notifications.next() == "STOPPING=1", "the end")


def test(context):
    check_no_sockets()
    check_socket_activation(context)
    check_private_network(context)
    check_notifications(context)
    check_reload_states(context)
    check_real_activation(context)


support.main(test)
