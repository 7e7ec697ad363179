"""Makes the pictures of the consoles in deploy/prometheus/CONSOLES.md, pictures/*.svg. Monitors the demo, and a Redis
that is written to while it saves in the background, for two minutes. Prometheus renders the pages, Chromium lays
them out, and page_to_svg.js draws them. Not a test: run it after a change of the consoles, with
PYTHONPATH=tests/e2e."""

import html
import http.server
import pathlib
import re
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from xml.etree import ElementTree

import monitored
import redis_test
import servers
import support
from support import check, wait_for

SCRIPT = pathlib.Path(__file__).resolve().parent / "page_to_svg.js"
WRITE = "-n 1200 -c 2 -q setrange key:__rand_int__ 0 written"
# Other programs on the host are not in the pictures.
GROUPS = """\
groups:
  - {{name: redis-server, comm: [redis-server], cmdline: ['{socket}']}}
  - {{name: cow_demo, comm: [cow_demo]}}
  - {{name: prometheus, cmdline: ['{directory}/prometheus.yml']}}
default_group: drop
"""
SECONDS = 120


class Drawing(http.server.ThreadingHTTPServer):
    """Forwards everything from Prometheus, and adds the drawing script to the consoles."""

    def __init__(self, prometheus):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                try:
                    response = urllib.request.urlopen(prometheus.url(self.path), timeout=30)
                except urllib.error.HTTPError as error:
                    self.send_error(error.code)
                    return
                with response:
                    body, kind = response.read(), response.headers["Content-Type"]
                if self.path.startswith("/consoles/"):
                    script = SCRIPT.read_text(encoding="utf-8")
                    body = body.replace(b"</body>", f"<script>{script}</script></body>".encode())
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments):
                del arguments

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()


def saving_redis(context):
    redis = context.start(servers.Redis(context.directory))
    redis.fill(redis_test.KEYS, redis_test.VALUE_BYTES)
    return redis


def save_and_write(context, redis):
    """A save of about a minute, with some writes during it."""
    redis.do("config", "set", "rdb-key-save-delay", 150)
    redis.do("bgsave")
    writing = f"while redis-benchmark -s {redis.socket} -r {redis_test.KEYS} {WRITE}; do sleep 0.5; done"
    context.start(support.Process(["sh", "-c", writing], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
    wait_for(redis.child, 5, "the saving child")


def picture(context, server, name, page, size):
    url = f"http://127.0.0.1:{server.server_port}/consoles/{page}"
    text, complaints = support.browse(context, url, f"--window-size={size}", "--virtual-time-budget=10000", "--hide-scrollbars",
                                      "--dump-dom")
    check(not complaints, f"{complaints}")
    found = re.search(r'<pre id="picture">(.*)</pre>', text, re.DOTALL)
    check(found, f"{name}: nothing was drawn")
    svg = html.unescape(found[1])
    ElementTree.fromstring(svg)
    check(len(svg.encode()) < monitored.PICTURE_BYTES, f"{name}: {len(svg)} bytes")
    (monitored.PICTURES / f"{name}.svg").write_text(svg, encoding="utf-8")
    print(f"{name}.svg: {len(svg.encode())} bytes")


def test(context):
    support.need("chromium", "redis-server", "redis-benchmark")
    redis = saving_redis(context)
    host = monitored.Host(context, f"--web.console.templates={monitored.DEPLOY / 'prometheus/consoles'}",
                          f"--web.console.libraries={monitored.DEPLOY / 'prometheus/console_libraries'}",
                          demo=("--heap-mib=64",), groups=GROUPS.format(socket=redis.socket, directory=context.directory))
    started = time.monotonic()
    wait_for(lambda: host.prometheus.value('cow_processes{group="redis-server"}'), 30, "the exporter", pause=0.5)
    time.sleep(20)
    save_and_write(context, redis)
    time.sleep(max(0.0, SECONDS - 10 - (time.monotonic() - started)))
    wait_for(lambda: redis.child() is None, 60, "the end of the first save", pause=0.5)
    redis.do("bgsave")
    time.sleep(10)
    server = Drawing(host.prometheus)
    context.callback(server.shutdown)
    picture(context, server, "overview", "cow_overview.html?window=1m", "1180,700")
    span = urllib.parse.quote(f'{{"duration":{SECONDS},"endTime":0}}')
    picture(context, server, "group", f"cow_group.html?group=redis-server&instance={monitored.HOST}&window=15s#pctc{span}", "1180,1400")


support.main(test)
