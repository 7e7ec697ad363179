"""The Debian package and its service under a real systemd, on Debian's kernel, in a machine emulated by QEMU."""

import glob
import os
import re
import shutil
import subprocess
import time

import support
from support import check

HERE = os.path.dirname(os.path.realpath(__file__))
BUILD = support.binary("COW_BUILD")
KERNEL = "linux-image-cloud-amd64"
TIMEOUT = 1500
UNIT = """\
[Unit]
Description=Test of the package
After=multi-user.target

[Service]
ExecStart=/bin/bash /root/vm_script
StandardOutput=file:/dev/ttyS0
StandardError=file:/dev/ttyS0

[Install]
WantedBy=default.target
"""


def run(*command, **options):
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, **options)
    check(result.returncode == 0, f"{' '.join(command)}: {result.returncode}\n{result.stdout}")
    return result.stdout


def kernel(context):
    """Returns the kernel's image, unpacked below the build directory, where tests/kernels/run keeps it too."""
    cached = sorted(glob.glob(f"{BUILD}/kernels/linux-image-*/boot/vmlinuz-*"))
    if cached:
        return cached[-1]
    found = re.search(r"Depends: (linux-image-[0-9]\S*)", run("apt-cache", "depends", KERNEL))
    if found is None:
        support.skip(f"no {KERNEL} can be had from this system's package sources")
    run("apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", found.group(1), cwd=context.directory)
    os.makedirs(f"{BUILD}/kernels", exist_ok=True)
    run("dpkg-deb", "--extract", glob.glob(context.path("linux-image-*.deb"))[0], context.path("kernel"))
    shutil.move(context.path("kernel"), f"{BUILD}/kernels/{found.group(1)}")
    return glob.glob(f"{BUILD}/kernels/{found.group(1)}/boot/vmlinuz-*")[0]


def make_disk(context):
    """Makes a Debian with the package's dependencies and the package file."""
    run("cpack", "-G", "DEB", "--config", f"{BUILD}/CPackConfig.cmake", "-B", context.path("packages"), cwd=BUILD)
    package = glob.glob(context.path("packages/*.deb"))[0]
    depends = re.findall(r"(?:^|, )([a-z0-9.+-]+)", run("dpkg-deb", "--field", package, "Depends"))
    root = context.path("root")
    sources = glob.glob("/etc/apt/sources.list.d/*.sources") + glob.glob("/etc/apt/sources.list.d/*.list")
    sources += [path for path in ["/etc/apt/sources.list"] if os.path.exists(path)]
    start = time.monotonic()
    run("mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join(['systemd-sysv', 'curl', *depends])}",
        "--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/locale/*", "bookworm", root, *sources)
    shutil.copy(package, f"{root}/root/cow-exporter.deb")
    shutil.copy(f"{BUILD}/cow_demo", f"{root}/root/cow_demo")
    shutil.copy(f"{HERE}/vm_script", f"{root}/root/vm_script")
    with open(f"{root}/etc/systemd/system/vm_test.service", "w", encoding="utf-8") as file:
        file.write(UNIT)
    os.makedirs(f"{root}/etc/systemd/system/default.target.wants", exist_ok=True)
    os.symlink("/etc/systemd/system/vm_test.service", f"{root}/etc/systemd/system/default.target.wants/vm_test.service")
    for name in ("getty.target", "systemd-timesyncd.service", "apt-daily.timer", "apt-daily-upgrade.timer", "e2scrub_all.timer"):
        path = f"{root}/etc/systemd/system/{name}"
        if os.path.lexists(path):
            os.remove(path)
        os.symlink("/dev/null", path)
    run("mke2fs", "-q", "-t", "ext4", "-d", root, "-E", "root_owner=0:0", context.path("disk"), "1500M")
    shutil.rmtree(root)
    print(f"a disk in {time.monotonic() - start:.0f} s")
    return context.path("disk")


def boot(context, image, disk):
    """Returns the output on the machine's serial line."""
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        accelerator = ["-accel", "kvm"] if re.search(r"\b(vmx|svm)\b", file.read()) else []
    options = "console=ttyS0 root=/dev/nvme0n1 rw quiet loglevel=4 panic=-1 delayacct random.trust_cpu=1 tsc=unstable systemd.show_status=0"
    start = time.monotonic()
    machine = context.start(support.Process(
        ["qemu-system-x86_64", "-nodefaults", "-no-reboot", "-display", "none", "-serial", "stdio", "-monitor", "none",
         "-machine", "pc", *accelerator, "-accel", "tcg", "-cpu", "max", "-smp", "2", "-m", "2048", "-kernel", image,
         "-append", options, "-drive", f"file={disk},format=raw,if=none,id=disk,cache=unsafe",
         "-device", "nvme,drive=disk,serial=cow"],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT))
    lines = []
    with machine.within(TIMEOUT, "the machine's end"):
        for line in machine.stdout:
            if "[vm]" in line:
                lines.append(line.strip())
                print(f"{time.monotonic() - start:4.0f} s {lines[-1]}")
    return lines


def test(context):
    support.need("mmdebstrap", "mke2fs", "qemu-system-x86_64", "cpack")
    support.need_frames()
    if os.uname().machine != "x86_64":
        support.skip("the kernel is for x86_64")
    lines = boot(context, kernel(context), make_disk(context))
    check(lines and lines[-1].endswith("[vm] end"), "the machine did not come to the end of the test")
    failed = [line for line in lines if "FAILED" in line]
    check(not failed, "; ".join(failed))
    check("[vm] nothing refused: 0 lines" in lines, "the service was refused something")
    print(f"{sum('ok:' in line for line in lines)} steps")


support.main(test)
