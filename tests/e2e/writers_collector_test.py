"""The collector `writers`: off by default without a cost; samples by side, object and function, each counted once; code
beyond the top counts as _other; switched on by a reload only if it was on at the start."""

import os
import pathlib
import signal

import support
from support import check, wait_for
from watching import Writing, library

GROUP = "cow_writing"


def configure(context, text):
    path = pathlib.Path(context.path("config.yml"))
    path.write_text(f"scan: {{interval: 0s, max_cpu: 0}}\ncollectors: {{{text}}}\n", encoding="utf-8")
    return path


def start(context, text):
    return context.start(support.Exporter(f"--config.file={configure(context, text)}"))


def events(exporter):
    """The number of perf events that the reader holds."""
    targets = []
    for link in pathlib.Path(f"/proc/{exporter.pid}/fd").iterdir():
        try:
            targets.append(os.readlink(link))
        except FileNotFoundError:
            pass
    return sum("perf_event" in target for target in targets)


def samples(scrape):
    """By side, base name of the object, and function."""
    found = {}
    for (name, labels), value in scrape.values.items():
        labels = dict(labels)
        if name == "cow_writer_samples_total" and labels["group"] == GROUP:
            found[labels["side"], os.path.basename(labels["object"]), labels["function"]] = value
    return found


def test_off(context):
    family = context.start(Writing())
    family.do("fork")
    off, on = start(context, ""), start(context, "writers: true")
    off.scrape()
    family.write("child", "write", 20)
    text = off.scrape().text
    check("cow_writer_" not in text, "series of a collector that is off")
    check(events(off) == 0, f"{events(off)} perf events")
    check(len(support.processes_of(off.pid)) < len(support.processes_of(on.pid)), "the symbolizer's processes run")


def test_samples(context):
    family = context.start(Writing())
    family.do("fork")
    exporter = start(context, "writers: {one_in: 1}")
    for _ in range(2):
        exporter.scrape()
    check(events(exporter) > 0, "no perf events")
    family.write("parent", "write", 100)
    family.write("child", "write", 60)
    family.write("child", "library", 50, library())
    first = exporter.scrape()
    found = samples(first)
    for key, expected in ((("parent", "cow_writing", "write_in_parent"), 100),
                          (("child", "cow_writing", "write_in_child"), 60),
                          (("child", os.path.basename(library()), "write_in_library"), 50)):
        check(found.get(key) == expected, f"{key}: {found}")
    check(sum(found.values()) == sum(first.value("cow_breaks_total", group=GROUP, side=side) for side in
                                     ("parent", "child", "unknown")), f"{found}, {first.text}")
    check(first.value("cow_writer_lost_records_total") == 0, "lost records")
    check(first.value("cow_scrape_collector_duration_seconds", collector="writers") > 0, "the collector costs nothing")
    check(first.value("cow_exporter_capability", feature="writers") == 1, "the capability")
    family.write("child", "write", 5)
    check(samples(exporter.scrape())["child", "cow_writing", "write_in_child"] == 65, "a counter that does not grow")


def test_one_in_16(context):
    family = context.start(Writing())
    family.do("fork")
    exporter = start(context, "writers: true")
    for _ in range(2):
        exporter.scrape()
    family.write("child", "write", 1600)
    found = samples(exporter.scrape())["child", "cow_writing", "write_in_child"]
    check(98 <= found <= 102, f"{found} samples of 1600 breaks")


def test_top(context):
    family = context.start(Writing())
    family.do("fork")
    exporter = start(context, "writers: {top: 1, one_in: 1}")
    for _ in range(2):
        exporter.scrape()
    family.write("child", "write", 60)
    family.write("child", "thread", 40)
    scrape = exporter.scrape()
    found = samples(scrape)
    check(found["child", "cow_writing", "write_in_child"] == 60, str(found))
    check(("child", "cow_writing", "write_in_thread") not in found and found["child", "", "_other"] >= 40, str(found))
    check(sum(found.values()) == sum(scrape.value("cow_breaks_total", group=GROUP, side=side)
                                     for side in ("parent", "child", "unknown")), str(found))
    # Another function takes the top. The first keeps its count.
    family.write("child", "thread", 500)
    found = samples(exporter.scrape())
    check(found["child", "cow_writing", "write_in_child"] == 60, str(found))
    check(found["child", "cow_writing", "write_in_thread"] == 500, str(found))


def reload(exporter, context, text):
    configure(context, text)
    lines = len(exporter.log)
    exporter.send_signal(signal.SIGHUP)
    wait_for(lambda: any("configuration reloaded" in line for line in exporter.log[lines:]), 10, "the reload")
    exporter.scrape()


def test_reload(context):
    exporter = start(context, "writers: true")
    exporter.scrape()
    check(events(exporter) > 0, "no rings")
    reload(exporter, context, "writers: false")
    check(events(exporter) == 0, f"{events(exporter)} perf events of a collector that is off")
    reload(exporter, context, "writers: true")
    check(events(exporter) > 0, "no rings after it was on again")

    late = start(context, "writers: false")
    late.scrape()
    reload(late, context, "writers: true")
    check(events(late) == 0, "perf events in spite of the sandbox")
    check(any("restart the exporter" in line for line in late.log), "".join(late.log))


def test(context):
    support.need_frames()
    for each in (test_off, test_samples, test_one_in_16, test_top, test_reload):
        print(each.__name__)
        with support.Test() as own:
            each(own)


support.main(test)
