"""The image that deploy/container/build makes: unpacked and run like container engines would: read-only, its own user
with three capabilities, in the host's PID namespace."""

import json
import os
import subprocess
import tarfile

import support
from support import check

SOURCE = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))
USER = 65532
NEEDED = ("SYS_ADMIN", "SYS_PTRACE", "DAC_READ_SEARCH")
FEATURES = {"all_processes", "frames", "kpageflags", "kpagecount", "ptrace"}
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
    with tarfile.open(f"{layout}/blobs/{manifest['layers'][0]['digest'].replace(':', '/')}") as layer:
        check("usr/bin/cow_exporter" in layer.getnames(), "the layer is not a whole archive")
    config = blob(layout, manifest["config"]["digest"])
    image = config["config"]
    check(config["os"] == "linux" and image["Entrypoint"] == ["/usr/bin/cow_exporter"], f"{config}")
    check(image["User"] == f"{USER}:{USER}" and list(image["ExposedPorts"]) == ["10066/tcp"], f"{image}")
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
    permitted = subprocess.run(["/sbin/getcap", f"{root}/usr/bin/cow_exporter"], capture_output=True, text=True,
                               check=True).stdout
    check(permitted.strip().endswith(" cap_dac_read_search,cap_net_admin,cap_sys_ptrace,cap_sys_admin=p"), permitted)
    programs = os.listdir(f"{root}/usr/bin")
    check(programs == ["cow_exporter"], f"{programs}")
    check(size < MAX_BYTES, f"{size} bytes")
    packages = os.listdir(f"{root}/var/lib/dpkg/status.d")
    check({"libc6", "libmicrohttpd12", "libgnutls30"} <= set(packages), f"{packages}")
    for package in packages:
        check(os.path.exists(f"{root}/usr/share/doc/{package}/copyright"), f"no licence of {package}")
    print(f"{size / 1e6:.1f} MB in files, of {len(packages)} packages")


class Engine:
    """Runs the unpacked image with runc like a container engine does: a read-only root, /proc and /sys of the host's PID
    namespace, and these sets of capabilities."""

    def __init__(self, context, bundle, name, user=USER, sets=(), capabilities=NEEDED, no_new_privileges=True):
        self.bundle, self.id = bundle, f"cow_exporter_{os.getpid()}_{name}"
        context.callback(lambda: subprocess.run(["runc", "delete", "--force", self.id], capture_output=True, check=False))
        with open(f"{bundle}/config.json", encoding="utf-8") as file:
            self.spec = json.load(file)
        self.spec["process"].update(
            terminal=False, user={"uid": user, "gid": user}, noNewPrivileges=no_new_privileges, rlimits=[],
            capabilities={name: [f"CAP_{each}" for each in capabilities] for name in ("bounding", *sets)})
        self.spec.update(root={"path": "rootfs", "readonly": True}, hostname="", hooks={}, mounts=[
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/sys", "type": "none", "source": "/sys", "options": ["rbind", "ro"]}])
        self.spec["linux"] = {"namespaces": [{"type": "mount"}], "cgroupsPath": f"/{self.id}"}

    def command(self, *arguments):
        self.spec["process"]["args"] = ["/usr/bin/cow_exporter", *arguments]
        with open(f"{self.bundle}/config.json", "w", encoding="utf-8") as file:
            json.dump(self.spec, file)
        return ["runc", "run", "--bundle", self.bundle, self.id]

    def features(self):
        run = subprocess.run(self.command("--once"), capture_output=True, text=True, check=False)
        check(run.returncode == 0, f"{self.id}: {run.stderr}")
        return {dict(labels)["feature"] for (name, labels), value in support.Samples(run.stdout).values.items()
                if name == "cow_exporter_capability" and value == 1}


# What engines do for a user other than root; deploy/INSTALL.md has the table.
AMBIENT = ("permitted", "effective", "inheritable", "ambient")  # Podman
PERMITTED = ("permitted", "effective")  # containerd, CRI-O
BOUNDED = ()  # Docker


def check_engines(context, bundle):
    """Every way to get the capabilities that the documentation names, and those that it says give none."""
    def engine(name, **options):
        return Engine(context, bundle, name, **options).features() & FEATURES

    check(engine("ambient", sets=AMBIENT) == FEATURES, "Podman: capabilities are lost")
    check(engine("permitted", sets=PERMITTED) == FEATURES, "containerd, CRI-O: capabilities are lost")
    check(engine("bounded", sets=BOUNDED, no_new_privileges=False) == FEATURES, "Docker: capabilities are lost")
    check(engine("root", user=0, sets=PERMITTED) == FEATURES, "uid 0: capabilities are lost")
    check(not engine("bounded_nnp", sets=BOUNDED), "Docker gives capabilities in spite of no_new_privs: say so")
    check(not engine("none", sets=PERMITTED, capabilities=()), "capabilities from nowhere")
    few = engine("few", sets=PERMITTED, capabilities=("SYS_ADMIN", "DAC_READ_SEARCH"))
    check(few in (set(), FEATURES - {"ptrace"}), f"without SYS_PTRACE: {few}")
    print(f"without SYS_PTRACE: {sorted(few)}")


def check_run(context, bundle):
    port = support.free_port()
    address = f"--web.listen-address=127.0.0.1:{port}"
    engine = Engine(context, bundle, "service", sets=PERMITTED)
    exporter = context.start(support.Process(engine.command(address, "--config.file=/etc/cow_exporter/config.yml"),
                                             stderr=subprocess.PIPE))

    def health():
        return subprocess.run(["runc", "exec", engine.id, "/usr/bin/cow_exporter", "--web.healthcheck", address],
                              capture_output=True, check=False).returncode == 0

    support.wait_for(health, 30, "the health that the image itself tells")

    def passed():
        text = subprocess.run(["curl", "--silent", f"http://127.0.0.1:{port}/metrics"], capture_output=True, text=True,
                              check=True).stdout
        samples = support.Samples(text)
        return samples if any(name == "cow_exposure_bytes" for name, _ in samples.values) else None

    samples = support.wait_for(passed, 60, "the exposure of a group")
    for feature in FEATURES:
        check(samples.value("cow_exporter_capability", feature=feature) == 1, f"not {feature}")
    state = subprocess.run(["runc", "state", engine.id], capture_output=True, text=True, check=True)
    pid = json.loads(state.stdout)["pid"]
    with open(f"/proc/{pid}/mountinfo", encoding="utf-8") as file:
        place = [line.split() for line in file if line.split()[4] == "/"]
    check(place and "ro" in place[-1][5].split(","), f"the root can be written to: {place}")
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        users = next(line for line in file if line.startswith("Uid:")).split()[1:]
    check(set(users) == {str(USER)}, f"it runs as {users}")
    exporter.end()
    check(exporter.returncode == 0, f"ended with {exporter.returncode}")
    check(not health(), "healthy after its end")
    print(f"{len(samples.values)} series in full mode from a read-only root, as user {USER}")


def test(context):
    support.need("umoci", "runc", "curl")
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
    check_engines(context, context.path("bundle"))
    check_run(context, context.path("bundle"))


support.main(test)
