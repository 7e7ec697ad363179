"""SIGTERM and SIGINT end the program within a second, even in the middle of a pass."""

import os
import signal
import threading
import time
import urllib.error
import urllib.request

import support
from support import check

MOST_SECONDS = 1.0
MEMBERS = 8
PAGES = 512 * 256  # 512 MiB


def end_in_scrape(context, number, delay):
    """True if the scrape was still waiting when the signal was sent."""
    exporter = context.start(support.Exporter("--scan.interval=0s"))
    answered = threading.Event()

    def scrape():
        try:
            urllib.request.urlopen(exporter.url(), timeout=30).read()
        except (OSError, urllib.error.URLError):
            return  # it was ended
        answered.set()

    thread = threading.Thread(target=scrape)
    thread.start()
    time.sleep(delay)
    waiting = not answered.is_set()
    took = exporter.end(number)
    thread.join()
    print(f"ended in {took * 1000:.0f} ms, {delay * 1000:.0f} ms into a scrape{'' if waiting else ' that was over'}")
    check(exporter.returncode == 0, f"exit code {exporter.returncode}")
    check(took < MOST_SECONDS, f"took {took:.3f} s")
    return waiting


def end_in_pause(context):
    """The signal comes in the middle of a pass that waits for its budget."""
    exporter = context.start(support.Exporter("--scan.interval=60s", "--scan.max-cpu=0.0001"))
    time.sleep(1)
    took = exporter.end()
    print(f"ended in {took * 1000:.0f} ms, waiting for budget")
    check(exporter.returncode == 0, f"exit code {exporter.returncode}")
    check(took < MOST_SECONDS, f"took {took:.3f} s")


def end_in_blocked_read(context):
    """A file of /proc does not answer: only the end of the process ends that read."""
    proc = f"{context.directory}/proc"
    os.makedirs(f"{proc}/1")
    os.makedirs(f"{proc}/self")
    os.mkfifo(f"{proc}/1/stat")
    exporter = context.start(support.Exporter("--scan.interval=1s", "--path.procfs", proc))
    time.sleep(1)
    took = exporter.end()
    print(f"ended in {took * 1000:.0f} ms, in a read that does not return")
    check(exporter.returncode == 0, f"exit code {exporter.returncode}")
    check(took < MOST_SECONDS, f"took {took:.3f} s")


def test(context):
    end_in_blocked_read(context)
    workload = context.start(support.Workload())
    workload.do(f"map 0 a {PAGES} nohuge")
    workload.do(f"write 0 a 0 {PAGES}")
    for _ in range(MEMBERS - 1):
        workload.do("fork 0")
    rounds = ((signal.SIGTERM, 0.01), (signal.SIGINT, 0.05), (signal.SIGTERM, 0.1), (signal.SIGTERM, 0.02))
    waiting = [end_in_scrape(context, number, delay) for number, delay in rounds]
    check(any(waiting), "no scrape was under way when its signal came")
    end_in_pause(context)


support.main(test)
