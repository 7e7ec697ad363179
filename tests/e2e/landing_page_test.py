"""The landing page in a browser: it shows the groups, and the browser reports no error."""

import html.parser
import subprocess
import urllib.request

import support
from support import check


class Outline(html.parser.HTMLParser):
    """Checks that tags are closed in their order."""

    VOID = {"meta", "link", "br", "hr", "img", "input"}

    def __init__(self):
        super().__init__()
        self.open = []

    def handle_starttag(self, tag, attrs):
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        check(self.open and self.open.pop() == tag, f"</{tag}> closes something else")


def test(context):
    support.need("chromium")
    context.start(support.Process([support.binary("COW_DEMO"), "--heap-mib=16"], stdout=subprocess.DEVNULL))
    exporter = context.start(support.Exporter("--scan.interval=1s"))

    def page():
        with urllib.request.urlopen(exporter.url("/"), timeout=10) as response:
            return response.read().decode()

    support.wait_for(lambda: "cow_demo" in page(), 20, "the demo on the page")
    outline = Outline()
    outline.feed(page())
    check(not outline.open, f"not closed: {outline.open}")
    for size, scheme in (("390,844", "light"), ("1280,800", "dark")):
        picture = context.path(f"{scheme}.png")
        dark = ["--blink-settings=preferredColorScheme=0"] if scheme == "dark" else []
        shown, complaints = support.browse(context, exporter.url("/"), f"--window-size={size}", *dark, "--dump-dom")
        check(not complaints, f"{complaints}")
        for text in ("cow_exporter", "Exposure", "Breaks/s", "cow_demo", 'href="/metrics"', 'href="/config"', 'href="/runbooks/"', "–"):
            check(text in shown, f"no {text} on the page")
        support.browse(context, exporter.url("/"), f"--window-size={size}", *dark, "--hide-scrollbars", f"--screenshot={picture}")
        with open(picture, "rb") as file:
            data = file.read()
        width, height = (int.from_bytes(data[at:at + 4], "big") for at in (16, 20))
        check(f"{width},{height}" == size, f"the picture is {width} by {height}")
        print(f"{scheme}, {size}: a picture of {len(data)} bytes, no complaint")


support.main(test)
