"""TLS, client certificates and users by the web configuration: with curl, openssl and a real Prometheus."""

import concurrent.futures
import json
import os
import re
import subprocess
import time
import urllib.request

import support
from support import check, wait_for

USER = "prometheus"

WEB = """\
tls_server_config:
  cert_file: server.pem
  key_file: server.key
{tls}
http_server_config:
  headers:
    Strict-Transport-Security: max-age=31536000
basic_auth_users:
  {user}: {hash}
"""

PROMETHEUS = """\
global:
  scrape_interval: 1s
  scrape_timeout: 1s
scrape_configs:
  - job_name: cow
    scheme: https
    tls_config:
      ca_file: ca.pem
      cert_file: client.pem
      key_file: client.key
      server_name: localhost
    basic_auth:
      username: {user}
      password: secret
    static_configs:
      - targets: ["{address}"]
"""


def bcrypt_hash(password):
    """By libcrypt, which htpasswd would call too."""
    import ctypes
    crypt = ctypes.CDLL("libcrypt.so.1").crypt
    crypt.restype = ctypes.c_char_p
    return crypt(password.encode(), b"$2y$10$abcdefghijklmnopqrstuu").decode()


def openssl(context, *arguments):
    subprocess.run(["openssl", *arguments], cwd=context.directory, capture_output=True, check=True)


def make_ca(context, name):
    openssl(context, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
            "-keyout", f"{name}.key", "-out", f"{name}.pem", "-subj", f"/CN={name}")


def make_certificate(context, name, ca, usage, common_name):
    openssl(context, "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={common_name}")
    with open(context.path(f"{name}.ext"), "w", encoding="utf-8") as file:
        file.write(f"extendedKeyUsage={usage}\nsubjectAltName=DNS:localhost,IP:127.0.0.1\n")
    openssl(context, "x509", "-req", "-in", f"{name}.csr", "-CA", f"{ca}.pem", "-CAkey", f"{ca}.key", "-days", "2",
            "-CAcreateserial", "-extfile", f"{name}.ext", "-out", f"{name}.pem")


def write_web(context, password_hash, tls=""):
    """At once, as an editor or a configuration manager does it."""
    with open(context.path("web.tmp"), "w", encoding="utf-8") as file:
        file.write(WEB.format(user=USER, hash=password_hash, tls=tls))
    os.rename(context.path("web.tmp"), context.path("web.yml"))


class Client:
    """curl, with a certificate or without."""

    def __init__(self, context, exporter):
        self.context = context
        self.url = f"https://{exporter.address}"

    def ask(self, path="/metrics", user=f"{USER}:secret", certificate=None, options=()):
        """Status, 0 if there was none; headers; seconds."""
        command = ["curl", "--silent", "--include", "--max-time", "20", "--cacert", self.context.path("ca.pem"),
                   "--user", user, *options]
        if certificate:
            command += ["--cert", self.context.path(f"{certificate}.pem"), "--key", self.context.path(f"{certificate}.key")]
        start = time.monotonic()
        run = subprocess.run([*command, self.url + path], capture_output=True, check=False)
        took = time.monotonic() - start
        found = re.match(rb"HTTP/1.1 (\d+)", run.stdout)
        return int(found.group(1)) if found else 0, run.stdout.partition(b"\r\n\r\n")[0].decode(), took

    def status(self, *arguments, **options):
        return self.ask(*arguments, **options)[0]


def handshake(exporter, *options):
    """What openssl says."""
    run = subprocess.run(["openssl", "s_client", "-connect", exporter.address, *options], stdin=subprocess.DEVNULL,
                         capture_output=True, check=False, text=True)
    return run.stdout


def agreed(text):
    found = re.search(r"New, (\S+), Cipher is (\S+)", text)
    return found.groups() if found else None


