"""The Debian package in a clean root: installed by apt with its dependencies, run like its unit runs it, upgraded,
removed and purged; nothing is left."""

import glob
import os
import re
import subprocess
import time

import support
from support import check

BUILD = support.binary("COW_BUILD")
CAPABILITIES = "+sys_admin,+sys_ptrace,+dac_read_search,+net_admin"


def run(*command, status=0, **options):
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, **options)
    check(result.returncode == status, f"{' '.join(command)}: {result.returncode}\n{result.stdout}")
    return result.stdout


class Root:
    """A minimal Debian, with /proc mounted while it is in use."""

    def __init__(self, context):
        self.path = context.path("root")
        sources = glob.glob("/etc/apt/sources.list.d/*.sources") + glob.glob("/etc/apt/sources.list.d/*.list")
        sources += [path for path in ["/etc/apt/sources.list"] if os.path.exists(path)]
        start = time.monotonic()
        run("mmdebstrap", "--quiet", "--variant=apt", "--include=init-system-helpers,systemd", "--skip=cleanup/apt/lists",
            "bookworm", self.path, *sources)
        print(f"a clean root in {time.monotonic() - start:.0f} s")
        os.chmod(context.directory, 0o755)
        # If the test is killed, the mount still ends, so a later removal of the directory never reaches it.
        support.own_namespaces(support.CLONE_NEWNS)
        run("mount", "-t", "proc", "proc", f"{self.path}/proc")
        context.callback(run, "umount", "--lazy", f"{self.path}/proc")

    def __call__(self, *command, **options):
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
        return run("chroot", self.path, *command, env=environment, **options)

    def apt(self, *command):
        return self("apt-get", "-q", "-y", "--no-install-recommends", "-o", "APT::Sandbox::User=root", *command)

    def files(self):
        found = set()
        for folder, folders, names in os.walk(self.path):
            if folder == self.path:
                folders[:] = [name for name in folders if name not in ("proc", "sys", "dev", "run", "tmp")]
            found |= {os.path.join(folder, name).removeprefix(self.path) for name in (*folders, *names)}
        return found

    def read(self, path):
        with open(self.path + path, encoding="utf-8") as file:
            return file.read()

    def append(self, path, text):
        with open(self.path + path, "a", encoding="utf-8") as file:
            file.write(text)


def make_packages(context):
    """Returns this version, and the same package as a later version."""
    run("cpack", "-G", "DEB", "--config", f"{BUILD}/CPackConfig.cmake", "-B", context.path("packages"), cwd=BUILD)
    now = glob.glob(f"{context.path('packages')}/*.deb")[0]
    run("dpkg-deb", "--raw-extract", now, context.path("next"))
    control = context.path("next/DEBIAN/control")
    with open(control, encoding="utf-8") as file:
        text = file.read()
    version = re.search(r"^Version: (.*)$", text, re.MULTILINE).group(1)
    with open(control, "w", encoding="utf-8") as file:
        file.write(text.replace(f"Version: {version}\n", f"Version: {version}+next\n"))
    # The administrator's file wins, even if the package has changed it.
    for path in ("etc/default/cow_exporter", "etc/cow_exporter/config.yml"):
        with open(context.path(f"next/{path}"), "a", encoding="utf-8") as file:
            file.write("# of the next version\n")
    run("dpkg-deb", "--root-owner-group", "--build", context.path("next"), context.path("packages/next.deb"))
    return now, context.path("packages/next.deb"), version


def wanted_link(root):
    return os.path.islink(f"{root.path}/etc/systemd/system/multi-user.target.wants/cow_exporter.service")


