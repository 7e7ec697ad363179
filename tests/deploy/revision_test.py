"""The revision that a build finds: in git, in a source archive, as an argument, and nowhere. A new commit changes one
generated file, and a build without one leaves it alone."""

import os
import re
import shutil
import subprocess

import support
from support import check

SOURCE = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))
PLACE = "exporter/build_info"
GIT = ("git", "-c", "user.name=Test", "-c", "user.email=test@test.invalid", "-c", "init.defaultBranch=main")


def run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def commit(tree):
    run(*GIT, "-C", tree, "add", ".")
    run(*GIT, "-C", tree, "commit", "--quiet", "--allow-empty", "--message", "Change")
    return run("git", "-C", tree, "rev-parse", "HEAD").strip()


def revision(tree, output, given=""):
    run("cmake", "-D", f"SOURCE={tree}", "-D", f"REVISION={given}", "-D", f"OUTPUT={output}",
        "-P", f"{tree}/{PLACE}/revision.cmake")
    with open(output, encoding="utf-8") as file:
        return re.fullmatch(r'#pragma once\n#define COW_REVISION "(.*)"\n', file.read()).group(1)


def test(context):
    support.need("git", "cmake")
    tree, output = context.path("outer/tree"), context.path("revision.h")
    shutil.copytree(f"{SOURCE}/{PLACE}", f"{tree}/{PLACE}")
    check(revision(tree, output) == "unknown", "a tree without a repository")

    run(*GIT, "init", "--quiet", context.path("outer"))
    commit(context.path("outer"))
    check(revision(tree, output) == "unknown", "a tree inside another project's repository")
    shutil.rmtree(context.path("outer/.git"))

    run(*GIT, "init", "--quiet", tree)
    first = commit(tree)
    check(revision(tree, output) == first, "HEAD")
    written = os.stat(output).st_mtime_ns
    check(revision(tree, output) == first and os.stat(output).st_mtime_ns == written, "written again without a change")
    second = commit(tree)
    check(second != first and revision(tree, output) == second, "the next commit")
    with open(f"{tree}/{PLACE}/build_info.h", "a", encoding="utf-8") as file:
        file.write("// changed\n")
    check(revision(tree, output) == f"{second}-modified", "a modified file")
    check(revision(tree, output, "abc") == "abc", "an argument")

    archive = context.path("archive.tar")
    run("git", "-C", tree, "archive", "--prefix=archive/", f"--output={archive}", "HEAD")
    run("tar", "--extract", f"--file={archive}", f"--directory={context.directory}")
    check(revision(context.path("archive"), output) == second, "a source archive")


support.main(test)
