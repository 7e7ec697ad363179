"""Reads what a console template shows."""

import html.parser


class Page(html.parser.HTMLParser):
    """Collects rows of the table, tiles, and the text of the graphs' legends."""

    def __init__(self, text):
        super().__init__()
        self.rows, self.tiles, self.legends, self.paths = [], {}, [], 0
        self._inside, self._tile = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        if tag == "path" and attributes.get("d", "").startswith("M"):
            self.paths += 1
        if tag in {"path", "line", "meta", "link", "input", "img", "br"}:
            return
        self._inside.append((tag, attributes.get("class", "")))
        if tag == "tr":
            self.rows.append([])
        elif tag == "td" and self.rows:
            self.rows[-1].append("")
        elif self._inside[-1] == ("div", "tile"):
            self._tile = []

    def handle_endtag(self, tag):
        if not self._inside or tag not in [name for name, _ in self._inside]:
            return
        while self._inside.pop()[0] != tag:
            pass
        if tag == "div" and len(self._tile) == 2:
            self.tiles[self._tile[0]] = self._tile[1]
            self._tile = []

    def handle_data(self, data):
        classes = [name for _, name in self._inside]
        if not data.strip() or ("script", "") in self._inside:
            return
        if "tile" in classes:
            self._tile.append(data.strip())
        elif "label" in classes:
            self.legends.append(data.strip())
        elif any(tag == "td" for tag, _ in self._inside) and self.rows and self.rows[-1]:
            self.rows[-1][-1] += data.strip()
