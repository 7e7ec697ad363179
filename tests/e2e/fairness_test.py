"""Hostile clients of several addresses hold all connections they can get: silent ones, half requests, idle ones and
readers that never read. Health checks and scrapes from another address get through at once, also with few file
descriptors. The same holds for a right password beside a flood of wrong ones."""

import base64
import collections
import concurrent.futures
import contextlib
import ctypes
import http.client
import re
import resource
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request

import support
from support import check, wait_for

LATEST = 1.0  # seconds until an answer
REQUEST = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"
GREETINGS = {"silent": b"", "half": REQUEST[:20], "idle": b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n",
             "reader": REQUEST}


def hold(port, addresses, each, kind):
    """Runs in a process of its own: keeps `each` connections per address open, and connects again when one ends."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)
    resource.setrlimit(resource.RLIMIT_NOFILE, [resource.getrlimit(resource.RLIMIT_NOFILE)[1]] * 2)
    poll = select.poll()
    names = [f"127.0.1.{number + 1}" for number in range(addresses)]
    missing, clients = names * each, {}

    def connect(name):
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.bind((name, 0))
        client.settimeout(5)
        with contextlib.suppress(OSError):
            client.connect(("127.0.0.1", port))
            client.sendall(GREETINGS[kind])
        poll.register(client, select.POLLRDHUP)
        clients[client.fileno()] = client, name

    def end(descriptor):
        poll.unregister(descriptor)
        client, name = clients.pop(descriptor)
        client.close()
        missing.append(name)

    attempts = told = 0
    while True:
        for _ in range(min(len(missing), 100)):
            connect(missing.pop(0))
            attempts += 1
        time.sleep(0.05)
        for descriptor, _ in poll.poll(0):
            end(descriptor)
        # A reader that does not read does not see the end: replace some of them all the time.
        for descriptor in list(clients)[:10] if kind == "reader" and not missing else ():
            end(descriptor)
        if not told and attempts >= addresses * each:
            told = 1
            print("ready", flush=True)


class Hostile(support.Process):
    def __init__(self, exporter, addresses, each, kind):
        port = exporter.address.rpartition(":")[2]
        super().__init__([sys.executable, __file__, "hold", port, str(addresses), str(each), kind],
                         stdout=subprocess.PIPE)


def ask_as(exporter, address, user, password):
    """Returns status and seconds of a request from this address."""
    credentials = base64.b64encode(f"{user}:{password}".encode()).decode()
    connection = http.client.HTTPConnection(*exporter.address.split(":"), timeout=20, source_address=(address, 0))
    start = time.monotonic()
    with contextlib.closing(connection):
        connection.request("GET", "/metrics", headers={"Authorization": f"Basic {credentials}"})
        answer = connection.getresponse()
        answer.read()
        return answer.status, time.monotonic() - start


def check_passwords(context):
    """Wrong passwords from many addresses don't keep the right one out that comes from another."""
    web = context.path("web.yml")
    with open(web, "w", encoding="utf-8") as file:
        file.write(f"basic_auth_users:\n  a: {support.bcrypt_hash('right', 12)}\n  b: {support.bcrypt_hash('right', 4)}\n")
    exporter = context.start(support.Exporter(f"--web.config.file={web}"))
    _, single = ask_as(exporter, "127.0.3.100", "a", "wrong")
    latest = max(1, 5 * single)  # one check may be running, and a busy machine is slow
    ended = threading.Event()
    answers = collections.Counter()

    def guess(number):
        while not ended.is_set():
            status, _ = ask_as(exporter, f"127.0.2.{number + 1}", ("a", "b", "nobody")[number % 3], f"wrong{number}")
            answers[status] += 1

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        guesses = [pool.submit(guess, number) for number in range(16)]
        try:
            for attempt, pause in enumerate((0.2, 3, 1)):
                time.sleep(pause)
                status, seconds = ask_as(exporter, f"127.0.3.{attempt + 1}", "ab"[attempt % 2], "right")
                print(f"a right password beside a flood of wrong ones: {status} within {seconds * 1000:.0f} ms; one check "
                      f"takes {single * 1000:.0f} ms")
                check(status == 200 and seconds < latest, f"a right password: {status} within {seconds:.2f} s")
        finally:
            ended.set()
        for each in guesses:
            each.result()
    print(f"the flood: {dict(answers)}")
    check(answers[401] > 0 and set(answers) <= {401, 503}, f"the flood got {dict(answers)}")
    exporter.end()


def took(exporter, path):
    start = time.monotonic()
    with urllib.request.urlopen(exporter.url(path), timeout=10) as answer:
        check(answer.status == 200 and answer.read(), path)
    return time.monotonic() - start


def check_served(exporter, what, rounds=2):
    longest = 0
    for _ in range(rounds):
        for path in ("/-/healthy", "/metrics"):
            try:
                longest = max(longest, took(exporter, path))
            except OSError as error:
                raise support.Failure(f"{what}: {path}: {error}") from error
        time.sleep(0.3)
    print(f"{what}: answers within {longest * 1000:.0f} ms")
    check(longest < LATEST, f"{what}: an answer took {longest:.2f} s")


def check_pressure(context, name, *flags, wrapper=()):
    exporter = context.start(support.Exporter(*flags, wrapper=wrapper))
    wait_for(lambda: took(exporter, "/metrics"), 10, "a scrape")
    told = wait_for(lambda: [line for line in exporter.log if "file descriptors" in line], 5, "the division in the log")[0]
    print(f"{name}: {told.split('msg=')[1].strip()}")
    connections = int(re.search(r"connections=(\d+)", told).group(1))
    for addresses in (4, 64):
        for kind in GREETINGS:
            clients = context.start(Hostile(exporter, addresses, 2000 // addresses, kind))
            clients.line(seconds=30)
            time.sleep(0.5)
            check_served(exporter, f"{name}, {addresses} addresses, {kind}")
            clients.end(signal.SIGKILL)
    run = subprocess.run([support.binary("COW_EXPORTER"), "--web.healthcheck", f"--web.listen-address={exporter.address}"],
                         capture_output=True, check=False, text=True)
    check(run.returncode == 0, f"{name}: --web.healthcheck: {run.stderr}")
    check(exporter.poll() is None, f"{name}: the exporter has ended")
    exporter.end()
    return connections


def test(context):
    support.need("prlimit")
    check_passwords(context)
    check(check_pressure(context, "many descriptors") == 512, "the connections without a narrow limit")
    for limit, least in ((64, 8), (1024, 200)):
        connections = check_pressure(context, f"{limit} descriptors", wrapper=["prlimit", f"--nofile={limit}:{limit}"])
        # Each process of the service has the limit; the front needs some descriptors besides its connections.
        check(least <= connections < limit - 10, f"{connections} connections with {limit} descriptors")


if sys.argv[1:2] == ["hold"]:
    hold(int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), sys.argv[5])
else:
    support.main(test)
