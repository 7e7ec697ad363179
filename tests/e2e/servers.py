"""Debian's servers that fork, each with its own socket or port and directory."""

import contextlib
import glob
import http.client
import json
import os
import pwd
import re
import shutil
import socket
import subprocess
import time

import support
from support import check, wait_for


class Server(support.Process):
    """The root's command line contains `directory`, so that a configuration can tell the server from others of its
    kind."""

    def __init__(self, directory, command, **options):
        self.directory = directory
        with open(os.path.join(directory, "output"), "w", encoding="utf-8") as output:
            super().__init__(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, **options)

    def pids(self):
        return support.processes_of(self.pid)

    def wait_until(self, condition, what, seconds=20):
        def ask():
            if self.poll() is not None:
                with open(os.path.join(self.directory, "output"), encoding="utf-8") as output:
                    raise support.Failure(f"{what}: {self.args[0]} ended with {self.returncode}: {output.read()}")
            return condition()

        return wait_for(ask, seconds, what)


class Redis(Server):
    """redis-server on a socket."""

    FILL = "for i = 0, tonumber(ARGV[1]) - 1 do redis.call('set', string.format('key:%012d', i), ARGV[2]) end"

    def __init__(self, directory):
        self.socket = os.path.join(directory, "redis.sock")
        super().__init__(directory, ["redis-server", "--port", "0", "--unixsocket", self.socket, "--dir", directory,
                                     "--save", ""])
        self.wait_until(lambda: os.path.exists(self.socket) and self.do("ping") == "PONG", "redis-server")

    def do(self, *words):
        run = subprocess.run(["redis-cli", "-s", self.socket, *map(str, words)], capture_output=True, text=True,
                             check=True)
        return run.stdout.strip()

    def fill(self, keys, value_bytes):
        self.do("eval", self.FILL, 0, keys, "x" * value_bytes)

    def info(self):
        return dict(re.findall(r"^(\w+):(\S*)\s*$", self.do("info", "persistence"), re.MULTILINE))

    def child(self):
        """Returns the pid of the saving child, or None."""
        with open(f"/proc/{self.pid}/task/{self.pid}/children", encoding="utf-8") as file:
            pids = file.read().split()
        return int(pids[0]) if pids else None

    def measured_cow_bytes(self):
        """Returns a fresh measurement of the saving child, which measures at most once a second."""
        rest = time.time()
        wait_for(lambda: int(self.info()["current_cow_size_age"]) + 1 < time.time() - rest, 30, "Redis' own measurement",
                 pause=0.2)
        return int(self.info()["current_cow_size"])


class Gunicorn(Server):
    """A preloaded application of many small records. A request touches a run of the first fifth of them and keeps
    the objects made for it. Some are cycles, so Python's collector sometimes scans all old objects."""

    APPLICATION = """\
import gc, json, os
RECORDS = [{"id": i, "name": "record %d" % i, "tags": [str(i)]} for i in range(RECORD_COUNT)]
KEPT = []
def application(environ, start_response):
    run = len(RECORDS) // 50
    first = int(environ["QUERY_STRING"]) % 10 * run
    for record in RECORDS[first:first + run]:
        cycle = [record["name"]]
        cycle.append(cycle)
        KEPT.append((cycle, record["id"]))
    start_response("200 OK", [("Content-Type", "application/json")])
    full = gc.get_stats()[2]["collections"]
    return [json.dumps({"pid": os.getpid(), "full_collections": full}).encode()]
"""
    FREEZE = "import gc\ndef when_ready(server):\n    gc.collect()\n    gc.freeze()\n"

    def __init__(self, directory, records, workers, freeze):
        self.workers = workers
        self.socket = os.path.join(directory, "gunicorn.sock")
        with open(os.path.join(directory, "application.py"), "w", encoding="utf-8") as file:
            file.write(self.APPLICATION.replace("RECORD_COUNT", str(records)))
        configuration = os.path.join(directory, "gunicorn.conf.py")
        with open(configuration, "w", encoding="utf-8") as file:
            file.write(self.FREEZE if freeze else "")
        super().__init__(directory, ["gunicorn", "--preload", "--workers", str(workers), "--config", configuration,
                                     "--chdir", directory, "--bind", "unix:" + self.socket, "--worker-tmp-dir",
                                     directory, "application:application"])
        self.wait_until(lambda: os.path.exists(self.socket) and len(self.pids()) == workers + 1, "gunicorn")

    def ask(self, first):
        connection = http.client.HTTPConnection("localhost", timeout=30)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(self.socket)
        with contextlib.closing(connection):
            connection.request("GET", f"/?{first}")
            return json.load(connection.getresponse())

    def ask_all(self, requests):
        """Returns the number of answers by worker, and its full collections until then."""
        answers = {}
        for number in range(requests):
            said = self.ask(number)
            answer = answers.setdefault(said["pid"], {"requests": 0})
            answer["requests"] += 1
            answer["full_collections"] = said["full_collections"]
        return answers


