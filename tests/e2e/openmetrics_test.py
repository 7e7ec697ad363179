"""The same metrics in both formats, compressed or not, of some collectors or all; other programs' parsers check
them."""

import gzip
import subprocess
import sys
import urllib.error
import urllib.request

import support
from support import check

PLAIN = "text/plain; version=0.0.4; charset=utf-8"
OPEN_METRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
UNITS = ("bytes", "seconds", "ratio")


def get(exporter, path="/metrics", **headers):
    """Returns status, headers and body."""
    request = urllib.request.Request(exporter.url(path), headers={n.replace("_", "-"): v for n, v in headers.items()})
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.status, response.headers, response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


def series(families):
    """Returns values by name and labels, except those that differ from scrape to scrape."""
    def place(labels):
        return frozenset((n, float(v) if n == "le" else v) for n, v in labels.items())
    return {(sample.name, place(sample.labels)): sample.value for family in families for sample in family.samples
            if not sample.name.startswith("process_")}


def check_formats(exporter):
    from prometheus_client import parser as plain_parser
    from prometheus_client.openmetrics import parser as open_parser
    # The interval is long: both are of one snapshot.
    _, headers, plain = get(exporter, Accept="text/plain")
    check(headers["Content-Type"] == PLAIN, headers["Content-Type"])
    _, headers, text = get(exporter, Accept="application/openmetrics-text;version=1.0.0,*/*;q=0.1")
    check(headers["Content-Type"] == OPEN_METRICS, headers["Content-Type"])
    text = text.decode()
    check(text.endswith("\n# EOF\n") and text.count("# EOF") == 1, "no EOF")
    families = list(open_parser.text_string_to_metric_families(text))
    for family in families:
        unit = next((unit for unit in UNITS if family.name.endswith("_" + unit)), "")
        check(family.unit == unit, f"{family.name}: unit {family.unit!r}")
        check(family.documentation, f"{family.name}: no HELP")
        check(not family.name.endswith("_total"), family.name)
    histograms = [family.name for family in families if family.type == "histogram"]
    check("cow_fork_break_bytes" in histograms, f"histograms: {histograms}")
    check('le="65536.0"' in text and 'le="4.194304e+06"' in text, "le is not canonical")
    expected = series(plain_parser.text_string_to_metric_families(plain.decode()))
    check(series(families) == expected, "the formats differ")
    print(f"{len(families)} families, {len(expected)} series, the same in both formats")
    lint = subprocess.run(["promtool", "check", "metrics"], input=plain, capture_output=True, check=False)
    check(lint.returncode == 0 and not lint.stdout + lint.stderr, f"promtool: {lint.stdout} {lint.stderr}")


def check_gzip(exporter):
    for accept in ("text/plain", "application/openmetrics-text"):
        _, headers, compressed = get(exporter, Accept=accept, Accept_Encoding="gzip")
        check(headers["Content-Encoding"] == "gzip", "not compressed")
        _, headers, plain = get(exporter, Accept=accept, Accept_Encoding="identity")
        check(headers["Content-Encoding"] is None, "compressed")
        check(gzip.decompress(compressed) == plain, "gzip differs")
    curl = subprocess.run(["curl", "--silent", "--fail", "--compressed", exporter.url()], capture_output=True, check=True)
    check(b"cow_processes" in curl.stdout, "curl --compressed")


def check_filters(exporter):
    def names(query):
        status, _, body = get(exporter, "/metrics" + query)
        check(status == 200, f"{query}: {status}")
        return {line.split()[2] for line in body.decode().splitlines() if line.startswith("# TYPE")}
    only_cow = names("?collect[]=cow")
    check(names("?collect%5B%5D=cow") == only_cow, "percent-encoded keys")
    check({"cow_breaks_total", "cow_processes", "cow_exporter_build_info"} <= only_cow, f"only cow: {only_cow}")
    check(not {"cow_exposure_bytes", "cow_zero_page_bytes"} & only_cow, f"only cow: {only_cow}")
    without = names("?exclude[]=cow")
    check("cow_breaks_total" not in without and "cow_exposure_bytes" in without, f"without cow: {without}")
    for _ in range(20):  # a fork on the host adds families between two scrapes
        whole, only_cow, without = names(""), names("?collect[]=cow"), names("?exclude[]=cow")
        if names("") == whole:
            break
    check(only_cow | without == whole, "a family is in neither")
    both = names("?collect[]=cow&collect[]=sharing")
    check({"cow_breaks_total", "cow_exposure_bytes"} <= both and "cow_zero_page_bytes" not in both, f"both: {both}")
    for query in ("?collect[]=nope", "?exclude[]=nope", "?collect[]=cow&exclude[]=thp", "?collect[]=ksm", "?collect[]=%"):
        check(get(exporter, "/metrics" + query)[0] == 400, f"{query}: not 400")
    _, headers, body = get(exporter, "/metrics?collect[]=cow", Accept="application/openmetrics-text", Accept_Encoding="gzip")
    check(headers["Content-Encoding"] == "gzip" and gzip.decompress(body).endswith(b"# EOF\n"), "filtered and compressed")


def test(context):
    support.need("promtool", "curl")
    sys.path.append("/usr/lib/python3/dist-packages")  # where Debian has it, whichever interpreter this is
    try:
        import prometheus_client  # noqa: F401
    except ImportError:
        support.skip("python3-prometheus-client is not installed")
    support.need_frames()
    context.start(support.Process([support.binary("COW_DEMO"), "--heap-mib=16"], stdout=subprocess.DEVNULL))
    exporter = context.start(support.Exporter("--scan.interval=1h"))
    support.wait_for(lambda: get(exporter, "/-/ready")[0] == 200, 20, "a pass")
    check_formats(exporter)
    check_gzip(exporter)
    check_filters(exporter)


support.main(test)