def check_program(context, root, version):
    check(root("cow_exporter", "--version").split()[2] == version, "the version")
    check("cow_exporter_capability" in root("cow_exporter", "--once"), "--once")
    root("cow_exporter", "--config.check", "--config.file=/etc/cow_exporter/config.yml")
    port = support.free_port()
    user = ["setpriv", "--reuid=64999", "--regid=64999", "--clear-groups", f"--inh-caps=-all,{CAPABILITIES}",
            f"--ambient-caps=-all,{CAPABILITIES}", f"--bounding-set=-all,{CAPABILITIES}", "--no-new-privs"]
    unit = root.read("/lib/systemd/system/cow_exporter.service")
    command = re.search(r"^ExecStart=(.*)$", unit, re.MULTILINE).group(1).replace("$ARGS", f"--web.listen-address=127.0.0.1:{port}")
    service = context.start(support.Process(["chroot", root.path, *user, *command.split()], stderr=subprocess.PIPE))

    def asked():
        return subprocess.run(["chroot", root.path, "cow_exporter", "--web.healthcheck", f"--web.listen-address=127.0.0.1:{port}"],
                              check=False, capture_output=True).returncode == 0

    support.wait_for(asked, 20, "the service's health")
    text = run("curl", "--silent", f"http://127.0.0.1:{port}/metrics")
    check('cow_exporter_capability{feature="frames"} 1' in text, "frames")
    check('cow_exporter_capability{feature="all_processes"} 1' in text, "all processes")
    service.end()
    print(f"served {len(text)} bytes in full mode as user 64999")


def test(context):
    support.need("mmdebstrap", "cpack", "curl")
    support.need_frames()
    now, later, version = make_packages(context)
    root = Root(context)
    for package in (now, later):
        run("cp", package, f"{root.path}/tmp/")
    name_now, name_later = (f"/tmp/{os.path.basename(path)}" for path in (now, later))

    before = root.files()
    root.apt("install", name_now)
    check(wanted_link(root), "the service is not enabled")
    check("cow_exporter" not in root("systemctl", "list-unit-files", "--state=masked", "--no-legend"), "masked")
    check(root("systemctl", "is-enabled", "cow_exporter.service").strip() == "enabled", "is-enabled")
    text = root("systemd-analyze", "verify", "--man=no", "cow_exporter.service", "cow_exporter.socket",
                "cow_exporter-netlink.socket")
    check("cow_exporter" not in text, f"systemd-analyze verify: {text}")
    print(f"systemd-analyze verify in the root: {text.strip() or 'nothing'}")
    check_program(context, root, version)

    # A hand-written configuration and a disabled service stay as they are.
    root.append("/etc/cow_exporter/config.yml", "default_group: drop\n")
    root("systemctl", "disable", "cow_exporter.service")
    text = root.apt("-o", "Dpkg::Options::=--force-confdef", "-o", "Dpkg::Options::=--force-confold", "install", name_later)
    check(root("dpkg-query", "-W", "-f=${Version}", "cow-exporter") == f"{version}+next", "not upgraded: " + text)
    check("default_group: drop" in root.read("/etc/cow_exporter/config.yml"), "the configuration is lost")
    check("next version" not in root.read("/etc/cow_exporter/config.yml"), "the configuration is another")
    check("next version" in root.read("/etc/default/cow_exporter"), "an unchanged file was not renewed")
    check(not wanted_link(root), "a disabled service was enabled again")
    root("systemctl", "enable", "cow_exporter.service")

    root.apt("remove", "cow-exporter")
    check("default_group: drop" in root.read("/etc/cow_exporter/config.yml"), "the configuration was removed")
    check(not os.path.exists(f"{root.path}/usr/bin/cow_exporter"), "the program is there")
    root.apt("install", name_now, "-o", "Dpkg::Options::=--force-confold")
    check(wanted_link(root), "not enabled after it was installed again")
    check(root("systemctl", "is-enabled", "cow_exporter.socket", status=1).strip() == "disabled", "the socket is masked")
    root.apt("purge", "cow-exporter")
    root.apt("autoremove", "--purge")
    left = {path for path in root.files() - before if not path.startswith(("/var/lib/dpkg/", "/var/cache/", "/var/log/"))
            and not path.startswith("/var/lib/apt/")}
    named = {path for path in root.files() if "cow_exporter" in path or "cow-exporter" in path}
    check(not named, f"left: {sorted(named)}")
    print(f"after the purge nothing is left of it; of what it depended on: {sorted(left) or 'nothing'}")


support.main(test)
