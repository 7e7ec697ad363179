"""As a service of systemd: inherited sockets, and what the service manager is told."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import support
from support import check

# Passes the sockets 3 and up to the program, as systemd does it.
ACTIVATE = "import os, sys; os.environ['LISTEN_PID'] = str(os.getpid()); os.execv(sys.argv[1], sys.argv[1:])"


class Notifications:
    """What the program tells a service manager."""

    def __init__(self, context):
        self.path = context.path("notify")
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
    tcp = context.enter_context(socket.create_server(("127.0.0.1", 0)))
    local = context.enter_context(socket.socket(socket.AF_UNIX))
    local.bind(context.path("activated"))
    local.listen()
    # From a high number down, so that none is in another's way.
    high = [os.dup2(listener.fileno(), number) for listener, number in ((tcp, 200), (local, 201))]
    wrapper = [sys.executable, "-c", "import os, sys; os.dup2(200, 3); os.dup2(201, 4); os.closerange(5, 300); "
               "os.environ['LISTEN_FDS'] = '2'; " + ACTIVATE]
    process = context.start(support.Process(
        [*wrapper, support.binary("COW_EXPORTER"), "--web.systemd-socket"], pass_fds=high, stderr=subprocess.PIPE))
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
    for number in high:
        os.close(number)


def check_no_sockets():
    run = subprocess.run([support.binary("COW_EXPORTER"), "--web.systemd-socket"], capture_output=True, check=False,
                         text=True, timeout=20)
    check(run.returncode == 1 and "passed no sockets" in run.stderr, f"{run.returncode}: {run.stderr}")


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
    check(told.count("READY=1") == 1, f"{told}")
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


def test(context):
    check_no_sockets()
    check_socket_activation(context)
    check_notifications(context)
    check_real_activation(context)


support.main(test)
