"""All levels of rights: the exporter's rights decide the mode of each process, and unknown values are absent.

The test watches three services. `master`: root's, with a worker that dropped root (its files in /proc belong to root
until it execs). `user`: two processes of an unprivileged user. `equal`: root's, with no more capabilities than the
exporter where that matters. Each level runs the exporter once with certain rights; the mode of each service, the
presence of each metric and the known values must be right.
"""

import contextlib
import json
import os
import re
import shutil
import subprocess

import support
from support import check

NOBODY = 65534
PAGE = os.sysconf("SC_PAGESIZE")
PAGES = 600
WRITTEN = 100

# The metrics published for a group in each mode. In other modes there are none.
ALWAYS = {"cow_processes", "cow_group_mode", "cow_unread_processes", "cow_minor_faults_total", "cow_swapped_bytes",
          "cow_scan_coverage_ratio", "cow_group_info", "cow_resident_bytes"}
BY_PAGEMAP = {"cow_families", "cow_forks_total", "cow_shared_bytes", "cow_private_file_bytes", "cow_zero_page_bytes",
              "cow_huge_page_bytes", "cow_scan_timestamp_seconds"}
BY_FRAMES = {"cow_exposure_bytes", "cow_footprint_bytes", "cow_unmatched_shared_bytes", "cow_breaks_total",
             "cow_break_bytes_total", "cow_unshared_bytes_total", "cow_unattributed_bytes_total",
             "cow_huge_page_splits_total", "cow_fork_break_bytes_count", "cow_unresolved_bytes"}
PUBLISHED = {
    "full": ALWAYS | BY_PAGEMAP | BY_FRAMES,
    "no_kpage": ALWAYS | BY_PAGEMAP | BY_FRAMES,
    "no_frames": ALWAYS | BY_PAGEMAP,
    "no_pagemap": ALWAYS | {"cow_smaps_bytes", "cow_smaps_skipped_processes"},
    "none": ALWAYS | {"cow_smaps_skipped_processes"},
}


def drop(*capabilities):
    """Runs as root without these capabilities."""
    names = ",".join(f"-{name}" for name in capabilities)
    return ["setpriv", f"--bounding-set={names}", f"--inh-caps={names}"]


def nobody(*capabilities):
    """Runs as an unprivileged user with only these capabilities, like a systemd unit with AmbientCapabilities."""
    command = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    if not capabilities:
        return [*command, "--inh-caps=-all", "--bounding-set=-all"]
    names = ",".join(f"+{name}" for name in capabilities)
    return [*command, f"--inh-caps={names}", f"--ambient-caps={names}"]


def bounded_nobody():
    """Runs as an unprivileged user who gets only what a program's file permits, as in a container."""
    return ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--inh-caps=-all"]


def permitted_by_its_file(context):
    path = context.path("permitted")
    shutil.copy(support.binary("COW_EXPORTER"), path)
    subprocess.run(["/sbin/setcap", "cap_sys_admin,cap_sys_ptrace,cap_dac_read_search+p", path], check=True)
    return path


class Pair(support.Workload):
    """Makes two members that share PAGES pages except the WRITTEN pages of the child."""

    def __init__(self, name, wrapper=()):
        self.wrapper = wrapper
        super().__init__(wrapper)
        self.do(f"name 0 {name}")
        self.do(f"map 0 a {PAGES} nohuge")
        self.do(f"write 0 a 0 {PAGES}")
        number, self.child = map(int, self.do("fork 0").split())
        self.do(f"write {number} a 0 {WRITTEN}")
        self.root = int(self.do("pid 0"))


def kernel():
    """Returns the kernel's major and minor version."""
    return tuple(map(int, os.uname().release.split(".")[:2]))


def anonymous(pid):
    """Returns RssAnon in bytes."""
    with open(f"/proc/{pid}/status", encoding="utf-8") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("RssAnon:"))


