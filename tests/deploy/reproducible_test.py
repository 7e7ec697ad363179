"""deploy/release, run in two clones of HEAD at different places, times and settings: the files are equal byte for byte,
the archives hold what they must, and the SBOM follows the rules of SPDX 2.3.

  reproducible_test.py          without packages and image; packs the existing build twice instead
  reproducible_test.py --whole  everything: builds packages and image of two Debian releases twice
"""

import argparse
import concurrent.futures
import glob
import hashlib
import json
import os
import re
import subprocess
import tarfile
import time

import support
from support import check

SOURCE = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))
SETTINGS = ({"TZ": "Asia/Tokyo", "LANG": "C"}, {"TZ": "America/New_York", "LANG": "C.UTF-8", "HOME": "/nonexistent"})
UMASKS = (0o022, 0o077)
ID = r"SPDXRef-[A-Za-z0-9.-]+"
PACKAGE_FIELDS = {"SPDXID", "name", "downloadLocation", "filesAnalyzed", "licenseConcluded", "licenseDeclared",
                  "copyrightText"}
OPTIONAL_FIELDS = {"versionInfo", "packageFileName", "supplier", "checksums", "externalRefs"}
KINDS = {"DESCRIBES", "GENERATED_FROM", "DEPENDS_ON", "BUILD_DEPENDENCY_OF", "CONTAINS"}


def run(*command, status=0, **options):
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
                            **options)
    check(result.returncode == status, f"{' '.join(command)}: {result.returncode}\n{result.stdout[-5000:]}")
    return result.stdout


def digests(directory):
    found = {}
    for name in os.listdir(directory):
        with open(f"{directory}/{name}", "rb") as file:
            found[name] = hashlib.sha256(file.read()).hexdigest()
    return found


def build(context, number, options):
    clone, output = context.path(f"{'deeper/' * number}clone{number}"), context.path(f"output{number}")
    run("git", "clone", "--quiet", SOURCE, clone)
    begin = time.monotonic()
    run(f"{clone}/deploy/release", "--output", output, *options, umask=UMASKS[number],
        env={**os.environ, **SETTINGS[number]})
    print(f"{time.monotonic() - begin:.1f} s: a release", flush=True)
    check(run("git", "-C", clone, "status", "--porcelain", "--ignored") == "", "the release wrote into the tree")
    return clone, output


def check_arguments(clone, output):
    release = f"{clone}/deploy/release"
    new = ("--output", f"{output}.new")
    for arguments in ((), ("--output",), ("--output", f"{clone}/build"), ("--output", output), ("--unknown",),
                      (*new, "--contact", "nobody"), (*new, "--homepage", "nowhere"),
                      (*new, "--mirror", "http://mirror.test/debian")):
        text = run(release, *arguments, status=2)
        check(text.startswith("deploy/release: ") and text.count("\n") == 1, f"{arguments}: {text}")
    check(run(release, "--help").startswith("Usage: deploy/release "), "--help")
    run("shellcheck", "-x", release, cwd=clone)
    with open(f"{clone}/LICENSE", "a", encoding="utf-8") as file:
        file.write("changed\n")
    text = run(release, *new, "--without-packages", status=1)
    check("tracked files differ from HEAD" in text and not os.path.exists(new[1]), text)


def names_of(archive):
    with tarfile.open(archive) as tar:
        for member in tar:
            check(not member.issym() or not os.path.isabs(member.linkname), f"{archive}: {member.name}")
            check(member.uid == member.gid == 0, f"{archive}: {member.name} belongs to {member.uid}")
            check(member.issym() or member.mode in (0o644, 0o755), f"{archive}: {member.name} has mode {member.mode:o}")
        return set(tar.getnames())


def check_archives(output, version):
    revision = run("git", "-C", SOURCE, "rev-parse", "HEAD").strip()
    archive = f"{output}/cow_exporter-{version}.tar.gz"
    tracked = run("git", "-C", SOURCE, "ls-tree", "-r", "--name-only", "-z", "HEAD").rstrip("\0").split("\0")
    missing = {f"cow_exporter-{version}/{path}" for path in tracked} - names_of(archive)
    check(not missing, f"not in the source archive: {sorted(missing)}")
    with tarfile.open(archive) as tar:
        script = tar.extractfile(f"cow_exporter-{version}/exporter/build_info/revision.cmake").read().decode()
    check(revision in script, "the source archive does not know its revision")

    chart = names_of(f"{output}/cow-exporter-{version}.tgz")
    for path in ("Chart.yaml", "values.yaml", "templates/daemonset.yaml", "files/rules/cow_exporter_alerts.yml",
                 "files/dashboards/cow-overview.json"):
        check(f"cow-exporter/{path}" in chart, f"{path}: {chart}")
    monitoring = names_of(f"{output}/cow_exporter-{version}-monitoring.tar.gz")
    for path in ("grafana/cow-overview.json", "prometheus/rules/cow_exporter_rules.yml", "mixin/render",
                 "runbooks/CowExplosion.md"):
        check(f"cow_exporter-{version}-monitoring/deploy/{path}" in monitoring, f"{path}: {monitoring}")


