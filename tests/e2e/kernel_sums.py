"""Sums of smaps and smaps_rollup over a set of processes, in bytes."""

import dataclasses
import re

FIELD = re.compile(r"^(\w+): +(\d+) kB$")


@dataclasses.dataclass(frozen=True)
class KernelSums:
    processes: int
    resident: int
    shares: int  # PSS
    anonymous: int  # process view, including copied pages of private file mappings
    private_anonymous: int  # the part that only one process maps
    anonymous_shares: int  # PSS of anonymous memory: the distinct memory if the set includes all its holders
    swapped: int  # memory in swap, which no other field includes

    @property
    def shares_cut(self):
        """Upper limit of the error of `anonymous_shares`: the kernel rounds each process' sum down to whole KiB, and
        each page's share to 1/4096 byte."""
        return self.processes * 1024 + self.anonymous // 4096 // 4096 + 1


def read(pids):
    """Raises OSError if one of the processes has ended."""
    resident = shares = anonymous = private_anonymous = anonymous_shares = swapped = 0
    for pid in pids:
        with open(f"/proc/{pid}/smaps", encoding="utf-8") as file:
            for mapping in _mappings(file):
                resident += mapping["Rss"]
                anonymous += mapping["Anonymous"]
                private_anonymous += _private_anonymous(mapping)
        rollup = _rollup(pid)
        shares += rollup["Pss"]
        anonymous_shares += rollup["Pss_Anon"]
        swapped += rollup["Swap"]
    return KernelSums(len(pids), resident, shares, anonymous, private_anonymous, anonymous_shares, swapped)


def _rollup(pid):
    with open(f"/proc/{pid}/smaps_rollup", encoding="utf-8") as file:
        for fields in _mappings(file):
            return fields
    raise ProcessLookupError(f"process {pid} has no memory any more")


def _mappings(file):
    """Returns the fields of one mapping after the other, in bytes."""
    fields = {}
    for line in file:
        found = FIELD.match(line)
        if found:
            fields[found.group(1)] = int(found.group(2)) * 1024
        elif not re.match(r"^[A-Z]", line):  # the line of addresses; VmFlags and THPeligible have other units
            if fields:
                yield fields
            fields = {}
    if fields:
        yield fields


def _private_anonymous(mapping):
    """Private_Dirty includes pages of all kinds. In mappings with anonymous and file pages (.data of a program),
    dirty pages are anonymous, because the program's file is not written."""
    if mapping["Anonymous"] == mapping["Rss"]:
        return mapping["Private_Clean"] + mapping["Private_Dirty"]
    return min(mapping["Private_Dirty"], mapping["Anonymous"])


def private_dirty(pid):
    return _rollup(pid)["Private_Dirty"]
