"""The first inputs of each fuzz target, and every input that has found a fault. seeds.of(NAME) returns a list of bytes;
`python3 seeds.py NAME DIRECTORY` writes them to files."""

import base64
import pathlib
import struct
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]

MAPS = """\
55d0c6a00000-55d0c6a21000 r--p 00000000 08:01 1234                       /usr/bin/redis-server
55d0c7a00000-55d0c7a21000 rw-p 00000000 00:00 0                          [heap]
7f2f00000000-7f2f40000000 rw-p 00000000 00:00 0
7f2f50000000-7f2f50001000 rw-s 00001000 00:01 77                         /memfd:a\\012b (deleted)
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]
"""

SMAPS_FIELDS = ("Rss", "Pss", "Pss_Dirty", "Pss_Anon", "Pss_File", "Pss_Shmem", "Shared_Clean", "Shared_Dirty",
                "Private_Clean", "Private_Dirty", "Referenced", "Anonymous", "KSM", "LazyFree", "AnonHugePages",
                "ShmemPmdMapped", "FilePmdMapped", "Shared_Hugetlb", "Private_Hugetlb", "Swap", "SwapPss", "Locked")


def smaps_fields(first):
    return "".join(f"{name + ':':<16}{first + 4 * i:>8} kB\n" for i, name in enumerate(SMAPS_FIELDS))


def smaps():
    sizes = "Size:                132 kB\nKernelPageSize:        4 kB\nMMUPageSize:           4 kB\n"
    tail = "THPeligible:           0\nProtectionKey:         0\nVmFlags: rd wr mr mw me ac\n"
    return "".join(f"{line}\n{sizes}{smaps_fields(4)}{tail}" for line in MAPS.splitlines())


STAT = ("4242 (a) b (c) S 1 4242 4242 0 -1 4194560 1000 20 3 4 5 6 7 8 20 0 3 0 99999 223000000 500 18446744073709551615 "
        "94000000 94100000 140000000 0 0 0 0 4096 0 0 0 0 17 1 0 0 0 0 0 94200000 94300000 94400000 140000001 140000002 "
        "140000003 140000004 0\n")

STATUS = """\
Name:\tredis\\nserver\\\\x
Umask:\t0022
State:\tS (sleeping)
Tgid:\t4242
Ngid:\t0
Pid:\t4242
PPid:\t1
TracerPid:\t0
Uid:\t0\t33\t0\t0
Gid:\t0\t0\t0\t0
VmRSS:\t  123 kB
RssAnon:\t    1024 kB
RssFile:\t      20 kB
RssShmem:\t       4 kB
VmSwap:\t       8 kB
HugetlbPages:\t       0 kB
Threads:\t3
SigIgn:\t0000000000011000
CapEff:\t000001ffffffffff
"""

ID = "0123456789abcdef" * 4
CGROUPS = (
    "0::/system.slice/redis@a.service\n",
    f"0::/../../kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod01234567_89ab_cdef_0123_456789abcdef.slice/cri-containerd-{ID}.scope\n",
    f"12:memory:/docker/{ID}\n5:cpu,cpuacct:/\n1:name=systemd:/kubepods/besteffort/pod01234567-89ab-cdef-0123-456789abcdef/{ID}\n",
)

MOUNTINFO = """\
22 28 0:20 / /sys rw,nosuid shared:7 - sysfs sysfs rw
30 28 0:25 / /dev/shm rw,nosuid,nodev master:2 propagate_from:1 - tmpfs tmpfs rw,size=1k,huge=always
31 28 8:1 /a\\040b /mnt/a\\040b\\011c rw - ext4 /dev/sda1 rw,errors=remount-ro
32 28 0:40 / /huge rw - hugetlbfs none rw,pagesize=2M
"""


def connector(what, *pids, ack=0x636f77 + 1, index=1, value=1):
    event = struct.pack("=IIQ", what, 0, 1) + b"".join(struct.pack("=i", pid) for pid in pids)
    event = event.ljust(40, b"\0")
    return struct.pack("=IIIIHH", index, value, 7, ack, len(event), 0) + event


def perf_record(kind, body, misc=2):
    return struct.pack("=IHH", kind, misc, 8 + len(body)) + body


def perf_fault(extra=b"", misc=2):
    return perf_record(9, struct.pack("=QQiiQQ", 7, 0x401000, 100, 101, 5000, 0x7000) + extra, misc)


def perf_note(kind, body, misc=0):
    return perf_record(kind, body + struct.pack("=iiQQ", 100, 101, 6000, 7), misc)


