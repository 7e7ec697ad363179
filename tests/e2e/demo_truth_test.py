"""cow_demo counts its own breaks; the exporter must find the same number from outside.

The demo does not count breaks of the few pages of stack and data at each fork. This test has only a few forks, so
these are far below the tolerance. The exporter's counts belong to the moment of their pass
(cow_scan_timestamp_seconds); the demo's count is interpolated for that moment.
"""

import bisect
import subprocess
import time

import support
from support import check, check_close, wait_for

GROUP = "cow_demo"
SECONDS = 20
TOLERANCE = 0.01
SIDES = ("parent", "child")


def read_truth(path):
    """Returns times, the counts of each side at these times, and the forks."""
    with open(path, encoding="utf-8") as file:
        lines = [line.split() for line in file.read().splitlines()]
    columns = list(zip(*[[float(word) for word in words] for words in lines if len(words) == 4]))
    return columns[0], dict(zip(SIDES, columns[1:3])), columns[3]


def interpolate(times, counts, moment):
    after = bisect.bisect(times, moment)
    check(0 < after < len(times), "the truth does not reach to this moment")
    share = (moment - times[after - 1]) / (times[after] - times[after - 1])
    return counts[after - 1] + share * (counts[after] - counts[after - 1])


def test(context):
    support.need_frames()
    truth = context.path("truth")
    context.start(support.Process([support.binary("COW_DEMO"), "--heap-mib=128", f"--truth-file={truth}"],
                                  stdout=subprocess.DEVNULL))
    exporter = context.start(support.Exporter("--scan.interval=1s"))

    def scrape():
        samples = exporter.scrape()
        exposed = (samples.get("cow_exposure_bytes", group=GROUP) or 0) > 0
        return samples if exposed and samples.get("cow_scan_timestamp_seconds", group=GROUP) else None

    wait_for(scrape, 20, "the demo's first pass")
    time.sleep(2)
    first = scrape()
    time.sleep(SECONDS)
    last = scrape()
    time.sleep(0.5)
    begin, end = (s.value("cow_scan_timestamp_seconds", group=GROUP) for s in (first, last))
    times, truths, forks = read_truth(truth)
    print(f"{end - begin:.3f} s between the passes, {interpolate(times, forks, end) - interpolate(times, forks, begin):.0f}"
          " forks")
    check(end - begin > SECONDS - 3, "the values are old")
    for side in SIDES:
        expected = interpolate(times, truths[side], end) - interpolate(times, truths[side], begin)
        check(expected > 500, "the demo does too little")
        counted = last.breaks(GROUP)[side] - first.breaks(GROUP)[side]
        check_close(counted, expected, TOLERANCE, f"breaks of the {side}")
    unknown = last.breaks(GROUP)["unknown"] - first.breaks(GROUP)["unknown"]
    print(f"of unknown side: {unknown:.0f}")
    check(unknown <= 5, "sides are not told")


support.main(test)
