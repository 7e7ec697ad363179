"""Shared parts of the end-to-end tests: processes that end with the test, scrapes and their parsing, checks."""

import contextlib
import ctypes
import fcntl
import os
import pathlib
import re
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

import privileges

SKIP = 77
CLONE_NEWNS, CLONE_NEWNET = 0x20000, 0x40000000
SAMPLE = re.compile(r'^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)$')
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"')


class Failure(Exception):
    """A failed check."""


def skip(reason):
    print(f"skipped: {reason}")
    sys.exit(SKIP)


def check(condition, message):
    if not condition:
        raise Failure(message)


def check_close(value, expected, tolerance, message):
    """`tolerance` is a share of `expected`."""
    off = abs(value - expected) / expected if expected else float(value != expected)
    print(f"{message}: {value:.0f}, expected {expected:.0f}, off by {off:.3%}")
    check(off <= tolerance, f"{message}: off by {off:.3%}, allowed are {tolerance:.1%}")


def need(*tools):
    """Returns the paths of installed programs."""
    for tool in tools:
        if shutil.which(tool) is None:
            skip(f"{tool} is not installed")


def need_memory(needed):
    """Returns bytes."""
    with open("/proc/meminfo", encoding="ascii") as file:
        available = next(int(line.split()[1]) * 1024 for line in file if line.startswith("MemAvailable:"))
    if available < needed:
        skip(f"needs {needed >> 20} MiB of memory, {available >> 20} MiB are available")


def binary(variable):
    """Returns the path of one of our programs; CTest sets the variables."""
    path = os.environ.get(variable)
    if not path:
        sys.exit(f"{variable} is not set to the program's path")
    return path


def wait_for(condition, seconds, what, pause=0.05):
    """Polls until `condition` returns something true, and returns that."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        check(time.monotonic() < end, f"{what}: not within {seconds} s")
        time.sleep(pause)


def bcrypt_hash(password, cost=10):
    """Hashes with libcrypt, as htpasswd does."""
    crypt = ctypes.CDLL("libcrypt.so.1").crypt
    crypt.restype = ctypes.c_char_p
    return crypt(password.encode(), f"$2y${cost:02}$abcdefghijklmnopqrstuu".encode()).decode()


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def own_namespaces(flags):
    """Unshares these namespaces if that is allowed. Mounts in a mount namespace stay private; a network namespace
    gets lo up."""
    need_privileges(*(["mounts of its own"] if flags & CLONE_NEWNS else []), *(["a network namespace"] if flags & CLONE_NEWNET else []))
    check(ctypes.CDLL(None, use_errno=True).unshare(flags) == 0, f"unshare: {os.strerror(ctypes.get_errno())}")
    if flags & CLONE_NEWNS:
        subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    if flags & CLONE_NEWNET:
        with socket.socket() as any_socket:
            fcntl.ioctl(any_socket, 0x8914, struct.pack("16sh14x", b"lo", 0x41))  # up and running


def browse(context, url, *options):
    """Returns the page as the browser shows it, and the browser's log."""
    run = subprocess.run(
        ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--enable-logging=stderr",
         f"--user-data-dir={context.path('profile')}", *options, url], capture_output=True, text=True, timeout=100,
        check=True)
    return run.stdout, [line for line in run.stderr.splitlines() if ":CONSOLE" in line]


def processes_of(pid):
    """Returns the process and its descendants, as long as their parents live."""
    pids = [pid]
    for parent in pids:
        for children in pathlib.Path(f"/proc/{parent}/task").glob("*/children"):
            with contextlib.suppress(OSError):  # the thread has ended
                pids += [int(child) for child in children.read_text(encoding="ascii").split()]
    return pids


def cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Process(subprocess.Popen):
    """A program in its own session, which is ended together with everything it has started. Its pid is signalled
    only until it is reaped; after that the pid may belong to another process."""

    def __init__(self, command, **options):
        self._reaping = threading.Lock()
        super().__init__(command, start_new_session=True, text=True, **options)

    def poll(self):
        with self._reaping:
            if self.returncode is None:
                with contextlib.suppress(ChildProcessError):
                    if not self._has_ended():
                        return None
                self._kill_all()
                super().poll()
            return self.returncode

    def wait(self, timeout=None):
        end = None if timeout is None else time.monotonic() + timeout
        pause = 0.001
        while self.poll() is None:
            if end is not None and time.monotonic() > end:
                raise subprocess.TimeoutExpired(self.args, timeout)
            time.sleep(pause)
            pause = min(2 * pause, 0.05)
        return self.returncode

    def end(self, number=signal.SIGTERM):
        """Returns the seconds until it ended; it may have ended before."""
        start = time.monotonic()
        self.send_signal(number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(10)
        took = time.monotonic() - start
        self.kill_all()
        self.wait()
        return took

    def kill_all(self):
        with self._reaping:
            if self.returncode is None:
                self._kill_all()

    @contextlib.contextmanager
    def within(self, seconds, what):
        """Kills the program if the block takes longer, so that no wait hangs."""
        expired = threading.Event()

        def expire():
            expired.set()
            self.kill_all()

        timer = threading.Timer(seconds, expire)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
        check(not expired.is_set(), f"{what}: not within {seconds} s")

    def line(self, stream=None, seconds=60):
        """Returns the next line of its standard output or of the given stream; empty at the end."""
        with self.within(seconds, f"a line of {self.args[0]}"):
            return (stream or self.stdout).readline()

    def _has_ended(self):
        """Waits for the end without reaping; ChildProcessError if it is no child any more."""
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None

    def _kill_all(self):
        with contextlib.suppress(ChildProcessError, ProcessLookupError, PermissionError):
            self._has_ended()
            os.killpg(self.pid, signal.SIGKILL)


class Exporter(Process):
    """cow_exporter on an ephemeral port of the loopback device."""

    def __init__(self, *flags, program=None, wrapper=(), host="127.0.0.1", **options):
        """`program`: a copy of ours; `wrapper`: the command that runs it; `host`: another address of the loopback
        device."""
        program = program or binary("COW_EXPORTER")
        listen = [] if "--web.systemd-socket" in flags else [f"--web.listen-address={host}:0"]
        super().__init__([*wrapper, program, *listen, *flags], stderr=subprocess.PIPE, **options)
        self.log = []
        self.address = None
        self.scheme = "http"
        self._listening = threading.Event()
        threading.Thread(target=self._read_log, daemon=True).start()
        if not self._listening.wait(10) or self.address is None:
            self.end(signal.SIGKILL)
            raise Failure("the exporter does not listen: " + "".join(self.log))

    @contextlib.contextmanager
    def taking_web_files(self):
        """After the body has changed a file of the web configuration, waits until the exporter has taken or refused it."""
        def outcomes():
            return sum("web configuration reloaded" in line or "web configuration stays in force" in line for line in self.log)

        before = outcomes()
        yield
        wait_for(lambda: outcomes() > before, 10, "a look at the web configuration")

    def cpu_seconds(self):
        """CPU time of all processes of the service."""
        return sum(cpu_seconds(pid) for pid in processes_of(self.pid))

    def _read_log(self):
        for line in self.stderr:
            self.log.append(line)
            found = re.search(r'listening"?[ ,]"?address"?[=:]"?([^\s"]+)', line)
            if found and self.address is None:  # the first one if there are several
                self.address = found.group(1)
                self._listening.set()
        self._listening.set()

    def url(self, path="/metrics"):
        return f"{self.scheme}://{self.address}{path}"

    def scrape(self):
        trust = ssl._create_unverified_context() if self.scheme == "https" else None
        with urllib.request.urlopen(self.url(), timeout=30, context=trust) as response:
            return Samples(response.read().decode())


class Samples:
    """One scrape."""

    def __init__(self, text):
        self.text = text
        self.values = {}
        for line in text.splitlines():
            found = SAMPLE.match(line)
            if found:
                labels = frozenset(LABEL.findall(found.group(2) or ""))
                self.values[found.group(1), labels] = float(found.group(3))

    def get(self, name, **labels):
        """Returns None if there is no such series."""
        return self.values.get((name, frozenset(labels.items())))

    def value(self, name, **labels):
        value = self.get(name, **labels)
        check(value is not None, f"no series {name} {labels}")
        return value

    def breaks(self, group):
        """Returns pages by side."""
        return {side: self.value("cow_breaks_total", group=group, side=side) for side in ("parent", "child", "unknown")}


class Workload(Process):
    """cow_workload; its commands are described in its source."""

    def __init__(self, wrapper=()):
        """`wrapper`: the command that runs it."""
        super().__init__([*wrapper, binary("COW_WORKLOAD")], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def do(self, command):
        self.stdin.write(command + "\n")
        self.stdin.flush()
        with self.within(60, f"cow_workload: {command}"):
            answer = self.stdout.readline().strip()
        check(answer.startswith("ok"), f"cow_workload: {command}: {answer}")
        return answer[3:]


class Test(contextlib.ExitStack):
    """Ends everything that was started with it, last first, however the test ends."""

    def __init__(self):
        super().__init__()
        self.directory = self.enter_context(tempfile.TemporaryDirectory(prefix="cow_e2e_"))

    def start(self, process):
        self.callback(process.end)
        return process

    def path(self, name):
        return os.path.join(self.directory, name)


def main(test):
    """Runs test(Test()); exits with CTest's code."""
    # A test that gets a signal still ends everything it has started. It handles the signal once.
    def end(*_):
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        sys.exit(1)

    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # nohup ignores it
            signal.signal(number, end)
    sys.stdout.reconfigure(line_buffering=True)
    try:
        with Test() as context:
            test(context)
    except Failure as failure:
        sys.exit(f"FAILED: {failure}")
    print("passed")


def need_privileges(*names):
    """Skips the test unless these probes of privileges.PROBES succeed."""
    for name in names:
        missing = privileges.missing(name)
        if missing:
            skip(missing)


def need_frames():
    need_privileges("page frames of other processes")


def need_history():
    """Skips the test unless the exporter can know which process copied a page before its first look: frames and
    delay accounting."""
    need_privileges("page frames of other processes", "the kernel's reports of ended tasks")


def need_everything():
    """Skips the test unless every feature of the exporter is available."""
    need_privileges("page frames of other processes", "the kernel's fork events", "the kernel's reports of ended tasks")