PERF_MAP = struct.pack("=iiQQQ", 100, 101, 0x7f0000, 0x3000, 0x1000)
PERF_FILE = struct.pack("=II", 5, 2) + b"/usr/lib/libx.so.1".ljust(24, b"\0")
PERF_RECORDS = (
    b"\0" + perf_fault() + perf_fault(misc=1) + perf_note(7, struct.pack("=iiiiQ", 200, 100, 200, 101, 1))
    + perf_note(4, struct.pack("=iiiiQ", 100, 1, 101, 1, 1)) + perf_note(2, struct.pack("=QQ", 7, 12)),
    b"\0" + perf_note(3, struct.pack("=ii8s", 100, 101, b"redis"), 0x2000) + perf_note(13, struct.pack("=Q", 3))
    + perf_note(5, struct.pack("=QQQ", 1, 2, 3)),
    b"\0" + perf_note(10, PERF_MAP + struct.pack("=IIQQ", 8, 1, 77, 3) + PERF_FILE)
    + perf_note(10, PERF_MAP + bytes([20, 0, 0, 0]) + bytes(range(20)) + PERF_FILE, 0x4000),
    b"\1" + perf_fault(struct.pack("=4Q", 3, 2**64 - 512, 0x401000, 0x402000)) + perf_fault(struct.pack("=Q", 2**61)),
    b"\2" + perf_fault(struct.pack("=18Q", 2, *range(17)) + struct.pack("=Q16sQ", 16, b"stack", 5))
    + perf_fault(struct.pack("=QQ", 0, 0)),
)


def taskstats(version, size):
    text = bytearray(size)
    struct.pack_into("=H", text, 0, version)
    struct.pack_into("=I", text, 128, 4242)
    if size >= 408:
        struct.pack_into("=Q", text, 400, 99)
    return bytes(text)


def attribute(kind, payload):
    return struct.pack("=HH", len(payload) + 4, kind) + payload + b"\0" * (-len(payload) % 4)


def report(version=13, size=416, whole=True):
    stats = attribute(3, taskstats(version, size))
    task = attribute(4, attribute(1, struct.pack("=I", 4242)) + stats)
    process = attribute(5, attribute(2, struct.pack("=I", 4242)) + stats)
    return task + process if whole else task


CONFIGS = (
    """\
scan: {interval: 200ms, max_cpu: 0.25, full_every: 1h30m, threads: 2}
limits: {max_groups: 5, max_processes: 100, label_value_length: 64, ledger_bytes: 4MiB}
collectors: {cow: true, ksm: false, process: {top: 3, by: breaks, hold: 1h}, smaps: {max_rss: 512MiB}}
groups:
  - name: "redis-{{.Matches.port}}-{{.ExeBase}}"
    comm: [redis-server, 'a b']
    exe: [/usr/bin/redis-server, redis-check-rdb]
    cmdline: ['redis-server .*:(?P<port>\\d+)', x]
    user: [redis, 0, nobody]
    cgroup: ['^/system\\.slice/']
    unit: [redis.service]
    container_id: [0123456789ab]
  - {comm: ["\\u00e9\\x1b"], name: '{{.Unit}}{{.ContainerID}}{{.PodUID}}{{ .Username }}'}
default_group: drop
""",
    "groups: [&a {comm: &l [x, y]}, *a, {comm: *l, name: '{{.Comm}}'}]\ndefault_group: '{{.Comm}} %'\n",
    "scan:\n  sample_above: 1\n  intervall: 3s\n? [a]\n: b\n---\n",
    "",
)

WEB_CONFIGS = (
    """\
tls_server_config:
  cert_file: a.pem
  key_file: b.pem
  client_ca_file: c.pem
  client_auth_type: RequireAndVerifyClientCert
  client_allowed_sans: [a.example, 10.0.0.1, '2001:db8::1']
  min_version: TLS12
  max_version: TLS13
  cipher_suites: [TLS_AES_128_GCM_SHA256, TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384]
  curve_preferences: [X25519, CurveP256]
  prefer_server_cipher_suites: true
http_server_config: {http2: false, headers: {X-Frame-Options: deny, Strict-Transport-Security: max-age=1}}
basic_auth_users: {a: $2y$10$abcdefghijklmnopqrstuuPsZ9WTFIN8iP4tu6wO1ZRvzcIGZM6fu}
rate_limit: {interval: 1s, burst: 20}
""",
    "tls_server_config:\n  cert: |\n    -----BEGIN CERTIFICATE-----\n    MAAA\n    -----END CERTIFICATE-----\n"
    "  key: \"-----BEGIN PRIVATE KEY-----\\nMAAA\\n-----END PRIVATE KEY-----\\n\"\n",
    "basic_auth_users: {a: plain, 'b:c': x}\nrate_limit: {interval: 0}\n",
)