def check_versions(exporter):
    for version in ("tls1", "tls1_1"):
        text = handshake(exporter, f"-{version}", "-cipher", "ALL@SECLEVEL=0")
        check(agreed(text) == ("(NONE)", "(NONE)"), f"{version}: {agreed(text)}")
    check(agreed(handshake(exporter, "-tls1_2"))[0] == "TLSv1.2", "TLS 1.2")
    check(agreed(handshake(exporter, "-tls1_3"))[0] == "TLSv1.3", "TLS 1.3")
    for weak in ("AES128-SHA", "AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-SHA"):
        check(agreed(handshake(exporter, "-tls1_2", "-cipher", weak))[1] == "(NONE)", weak)


def check_users(client):
    status, headers, _ = client.ask(user="nobody:x")
    check(status == 401 and "WWW-Authenticate: Basic" in headers, f"nobody: {status}")
    check("Strict-Transport-Security: max-age=31536000" in headers, "no header of the configuration")
    check(client.status() == 200, "the right password")
    for path in ("/", "/-/healthy", "/nope"):
        check(client.status(path, user=f"{USER}:wrong") == 401, f"{path} with a wrong password")
    check(client.status(options=["--request", "POST", "--data", "x"], user=f"{USER}:wrong") == 401, "POST")
    # Whether a user exists can't be told from the time.
    times = {user: sorted(client.ask(user=f"{user}:wrong")[2] for _ in range(5))[2] for user in (USER, "nobody")}
    print("a wrong password takes " + ", ".join(f"{user} {took * 1000:.0f} ms" for user, took in times.items()))
    check(0.5 < times[USER] / times["nobody"] < 2, "the time tells who exists")


def check_guessing(client, exporter):
    """Many who guess neither burn CPU nor keep out who knows the password."""
    def cpu_seconds():
        with open(f"/proc/{exporter.pid}/stat", encoding="utf-8") as file:
            fields = file.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    check(client.status() == 200, "the right password")
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        before, start = cpu_seconds(), time.monotonic()
        guesses = [pool.submit(client.status, user=f"{USER}:guess{i}") for i in range(24)]
        time.sleep(0.5)
        took = [client.ask() for _ in range(3)]
        answers = [guess.result() for guess in guesses]
        share = (cpu_seconds() - before) / (time.monotonic() - start)
    check({status for status, _, _ in took} == {200}, "who knows the password was kept out")
    check(max(seconds for _, _, seconds in took) < 2, f"took {took}")
    check(set(answers) <= {401, 503} and 401 in answers, f"{answers}")
    print(f"24 guesses: {answers.count(503)} were not looked at; {share:.0%} of a CPU; meanwhile "
          f"{max(seconds for _, _, seconds in took) * 1000:.0f} ms for a right password")
    check(share < 0.6, f"guessing took {share:.0%} of a CPU")


def check_renewal(context, client, exporter):
    check("CN = first" in handshake(exporter), "the first certificate")
    make_certificate(context, "next", "ca", "serverAuth", "second")
    # A key that is not the certificate's: the old pair stays in force.
    os.replace(context.path("next.key"), context.path("server.key"))
    check("CN = first" in handshake(exporter), "a half-written pair")
    check(client.status() == 200, "a half-written pair")
    check(any("stays in force" in line for line in exporter.log), "nothing was logged")
    os.replace(context.path("next.pem"), context.path("server.pem"))
    check("CN = second" in handshake(exporter), "the second certificate")
    check(client.status() == 200, "the second certificate")