class Ladder:
    """Runs the exporter with some rights and compares its output with what these rights allow."""

    def __init__(self, context):
        self.exporter = context.path("cow_exporter")  # a path where every user may run it
        shutil.copy(support.binary("COW_EXPORTER"), self.exporter)
        os.chmod(context.directory, 0o755)
        self.error = ""

    def run(self, wrapper, *flags):
        run = subprocess.run([*wrapper, self.exporter, "--once", "--log.format=json", *flags], capture_output=True,
                             text=True, check=False)
        self.error = run.stderr
        check(run.returncode == 0, f"{wrapper}: {run.stderr}")
        return support.Samples(run.stdout)

    def hold(self, title, wrapper, modes, *flags, absent=()):
        """`modes`: the expected ones by group; None: the group must not exist."""
        samples = self.run(wrapper, *flags)
        notices = [line for line in map(json.loads, self.error.splitlines())
                   if line["msg"] == "processes are not seen in full"]
        check(len(notices) == len({line["mode"] for line in notices}), f"{title}: told twice: {self.error}")
        for group, mode in modes.items():
            if mode is None:
                check(samples.get("cow_processes", group=group) is None, f"{title}: {group} is there")
                continue
            found = {dict(labels)["mode"] for (name, labels) in samples.values
                     if name == "cow_group_mode" and ("group", group) in labels}
            check(found == set(mode.split("+")), f"{title}: {group} is in mode {found}, not {mode}")
            for each in found - {"full"}:
                check(any(line["mode"] == each for line in notices), f"{title}: the log does not tell of {each}")
            self.hold_group(title, samples, group, found, set(absent))
        print(f"{title}: {modes}")
        return samples

    def hold_group(self, title, samples, group, modes, absent):
        names = {name for (name, labels) in samples.values if ("group", group) in labels}
        expected = set.union(*(PUBLISHED[mode] for mode in modes))
        if "no_frames" in modes:
            expected -= BY_FRAMES
        group_metrics = set.union(*PUBLISHED.values())
        check(names & group_metrics == expected - absent,
              f"{title}: {group} in {modes} has {sorted(names & group_metrics ^ (expected - absent))} wrong")

        def resident(sharing):
            return samples.get("cow_resident_bytes", group=group, backing="anon", sharing=sharing)

        readable = modes - {"no_pagemap", "none"}
        unread = samples.value("cow_unread_processes", group=group, reason="denied")
        if not readable:
            check(unread == samples.value("cow_processes", group=group), f"{title}: {group}: {unread} unread")
            check(samples.value("cow_scan_coverage_ratio", group=group) == 0, f"{title}: {group} is covered")
            check(resident("private") is None and resident("shared") is None, f"{title}: {group}: a split is published")
        elif modes == readable:
            check(unread == 0, f"{title}: {group}: {unread} unread")
            check(samples.value("cow_scan_coverage_ratio", group=group) == 1, f"{title}: {group} is not covered")
            check(resident("unknown") is None, f"{title}: {group}: sharing is unknown")


def hold_values(title, samples, group, pair):
    """Returns the published values of a pair; they do not depend on the mode."""
    total = anonymous(pair.root) + anonymous(pair.child)
    split = [samples.get("cow_resident_bytes", group=group, backing="anon", sharing=sharing) or 0
             for sharing in ("private", "shared", "unknown")]
    check(sum(split) == total, f"{title}: {group}: resident {split} of {total}")
    shared = samples.get("cow_shared_bytes", group=group)
    if shared is not None:
        check(2 * (PAGES - WRITTEN) <= shared / PAGE <= 2 * (PAGES - WRITTEN) + 400, f"{title}: {group}: {shared} shared")
        check(split[0] / PAGE >= 2 * WRITTEN, f"{title}: {group}: {split} private")
    anonymous_by_smaps = samples.get("cow_smaps_bytes", group=group, field="anonymous")
    if anonymous_by_smaps is not None:
        check(anonymous_by_smaps == total, f"{title}: {group}: {anonymous_by_smaps} by smaps_rollup, {total} by status")
    exposure = samples.get("cow_exposure_bytes", group=group)
    if exposure is not None:
        check(exposure * 2 == shared, f"{title}: {group}: exposure {exposure}, shared {shared}")


@contextlib.contextmanager
def procfs(directory, options):
    """Mounts another procfs of this pid namespace in a private mount namespace; returns a command's prefix."""
    os.mkdir(directory)
    script = f'mount -t proc -o {options} proc "{directory}" && exec "$@"'
    yield ["unshare", "--mount", "sh", "-c", script, "sh"]
    os.rmdir(directory)


