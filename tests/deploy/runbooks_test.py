"""The runbooks that a real exporter serves: they equal deploy/runbooks as rendered, each alert has one, all their links
lead to pages, and a browser shows them without a complaint."""

import glob
import html.parser
import os
import subprocess
import urllib.error
import urllib.parse
import urllib.request

import support
import yaml
from support import check

DEPLOY = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", "..", "deploy"))
RUNBOOKS = os.path.join(DEPLOY, "runbooks")


class Page(html.parser.HTMLParser):
    """Collects links, and everything that would load another file."""

    def __init__(self, text):
        super().__init__()
        self.links, self.loaded = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        if tag == "a":
            self.links.append(attributes["href"])
        elif tag == "script" or "src" in attributes or (tag == "link" and attributes["href"] != "data:,"):
            self.loaded.append(tag)


def status_of(url, method="GET"):
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=10) as response:
            return response.status
    except urllib.error.HTTPError as error:
        return error.code


def text_of(url):
    with urllib.request.urlopen(url, timeout=10) as response:
        return response.read().decode()


def check_rendered():
    support.need("cmark-gfm")
    run = subprocess.run([os.path.join(RUNBOOKS, "render"), "--check"], capture_output=True, text=True, check=False)
    check(run.returncode == 0, f"run deploy/runbooks/render:\n{run.stdout}{run.stderr}")


def check_links(exporter, names):
    """Follows all links from the landing page."""
    followed, waiting = set(), [exporter.url("/")]
    while waiting:
        url = waiting.pop()
        if url in followed:
            continue
        followed.add(url)
        check(status_of(url) == 200 and status_of(url, "HEAD") == 200, f"{url}: no such page")
        if url != exporter.url("/") and "/runbooks/" not in url:
            continue
        page = Page(text_of(url))
        check(not page.loaded, f"{url} loads {page.loaded}")
        waiting += [urllib.parse.urljoin(url, link) for link in page.links]
    expected = {exporter.url(f"/runbooks/{name}") for name in ("", *names)} | {exporter.url("/config")}
    check(expected <= followed, f"no link leads to {expected - followed}")
    print(f"{len(followed)} pages, of which {len(names)} are runbooks")


def test(context):
    exporter = context.start(support.Exporter())
    support.wait_for(lambda: status_of(exporter.url("/-/ready")) == 200, 60, "a pass")
    with open(os.path.join(DEPLOY, "prometheus/rules/cow_exporter_alerts.yml"), encoding="utf-8") as file:
        names = {rule["alert"] for group in yaml.safe_load(file)["groups"] for rule in group["rules"]}
    for name in names:
        check(f"<h1>{name}</h1>" in text_of(exporter.url(f"/runbooks/{name}")), f"{name} is served as another page")
    check(len(glob.glob(f"{RUNBOOKS}/*.md")) == len(names), "runbooks without an alert")
    check_links(exporter, names)
    for path in ("/runbooks", "/runbooks/CowExplosion.md", "/runbooks/Nothing"):
        check(status_of(exporter.url(path)) == 404, f"{path} exists")
    support.need("chromium")
    for name in ("", "CowExplosion"):
        _, complaints = support.browse(context, exporter.url(f"/runbooks/{name}"), "--dump-dom")
        check(not complaints, f"{name}: {complaints}")
    check_rendered()


support.main(test)
