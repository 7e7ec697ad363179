"""--web.healthcheck as a container uses it: every kind of address, TLS, users, client certificates, and unhealthy
exporters."""

import concurrent.futures
import contextlib
import re
import socket
import ssl
import subprocess
import threading
import time
import urllib.error
import urllib.request

import support
from support import check

# bcrypt of a password that this test does not need.
HASH = "$2y$04$abcdefghijklmnopqrstuuIBOhXlWbFhnWmEaCc4KdVwKUvKBZ2Aa"


def ask(*flags):
    """Returns exit code and output."""
    run = subprocess.run([support.binary("COW_EXPORTER"), "--web.healthcheck", *flags], capture_output=True, text=True,
                         check=False, timeout=60)
    return run.returncode, run.stdout + run.stderr


def hold(code, pattern, *flags):
    found, text = ask(*flags)
    check(found == code and re.search(pattern, text), f"{flags}: {found}, {text}")
    print(f"{text.strip()}: {found}")


def check_addresses(context):
    unix = f"--web.listen-address=unix:{context.path('s')}"
    exporter = context.start(support.Exporter(unix))
    port = support.wait_for(lambda: next(iter(re.findall(r"address=127\.0\.0\.1:([0-9]+)", "".join(exporter.log))), None), 10,
                            "the port in the log")
    tcp = f"--web.listen-address=127.0.0.1:{port}"
    hold(0, "^127.0.0.1:.*: healthy\n", tcp)
    hold(0, "^unix:/.*: healthy\n", unix)
    hold(0, "^:[0-9]+: healthy\n", f"--web.listen-address=:{port}")
    hold(0, "healthy\n.*healthy\n", tcp, unix)
    hold(1, "healthy\n.*Connection refused", tcp, f"--web.listen-address=127.0.0.1:{support.free_port()}")
    exporter.end()
    hold(1, "Connection refused", tcp)
    hold(1, "No such file", unix)


def check_web_configuration(context):
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days",
                    "2", "-keyout", context.path("key.pem"), "-out", context.path("cert.pem"), "-subj", "/CN=x"],
                   capture_output=True, check=True)
    tls = "tls_server_config:\n  cert_file: cert.pem\n  key_file: key.pem\n"
    users = f"basic_auth_users:\n  someone: {HASH}\n"
    limit = "rate_limit: {interval: 1h, burst: 1}\n"
    client_certificate = "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: cert.pem\n"
    for number, text in enumerate((users, limit, tls, tls + users, tls + client_certificate,
                                   tls + client_certificate + "  max_version: TLS12\n")):
        path = context.path(f"web{number}.yml")
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        exporter = context.start(support.Exporter(f"--web.config.file={path}"))
        address = f"--web.listen-address={exporter.address}"
        for _ in range(2):
            hold(0, "healthy", address, f"--web.config.file={path}")
        # Without the exporter's configuration the check does not pass.
        if text != limit:
            hold(1, {users: "status 401"}.get(text, "closed|not HTTP|reset"), address)
        else:
            check_limit(exporter, address)
        exporter.end()
        hold(1, "refused", address, f"--web.config.file={path}")
    hold(1, "No such file", address, f"--web.config.file={context.path('none.yml')}")


def check_limit(exporter, address):
    """The check uses none of the rate limit of other clients, and passes after they have exhausted it."""
    def status(path, **headers):
        try:
            with urllib.request.urlopen(urllib.request.Request(exporter.url(path), headers=headers), timeout=10) as response:
                return response.status
        except urllib.error.HTTPError as error:
            return error.code

    found = [status("/metrics") for _ in range(2)]
    check(found == [200, 429], f"a limit of one, after checks: {found}")
    hold(0, "healthy", address)
    # With a password it may be a guess.
    check(status("/-/healthy", Authorization="Basic eDp4") == 429, "a guess was not counted")


def serve_once(context, behave, tls=None):
    """Returns the flag of an address with this behaviour towards one client that has sent a request."""
    listener = context.enter_context(socket.create_server(("127.0.0.1", 0)))

    def serve():
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            connection = stack.enter_context(listener.accept()[0])
            if tls:
                connection = stack.enter_context(tls.wrap_socket(connection, server_side=True))
            connection.recv(4096)
            behave(connection)

    threading.Thread(target=serve, daemon=True).start()
    return "--web.listen-address=127.0.0.1:%d" % listener.getsockname()[1]


def answer(text):
    return lambda connection: connection.sendall(text)


def say_nothing(connection):
    connection.recv(4096)  # wait until the other side has enough


def trickle(connection):
    while True:
        connection.sendall(b"H")
        time.sleep(0.5)


def check_others(context):
    """A listener that does not answer, or answers something else. A demand for a client certificate is a sign of
    life; silence is not."""
    path = context.path("demands.yml")
    with open(path, "w", encoding="utf-8") as file:
        file.write("tls_server_config: {cert_file: cert.pem, key_file: key.pem, client_ca_file: cert.pem, "
                   "client_auth_type: RequireAndVerifyClientCert}\n")
    cases = [(1, "status 500", serve_once(context, answer(b"HTTP/1.1 500 Oops\r\n\r\n"))),
             (1, "not HTTP", serve_once(context, answer(b"SSH-2.0-x\r\n"))),
             (1, "closed", serve_once(context, answer(b""))),
             (1, "no answer in time", serve_once(context, say_nothing)),
             (1, "no answer in time", serve_once(context, trickle))]
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(context.path("cert.pem"), context.path("key.pem"))
        tls.load_verify_locations(context.path("cert.pem"))
        tls.verify_mode = ssl.CERT_OPTIONAL
        tls.minimum_version = tls.maximum_version = version
        for code, pattern, behave in ((0, "healthy", answer(b"")), (1, "not HTTP", answer(b"SSH-2.0-x\r\n")),
                                      (1, "no answer in time", say_nothing), (1, "no answer in time", trickle)):
            cases.append((code, pattern, serve_once(context, behave, tls), f"--web.config.file={path}"))
    start = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(len(cases)) as pool:
        for done in [pool.submit(hold, *case) for case in cases]:
            done.result()
    check(time.monotonic() - start < 9, "it took too long")


def test(context):
    support.need("openssl")
    check_addresses(context)
    check_web_configuration(context)
    check_others(context)


support.main(test)
