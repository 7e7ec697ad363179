#!/usr/bin/env python3
"""Draws the picture of a save in the README, plots/save.svg, from a real run. A Redis of 200,000 keys saves in the
background while its keys are written at a steady pace. The exporter is scraped twice a second. Not a test: run it after
a change of the picture, as root, with COW_EXPORTER set to the program's path."""

import pathlib
import subprocess
import sys
import time

import plots
from programs import support  # puts tests/e2e on the path

import servers

OUTPUT = pathlib.Path(__file__).resolve().parent / "plots" / "save.svg"
GROUP = "redis-server"
KEYS, VALUE_BYTES = 200_000, 1000
SAVE_DELAY_US = 150  # per key
WRITE = "-n 300 -c 2 -q setrange key:__rand_int__ 0 written"
EXPOSURE, COPIED = plots.COLORS[1], plots.COLORS[0]
LEFT, RIGHT, TOP, BOTTOM = 84, 620, 48, 270
MIB = 1 << 20


def measure(context):
    """Returns (seconds since the fork, exposure, copied bytes) per scrape, and Redis' own last count of copied bytes.
    The first points lie before the fork, the last ones after the save."""
    redis = context.start(servers.Redis(context.directory))
    redis.fill(KEYS, VALUE_BYTES)
    redis.do("config", "set", "rdb-key-save-delay", SAVE_DELAY_US)
    exporter = context.start(support.Exporter("--scan.interval=0s"))
    points, forked, copied_before, own = [], None, 0.0, 0

    def scrape():
        samples = exporter.scrape()
        copied = sum(samples.get("cow_break_bytes_total", group=GROUP, mapping=mapping) or 0
                     for mapping in ("heap", "stack", "anon", "file", "shmem"))
        points.append((time.monotonic(), samples.get("cow_exposure_bytes", group=GROUP) or 0, copied - copied_before))
        time.sleep(0.5)

    for _ in range(6):
        scrape()
    writing = f"while redis-benchmark -s {redis.socket} -r {KEYS} {WRITE}; do sleep 0.2; done"
    redis.do("bgsave")
    forked = time.monotonic()
    context.start(support.Process(["sh", "-c", writing], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
    while redis.child():
        own = max(own, int(redis.info()["current_cow_size"]))
        scrape()
    ended = time.monotonic()
    for _ in range(6):
        scrape()
    return [(at - forked, exposure, copied) for at, exposure, copied in points], ended - forked, own


def curve(points, color):
    way = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline points="{way}" fill="none" stroke="{color}" stroke-width="3"/>'


def draw(points, ended):
    first, last = points[0][0], points[-1][0]
    most = max(exposure for _, exposure, _ in points)
    top = (most // (50 * MIB) + 1) * 50 * MIB

    def x(seconds):
        return LEFT + (seconds - first) / (last - first) * (RIGHT - LEFT)

    def y(size):
        return BOTTOM - size / top * (BOTTOM - TOP)

    parts = []
    for size in range(0, int(top) + 1, 50 * MIB):
        parts += [plots.line(LEFT, y(size), RIGHT, y(size)), plots.text(LEFT - 8, y(size) + 4, f"{size // MIB} MiB", "end")]
    for seconds in range(0, int(last) + 1, 10):
        parts.append(plots.text(x(seconds), BOTTOM + 20, f"{seconds} s", "middle"))
    for seconds, what in ((0, "BGSAVE forks"), (ended, "the save ends")):
        parts += [plots.line(x(seconds), TOP, x(seconds), BOTTOM, plots.COLORS[2]),
                  plots.text(x(seconds), BOTTOM + 40, what, "middle")]
    saving = [point for point in points if 0 <= point[0] <= ended]
    parts += [curve([(x(at), y(exposure)) for at, exposure, _ in points], EXPOSURE),
              curve([(x(at), y(copied)) for at, _, copied in points if at <= ended], COPIED)]
    _, exposure, copied = saving[-1]
    for size, color, lines in (
            (copied, COPIED, (f"copied so far: {copied / MIB:.0f} MiB", "sum(cow_break_bytes_total)",
                              "first writes to shared pages")),
            (exposure, EXPOSURE, (f"still shared: {exposure / MIB:.0f} MiB", "cow_exposure_bytes",
                                  "what this save can still cost"))):
        parts.append(plots.circle(x(saving[-1][0]), y(size), color))
        for number, words in enumerate(lines):
            parts.append(plots.text(RIGHT + 14, y(size) - 8 + 18 * number, words, size=13 if number < 2 else 12,
                                    weight="bold" if number == 0 else "normal"))
    return plots.picture("Redis saves while it is written to: what is shared turns into copies", BOTTOM + 56, parts)


def run(context):
    support.need("redis-server", "redis-cli", "redis-benchmark")
    support.need_frames()
    points, ended, own = measure(context)
    for at, exposure, copied in points:
        print(f"{at:6.1f} s: exposure {exposure / MIB:6.1f} MiB, copied {copied / MIB:6.1f} MiB")
    print(f"the save took {ended:.1f} s; current_cow_size was {own / MIB:.1f} MiB")
    OUTPUT.write_text(draw(points, ended), encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        sys.exit(__doc__)
    support.main(run)
