"""--web.healthcheck, as a container asks it: of every kind of address, with TLS, users and client certificates, and of what
is no healthy exporter."""

import contextlib
import re
import socket
import subprocess
import threading
import time

import support
from support import check

# bcrypt of a password that nobody has to know here.
HASH = "$2y$04$abcdefghijklmnopqrstuuIBOhXlWbFhnWmEaCc4KdVwKUvKBZ2Aa"


def ask(*flags):
    """Exit code, and what was said."""
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
        # Asked without what it is configured with, it does not pass for healthy.
        hold(1, {users: "status 401", limit: "status 429"}.get(text, "closed|not HTTP|reset"), address)
        exporter.end()
        hold(1, "refused", address, f"--web.config.file={path}")
    hold(1, "No such file", address, f"--web.config.file={context.path('none.yml')}")


def check_others(context):
    """Who listens, but does not answer, or something else."""
    for answer, pattern in ((b"HTTP/1.1 500 Oops\r\n\r\n", "status 500"), (b"SSH-2.0-x\r\n", "not HTTP"), (b"", "closed"),
                            (None, "no answer in time")):
        listener = context.enter_context(socket.create_server(("127.0.0.1", 0)))

        def serve(listener=listener, answer=answer):
            connection, _ = listener.accept()
            with connection, contextlib.suppress(OSError):
                connection.recv(4096)
                if answer is None:
                    connection.recv(4096)  # until the other side has enough
                else:
                    connection.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()
        start = time.monotonic()
        hold(1, pattern, "--web.listen-address=127.0.0.1:%d" % listener.getsockname()[1])
        check(time.monotonic() - start < 10, "it took too long")


def test(context):
    support.need("openssl")
    check_addresses(context)
    check_web_configuration(context)
    check_others(context)


support.main(test)
