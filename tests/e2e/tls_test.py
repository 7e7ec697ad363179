"""TLS, client certificates and users of the web configuration, with curl, openssl and a real Prometheus."""

import concurrent.futures
import contextlib
import json
import os
import re
import socket
import subprocess
import time
import urllib.error
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


def openssl(context, *arguments):
    subprocess.run(["openssl", *arguments], cwd=context.directory, capture_output=True, check=True)


def make_ca(context, name):
    openssl(context, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
            "-keyout", f"{name}.key", "-out", f"{name}.pem", "-subj", f"/CN={name}")


def make_certificate(context, name, ca, usage, common_name, names="DNS:localhost,IP:127.0.0.1"):
    openssl(context, "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={common_name}")
    with open(context.path(f"{name}.ext"), "w", encoding="utf-8") as file:
        file.write(f"extendedKeyUsage={usage}\nsubjectAltName={names}\n")
    openssl(context, "x509", "-req", "-in", f"{name}.csr", "-CA", f"{ca}.pem", "-CAkey", f"{ca}.key", "-days", "2",
            "-CAcreateserial", "-extfile", f"{name}.ext", "-out", f"{name}.pem")


serving = {}  # by name of its web configuration, the exporter


def write_web(context, password_hash, tls="", more=""):
    write_text(context, "web.yml", WEB.format(user=USER, hash=password_hash, tls=tls) + more)


def write_text(context, name, text):
    """Replaces the file at once, like an editor or a configuration manager, and waits until the exporter that uses it has
    seen it."""
    with open(context.path("new"), "w", encoding="utf-8") as file:
        file.write(text)
    with serving[name].taking_web_files() if name in serving else contextlib.nullcontext():
        os.rename(context.path("new"), context.path(name))


def indented(context, name):
    """Returns a PEM file as a text within tls_server_config."""
    with open(context.path(name), encoding="utf-8") as file:
        return "|\n" + "".join(f"    {line}" for line in file)


def logged(exporter, text):
    return [line for line in exporter.log if text in line]


class Client:
    """Runs curl with or without a certificate."""

    def __init__(self, context, exporter):
        self.context = context
        self.url = f"https://{exporter.address}"

    def ask(self, path="/metrics", user=f"{USER}:secret", certificate=None, options=()):
        """Returns status (0: no answer), headers and seconds."""
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
    """Returns the output of openssl."""
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
    # The time does not show whether a user exists.
    times = {user: sorted(client.ask(user=f"{user}:wrong")[2] for _ in range(5))[2] for user in (USER, "nobody")}
    print("a wrong password takes " + ", ".join(f"{user} {took * 1000:.0f} ms" for user, took in times.items()))
    check(0.5 < times[USER] / times["nobody"] < 2, "the time tells who exists")


def check_guessing(client, exporter):
    """Many clients with wrong passwords neither burn CPU nor lock out a client with the right one."""
    check(client.status() == 200, "the right password")
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        before, start = exporter.cpu_seconds(), time.monotonic()
        guesses = [pool.submit(client.status, user=f"{USER}:guess{i}") for i in range(24)]
        time.sleep(0.5)
        took = [client.ask() for _ in range(3)]
        answers = [guess.result() for guess in guesses]
        share = (exporter.cpu_seconds() - before) / (time.monotonic() - start)
    check({status for status, _, _ in took} == {200}, "who knows the password was kept out")
    check(max(seconds for _, _, seconds in took) < 2, f"took {took}")
    check(set(answers) <= {401, 503} and 401 in answers, f"{answers}")
    print(f"24 guesses: {answers.count(503)} were not looked at; {share:.0%} of a CPU; meanwhile "
          f"{max(seconds for _, _, seconds in took) * 1000:.0f} ms for a right password")
    check(share < 0.6, f"guessing took {share:.0%} of a CPU")


def check_renewal(context, client, exporter):
    check("CN = first" in handshake(exporter), "the first certificate")
    make_certificate(context, "next", "ca", "serverAuth", "second")
    # The key does not match the certificate: the old pair stays in use.
    with exporter.taking_web_files():
        os.replace(context.path("next.key"), context.path("server.key"))
    check("CN = first" in handshake(exporter), "a half-written pair")
    check(client.status() == 200, "a half-written pair")
    check(any("stays in force" in line for line in exporter.log), "nothing was logged")
    with exporter.taking_web_files():
        os.replace(context.path("next.pem"), context.path("server.pem"))
    check("CN = second" in handshake(exporter), "the second certificate")
    check(client.status() == 200, "the second certificate")


