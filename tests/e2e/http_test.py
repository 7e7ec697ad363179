"""Paths, methods and formats, requested with curl."""

import contextlib
import os
import socket
import stat
import subprocess
import time

import support
from support import check


def request(url, *options):
    """Returns status, headers by lower-case name, and body."""
    run = subprocess.run(["curl", "--silent", "--show-error", "--max-time", "20", "--include", *options, url],
                         capture_output=True, check=True)
    head, _, body = run.stdout.decode().partition("\r\n\r\n")
    lines = head.split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    return int(lines[0].split()[1]), headers, body


def check_addresses(context):
    path = context.path("socket")
    exporter = context.start(support.Exporter(f"--web.listen-address=unix:{path}", "--web.listen-address=localhost:0"))
    support.wait_for(lambda: sum("listening address=" in line for line in exporter.log) == 3, 10, "three addresses")
    check(stat.S_IMODE(os.stat(path).st_mode) == 0o660, "the socket's mode")
    check(request("http://localhost/-/healthy", "--unix-socket", path)[0] == 200, "the unix socket")
    for line in exporter.log:
        if "listening address=" in line and "unix:" not in line:
            check(request(f"http://{line.split('address=')[1].strip()}/-/healthy")[0] == 200, line)
    exporter.end()
    check(not os.path.exists(path), "the socket's file is left behind")


def check_silent_clients(exporter):
    host, port = exporter.address.rsplit(":", 1)
    with contextlib.ExitStack() as stack:
        clients = []
        for number in range(100):
            client = stack.enter_context(socket.create_connection((host, int(port))))
            client.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n"[:number])
            clients.append(client)
        start = time.monotonic()
        check(request(exporter.url("/-/healthy"))[0] == 200, "an answer beside 100 silent clients")
        took = time.monotonic() - start
        print(f"an answer beside 100 silent clients took {took * 1000:.0f} ms")
        check(took < 2, f"took {took:.1f} s")
        # One address gets at most 128 connections: a new one replaces its oldest silent one.
        more = [stack.enter_context(socket.create_connection((host, int(port)))) for _ in range(30)]
        check(request(exporter.url("/-/healthy"))[0] == 200, "an answer beside 130 silent clients of one address")
        closed = 0
        for client in clients + more:
            client.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                closed += client.recv(1) == b""
        check(2 <= closed <= 30, f"of 130 connections {closed} were closed")
    support.wait_for(lambda: request(exporter.url("/-/healthy"))[0] == 200, 10, "an answer after they went")


def test(context):
    support.need("curl")
    check_addresses(context)
    exporter = context.start(support.Exporter("--scan.interval=0s"))

    status, headers, body = request(exporter.url())
    check(status == 200 and headers["content-type"].startswith("text/plain; version=0.0.4"), f"/metrics: {status}")
    check("cow_exporter_build_info" in body, "/metrics: no build info")
    check(int(headers["content-length"]) == len(body.encode()), "/metrics: length")

    status, headers, body = request(exporter.url(), "--head")
    check(status == 200 and body == "", "HEAD /metrics")
    check(int(headers["content-length"]) > 0, "HEAD /metrics: no length")

    for path in ("/metricsx", "/metrics/", "/metric", "/%6detrics", "/metrics%00x", "/%00", "/favicon.ico"):
        check(request(exporter.url(path))[0] == 404, f"{path}: not 404")

    for method in ("POST", "PUT", "DELETE"):
        status, headers, _ = request(exporter.url(), "--request", method, "--data", "x")
        check(status == 405, f"{method} /metrics: {status}")
        check({"GET", "HEAD"} <= set(headers["allow"].replace(" ", "").split(",")), f"{method}: Allow")

    check(request(exporter.url("/"))[0] == 200, "landing page")
    check(request(exporter.url("/-/healthy"))[0] == 200, "/-/healthy")
    check(request(exporter.url("/-/ready"))[0] == 200, "/-/ready at interval 0")
    status, _, _ = request(exporter.url("/metrics?name=value"))
    check(status == 200, f"/metrics with a query that means nothing here: {status}")
    check_silent_clients(exporter)
    check(not any("level=error" in line for line in exporter.log), "errors were logged")


support.main(test)