class Postgres(Server):
    """A fresh cluster, run by Debian's user postgres, without background workers that come and go."""

    def __init__(self, directory):
        self.programs = max(glob.glob("/usr/lib/postgresql/*/bin"), default=None)
        if self.programs is None or shutil.which("setpriv") is None:
            support.skip("postgresql is not installed")
        self.environment = {**os.environ, "PGHOST": directory, "PGUSER": "postgres", "PGDATABASE": "postgres"}
        user = pwd.getpwnam("postgres")
        os.chown(directory, user.pw_uid, user.pw_gid)
        become = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
        data = os.path.join(directory, "data")
        subprocess.run([*become, self.program("initdb"), "-D", data, "--no-sync", "-A", "trust", "-U", "postgres"],
                       cwd=directory, check=True, capture_output=True)
        super().__init__(directory, [*become, self.program("postgres"), "-D", data, "-k", directory, "-c",
                                     "listen_addresses=", "-c", "fsync=off", "-c", "autovacuum=off"],
                         cwd=directory)
        self.wait_until(lambda: self.run("pg_isready", "-q").returncode == 0, "postgres")

    def program(self, name):
        return os.path.join(self.programs, name)

    def run(self, program, *arguments):
        return subprocess.run([self.program(program), *arguments], env=self.environment, capture_output=True, text=True,
                              check=False)

    def bench(self, scale, clients, transactions):
        for arguments in (["-i", "-q", "-s", str(scale)], ["-c", str(clients), "-t", str(transactions)]):
            run = self.run("pgbench", *arguments)
            check(run.returncode == 0, f"pgbench: {run.stderr}")

    def session(self):
        """A client that has read everything once and stays connected until its input is closed."""
        client = support.Process([self.program("psql"), "-qAt"], env=self.environment, stdin=subprocess.PIPE,
                                 stdout=subprocess.PIPE)
        client.stdin.write("select sum(abalance) from pgbench_accounts;\n")
        client.stdin.flush()
        check(client.line().strip().lstrip("-").isdigit(), "psql got no answer")
        return client


class PhpFpm(Server):
    """A static pool of Debian's PHP with its own settings, including OPcache."""

    SCRIPT = "<?php $a = []; for ($i = 0; $i < 20000; $i++) { $a[] = str_repeat('x', $i % 100); } echo getmypid();"

    def __init__(self, directory, children):
        program = max(glob.glob("/usr/sbin/php-fpm*"), default=None)
        if program is None:
            support.skip("php-fpm is not installed")
        self.socket = os.path.join(directory, "fpm.sock")
        self.script = os.path.join(directory, "index.php")
        with open(self.script, "w", encoding="utf-8") as file:
            file.write(self.SCRIPT)
        configuration = os.path.join(directory, "fpm.conf")
        with open(configuration, "w", encoding="utf-8") as file:
            file.write(f"[global]\nerror_log = {directory}/error.log\n[www]\nuser = www-data\nlisten = {self.socket}\n"
                       f"listen.owner = www-data\npm = static\npm.max_children = {children}\n")
        super().__init__(directory, [program, "-F", "-y", configuration])
        self.wait_until(lambda: os.path.exists(self.socket) and len(self.pids()) == children + 1, "php-fpm")


class Apache(Server):
    """Apache prefork in front of PHP."""

    MODULES = ("mpm_prefork", "authz_core", "proxy", "proxy_fcgi")

    def __init__(self, directory, children, php):
        self.port = support.free_port()
        configuration = os.path.join(directory, "apache.conf")
        with open(configuration, "w", encoding="utf-8") as file:
            file.write(f"ServerRoot {directory}\nServerName localhost\nPidFile {directory}/pid\n"
                       f"ErrorLog {directory}/error.log\nListen 127.0.0.1:{self.port}\n")
            file.writelines(f"LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n" for name in self.MODULES)
            file.write(f"User www-data\nGroup www-data\nDocumentRoot {directory}\nStartServers {children}\n"
                       f"MinSpareServers {children}\nMaxSpareServers {children + 1}\nMaxRequestWorkers {children}\n"
                       f'ProxyPass "/" "unix:{php.socket}|fcgi://localhost{os.path.dirname(php.script)}/"\n')
        super().__init__(directory, ["apache2", "-f", configuration, "-DFOREGROUND"])
        self.wait_until(lambda: len(self.pids()) == children + 1, "apache2")

    def ask(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        with contextlib.closing(connection):
            connection.request("GET", "/index.php")
            answer = connection.getresponse()
            body = answer.read().decode()
            check(answer.status == 200 and body.isdigit(), f"apache2: {answer.status} {body}")
            return int(body)
