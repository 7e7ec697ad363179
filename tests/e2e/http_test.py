"""Paths, methods and formats, as curl sees them."""

import subprocess

import support
from support import check


def request(url, *options):
    """Status, headers by lower-case name, body."""
    run = subprocess.run(["curl", "--silent", "--show-error", "--max-time", "20", "--include", *options, url],
                         capture_output=True, check=True)
    head, _, body = run.stdout.decode().partition("\r\n\r\n")
    lines = head.split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    return int(lines[0].split()[1]), headers, body


def test(context):
    support.need("curl")
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
    check(not any("level=error" in line for line in exporter.log), "errors were logged")


support.main(test)
