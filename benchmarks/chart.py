"""Draws tables of services as a chart: bars, as SVG that is readable in light and in dark."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from itertools import groupby

from figures import Labels, Table

ROW, BAR, TEXT, PANEL, GAP, HEAD = 22, 14, 250, 210, 70, 64

STYLE = """
text { font: 12px system-ui, sans-serif; fill: #24292f; }
.title { font-size: 14px; font-weight: 600; }
.faint { fill: #57606a; }
.own { fill: #2f6fde; }
.other { fill: #9aa4af; }
.one { stroke: #57606a; stroke-dasharray: 2 3; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; }
  .faint { fill: #9198a1; }
  .own { fill: #5b9bff; }
  .other { fill: #6e7781; }
  .one { stroke: #9198a1; }
}
"""

PANELS = {
    "requests_per_second": "Requests per second (longer is better)",
    "cpu_us": "Processor time of the service (shorter is better)",
}


def draw(table: Table, subtitle: str) -> str:
    """Bars of the ratios to the baseline, for each payload and depth of a table of services."""
    groups = [(head, list(rows)) for head, rows in groupby(table.found, key=lambda row: row[:-1])]
    lines: list[str] = []
    top = HEAD
    for (payload, outstanding), rows in groups:
        lines.append(_text(0, top, f"{payload}, {outstanding} outstanding", "title"))
        for panel, (measure, title) in enumerate(PANELS.items()):
            left = TEXT + panel * (PANEL + GAP)
            lines.append(_text(left, top, title, "faint"))
            lines += _bars(table, rows, measure, left, top + 10)
        lines += [_text(0, top + 10 + number * ROW + BAR - 2, row[-1]) for number, row in enumerate(rows)]
        top += 10 + len(rows) * ROW + 40
    width, height = TEXT + len(PANELS) * (PANEL + GAP), top
    baseline = next((row for row in table.rows.values() if row is not None), ("",))[-1]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 -4 {width} {height}" role="img">',
            f"<title>{escape(table.title)}, relative to {escape(baseline)}</title>",
            f"<style>{STYLE}</style>",
            _text(0, 12, f"{table.title}, relative to {baseline}", "title"),
            _text(0, 30, subtitle, "faint"),
            *lines,
            "</svg>\n",
        ]
    )


def _bars(table: Table, rows: list[Labels], measure: str, left: int, top: int) -> Iterator[str]:
    """The bars of one measure, and a line at 1."""
    ratios = [table.ratio(row, measure) or 0.0 for row in rows]
    scale = PANEL / max(*ratios, 1.0)
    for number, (row, ratio) in enumerate(zip(rows, ratios, strict=True)):
        y = top + number * ROW
        kind = "own" if row[-1].startswith("natsery") else "other"
        yield f'<rect class="{kind}" x="{left}" y="{y}" width="{ratio * scale:.1f}" height="{BAR}" rx="2"/>'
        yield _text(left + ratio * scale + 6, y + BAR - 2, f"{ratio:.2f}")
    x = left + scale
    yield f'<line class="one" x1="{x:.1f}" x2="{x:.1f}" y1="{top - 3}" y2="{top + len(rows) * ROW}"/>'


def _text(x: float, y: float, text: str, kind: str = "") -> str:
    """A line of text, at its left lower corner."""
    attribute = f' class="{kind}"' if kind else ""
    return f'<text{attribute} x="{x:.1f}" y="{y}">{escape(text)}</text>'
