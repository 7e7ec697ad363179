"""Small pictures as SVG text: bars, ranges and lines, all with logarithmic axes."""

import math
from html import escape
from xml.etree import ElementTree

WIDTH = 860
ROW = 30
COLORS = ("#c0392b", "#1f6feb", "#57606a", "#1a7f37", "#8250df", "#bc4c00")
TEXT = 'font-family="sans-serif" fill="#1f2328"'
SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def value_text(value):
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def tick_text(exponent):
    if -3 <= exponent <= 4:
        return f"{10.0 ** exponent:,.{max(0, -exponent)}f}"
    return "10" + str(exponent).translate(SUPERSCRIPTS)


class Axis:
    """An axis between whole powers of ten that enclose the values, on a part of the picture."""

    def __init__(self, values, start, end):
        self.first = math.floor(math.log10(min(values)))
        self.last = max(math.ceil(math.log10(max(values))), self.first + 1)
        self.start, self.end = start, end

    def place(self, value):
        share = (math.log10(value) - self.first) / (self.last - self.first)
        return self.start + share * (self.end - self.start)

    def ticks(self):
        return [(exponent, self.place(10.0 ** exponent)) for exponent in range(self.first, self.last + 1)]


def text(x, y, content, anchor="start", size=13, weight="normal"):
    return (f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {TEXT} font-size="{size}" font-weight="{weight}">'
            f"{escape(content)}</text>")


def line(x1, y1, x2, y2, color="#d0d7de", width=1):
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{color}" stroke-width="{width}"/>'


def circle(x, y, color, radius=4.5):
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{color}"/>'


def picture(title, height, parts):
    body = "\n".join([text(16, 26, title, weight="bold"), *parts])
    svg = (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">\n'
           f"<title>{escape(title)}</title>\n"
           f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>\n{body}\n</svg>\n')
    ElementTree.fromstring(svg)  # throws if it is not well-formed, so that no broken picture is written
    return svg


def rows(title, names, values, unit, draw, legend=()):
    """Draws one row per name, on a horizontal axis; draw(axis, row, y) returns the parts of the row."""
    left = 16 + 7.4 * max(len(name) for name in names)
    axis = Axis(values, left, WIDTH - 90)
    top = 48
    bottom = top + ROW * len(names)
    parts = [*legend]
    for exponent, x in axis.ticks():
        parts += [line(x, top, x, bottom), text(x, bottom + 18, f"{tick_text(exponent)} {unit}", "middle")]
    for row, name in enumerate(names):
        y = top + ROW * (row + 0.5)
        parts += [text(left - 10, y + 4, name, "end"), *draw(axis, row, y)]
    return picture(title, bottom + 32, parts)


def bars(title, values, unit):
    """`values`: pairs of name and value."""
    def draw(axis, row, y):
        name, value = values[row]
        color = COLORS[1] if name.startswith("our") else COLORS[2]
        length = axis.place(value) - axis.start
        return [f'<rect x="{axis.start:.1f}" y="{y - 9:.1f}" width="{length:.1f}" height="18" fill="{color}"/>',
                text(axis.place(value) + 6, y + 4, f"{value_text(value)} {unit}")]

    return rows(title, [name for name, _ in values], [value for _, value in values], unit, draw)


def ranges(title, values, marks, unit):
    """`values`: name, one value for each of `marks`, and a note."""
    colors = (COLORS[3], COLORS[1], COLORS[0])

    def draw(axis, row, y):
        _, of_row, note = values[row]
        places = [axis.place(value) for value in of_row]
        return [line(places[0], y, places[-1], y, COLORS[2], 2),
                *(circle(place, y, color) for place, color in zip(places, colors)), text(places[-1] + 9, y + 4, note)]

    legend = []
    for place, (mark, color) in enumerate(zip(marks, colors)):
        legend += [circle(WIDTH - 220 + 70 * place, 22, color), text(WIDTH - 210 + 70 * place, 26, mark)]
    all_values = [value for _, of_row, _ in values for value in of_row]
    return rows(title, [name for name, _, _ in values], all_values, unit, draw, legend)


def lines(title, series, x_unit, y_unit):
    """`series`: name to pairs (x, y)."""
    left, right, top, bottom = 92, WIDTH - 260, 48, 400
    across = Axis([x for points in series.values() for x, _ in points], left, right)
    up = Axis([y for points in series.values() for _, y in points], bottom, top)
    parts = [text((left + right) / 2, bottom + 40, x_unit, "middle")]
    for exponent, x in across.ticks():
        parts += [line(x, top, x, bottom), text(x, bottom + 18, tick_text(exponent), "middle")]
    for exponent, y in up.ticks():
        parts += [line(left, y, right, y), text(left - 6, y + 4, f"{tick_text(exponent)} {y_unit}", "end")]
    for number, (name, points) in enumerate(series.items()):
        color = COLORS[number % len(COLORS)]
        way = " ".join(f"{across.place(x):.1f},{up.place(y):.1f}" for x, y in points)
        parts.append(f'<polyline points="{way}" fill="none" stroke="{color}" stroke-width="2"/>')
        parts += [circle(across.place(x), up.place(y), color, 3) for x, y in points]
        parts += [circle(right + 24, top + 12 + 24 * number, color),
                  text(right + 36, top + 16 + 24 * number, name, size=12)]
    return picture(title, bottom + 56, parts)
