"""SIGTERM and SIGINT end the program within a second, even in the middle of a pass, and whatever blocks: a read, a
client, a reload or the log."""

import os
import re
import select
import signal
import socket
import subprocess
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


def check_end(exporter, what):
    start = time.monotonic()
    exporter.send_signal(signal.SIGTERM)
    try:
        exporter.wait(10)
    except subprocess.TimeoutExpired:
        raise support.Failure(f"does not end: {what}") from None
    took = time.monotonic() - start
    print(f"ended in {took * 1000:.0f} ms, {what}")
    check(exporter.returncode == 0, f"exit code {exporter.returncode}")
    check(took < MOST_SECONDS, f"took {took:.3f} s")


def fill(pipe):
    os.set_blocking(pipe, False)
    try:
        while True:
            os.write(pipe, b"x" * 4096)
    except BlockingIOError:
        pass
    os.set_blocking(pipe, True)


def scrape(port, path="/metrics", method="GET"):
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", method=method)
    try:
        with urllib.request.urlopen(request, timeout=5) as response:
            return response.read().decode()
    except urllib.error.HTTPError as error:
        return error.read().decode()


def dropped_lines(port):
    """None if it does not answer."""
    try:
        return int(support.Samples(scrape(port)).value("cow_exporter_log_dropped_lines_total"))
    except OSError:
        return None


def read_all(pipe, texts):
    """Reads what there is, adds it to `texts` and returns all of them."""
    while select.select([pipe], [], [], 0.05)[0]:
        texts.append(os.read(pipe, 1 << 16).decode())
    return "".join(texts)


def reported(text):
    return sum(map(int, re.findall(r'level=warn msg="dropped (\d+) log lines"', text)))


def end_with_full_log(context):
    """Standard error is a full pipe that nobody reads. The exporter starts, answers, reloads and ends. When somebody
    reads, one line reports the dropped ones."""
    for is_read in (False, True):
        reader, writer = os.pipe()
        fill(writer)
        port = support.free_port()
        exporter = context.start(support.Process(
            [support.binary("COW_EXPORTER"), f"--web.listen-address=127.0.0.1:{port}", "--web.enable-lifecycle",
             "--scan.interval=1s"], stderr=writer))
        support.wait_for(lambda port=port: dropped_lines(port) is not None, 10, "an answer with a full log")
        check(os.get_blocking(writer), "the exporter has made the pipe non-blocking for everybody")
        for _ in range(1500):
            scrape(port, "/-/reload", "POST")
        dropped = dropped_lines(port)
        print(f"dropped {dropped} lines")
        check(dropped > 0, "nothing was dropped")
        texts = []
        os.close(writer)
        if is_read:
            support.wait_for(lambda: reported(read_all(reader, texts)) == dropped_lines(port) > 0, 10, "the report")
            scrape(port, "/-/reload", "POST")
            support.wait_for(lambda: "configuration reloaded" in read_all(reader, texts)[-500:], 10, "a line after it")
        check_end(exporter, "with a log that is read again" if is_read else "with a full log")
        os.close(reader)


def end_with_slow_client(context):
    """A client asks again and again and never reads the answers."""
    exporter = context.start(support.Exporter("--scan.interval=1s"))
    host, port = exporter.address.rsplit(":", 1)
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect((host, int(port)))
        client.settimeout(0.5)
        try:
            for _ in range(1000):
                client.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 10)
        except TimeoutError:
            pass  # the exporter waits for the client
        check_end(exporter, "with a client that reads nothing")


def end_in_blocked_reload(context):
    """The service manager takes no messages, so a reload waits in the kernel."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        manager.bind(context.path("notify"))
        exporter = context.start(support.Exporter(env={**os.environ, "NOTIFY_SOCKET": context.path("notify")}))
        manager.settimeout(10)
        while b"READY=1" not in manager.recv(4096):
            pass
        other.setblocking(False)
        try:
            while True:
                other.sendto(b"x", context.path("notify"))
        except BlockingIOError:
            pass
        exporter.send_signal(signal.SIGHUP)
        time.sleep(0.3)
        check_end(exporter, "in a reload that does not return")


def test(context):
    end_in_blocked_read(context)
    end_with_full_log(context)
    end_with_slow_client(context)
    end_in_blocked_reload(context)
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
