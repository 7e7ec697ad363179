"""`explain PID --writers` on a program whose functions write known numbers of pages: on both sides, in a thread, from a
library that is gone, from a file of another mount namespace, by a system call, and without symbols. Pages by function
are the pages written, both sums hold, and the breaks are those that an exporter counts."""

import json
import os
import pathlib
import re
import subprocess
import sys
import time

import support
from support import check
from watching import Watch, Writing, check_sums, counted_breaks, library, pages_by

NOBODY = 65534


def test_functions(context):
    family = context.start(Writing())
    family.do("fork")
    exporter = context.start(support.Exporter("--scan.interval=0", "--scan.max-cpu=0", "--no-collector.smaps"))
    counted_breaks(exporter, "cow_writing")
    watch = context.start(Watch(family.pid, "--json"))
    before = counted_breaks(exporter, "cow_writing")
    family.write("parent", "write", 100)
    family.write("parent", "thread", 70)
    family.write("child", "write", 60)
    family.write("child", "library", 50, library())
    family.write("child", "mount", 40, library(), context.directory)
    family.write("child", "read", 30)
    family.write("child", "thread", 20)
    family.do("child fresh 0 200")
    family.do("child zero 0 80")
    report = watch.report()
    counted = counted_breaks(exporter, "cow_writing") - before
    for expected, wanted in ((100, {"function": "write_in_parent", "side": "parent"}),
                             (70, {"function": "write_in_thread", "side": "parent"}),
                             (60, {"function": "write_in_child", "side": "child", "mapping": "anon"}),
                             (20, {"function": "write_in_thread", "side": "child"}),
                             (50, {"function": "write_in_library", "object": library()}),
                             (40, {"function": "write_in_library", "object": context.path("only_here.so")}),
                             (30, {"object": "[kernel]", "mapping": "anon", "side": "child"})):
        found = pages_by(report, **wanted)
        check(found == expected, f"{wanted}: {found} pages, expected {expected}: {json.dumps(report, indent=1)}")
    check(report["lost_records"] == 0, f"{report['lost_records']} records were lost")
    check(report["unexplained_pages"] == 0, f"{report['unexplained_pages']} breaks are unexplained")
    check(report["broken_pages"] == counted, f"{report['broken_pages']} broken, the exporter counts {counted}")
    check(report["fresh_records"]["zero_page"] == 80, str(report["fresh_records"]))
    check(report["fresh_records"]["first_touch"] >= 200, str(report["fresh_records"]))
    print(f"{report['broken_pages']:.0f} pages broken, as the exporter counts")


def test_stripped(context):
    family = context.start(Writing(stripped=True))
    family.do("fork")
    watch = context.start(Watch(family.pid, "--json"))
    family.write("child", "write", 90)
    report = watch.report()
    most = report["writers"][0]
    check(most["pages"] == 90 and most["function"] is None and most["object"] == family.program, str(most))
    notes = subprocess.run(["readelf", "-n", family.program], capture_output=True, text=True, check=True).stdout
    check(most["build_id"] == re.search("Build ID: ([0-9a-f]+)", notes)[1], f"{most['build_id']}, {notes}")
    # The offset is addr2line's, so the program with symbols names it.
    with_symbols = support.binary("COW_WRITING")
    named = subprocess.run(["addr2line", "-f", "-e", with_symbols, most["offset"]], capture_output=True, text=True, check=True)
    check(named.stdout.split()[0] == "write_in_child", named.stdout)


def test_members_of_the_run(context):
    """Members that are forked while watching: they write before and after the look at the fork."""
    for pause in (0, 1):
        check_new_member(context, pause)


def check_new_member(context, pause):
    family = context.start(Writing())
    watch = context.start(Watch(family.pid, "--json"))
    family.do("fork")
    time.sleep(pause)
    family.write("parent", "write", 110)
    family.write("child", "write", 90)
    report = watch.report()
    check(pages_by(report, function="write_in_parent", side="parent") == 110, str(report))
    check(pages_by(report, function="write_in_child", side="child") == 90, str(report))
    check(report["lost_records"] == 0 and report["unexplained_pages"] == 0, str(report))


