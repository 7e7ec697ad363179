"""Follows deploy/INSTALL.md in a clean root of one Debian release: deploy/quickstart builds, cpack makes the package, apt
installs it, and the program serves. Then the unit tests are built with warnings as errors, and run.

  release_test.py bookworm|trixie
"""

import argparse
import os
import re
import subprocess
import time

import support
from support import check

SOURCE = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))
UNIT_TESTS = ("base_test", "procfs_test", "netlink_test", "memory_test", "groups_test", "engine_test", "collectors_test", "config_test",
              "exporter_test")


class Root:
    """A minimal Debian with the source in /src, and with /proc and /dev mounted while it is in use."""

    def __init__(self, context, release):
        self.path = context.path("root")
        mirror = self.run("bash", "-c", "source deploy/packages.sh && debian_mirror", cwd=SOURCE).strip()
        self.run("mmdebstrap", "--quiet", "--variant=apt", release, self.path, mirror)
        os.chmod(context.directory, 0o755)
        # If the test is killed, the mounts still end, so a later removal of the directory never reaches them.
        support.own_namespaces(support.CLONE_NEWNS)
        for arguments in (["-t", "proc", "proc", f"{self.path}/proc"], ["--rbind", "/dev", f"{self.path}/dev"]):
            self.run("mount", *arguments)
            context.callback(self.run, "umount", "--lazy", arguments[-1])
        os.mkdir(f"{self.path}/src")
        self.run("sh", "-c", f"git ls-files -z | tar --null --files-from=- --create | tar --directory={self.path}/src --extract",
                 cwd=SOURCE)

    @staticmethod
    def run(*command, **options):
        result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, **options)
        check(result.returncode == 0, f"{' '.join(command)}: {result.returncode}\n{result.stdout[-5000:]}")
        return result.stdout

    def chroot(self, *command):
        return ["chroot", self.path, "env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LC_ALL=C.UTF-8",
                "DEBIAN_FRONTEND=noninteractive", "sh", "-c", 'cd /src && exec "$@"', "sh", *command]

    def __call__(self, *command):
        begin = time.monotonic()
        text = self.run(*self.chroot(*command))
        print(f"{time.monotonic() - begin:.0f} s: {' '.join(command)}", flush=True)
        return text


def check_service(context, root):
    port = support.free_port()
    service = context.start(support.Process(
        root.chroot("cow_exporter", f"--web.listen-address=127.0.0.1:{port}"), stderr=subprocess.PIPE))

    def is_healthy():
        return subprocess.run(root.chroot("cow_exporter", "--web.healthcheck", f"--web.listen-address=127.0.0.1:{port}"),
                              check=False, capture_output=True).returncode == 0

    support.wait_for(is_healthy, 20, "the service's health")
    service.end()


def test(context, release):
    support.need("mmdebstrap", "git")
    support.need_frames()
    begin = time.monotonic()
    root = Root(context, release)
    print(f"{time.monotonic() - begin:.0f} s: a clean root of {release}", flush=True)
    root("deploy/quickstart", "--build-only")
    root("cpack", "-G", "DEB", "--config", "build/quickstart/CPackConfig.cmake")
    packages = [name for name in os.listdir(f"{root.path}/src/build/quickstart/packages") if name.endswith(".deb")]
    check(len(packages) == 1, f"packages: {packages}")
    root("apt-get", "-q", "-y", "--no-install-recommends", "-o", "APT::Sandbox::User=root", "install",
         f"./build/quickstart/packages/{packages[0]}")
    check("cow_exporter_capability" in root("cow_exporter", "--once"), "--once")
    check_service(context, root)

    # All packages that tests/run installs must exist under these names; only those for unit tests are installed.
    simulated = root("bash", "-c", "source deploy/packages.sh && source tests/packages.sh && "
                     'apt-get install --simulate --no-install-recommends "${build_packages[@]}" "${test_packages[@]}"')
    print(f"tests/run would install {len(re.findall('^Inst ', simulated, re.MULTILINE))} packages")
    root("bash", "-c", "source deploy/packages.sh && install_packages libgtest-dev python3")
    root("cmake", "--preset", "release", "--log-level=WARNING")
    root("cmake", "--build", "--preset", "release", "--target", *UNIT_TESTS)
    for name in UNIT_TESTS:
        text = root(f"build/release/{name}", "--gtest_brief=1")
        print(text.strip().splitlines()[-1], flush=True)


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("release", choices=("bookworm", "trixie"))
ARGUMENTS = parser.parse_args()
support.main(lambda context: test(context, ARGUMENTS.release))