def check_reload(context, client, exporter, password_hash):
    with open(context.path("web.yml"), "a", encoding="utf-8") as file:
        file.write("nonsense: 1\n")
    check(client.status() == 200, "a bad web configuration")
    place = f"{context.path('web.yml')}:10:1: "
    check(any(place in line for line in exporter.log), "no line and column in the log: " + "".join(exporter.log[-3:]))
    write_web(context, bcrypt_hash("other"))
    check(client.status() == 401, "a password that was changed")
    check(client.status(user=f"{USER}:other") == 200, "the new password")
    write_web(context, password_hash, "  min_version: TLS13")
    check(agreed(handshake(exporter, "-tls1_2"))[1] == "(NONE)", "TLS 1.2 with min_version")
    check(agreed(handshake(exporter, "-tls1_3"))[0] == "TLSv1.3", "TLS 1.3 with min_version")
    write_web(context, password_hash, "  cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384]\n"
              "  curve_preferences: [CurveP384]")
    text = handshake(exporter, "-tls1_2")
    check(agreed(text)[1] == "ECDHE-ECDSA-AES256-GCM-SHA384" and "secp384r1" in text, f"suites: {agreed(text)}")
    check(agreed(handshake(exporter, "-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"))[1] == "(NONE)", "suites")
    check(agreed(handshake(exporter, "-groups", "P-256"))[1] == "(NONE)", "curves")


def check_client_certificates(context, client, password_hash):
    for kind, none, stranger, own in (("RequestClientCert", 200, 200, 200), ("RequireAnyClientCert", 0, 200, 200),
                                      ("VerifyClientCertIfGiven", 200, 0, 200), ("RequireAndVerifyClientCert", 0, 0, 200)):
        write_web(context, password_hash, f"  client_auth_type: {kind}\n  client_ca_file: ca.pem")
        found = (client.status(), client.status(certificate="stranger"), client.status(certificate="client"))
        check(found == (none, stranger, own), f"{kind}: {found}")
    check(client.status(certificate="server") == 0, "a server's certificate is none of a client")


def check_prometheus(context, exporter):
    with open(context.path("prometheus.yml"), "w", encoding="utf-8") as file:
        file.write(PROMETHEUS.format(user=USER, address=exporter.address))
    port = support.free_port()
    log = context.enter_context(open(context.path("prometheus.log"), "w+", encoding="utf-8"))
    context.start(support.Process(
        ["prometheus", f"--config.file={context.path('prometheus.yml')}", f"--storage.tsdb.path={context.path('data')}",
         f"--web.listen-address=127.0.0.1:{port}"], stdout=log, stderr=log))

    def up():
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/query?query=up", timeout=5) as response:
                result = json.load(response)["data"]["result"]
        except OSError:
            return False
        return bool(result) and result[0]["value"][1] == "1"

    wait_for(up, 30, "Prometheus scrapes over TLS with a client certificate and a password", pause=0.2)


def check_bad_start(context):
    with open(context.path("bad.yml"), "w", encoding="utf-8") as file:
        file.write("tls_server_config:\n  cert_file: server.pem\n  min_version: TLS10\nbasic_auth_users: {a: plain}\n")
    for flags in ((), ("--config.check",)):
        run = subprocess.run([support.binary("COW_EXPORTER"), f"--web.config.file={context.path('bad.yml')}", *flags],
                             capture_output=True, check=False, text=True, timeout=20)
        check(run.returncode == 1, f"exit code {run.returncode}")
        places = [line.split(" ")[0] for line in run.stderr.splitlines() if line.startswith(context.path("bad.yml"))]
        check(places == [context.path("bad.yml") + place for place in (":3:16:", ":4:23:")], run.stderr)
        check("plain" not in run.stderr, "a password is shown")


def test(context):
    support.need("curl", "openssl", "prometheus")
    make_ca(context, "ca")
    make_ca(context, "strangers")
    make_certificate(context, "server", "ca", "serverAuth", "first")
    make_certificate(context, "client", "ca", "clientAuth", "client")
    make_certificate(context, "stranger", "strangers", "clientAuth", "stranger")
    password_hash = bcrypt_hash("secret")
    check_bad_start(context)
    write_web(context, password_hash)
    exporter = context.start(support.Exporter(f"--web.config.file={context.path('web.yml')}"))
    client = Client(context, exporter)
    check_versions(exporter)
    check_users(client)
    check_guessing(client, exporter)
    check_renewal(context, client, exporter)
    check_reload(context, client, exporter, password_hash)
    check_client_certificates(context, client, password_hash)
    check_prometheus(context, exporter)


support.main(test)