def check_sbom(output, version, found):
    """SPDX 2.3, clauses 6, 7 and 11: required fields, identifiers, and relationships between known elements."""
    name = f"cow_exporter-{version}.spdx.json"
    with open(f"{output}/{name}", encoding="utf-8") as file:
        document = json.load(file)
    check(document["spdxVersion"] == "SPDX-2.3" and document["dataLicense"] == "CC0-1.0", "the document's licence")
    check(document["SPDXID"] == "SPDXRef-DOCUMENT" and document["name"], "the document's name")
    check(re.fullmatch(r"https://[^#\s]+", document["documentNamespace"]), document["documentNamespace"])
    creation = document["creationInfo"]
    check(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", creation["created"]), f"{creation}")
    check(all(re.match("(Tool|Person|Organization): ", creator) for creator in creation["creators"]), f"{creation}")
    packages = {package["SPDXID"]: package for package in document["packages"]}
    check(len(packages) == len(document["packages"]), "two packages have one identifier")
    for identifier, package in packages.items():
        check(re.fullmatch(ID, identifier) and PACKAGE_FIELDS <= set(package), f"{package}")
        check(set(package) <= PACKAGE_FIELDS | OPTIONAL_FIELDS, f"{package}")
        check(package["filesAnalyzed"] is False and "packageVerificationCode" not in package, f"{package}")
        check(package["licenseConcluded"] in ("NOASSERTION", "Apache-2.0"), f"{package}")
        for reference in package.get("externalRefs", ()):
            check(re.fullmatch(r"pkg:deb/debian/[a-z0-9.%B-]+@[A-Za-z0-9.%~-]+\?arch=\w+&distro=debian-1[23]",
                               reference["referenceLocator"]), f"{reference}")
    for relationship in document["relationships"]:
        left, right = relationship["spdxElementId"], relationship["relatedSpdxElement"]
        check(relationship["relationshipType"] in KINDS, f"{relationship}")
        check((left in packages or left == "SPDXRef-DOCUMENT") and right in packages, f"{relationship}")
    described = [packages[each["relatedSpdxElement"]] for each in document["relationships"]
                 if each["relationshipType"] == "DESCRIBES"]
    described = {package["packageFileName"]: package["checksums"] for package in described}
    expected = {file: [{"algorithm": "SHA256", "checksumValue": digest}] for file, digest in found.items()
                if file not in (name, "SHA256SUMS")}
    check(described == expected, f"{described} instead of {expected}")
    print(f"SBOM: {len(packages)} packages, {len(document['relationships'])} relationships")
    return packages, document["relationships"]


def check_whole_sbom(packages, relationships):
    """The image contains the libraries that the package of the same Debian depends on."""
    def related(pattern, kind):
        found = [packages[each["relatedSpdxElement"]] for each in relationships
                 if each["relationshipType"] == kind and re.search(pattern, packages[each["spdxElementId"]]["name"])]
        return {package["name"]: package["versionInfo"] for package in found}

    depends, contained = related(r"^cow-exporter_.*~deb12_", "DEPENDS_ON"), related(r"\.oci\.tar$", "CONTAINS")
    check({"libc6", "libmicrohttpd12", "libgnutls30"} <= set(contained), f"{contained}")
    libraries = {name: version for name, version in depends.items() if name.startswith("lib")}
    check(len(libraries) > 10 and libraries.items() <= contained.items(), f"{depends} and {contained}")
    built = [each for each in relationships if each["relationshipType"] == "BUILD_DEPENDENCY_OF"]
    names = {packages[each["spdxElementId"]]["name"] for each in built}
    check({"g++", "libcli11-dev", "cmake"} <= names, f"{names}")


def check_packages(context):
    """The existing build, packed twice; the second time after a while."""
    built = support.binary("COW_BUILD")
    environment = {**os.environ, "SOURCE_DATE_EPOCH": run("git", "-C", SOURCE, "log", "-1", "--format=%ct").strip()}

    def pack(generator):
        found = []
        for directory in (context.path(f"{generator}/first"), context.path(f"{generator}/second")):
            run("cpack", "-G", generator, "--config", f"{built}/CPackConfig.cmake", "-B", directory, cwd=built,
                env=environment)
            package = glob.glob(f"{directory}/cow*.{generator.lower()}")
            check(len(package) == 1, f"{package}")
            found.append(package[0])
            time.sleep(1.1)  # times are in seconds
        run("cmp", *found)
        return found[0]

    with concurrent.futures.ThreadPoolExecutor() as pool:
        deb, rpm = pool.map(pack, ("DEB", "RPM"))
    print(f"equal: {os.path.basename(deb)}, {os.path.basename(rpm)}")
    return deb


def check_dependencies(context, package):
    """The SBOM of a Debian package has its dependencies in the versions of the build root, which is this host here."""
    os.mkdir(context.path("files"))
    os.rename(package, context.path("files/cow-exporter_0.1.0~deb12_amd64.deb"))
    with open(context.path("installed"), "w", encoding="utf-8") as file:
        file.write(run("dpkg-query", "--show", "--showformat=${Package} ${Version} ${Architecture} ${Provides}\\n"))
    document = json.loads(run(f"{SOURCE}/deploy/sbom", "--version=0.1.0", "--revision=abc", "--time=0",
                              f"--installed=12={context.path('installed')}", context.path("files")))
    versions = {package["SPDXID"]: (package["name"], package["versionInfo"]) for package in document["packages"]}
    depends = dict(versions[each["relatedSpdxElement"]] for each in document["relationships"]
                   if each["relationshipType"] == "DEPENDS_ON")
    for name in ("procps", "libc6", "libmicrohttpd12", "libgnutls30"):
        installed = run("dpkg-query", "--show", "--showformat=${Version}\\n", name).split()
        check(depends.get(name) in installed, f"{name} {installed}: {depends}")
    field = run("dpkg-deb", "--field", context.path("files/cow-exporter_0.1.0~deb12_amd64.deb"), "Depends")
    check(len(depends) == len(field.split(",")), f"{depends} for {field}")  # spdlog's name is virtual
    print(f"SBOM: {len(depends)} dependencies")


def test(context, whole):
    support.need("git", "python3", "shellcheck")
    if subprocess.run(["git", "-C", SOURCE, "rev-parse", "HEAD"], capture_output=True, check=False).returncode != 0:
        support.skip("the source tree is not a clone of the repository")
    if whole:
        support.need("mmdebstrap")
        support.need_frames()
    options = () if whole else ("--without-packages",)
    clone, first = build(context, 0, options)
    _, second = build(context, 1, options)
    found = digests(first)
    differing = sorted(name for name, digest in digests(second).items() if found.get(name) != digest)
    check(not differing and set(found) == set(os.listdir(second)), f"different: {differing}")
    for name in sorted(found):
        print(f"equal: {name}, {os.path.getsize(f'{first}/{name}') / 1000:.0f} kB")
    run("sha256sum", "--check", "--strict", "SHA256SUMS", cwd=first)
    version = re.search(r"^cow_exporter-(\S+)\.spdx\.json$", "\n".join(found), re.MULTILINE).group(1)
    with open(f"{first}/SHA256SUMS", encoding="utf-8") as file:
        check({line.split()[1] for line in file} == set(found) - {"SHA256SUMS"}, "SHA256SUMS is not whole")
    check_archives(first, version)
    packages, relationships = check_sbom(first, version, found)
    check_arguments(clone, first)
    if whole:
        check_whole_sbom(packages, relationships)
        architecture = run("dpkg", "--print-architecture").strip()
        packed = [f"{name}_{version}~deb{debian}_{architecture}.deb" for debian in (12, 13)
                  for name in ("cow-exporter", "cow-exporter-dbgsym")]
        for name in (*packed, f"cow_exporter-{version}-{architecture}.oci.tar"):
            check(name in found, f"{name} is not in {sorted(found)}")
        check(any(name.endswith(".rpm") for name in found), f"{sorted(found)}")
    else:
        check_dependencies(context, check_packages(context))


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--whole", action="store_true")
ARGUMENTS = parser.parse_args()
support.main(lambda context: test(context, ARGUMENTS.whole))
