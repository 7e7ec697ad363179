"""Runs npm for tests. If its registry can't be reached or denies access, the test is skipped. A package that the
registry lacks is a failure."""

import re
import subprocess

import support
from support import check

OPTIONS = ("--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=1", "--fetch-timeout=30000")
CODE = re.compile(r"^npm (?:ERR!|error) code (\S+)", re.MULTILINE)
# No network, a proxy or registry that refuses or fails, and certificates of another host.
UNREACHABLE = re.compile(
    r"EAI_AGAIN|ENOTFOUND|ECONNREFUSED|ECONNRESET|ECONNABORTED|EPIPE|ETIMEDOUT|EHOSTUNREACH|ENETUNREACH|EHOSTDOWN|ENETDOWN"
    r"|ERR_SOCKET_TIMEOUT|E40[1378]|E429|E5\d\d|EPROTO|ERR_TLS_\w+|ERR_SSL_\w+|CERT_\w+|UNABLE_TO_\w+|\w*SELF_SIGNED_CERT\w*")
# A package that every registry has. A server that answers 404 to it is no registry, so its other 404s prove nothing.
PROBE = ("view", "npm", "name")


def run(arguments, directory, seconds):
    """Returns the output."""
    support.need("npm", "node")
    ended = _run(arguments, directory, seconds)
    if ended.returncode == 0:
        return ended.stdout
    code = _code(ended)
    if UNREACHABLE.fullmatch(code):
        support.skip(f"missing network: npm {arguments[0]} can't fetch from its registry: {code}")
    if code == "E404" and _run(PROBE, directory, seconds).returncode != 0:
        support.skip(f"missing network: npm {arguments[0]}: what answers is no registry: {code}")
    check(False, f"npm {' '.join(arguments)}: {ended.stdout}{ended.stderr}")


def _run(arguments, directory, seconds):
    try:
        return subprocess.run(["npm", *arguments, *OPTIONS], cwd=directory, capture_output=True, text=True, timeout=seconds,
                              stdin=subprocess.DEVNULL, check=False)
    except subprocess.TimeoutExpired:
        support.skip(f"missing network: npm {arguments[0]} took longer than {seconds} s")


def _code(ended):
    found = CODE.search(ended.stderr)
    return found[1] if found else ""
