"""Draws the diagrams of the documents: ``python docs/pictures/diagrams.py`` writes them beside this file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path

WIDTH = 720
LINE = 16
"""Pixels from one line of text to the next."""

STYLE = """
  svg { font: 13px system-ui, sans-serif; --paper: #fff; --ink: #1f2328; --faint: #59636e; --line: #848d97;
    --box: #eef4fb; --good: #1a7f37; --bad: #c4302b; --grace: #fff4d6; }
  @media (prefers-color-scheme: dark) { svg { --paper: #15191f; --ink: #e6edf3; --faint: #9da7b1; --line: #6e7781;
    --box: #1f2a38; --good: #4ac26b; --bad: #ff7b72; --grace: #3a3011; } }
  text { fill: var(--ink); }
  .title { font-weight: 600; } .faint { fill: var(--faint); } .good { fill: var(--good); } .bad { fill: var(--bad); }
  .paper { fill: var(--paper); } .box { fill: var(--box); stroke: var(--line); } .grace { fill: var(--grace); }
  .line { stroke: var(--line); stroke-width: 1.5; fill: none; } .dashed { stroke-dasharray: 4 4; }
  .goodline { stroke: var(--good); } .badline { stroke: var(--bad); } .bar { stroke-width: 10; }
  .head { fill: var(--line); }
"""


class Drawing:
    """A picture with a ground of its own, so that it can be read on any page."""

    def __init__(self, height: int, title: str) -> None:
        self._height = height
        self._title = title
        self._parts: list[str] = []

    def svg(self) -> str:
        """Return it as SVG, whose text can be selected and whose colours follow the reader's light or dark setting."""
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{self._height}" '
            f'viewBox="0 0 {WIDTH} {self._height}" role="img">\n<title>{escape(self._title)}</title>\n'
            f"<style>{STYLE}</style>\n"
            '<marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
            '<path class="head" d="M0 0L8 4L0 8z"/></marker>\n'
            f'<rect class="paper" width="{WIDTH}" height="{self._height}" rx="8"/>\n'
        )
        return head + "\n".join(self._parts) + "\n</svg>\n"

    def text(self, x: float, y: float, *lines: str, style: str = "", anchor: str = "start") -> None:
        """Write lines below one another; y is the base of the first one."""
        for number, line in enumerate(lines):
            self._parts.append(
                f'<text class="{style}" x="{x:g}" y="{y + number * LINE:g}" text-anchor="{anchor}">{escape(line)}</text>'
            )

    def box(self, x: float, y: float, width: float, height: float, *lines: str) -> None:
        """Draw a box with text in its middle, whose first line is its title."""
        self._parts.append(f'<rect class="box" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="6"/>')
        first = y + height / 2 - (len(lines) - 1) * LINE / 2 + 4.5
        self.text(x + width / 2, first, lines[0], style="title", anchor="middle")
        self.text(x + width / 2, first + LINE, *lines[1:], style="faint", anchor="middle")

    def area(self, x: float, y: float, width: float, height: float) -> None:
        """Lay the colour of the grace under what follows."""
        self._parts.append(f'<rect class="grace" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}"/>')

    def line(self, *points: tuple[float, float], style: str = "", arrow: bool = False) -> None:
        """Draw a line through points."""
        path = "M" + "L".join(f"{x:g} {y:g}" for x, y in points)
        end = ' marker-end="url(#head)"' if arrow else ""
        self._parts.append(f'<path class="line {style}" d="{path}"{end}/>')


def life_of_a_service() -> Drawing:
    """From `serve` to the end of its block."""
    drawing = Drawing(250, "The life of a service: the scope opens, it is subscribed, live, draining, ended")
    states: Sequence[tuple[str, Sequence[str]]] = (
        ("scope opens", ("the configuration", "is checked, the", "lifespan entered")),
        ("subscribed", ("endpoints, then", "$SRV; the server", "confirms it all")),
        ("live", ("the block runs,", "requests are", "answered")),
        ("draining", ("none is taken any", "more; those accepted", "get the grace")),
        ("ended", ("replies flushed,", "lifespan left,", "block left")),
    )
    width, step = 116, 143
    for number, (name, remarks) in enumerate(states):
        x = 16 + number * step
        drawing.box(x, 70, width, 40, name)
        drawing.text(x + width / 2, 130, *remarks, style="faint", anchor="middle")
        if number:
            drawing.line((x - step + width, 90), (x, 90), arrow=True)
    middle = [16 + number * step + width / 2 for number in range(len(states))]
    drawing.line((middle[3], 36), (middle[3], 70), arrow=True)
    drawing.text(
        704,
        28,
        "the block ends, raises or is cancelled · stop() · a signal · the connection is closed for good",
        anchor="end",
    )
    drawing.line((middle[1], 184), (middle[1], 206), style="badline dashed", arrow=True)
    drawing.text(
        16, 226, "a subscription is denied: SubscriptionDeniedError,", "and nothing is left behind", style="bad"
    )
    drawing.line((middle[3], 184), (middle[3], 206), style="badline dashed", arrow=True)
    drawing.text(
        704,
        226,
        "what is not finished when the grace is over",
        "is cut off, and answered with 503",
        style="bad",
        anchor="end",
    )
    return drawing


def way_of_a_request() -> Drawing:
    """From the socket to the handler, and back."""
    drawing = Drawing(322, "The way of a request: reader, checks, queue, worker, handler, and the reply's way back")
    width, height, step = 116, 52, 143
    there = (
        ("nats-server",),
        ("reader", "parses bytes"),
        ("checks", "subject, limits"),
        ("queue", "bounded"),
        ("worker", "concurrency"),
    )
    back = (
        ("requester",),
        ("nats-server",),
        ("write buffer", "sent together"),
        ("reply", "or an error reply"),
        ("handler", "in middlewares"),
    )
    for number, (lines, lines_back) in enumerate(zip(there, back, strict=True)):
        x = 16 + number * step
        drawing.box(x, 24, width, height, *lines)
        drawing.box(x, 196, width, height, *lines_back)
        if number:
            drawing.line((x - step + width, 50), (x, 50), arrow=True)
            drawing.line((x, 222), (x - step + width, 222), arrow=True)
    middle = [16 + number * step + width / 2 for number in range(len(there))]
    drawing.line((middle[4], 76), (middle[4], 196), arrow=True)
    drawing.line((middle[2], 76), (middle[2], 98), style="badline dashed", arrow=True)
    drawing.text(middle[2] - 8, 116, "full: 503 Service Overloaded", style="bad", anchor="middle")
    drawing.text(middle[2] - 8, 132, "a reserved reply subject: malformed", style="bad", anchor="middle")
    drawing.text(middle[4] - 10, 164, "its time is over: 504 Deadline Exceeded", style="bad", anchor="end")
    drawing.text(
        16, 280, "Each request ends in one outcome: the reply, the code of the error, why, and how long it took."
    )
    drawing.text(
        16,
        300,
        "What an endpoint does not use, such as a timeout or a middleware, is not on the way of its requests.",
        style="faint",
    )
    return drawing


def stop_with_grace() -> Drawing:
    """Who is answered when a service stops."""
    drawing = Drawing(
        316, "What happens at a stop: accepted requests are answered within the grace, the rest is cut off"
    )
    stop, end, left = 260.0, 520.0, 610.0
    drawing.area(stop, 44, end - stop, 228)
    for x, lines in ((stop, ("the stop begins",)), (end, ("the grace is over",)), (left, ())):
        drawing.line((x, 44), (x, 272), style="dashed")
        drawing.text(x, 34, *lines, style="title", anchor="middle")
    drawing.text(704, 34, "the block is left", style="title", anchor="end")
    drawing.text((stop + end) / 2, 62, "grace: 10 seconds, or what you say", style="faint", anchor="middle")
    lanes: Sequence[tuple[str, float, float, str, str]] = (
        ("endpoints", 160, stop + 14, "", "unsubscribed, and a fence"),
        ("a request under way", 200, 370, "good", "answered"),
        ("one in the queue", 235, 430, "good", "answered"),
        ("one that takes long", 180, end, "bad", "503 Service Stopping"),
        ("PING, INFO, STATS", 160, end + 30, "", "unsubscribed"),
        ("replies", 200, left - 8, "", "flushed"),
    )
    for number, (name, begin, until, style, remark) in enumerate(lanes):
        y = 90 + number * 32
        drawing.text(16, y + 4, name)
        drawing.line((begin, y), (until, y), style=f"bar {style and style + 'line'}")
        is_late = until + 6 > end
        at, anchor, height = (until - 2, "end", y - 9) if is_late else (until + 8, "start", y + 4)
        drawing.text(at, height, remark, style=style or "faint", anchor=anchor)
    drawing.line((160, 284), (704, 284), arrow=True)
    drawing.text(704, 302, "time", style="faint", anchor="end")
    drawing.text(160, 302, "New requests go to other members of the queue group at once.", style="faint")
    return drawing


DIAGRAMS: dict[str, Callable[[], Drawing]] = {
    "life-of-a-service.svg": life_of_a_service,
    "way-of-a-request.svg": way_of_a_request,
    "stop-with-grace.svg": stop_with_grace,
}


def main() -> None:
    """Write them."""
    for name, draw in DIAGRAMS.items():
        (Path(__file__).parent / name).write_text(draw().svg(), encoding="utf-8")


if __name__ == "__main__":
    main()
