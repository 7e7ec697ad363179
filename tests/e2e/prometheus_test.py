"""A real Prometheus scrapes the exporter; its queries show the sharing and the breaks of the demo."""

import subprocess

import monitoring
import support
from support import check, wait_for


def test(context):
    support.need("prometheus")
    support.need_frames()
    context.start(support.Process([support.binary("COW_DEMO"), "--heap-mib=64"], stdout=subprocess.DEVNULL))
    exporter = context.start(support.Exporter("--scan.interval=1s"))
    prometheus = monitoring.Prometheus(context, {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
        "scrape_configs": [{"job_name": "cow", "static_configs": [{"targets": [exporter.address]}]}]})
    query = prometheus.value
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
