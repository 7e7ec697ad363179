"""Starts a program with sockets that it inherits, as systemd does, and as deploy/systemd has them."""

import contextlib
import os
import socket
import sys

NETLINK_CONNECTOR, NETLINK_GENERIC = 11, 16
_FIRST = 200  # above what the test itself has open
_ACTIVATE = f"""
import os, sys
count = int(sys.argv[1])
for i in range(count):
    os.dup2({_FIRST} + i, 3 + i)
os.closerange(3 + count, {_FIRST} + 100)
os.environ.update(LISTEN_FDS=str(count), LISTEN_PID=str(os.getpid()))
os.execvp(sys.argv[2], sys.argv[2:])
"""


def wrapper(sockets):
    """Returns the command that passes the sockets to the program that it executes."""
    return [sys.executable, "-c", _ACTIVATE, str(len(sockets))]


@contextlib.contextmanager
def passed(sockets):
    """Yields the descriptors for pass_fds. The sockets stay open afterwards, as they do in systemd."""
    high = [os.dup2(each.fileno(), _FIRST + i) for i, each in enumerate(sockets)]
    try:
        yield high
    finally:
        for number in high:
            os.close(number)


def tcp(context):
    return context.enter_context(socket.create_server(("127.0.0.1", 0)))


def unix(context, path, mode=0o600):
    listener = context.enter_context(socket.socket(socket.AF_UNIX))
    listener.bind(path)
    os.chmod(path, mode)
    listener.listen()
    return listener


def netlink(context):
    """The sockets of cow_exporter-netlink.socket."""
    sockets = []
    for protocol in (NETLINK_CONNECTOR, NETLINK_GENERIC, NETLINK_GENERIC):
        sockets.append(context.enter_context(socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, protocol)))
        sockets[-1].bind((0, 0))
    return sockets
