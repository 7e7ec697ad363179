"""A real Prometheus scrapes the exporter, and its queries see the demo's sharing and breaks."""

import json
import subprocess
import urllib.error
import urllib.parse
import urllib.request

import support
from support import check, wait_for

CONFIGURATION = """\
global:
  scrape_interval: 1s
  scrape_timeout: 1s
scrape_configs:
  - job_name: cow
    static_configs:
      - targets: ["{address}"]
"""


def test(context):
    support.need("prometheus")
    support.need_frames()
    context.start(support.Process([support.binary("COW_DEMO"), "--heap-mib=64"], stdout=subprocess.DEVNULL))
    exporter = context.start(support.Exporter("--scan.interval=1s"))
    with open(context.path("prometheus.yml"), "w", encoding="utf-8") as file:
        file.write(CONFIGURATION.format(address=exporter.address))
    port = support.free_port()
    log = context.enter_context(open(context.path("prometheus.log"), "w+", encoding="utf-8"))
    context.start(support.Process(
        ["prometheus", f"--config.file={context.path('prometheus.yml')}", f"--storage.tsdb.path={context.path('data')}",
         f"--web.listen-address=127.0.0.1:{port}"], stdout=log, stderr=log))

    def query(expression):
        """The value of the one series there is, or None."""
        url = f"http://127.0.0.1:{port}/api/v1/query?" + urllib.parse.urlencode({"query": expression})
        try:
            with urllib.request.urlopen(url, timeout=5) as response:
                result = json.load(response)["data"]["result"]
        except (OSError, urllib.error.URLError):
            return None
        check(len(result) <= 1, f"{expression}: {len(result)} series")
        return float(result[0]["value"][1]) if result else None

    wait_for(lambda: query("up") == 1, 30, "up == 1", pause=0.2)
    exposure = wait_for(lambda: query('cow_exposure_bytes{group="cow_demo"}'), 20, "exposure", pause=0.2)
    rates = {}
    for side in ("parent", "child"):
        expression = f'rate(cow_breaks_total{{group="cow_demo",side="{side}"}}[10s])'
        rates[side] = wait_for(lambda e=expression: query(e), 20, f"breaks of the {side}", pause=0.2)
    print(f"exposure {exposure:.0f} bytes, breaks a second: " + ", ".join(f"{s} {r:.1f}" for s, r in rates.items()))
    check(exposure > 0 and all(rate > 0 for rate in rates.values()), "nothing is shared, or nothing broken")
    dropped = query("scrape_samples_scraped - scrape_samples_post_metric_relabeling")
    check(dropped == 0, f"{dropped} samples were dropped")


support.main(test)