def check_reload(context, client, exporter, password_hash):
    with exporter.taking_web_files():
        with open(context.path("web.yml"), "a", encoding="utf-8") as file:
            file.write("nonsense: 1\n")
    check(client.status() == 200, "a bad web configuration")
    place = f"{context.path('web.yml')}:10:1: "
    check(any(place in line for line in exporter.log), "no line and column in the log: " + "".join(exporter.log[-3:]))
    write_web(context, support.bcrypt_hash("other"))
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


def check_allowed_names(context, client, exporter, password_hash):
    """Each kind of name matches exactly: no wildcard and no part of a name."""
    make_certificate(context, "named", "ca", "clientAuth", "named.example",
                     "DNS:prom.example,DNS:*.wide.example,IP:10.1.2.3,IP:2001:db8::1,email:me@prom.example,URI:spiffe://prom/a")
    make_certificate(context, "alien", "strangers", "clientAuth", "alien", "DNS:prom.example")

    def status(allowed, kind="RequireAndVerifyClientCert", certificate="named"):
        write_web(context, password_hash, f"  client_auth_type: {kind}\n  client_ca_file: ca.pem\n"
                  f"  client_allowed_sans: {json.dumps(allowed)}")
        return client.status(certificate=certificate)

    for name in ("prom.example", "*.wide.example", "10.1.2.3", "2001:db8::1", "2001:DB8:0::1", "me@prom.example",
                 "spiffe://prom/a"):
        check(status([name]) == 200, f"a client whose certificate has {name}")
    check(status(["other.example", "10.1.2.3"]) == 200, "one name of two")
    lacking = ("named.example", "example", "a.wide.example", "PROM.example", "prom.example.", "10.1.2.30")
    for name in lacking:
        check(status([name]) == 0, f"a client whose certificate lacks {name}")
    for _ in range(3):
        check(client.status(certificate="named") == 0, "a client that has not the name")
    # Reported once per configuration: a new one may have been an attempt to fix it.
    told = logged(exporter, "none of its names is in client_allowed_sans: prom.example, *.wide.example, 10.1.2.3, "
                  "2001:db8::1, me@prom.example, spiffe://prom/a")
    check(len(told) == len(lacking), f"told {len(told)} times")
    check(status(["prom.example"], certificate="alien") == 0, "the right name by the wrong CA")
    check(status(["prom.example"], certificate=None) == 0, "no certificate")
    # If client certificates are optional, the list would admit clients without one. If they are not verified, it would
    # admit any client that writes the name into its certificate.
    for kind in ("RequireAnyClientCert", "RequireClientCert", "VerifyClientCertIfGiven"):
        for certificate in ("alien", "stranger", None):
            check(status(["prom.example"], kind, certificate) == 0, f"{kind}: a bad web configuration came into force")
    check(logged(exporter, "client_allowed_sans: needs client_auth_type"), "nothing was logged")


def check_texts(context, client, exporter, password_hash):
    """Certificate, key and CA within the file. Both forms at once are an error."""
    make_certificate(context, "third", "ca", "serverAuth", "third")
    text = (f"tls_server_config:\n  cert: {indented(context, 'third.pem')}  key: {indented(context, 'third.key')}"
            f"  client_ca: {indented(context, 'ca.pem')}  client_auth_type: RequireAndVerifyClientCert\n")
    users = f"basic_auth_users: {{{USER}: {password_hash}}}\n"
    write_text(context, "web.yml", text + users)
    check("CN = third" in handshake(exporter), "a certificate in the file")
    found = [client.status(certificate=name) for name in ("client", "stranger", None)]
    check(found == [200, 0, 0], f"a CA in the file: {found}")
    write_text(context, "web.yml", text + "  key_file: server.key\n" + users)
    line = text.count("\n") + 1
    run = subprocess.run([support.binary("COW_EXPORTER"), "--config.check", f"--web.config.file={context.path('web.yml')}"],
                         capture_output=True, check=False, text=True)
    check(run.returncode == 1 and f"web.yml:{line}:3: tls_server_config: key and key_file exclude each other" in run.stderr,
          run.stderr)
    check("CN = third" in handshake(exporter), "what was before is not in force")
    check("PRIVATE" not in run.stderr and not logged(exporter, "PRIVATE"), "a key is shown")