REQUESTS = (
    "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    "GET /metrics?collect[]=cow&exclude%5B%5D=ksm HTTP/1.1\r\nHost: x\r\nAccept: application/openmetrics-text;version=1.0.0;"
    "q=0.5, text/plain\r\nAccept-Encoding: gzip;q=0.1\r\nX-Prometheus-Scrape-Timeout-Seconds: 3\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: x\r\n\r\nHEAD /-/ready HTTP/1.1\r\nHost: x\r\n\r\nGET /nope HTTP/1.0\r\n\r\n",
    "POST /-/reload HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc",
    "PUT /-/reload HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    "GET /api/v1/explain?pid=1 HTTP/1.1\r\nHost: x\r\nAuthorization: Basic YTpi\r\n\r\n",
    "GET /config HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nRange: bytes=0-1\r\n\r\n",
    "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", "GET http://x/metrics HTTP/1.1\r\n\r\n", "\r\n\r\nGET / HTTP/9.9\r\n\r\n",
)

def front_message(kind, pid=0, mapping=0, pages=0, has_mapping=0):
    return struct.pack("<IIQqQII", kind, 7, 0, pid, mapping, pages, has_mapping)


# A snapshot without metric families: the sizes of its parts, its index as CBOR, and the text of OpenMetrics.
SNAPSHOT_INDEX = bytes.fromhex("a5" "6a636f6c6c6563746f727380" "6866616d696c69657380" "6667726f75707380"
                               "696f6e5f64656d616e64f4" "657265616479f5")
SNAPSHOT = struct.pack("<QQQ", len(SNAPSHOT_INDEX), 0, 6) + SNAPSHOT_INDEX + b"# EOF\n"



def elf(kind, machine=62):
    """A small program: code with call frame information, two functions, a build ID."""
    code = b"\x90" * 64
    names = b"\0alpha\0_ZN1a4betaEi\0"
    cie = struct.pack("<IIB3sBBBB", 20, 0, 1, b"zR\0", 1, 0x78, 16, 1) + bytes([0x1B, 0x0C, 7, 8, 0x90, 1, 0, 0])
    fde = struct.pack("<IIiI", 20, 28, -0x60, 64) + bytes([0, 0x41, 0x0E, 16, 0x86, 2, 0, 0])
    note = struct.pack("<III4s", 4, 20, 3, b"GNU\0") + bytes(range(20))
    symbols = bytes(24) + struct.pack("<IBBHQQIBBHQQ", 1, 0x12, 0, 1, 0x1000, 32, 7, 0x12, 0, 1, 0x1020, 16)
    section_names = b"\0.text\0.eh_frame\0.note.gnu.build-id\0.symtab\0.strtab\0.shstrtab\0"
    parts, offsets = b"", []
    for part in (code, cie + fde + bytes(4), note, symbols, names, section_names):
        offsets.append(0x1000 + len(parts))
        parts += part + b"\0" * (-len(part) % 8)
    sizes = (len(code), len(cie + fde) + 4, len(note), len(symbols), len(names), len(section_names))
    headers = bytes(64)
    for index, (name, flags, address, link, info, entry) in enumerate(
            ((1, 6, 1, 0, 0, 0), (7, 2, 1, 0, 0, 0), (17, 2, 1, 0, 0, 0), (36, 0, 0, 5, 1, 24), (44, 0, 0, 0, 0, 0),
             (52, 0, 0, 0, 0, 0))):
        section = (1, 1, 7, 2, 3, 3)[index]
        headers += struct.pack("<IIQQQQIIQQ", name, section, flags, offsets[index] * address, offsets[index], sizes[index],
                               link, info, 8, entry)
    segments = b"".join(struct.pack("<IIQQQQQQ", type_, flags, offset, offset, offset, size, size, align) for
                        type_, flags, offset, size, align in ((1, 5, 0x1000, len(parts), 0x1000),
                                                              (4, 4, offsets[2], len(note), 4)))
    header = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", kind, machine, 1, 0x1000, 64, 0x1000 + len(parts), 0,
                         64, 56, 2, 64, 7, 6)
    return (header + segments).ljust(0x1000, b"\0") + parts + headers


