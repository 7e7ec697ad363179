"""A program that writes known pages, and `explain PID --writers` as tests run it: it has made its first look, it ends like
Ctrl-C, and both sums of its report hold."""

import json
import signal
import subprocess

import support
from support import check


class Writing(support.Process):
    """cow_writing; its commands are described in its source."""

    def __init__(self, stripped=False, wrapper=()):
        self.program = support.binary("COW_WRITING") + ("_stripped" if stripped else "")
        super().__init__([*wrapper, self.program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.next = 0

    def do(self, command):
        self.stdin.write(command + "\n")
        self.stdin.flush()
        with self.within(60, f"cow_writing: {command}"):
            answer = self.stdout.readline().strip()
        check(answer.startswith("ok"), f"cow_writing: {command}: {answer}")
        return answer[3:]

    def write(self, side, action, pages, *arguments):
        """Uses pages that no command has used."""
        self.do(" ".join(map(str, (side, action, self.next, pages, *arguments))))
        self.next += pages


class Watch(support.Process):
    """`explain PID --writers`, after its first look."""

    def __init__(self, pid, *options, wrapper=()):
        super().__init__([*wrapper, support.binary("COW_EXPORTER"), "explain", str(pid), "--writers=60", *options],
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        with self.within(30, "the first look"):
            begin = self.stderr.readline()
        check(begin.startswith("watching "), begin)

    def finish(self):
        """Ends it as Ctrl-C does; returns its output."""
        self.send_signal(signal.SIGINT)
        out, problems = self.communicate(timeout=60)
        check(self.returncode == 0, f"exit code {self.returncode}: {problems}")
        return out

    def report(self):
        report = json.loads(self.finish())
        check_sums(report)
        return report


def check_sums(report):
    attributed = sum(writer["pages"] for writer in report["writers"])
    check(attributed + report["unexplained_pages"] == report["broken_pages"], f"pages do not add up: {report}")
    fresh = sum(report["fresh_records"].values())
    check(report["attributed_records"] + fresh + report["repeated_records"] == report["records"],
          f"records do not add up: {report}")


def pages_by(report, **wanted):
    """Sums the pages of the writers that have these values."""
    return sum(writer["pages"] for writer in report["writers"]
               if all(writer[key] == value for key, value in wanted.items()))


def counted_breaks(exporter, group):
    """Breaks of the group in a fresh pass of an exporter with --scan.interval=0."""
    return sum(value for (name, labels), value in exporter.scrape().values.items()
               if name == "cow_breaks_total" and ("group", group) in labels)


def library():
    return support.binary("COW_WRITING_LIBRARY")