def test(context):
    support.need("setpriv", "unshare")
    support.need_frames()
    ladder = Ladder(context)
    user = context.start(Pair("lad_user", nobody()))
    master = context.start(Pair("lad_master"))
    master.do("setuid 1 65534")

    def rung(title, wrapper, modes, *flags, **options):
        samples = ladder.hold(title, wrapper, modes, *flags, **options)
        for group, pair in ("lad_user", user), ("lad_master", master):
            if modes.get(group):
                hold_values(title, samples, group, pair)
        return samples

    rung("everything", [], {"lad_user": "full", "lad_master": "full"})
    rung("a user with all that is needed", nobody("sys_admin", "sys_ptrace", "dac_read_search"),
         {"lad_user": "full", "lad_master": "full"})
    ladder.exporter = permitted_by_its_file(context)
    rung("a user whose program's file permits what is needed", bounded_nobody(), {"lad_user": "full", "lad_master": "full"})
    ladder.exporter = context.path("cow_exporter")
    rung("without SYS_ADMIN", drop("sys_admin"), {"lad_user": "no_frames", "lad_master": "no_frames"})
    rung("without DAC_READ_SEARCH", drop("dac_read_search", "dac_override"),
         {"lad_user": "no_pagemap", "lad_master": "full"})
    rung("a user without DAC_READ_SEARCH", nobody("sys_admin", "sys_ptrace"),
         {"lad_user": "no_kpage", "lad_master": "no_pagemap"})
    # Since 6.15 SYS_ADMIN opens the memory files too, but stat still hides the layout.
    others = "full" if kernel() >= (6, 15) else "none"
    without_ptrace = drop("sys_ptrace", "perfmon")
    equal = context.start(Pair("lad_equal", without_ptrace))
    samples = rung("without SYS_PTRACE", without_ptrace,
                   {"lad_user": others, "lad_master": others, "lad_equal": "full"})
    hold_values("without SYS_PTRACE", samples, "lad_equal", equal)
    without_both = drop("sys_ptrace", "perfmon", "sys_admin")
    rung("without SYS_PTRACE and SYS_ADMIN", without_both,
         {"lad_user": "none", "lad_master": "none", "lad_equal": "none"})
    rung("none", nobody(), {"lad_user": "no_frames", "lad_master": "none", "lad_equal": "none"})

    with procfs(context.path("invisible"), "hidepid=invisible") as wrapper:
        flag = f"--path.procfs={context.path('invisible')}"
        rung("hidepid=invisible, all capabilities", wrapper, {"lad_user": "full", "lad_master": "full"}, flag)
        rung("hidepid=invisible, none", [*wrapper, *nobody()], {"lad_user": "no_frames", "lad_equal": None}, flag)
    with procfs(context.path("noaccess"), "hidepid=noaccess") as wrapper:
        flag = f"--path.procfs={context.path('noaccess')}"
        samples = rung("hidepid=noaccess, none", [*wrapper, *nobody()], {"lad_user": "no_frames", "lad_equal": None}, flag)
        check(samples.value("cow_unread_processes", group="_other", reason="denied") > 0, "the hidden are not counted")
    with procfs(context.path("subset"), "subset=pid") as wrapper:
        flag = f"--path.procfs={context.path('subset')}"
        rung("subset=pid, all capabilities", wrapper, {"lad_user": "no_kpage", "lad_master": "no_kpage"}, flag)
        rung("subset=pid, none", [*wrapper, *nobody()], {"lad_user": "no_frames", "lad_master": "none"}, flag)
    hold_log(ladder)


def hold_log(ladder):
    """A running service reports each reason once."""
    with support.Test() as context:
        exporter = context.start(support.Exporter("--scan.interval=100ms", "--scan.full-every=0s", program=ladder.exporter,
                                                  wrapper=nobody()))
        support.wait_for(lambda: exporter.scrape().value("cow_scan_passes_total", kind="full") >= 5, 20, "passes")
    told = re.findall(r"not seen in full\" mode=(\S+) groups=\d+ group=(\S+)", "".join(exporter.log))
    # A confined exporter is not dumpable, so without capabilities it can't read its own page table.
    # Its front may be seen before it is confined, and so be the example of a mode.
    others = {mode for mode, group in told if group != "cow_exporter"}
    check(others <= {"none", "no_frames"} <= {mode for mode, _ in told}, f"not told: {exporter.log}")
    check(len(told) == len(set(told)), f"told twice: {told}")


if __name__ == "__main__":
    support.main(test)
