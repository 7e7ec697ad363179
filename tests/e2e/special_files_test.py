"""A pipe, a device, a socket or a directory in place of a file of the configuration is an error with a clear text. It
delays no start, reload, request or end."""

import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request

import support
from support import check, wait_for

MOST_SECONDS = 1.0
WEB = ("tls_server_config:\n  cert_file: cert.pem\n  key_file: key.pem\n  client_auth_type: RequestClientCert\n"
       "  client_ca_file: cert.pem\n")


def write(context, name, text):
    with open(context.path(name), "w", encoding="utf-8") as file:
        file.write(text)


def make_certificate(context):
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                    "-days", "2", "-keyout", context.path("key.pem"), "-out", context.path("cert.pem"), "-subj",
                    "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"], capture_output=True, check=True)


def make_special(context):
    """Returns paths by what errors call them."""
    os.mkfifo(context.path("pipe"))
    listener = context.enter_context(socket.socket(socket.AF_UNIX))
    listener.bind(context.path("socket"))
    return {context.path("pipe"): "a pipe", context.path("socket"): "a socket", "/dev/zero": "a device",
            context.directory: "a directory", "/dev/stdin": "a pipe"}


def check_start(flag, path, error):
    """Starts on a file that can't be read. Standard input is a pipe whose writer is silent."""
    reader, writer = os.pipe()
    start = time.monotonic()
    try:
        run = subprocess.run([support.binary("COW_EXPORTER"), "--web.listen-address=127.0.0.1:0", f"{flag}={path}"],
                             stdin=reader, capture_output=True, text=True, timeout=10, check=False)
    except subprocess.TimeoutExpired:
        raise support.Failure(f"{flag}={path} hangs") from None
    finally:
        os.close(reader)
        os.close(writer)
    took = time.monotonic() - start
    check(run.returncode == 1 and error in run.stderr, f"{flag}={path}: {run.returncode} {run.stderr}")
    check(took < MOST_SECONDS, f"{flag}={path}: took {took:.1f} s")


def check_starts(context, special):
    for path, kind in special.items():
        for flag in ("--config.file", "--web.config.file"):
            check_start(flag, path, f"{path}: expected a regular file, got {kind}")
    for key in ("  cert_file: cert.pem", "key_file: key.pem", "client_ca_file: cert.pem"):
        write(context, "web.yml", WEB.replace(key, key.split(":")[0] + ": pipe"))
        check_start("--web.config.file", context.path("web.yml"),
                    f"tls_server_config: {context.path('pipe')}: expected a regular file, got a pipe")


def replace_by_pipe(path):
    os.mkfifo(path + ".new")
    os.rename(path + ".new", path)


def request(exporter, method, path):
    """Returns status and body."""
    start = time.monotonic()
    try:
        with urllib.request.urlopen(urllib.request.Request(exporter.url(path), method=method), timeout=10) as response:
            answer = response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        answer = error.code, error.read().decode()
    took = time.monotonic() - start
    check(took < MOST_SECONDS, f"{method} {path} took {took:.1f} s")
    return answer


def check_running(context):
    """The files become pipes while the program runs."""
    write(context, "config.yml", "scan: {interval: 1h}\n")
    write(context, "plain.yml", "")
    exporter = context.start(support.Exporter(f"--config.file={context.path('config.yml')}", "--web.enable-lifecycle",
                                              f"--web.config.file={context.path('plain.yml')}"))
    replace_by_pipe(context.path("config.yml"))
    error = f"{context.path('config.yml')}: expected a regular file, got a pipe"
    status, body = request(exporter, "POST", "/-/reload")
    check(status == 500 and error in body, f"{status} {body}")
    exporter.send_signal(signal.SIGHUP)
    wait_for(lambda: sum(error in line for line in exporter.log) == 2, 10, "the error of the reload by SIGHUP")
    with exporter.taking_web_files():
        replace_by_pipe(context.path("plain.yml"))
    for _ in range(3):
        check(request(exporter, "GET", "/-/healthy")[0] == 200, "a request after the web configuration became a pipe")
    error = f"{context.path('plain.yml')}: expected a regular file, got a pipe"
    check(sum(error in line for line in exporter.log) == 1, f"{exporter.log}")
    took = exporter.end()
    check(exporter.returncode == 0 and took < MOST_SECONDS, f"the end: {exporter.returncode} in {took:.1f} s")


def check_running_tls(context):
    """The key becomes a pipe: the former key stays in use."""
    write(context, "web.yml", "tls_server_config: {cert_file: cert.pem, key_file: key.pem}\n")
    exporter = context.start(support.Exporter(f"--web.config.file={context.path('web.yml')}"))
    with exporter.taking_web_files():
        replace_by_pipe(context.path("key.pem"))
    for _ in range(2):
        run = subprocess.run(["curl", "--silent", "--max-time", "5", "--cacert", context.path("cert.pem"),
                              f"https://{exporter.address}/-/healthy"], capture_output=True, check=False)
        check(run.returncode == 0, f"curl: {run.returncode}")
    error = f"{context.path('key.pem')}: expected a regular file, got a pipe"
    check(sum(error in line for line in exporter.log) == 1, f"{exporter.log}")
    took = exporter.end()
    check(exporter.returncode == 0 and took < MOST_SECONDS, f"the end: {exporter.returncode} in {took:.1f} s")


def test(context):
    support.need("curl", "openssl")
    make_certificate(context)
    check_starts(context, make_special(context))
    check_running(context)
    check_running_tls(context)


support.main(test)
