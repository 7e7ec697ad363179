"""The image that deploy/container/build makes: unpacked and run like a container engine would: read-only, uid 0 with
four capabilities, in the host's PID namespace."""

import json
import os
import subprocess

import support
from support import check

SOURCE = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))
CAPABILITIES = "-all,+sys_admin,+sys_ptrace,+dac_read_search,+net_admin"
MAX_BYTES = 40_000_000


def build(output):
    run = subprocess.run([f"{SOURCE}/deploy/container/build", "--program", support.binary("COW_EXPORTER"), "--output", output],
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    check(run.returncode == 0, run.stdout)
    return run.stdout.splitlines()


def blob(layout, digest):
    with open(f"{layout}/blobs/{digest.replace(':', '/')}", encoding="utf-8") as file:
        return json.load(file)


def check_configuration(layout):
    with open(f"{layout}/index.json", encoding="utf-8") as file:
        manifests = json.load(file)["manifests"]
    check(len(manifests) == 1, f"{manifests}")
    manifest = blob(layout, manifests[0]["digest"])
    check(len(manifest["layers"]) == 1, f"{manifest}")
    config = blob(layout, manifest["config"]["digest"])
    image = config["config"]
    check(config["os"] == "linux" and image["Entrypoint"] == ["/usr/bin/cow_exporter"], f"{config}")
    check(image["User"] == "0:0" and list(image["ExposedPorts"]) == ["10066/tcp"], f"{image}")
    labels = {name.removeprefix("org.opencontainers.image."): value for name, value in image["Labels"].items()}
    check({"title", "description", "version", "licenses", "created"} <= set(labels), f"{labels}")
    print(f"labels {labels}")


def check_files(root):
    size = 0
    for folder, folders, names in os.walk(root):
        for path in (os.path.join(folder, name) for name in (*folders, *names)):
            status = os.lstat(path)
            check(status.st_uid == 0 and status.st_gid == 0, f"{path} is not root's")
            check(os.path.islink(path) or not status.st_mode & 0o6022, f"{path} has mode {status.st_mode:o}")
            size += status.st_size if os.path.isfile(path) and not os.path.islink(path) else 0
    programs = os.listdir(f"{root}/usr/bin")
    check(programs == ["cow_exporter"], f"{programs}")
    check(size < MAX_BYTES, f"{size} bytes")
    packages = os.listdir(f"{root}/var/lib/dpkg/status.d")
    check({"libc6", "libmicrohttpd12", "libgnutls30"} <= set(packages), f"{packages}")
    for package in packages:
        check(os.path.exists(f"{root}/usr/share/doc/{package}/copyright"), f"no licence of {package}")
    print(f"{size / 1e6:.1f} MB in files, of {len(packages)} packages")


def check_run(context, root):
    port = support.free_port()
    # Like an engine: a read-only root, /proc and /sys mounted, a bounded set of capabilities, no_new_privs.
    script = f"""
        mount --make-rprivate / && mount --bind '{root}' '{root}' && mount -t proc proc '{root}/proc' &&
        mount --rbind -o ro /sys '{root}/sys' && mount -o remount,bind,ro '{root}' &&
        exec setpriv --bounding-set={CAPABILITIES} --inh-caps=-all --no-new-privs chroot '{root}' "$@"
    """
    inside = ["unshare", "--mount", "sh", "-c", script.replace(CAPABILITIES, CAPABILITIES + ",+sys_chroot"), "sh"]
    address = f"--web.listen-address=127.0.0.1:{port}"
    exporter = context.start(support.Process([*inside, "/usr/bin/cow_exporter", address,
                                              "--config.file=/etc/cow_exporter/config.yml"], stderr=subprocess.PIPE))

    def health():
        return subprocess.run([*inside, "/usr/bin/cow_exporter", "--web.healthcheck", address], capture_output=True,
                              check=False).returncode == 0

    support.wait_for(health, 30, "the health that the image itself tells")

    def passed():
        text = subprocess.run(["curl", "--silent", f"http://127.0.0.1:{port}/metrics"], capture_output=True, text=True,
                              check=True).stdout
        samples = support.Samples(text)
        return samples if any(name == "cow_exposure_bytes" for name, _ in samples.values) else None

    samples = support.wait_for(passed, 60, "the exposure of a group")
    for feature in ("all_processes", "frames", "kpageflags", "kpagecount"):
        check(samples.value("cow_exporter_capability", feature=feature) == 1, f"not {feature}")
    with open(f"/proc/{exporter.pid}/mountinfo", encoding="utf-8") as file:
        place = [line.split() for line in file if line.split()[4] in ("/", root)]
    check(place and "ro" in place[-1][5].split(","), f"the root can be written to: {place}")
    exporter.end()
    check(exporter.returncode == 0, f"ended with {exporter.returncode}")
    check(not health(), "healthy after its end")
    print(f"{len(samples.values)} series in full mode from a read-only root")


def test(context):
    support.need("umoci", "curl")
    support.need_frames()
    layout = context.path("image")
    reference, sizes = build(layout)[-2:]
    print(reference.rpartition(":")[2], sizes)
    check_configuration(layout)
    with open(f"{layout}/index.json", encoding="utf-8") as file:
        first = file.read()
    build(layout)
    with open(f"{layout}/index.json", encoding="utf-8") as file:
        check(file.read() == first, "the same inputs made another image")
    subprocess.run(["umoci", "unpack", "--image", reference, context.path("bundle")], capture_output=True, check=True)
    os.chmod(context.directory, 0o755)
    check_files(context.path("bundle/rootfs"))
    check_run(context, context.path("bundle/rootfs"))


support.main(test)