def test_stacks(context):
    family = context.start(Writing())
    family.do("fork")
    for stacks in ("fp", "dwarf"):
        folded, pprof = context.path("folded"), context.path("pprof")
        watch = context.start(Watch(family.pid, "--json", f"--stacks={stacks}", f"--folded={folded}", f"--pprof={pprof}"))
        family.write("child", "write", 40)
        report = watch.report()
        check(pages_by(report, function="write_in_child") == 40, f"{stacks}: {report}")
        lines = pathlib.Path(folded).read_text(encoding="utf-8").splitlines()
        sums = sum(int(line.rpartition(" ")[2]) for line in lines)
        check(sums == 4096 * sum(writer["pages"] for writer in report["writers"]), f"{stacks}: {lines}")
        check(any(re.fullmatch(r"child;.*main;.*;write_in_child 163840", line) for line in lines), f"{stacks}: {lines}")
        decoded = subprocess.run(
            ["protoc", "--decode=cow.pprof.Profile", "-I", str(proto().parent), proto().name],
            stdin=open(pprof, "rb"), capture_output=True, text=True, check=True).stdout
        check("write_in_child" in decoded and "sharing_lost" in decoded, decoded)
        values = re.findall(r"value: (\d+)\s+value: (\d+)", decoded)
        check(sum(int(breaks) for breaks, _ in values) == sums // 4096, decoded)
        check(sum(int(size) for _, size in values) == sums, decoded)


def proto():
    return pathlib.Path(__file__).resolve().parents[2] / "exporter" / "writers" / "profile.proto"


def test_texts(context):
    family = context.start(Writing())
    family.do("fork")
    watch = context.start(Watch(family.pid))
    family.write("child", "write", 256)
    text = watch.finish()
    check(re.match(r"1(\.\d)? MiB broken in [\d.]+ s, [>\d]+ % by write_in_child in cow_writing, called by the child\.\n", text), text)
    check(re.search(r"1 MiB +[>\d]+ % +child +anon +write_in_child +cow_writing$", text, re.MULTILINE), text)
    check("page faults:" in text, text)
    watch = context.start(Watch(family.pid))
    check(watch.finish().startswith("Nothing was broken in "), "a watch without breaks")


def test_closed_pipe(context):
    """A reader that ends early causes no message, and the files are written all the same."""
    family = context.start(Writing())
    family.do("fork")
    folded = context.path("folded")
    watch = context.start(support.Process([support.binary("COW_EXPORTER"), "explain", str(family.pid), "--writers=1",
                                           f"--folded={folded}"], stdout=subprocess.PIPE, stderr=subprocess.PIPE))
    check(watch.line(watch.stderr).startswith("watching "), "the begin of the watch")
    family.write("child", "write", 16)
    watch.stdout.close()
    code = watch.wait(30)
    problem = watch.stderr.read()
    check(code == 0 and problem == "", f"{code} when the pipe is closed: {problem}")
    check("write_in_child" in pathlib.Path(folded).read_text(encoding="utf-8"), "no stacks in the file")


def fails(*arguments, wrapper=(), code=1):
    done = subprocess.run([*wrapper, support.binary("COW_EXPORTER"), "explain", *map(str, arguments)],
                          capture_output=True, text=True, check=False, timeout=30)
    check(done.returncode == code, f"{arguments}: exit code {done.returncode}: {done.stdout}{done.stderr}")
    return done.stderr


def test_errors(context):
    family = context.start(Writing())
    problem = fails(family.pid, "--writers", "--folded=/nowhere/file")
    check(problem == "cow_exporter: can't write /nowhere/file: No such file or directory\n", problem)
    check("no process 4194300" in fails(4194300, "--writers"), "a process that is not there")
    check("--writers" in fails(family.pid, "--folded=x", code=2), "--folded without --writers")
    check("unknown stacks" in fails(family.pid, "--writers", "--stacks=all", code=2), "a wrong kind of stacks")
    check("out of range" in fails(family.pid, "--writers=0", code=2), "a watch of no time")


def test_rights(context):
    """Another user: own processes by function, not judged; others not at all."""
    as_nobody = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--inh-caps=-all",
                 "--bounding-set=-all"]
    problem = fails(os.getpid(), "--writers=0.2", wrapper=as_nobody)
    check(problem.count("\n") == 1 and ("CAP_PERFMON" in problem or "can't be read" in problem), problem)
    paranoid = pathlib.Path("/proc/sys/kernel/perf_event_paranoid")
    if int(paranoid.read_text(encoding="ascii")) > 2:
        return
    family = context.start(Writing(wrapper=as_nobody))
    family.do("fork")
    watch = context.start(Watch(family.pid, "--json", wrapper=as_nobody))
    family.write("child", "write", 50)
    report = json.loads(watch.finish())
    check(not report["judged"] and report["broken_pages"] is None, str(report))
    records = {writer["function"]: writer["records"] for writer in report["writers"]}
    check(records.get("write_in_child") == 50, str(report))
    watch = context.start(Watch(family.pid, wrapper=as_nobody))
    family.write("child", "write", 50)
    text = watch.finish()
    check("it is not known which of them broke a page" in text, text)


def test_end_of_process(context):
    family = context.start(Writing())
    family.do("fork")
    watch = context.start(Watch(family.pid, "--json"))
    family.write("child", "write", 10)
    family.end()
    check_sums(json.loads(watch.communicate(timeout=60)[0]) if watch.poll() is not None else json.loads(watch.finish()))


def test_go_pprof(context):
    """Go's own reader of profiles agrees about functions and sums."""
    family = context.start(Writing())
    family.do("fork")
    profile = context.path("profile.pb")
    watch = context.start(Watch(family.pid, "--json", "--stacks=fp", f"--pprof={profile}"))
    family.write("child", "write", 256)
    report = watch.report()
    attributed = sum(writer["bytes"] for writer in report["writers"])
    top = subprocess.run(["go", "tool", "pprof", "-top", "-unit=B", profile], capture_output=True, text=True, check=True,
                         env={**os.environ, "HOME": context.directory}).stdout
    check("Type: sharing_lost" in top, top)
    check(re.search(rf"of {attributed}B total", top), f"{attributed}: {top}")
    check(re.search(r"^ *1048576B .* write_in_child$", top, re.MULTILINE), top)


def test(context):
    support.need_frames()
    if "--pprof" in sys.argv:
        support.need("go")
        return test_go_pprof(context)
    for each in (test_functions, test_stripped, test_members_of_the_run, test_stacks, test_texts, test_closed_pipe,
                 test_errors, test_rights, test_end_of_process):
        print(each.__name__)
        with support.Test() as own:
            each(own)


support.main(test)