def check_rate_limit(context, client, exporter, password_hash):
    write_web(context, password_hash, more="rate_limit: {interval: 1h, burst: 3}\n")
    found = [client.status(path) for path in ("/metrics", "/-/healthy", "/nope", "/metrics")]
    check(found == [200, 200, 404, 429], f"rate_limit with a burst of 3: {found}")
    # Before the password is checked, so guessing does not help.
    status, headers, _ = client.ask(user=f"{USER}:wrong")
    check(status == 429 and re.search(r"(?i)^retry-after: \d+", headers, re.MULTILINE), f"{status}: {headers}")
    write_web(context, password_hash, "  min_version: TLS13", more="rate_limit: {interval: 1h, burst: 3}\n")
    check(client.status() == 429, "another change of the file fills the bucket")
    write_web(context, password_hash, more="rate_limit: {interval: 100ms, burst: 1}\n")
    check(client.status() == 200, "another limit begins full")
    time.sleep(0.15)
    check(client.status() == 200, "after the interval")
    write_web(context, password_hash, more="rate_limit: {interval: 0, burst: 1}\n")
    check([client.status() for _ in range(4)] == [200] * 4, "an interval of 0")


def check_users_on_and_off(context, client, password_hash):
    """Needs no restart. An open connection asks for a password from its next request on."""
    without = "tls_server_config: {cert_file: server.pem, key_file: server.key}\n"
    for _ in range(2):
        write_text(context, "web.yml", without)
        check(client.status(user="nobody:x") == 200, "users off")
        write_web(context, password_hash)
        check(client.status(user="nobody:x") == 401, "users on")


def check_tls_on_and_off(context, client, exporter, password_hash):
    """TLS is decided at the start, like in exporter-toolkit. A file that changes it is refused; the log says so
    once."""
    write_text(context, "web.yml", f"basic_auth_users: {{{USER}: {password_hash}}}\n")
    check([client.status() for _ in range(3)] == [200] * 3, "TLS ended, or clients were lost")
    reason = "TLS can't be switched on or off without a restart"
    check(len(logged(exporter, reason)) == 1, f"{logged(exporter, reason)}")
    write_web(context, password_hash)
    check(client.status() == 200, "TLS as before")

    write_text(context, "plain.yml", "")
    plain = serving["plain.yml"] = context.start(support.Exporter(f"--web.config.file={context.path('plain.yml')}"))
    write_text(context, "plain.yml", "tls_server_config: {cert_file: server.pem, key_file: server.key}\n")
    for _ in range(3):
        with urllib.request.urlopen(plain.url("/-/healthy"), timeout=10) as response:
            check(response.status == 200, "plain HTTP")
    check(len(logged(plain, reason)) == 1, f"{plain.log}")
    write_text(context, "plain.yml", f"basic_auth_users: {{{USER}: {password_hash}}}\n")
    try:
        urllib.request.urlopen(plain.url("/-/healthy"), timeout=10)
        check(False, "users on without TLS")
    except urllib.error.HTTPError as error:
        check(error.code == 401, f"users on without TLS: {error.code}")
    plain.end()


def check_bad_handshakes(client, exporter):
    """Failed handshakes are not logged one by one and do not affect other clients."""
    host, port = exporter.address.rsplit(":", 1)
    before = len(exporter.log)
    for number in range(60):
        with socket.create_connection((host, int(port))) as connection, contextlib.suppress(OSError):
            connection.sendall((b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00\x01" + bytes(512), b"")[number % 3])
            with contextlib.suppress(OSError):  # the other side may have closed it
                connection.shutdown(socket.SHUT_WR)
            connection.settimeout(10)
            connection.recv(100)
    check(client.status() == 200, "an answer after bad handshakes")
    check(len(exporter.log) == before, "bad handshakes are told: " + "".join(exporter.log[before:]))


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
    password_hash = support.bcrypt_hash("secret")
    check_bad_start(context)
    write_web(context, password_hash)
    exporter = serving["web.yml"] = context.start(support.Exporter(f"--web.config.file={context.path('web.yml')}"))
    client = Client(context, exporter)
    check_versions(exporter)
    check_users(client)
    check_guessing(client, exporter)
    check_renewal(context, client, exporter)
    check_reload(context, client, exporter, password_hash)
    check_client_certificates(context, client, password_hash)
    check_allowed_names(context, client, exporter, password_hash)
    check_texts(context, client, exporter, password_hash)
    check_rate_limit(context, client, exporter, password_hash)
    check_users_on_and_off(context, client, password_hash)
    check_tls_on_and_off(context, client, exporter, password_hash)
    check_bad_handshakes(client, exporter)
    write_web(context, password_hash, "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.pem\n"
              "  client_allowed_sans: [localhost]", "rate_limit: {interval: 100ms, burst: 10}\n")
    check(client.status() == 0 and client.status(certificate="client") == 200, "the rules for Prometheus")
    check_prometheus(context, exporter)


support.main(test)