SEEDS = {
    "elf_symbols": (elf(3), elf(2), elf(3, 183)),
    "perf_map": ("7f0000001000 20 py::work:/app/main.py\n0x7f0000001010 0x40 second\n1000 0 empty\nx\n",),
    "messages": (front_message(1), front_message(5), front_message(8, 12, 0x7F00, 1, 1), front_message(8, 1),
                 struct.pack("<IIQ", 7, 3, 503)),
    "snapshot": (SNAPSHOT,),
    "maps": (MAPS, MAPS.splitlines()[0]),
    "smaps": (smaps(), "55d0c6a00000-7ffd12345000 ---p 00000000 00:00 0 [rollup]\n" + smaps_fields(8)),
    "stat": (STAT, STAT.replace("(a) b (c)", "()")),
    "status": (STATUS, STATUS.replace("VmRSS", "\nVmRSS")),
    "cgroup": CGROUPS + tuple(line.split(":", 2)[2].split("\n")[0] for line in CGROUPS),
    "mountinfo": (MOUNTINFO,),
    # Choices: a step each (bytes.h). The fuzzer finds the rest.
    "pagemap": (bytes(range(256)), bytes(7 * i % 251 for i in range(600)), bytes(31 * i * i % 253 for i in range(900))),
    "ledger": tuple(bytes([form]) + bytes((13 * i + i * i // 7) % 256 for i in range(400)) for form in (0, 1, 2, 4)),
    "proc_events": (connector(1, 100, 100, 200, 200), connector(1, 100, 100, 201, 200), connector(2, 200, 200),
                    connector(0x80000000, 200, 200, 0, 17), connector(0, 0), connector(0, 1), connector(2, 1, index=9)),
    "taskstats": (report(), report(14, 432), report(16, 440, False), report(15, 432), taskstats(13, 416),
                  taskstats(16, 500)),
    "perf_records": PERF_RECORDS,
    "config": CONFIGS,
    "web_config": WEB_CONFIGS,
    "template": ("redis-{{.Matches.port}}", "{{.Comm}}{{ .ExeBase }}x{{.PodUID}}", "{{", "{{.Matches.}}", "a}}b{{.Unit}}"),
    "units": ("1h30m", "500ms", "0", "1.5s", "256MiB", "1000B", "2TB", "0.25", "1e-3", "64", ":9100", "[::1]:80",
              "unix:/run/x", "localhost:1", "18446744073709551615B", "584554530y", "-1ms", "250us"),
    "http": REQUESTS,
    "query": ("collect[]=cow&collect[]=ksm", "exclude%5B%5D=thp", "a=%00&b=+&c", "%zz", "collect[]=thp&exclude[]=cow"),
    "accept": ("application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1",
               'text/plain; a="b,c\\";d"; q=0', "gzip;q=1.000, identity;q=0, *;q=0.5", "*/*", "q=,;=,"),
    "auth": ("Basic " + base64.b64encode(b"user:pass").decode(), "basic   dTpwOnE= ", "Basic", "Bearer x", "Basic Og=="),
}


# Inputs that have found a fault, as base64.
FAULTS = {
    # A byte that is not UTF-8: it was shown as another character. Then a control character that RE2's error repeats.
    "config": ("Z3JvdXBzOiBbJmEge2NvbW06ICZsIFt4LCB5XX0sICphLCB7Y29tbTogKmwsIG5hbWU6ICd7ey5Db21tfX0nfV0KZGVmYXVsdF9ncm91cDog"
               "J3uILkNvbW19fSAlJwo=", "Z3JvdXBzOiBbe2NtZGxpbmU6IFsnKD9QPGEAYj5jKSddfV0K"),
    # A variable's name with a brace: written again, it was another template.
    "template": ("e3suTWF0Y2hlcy5hfSB9fQ==",),
    # A control character beyond ASCII in an error.
    "units": ("LTFtc5ycnJycnJycnJyc",),
}


def of(name):
    files = [seed.encode() if isinstance(seed, str) else seed for seed in SEEDS[name]]
    files += map(base64.b64decode, FAULTS.get(name, ()))
    if name == "config":
        files.append((ROOT / "config" / "reference.yml").read_bytes())
    return files


def write(name, directory):
    for number, seed in enumerate(of(name)):
        (pathlib.Path(directory) / f"seed_{number:02}").write_bytes(seed)


if __name__ == "__main__":
    write(*sys.argv[1:])
