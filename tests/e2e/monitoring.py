"""Debian's monitoring: Prometheus, Alertmanager with a receiver of the test, node_exporter."""

import collections
import http.server
import json
import os
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

import yaml

import support
from support import check, wait_for

DEPLOY = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", "..", "deploy"))
RULES = "prometheus/rules/*.yml"
SHIPPED_RULES = os.path.join(DEPLOY, RULES)
# Settings of the mixin for tests that take seconds: minutes become seconds, megabytes per second become a few pages.
FAST_KNOBS = {
    "fastWindow": "5s", "slowWindow": "8s", "consumedWindow": "20s", "slowInterval": "1s",
    "breakingBytesPerSecond": 100_000, "explosionBytesPerSecond": 2_000_000, "explosionFor": "1s",
    "exceedsFor": "2s", "collapseWindow": "2m", "collapseChildAge": "10s", "collapseFor": "5s", "forkFor": "2s",
    "hugePageFor": "2s", "downFor": "2s", "collectorFor": "2s", "coverageWindow": "10s", "coverageFor": "2s",
    "reloadFor": "2s",
}

Notification = collections.namedtuple("Notification", "time status labels annotations")


def fast_rules(context, **knobs_of_its_own):
    """Returns the paths of the rules, rendered with FAST_KNOBS and these settings."""
    knobs = context.path("knobs.json")
    with open(knobs, "w", encoding="utf-8") as file:
        json.dump({**FAST_KNOBS, **knobs_of_its_own}, file)
    output = context.path("rendered")
    subprocess.run([os.path.join(DEPLOY, "mixin", "render"), "--config", knobs, "--output", output], check=True)
    return os.path.join(output, RULES)


def shipped_configuration(rules, addresses, interval=None):
    """deploy/prometheus/prometheus.yml with other rules and addresses (by job, and of the Alertmanager), and with
    `interval` instead of its own intervals."""
    with open(os.path.join(DEPLOY, "prometheus", "prometheus.yml"), encoding="utf-8") as file:
        configuration = yaml.safe_load(file)
    configuration["rule_files"] = [rules]
    for job in configuration["scrape_configs"]:
        job["static_configs"] = [{"targets": [addresses[job["job_name"]]]}]
        if interval:
            job["scrape_interval"] = job["scrape_timeout"] = interval
    if interval:
        configuration["global"] = {"evaluation_interval": interval}
    configuration["alerting"]["alertmanagers"] = [{"static_configs": [{"targets": [addresses["alertmanager"]]}]}]
    return configuration


class Logged(support.Process):
    """A server that writes its log into the test's directory and is ready when `ready_path` returns 200."""

    def __init__(self, context, name, ready_path, arguments, port=None):
        self.port = port or support.free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.log = context.path(f"{name}-{self.port}.log")
        with open(self.log, "w", encoding="utf-8") as log:
            super().__init__([name, f"--web.listen-address={self.address}", *arguments], stdout=log, stderr=log)
        context.callback(self.end)
        wait_for(lambda: self._is_ready(ready_path), 30, f"{name} is ready")

    def url(self, path):
        return f"http://{self.address}{path}"

    def _is_ready(self, path):
        if self.poll() is not None:
            with open(self.log, encoding="utf-8") as log:
                raise support.Failure(f"{self.args[0]} ended: {log.read()}")
        try:
            with urllib.request.urlopen(self.url(path), timeout=5) as response:
                return response.status == 200
        except (OSError, urllib.error.URLError):
            return False

    def metrics(self):
        """Returns its own metrics."""
        with urllib.request.urlopen(self.url("/metrics"), timeout=30) as response:
            return support.Samples(response.read().decode())

    def api(self, path, **parameters):
        """Returns the JSON of the answer. A refused request is a failure that shows the reason."""
        try:
            with urllib.request.urlopen(self.url(f"{path}?{urllib.parse.urlencode(parameters)}"), timeout=30) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            raise support.Failure(f"{path} {parameters}: {error.read().decode()}") from error


class Prometheus(Logged):
    """`configuration` as a mapping."""

    def __init__(self, context, configuration, *flags, port=None):
        number = len(os.listdir(context.directory))
        self.configuration = context.path(f"prometheus-{number}.yml")
        self.data = context.path(f"prometheus-{number}")
        with open(self.configuration, "w", encoding="utf-8") as file:
            yaml.safe_dump(configuration, file)
        super().__init__(context, "prometheus", "/-/ready",
                         [f"--config.file={self.configuration}", f"--storage.tsdb.path={self.data}", *flags], port)

    def query(self, expression):
        """Returns a list of (labels, value)."""
        return [(series["metric"], float(series["value"][1]))
                for series in self.api("/api/v1/query", query=expression)["data"]["result"]]

    def value(self, expression):
        """Returns the value of the only series, or None."""
        result = self.query(expression)
        check(len(result) <= 1, f"{expression}: {len(result)} series")
        return result[0][1] if result else None

    def rules(self):
        """Returns the rules of all groups."""
        return [rule for group in self.api("/api/v1/rules")["data"]["groups"] for rule in group["rules"]]

    def alerts(self):
        """Returns pending and firing alerts."""
        return self.api("/api/v1/alerts")["data"]["alerts"]


class NodeExporter(Logged):
    def __init__(self, context, *flags):
        super().__init__(context, "prometheus-node-exporter", "/metrics", flags)


class Receiver(http.server.ThreadingHTTPServer):
    """Receives Alertmanager's webhooks and stores them with the time of arrival."""

    def __init__(self, context):
        received = self.received = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                now = time.time()
                message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                received.extend(Notification(now, alert["status"], alert["labels"], alert["annotations"])
                                for alert in message["alerts"])
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_):
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()
        context.callback(self.shutdown)

    def first(self, status, **labels):
        """Returns the first notification of this status with these labels, or None."""
        for notification in list(self.received):
            if notification.status == status and labels.items() <= notification.labels.items():
                return notification
        return None


class Alertmanager(Logged):
    """Notifies about every alert separately and at once."""

    def __init__(self, context, receiver):
        configuration = context.path("alertmanager.yml")
        with open(configuration, "w", encoding="utf-8") as file:
            yaml.safe_dump({
                "route": {"receiver": "test", "group_by": ["..."], "group_wait": "0s", "group_interval": "1s",
                          "repeat_interval": "4h"},
                "receivers": [{"name": "test", "webhook_configs": [
                    {"url": f"http://127.0.0.1:{receiver.server_port}/", "send_resolved": True}]}],
            }, file)
        super().__init__(context, "prometheus-alertmanager", "/-/ready",
                         [f"--config.file={configuration}", f"--storage.path={context.path('alertmanager')}",
                          "--cluster.listen-address="])

    def active(self):
        return self.api("/api/v2/alerts", active="true")
