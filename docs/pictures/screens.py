"""Takes pictures of the command's screens: ``python docs/pictures/screens.py`` writes them beside this file.

Each is what the command writes to a terminal of 80 columns, about real services on a nats-server that this program starts.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from io import StringIO
from itertools import count, groupby
from pathlib import Path

import anyio
import anyio.to_thread
import pyte
from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.style import Style
from rich.terminal_theme import MONOKAI
from rich.text import Text

import natsery
from natsery.testing import open_server

COLUMNS, LINES = 80, 60
WIDTH = 720

SCREENS = {
    "ls.svg": ("ls", "--stall", "1"),
    "stats.svg": ("stats", "calc", "--stall", "1"),
    "demo.svg": ("demo",),
    "top.svg": ("top", "--level", "all", "--interval", "0.4", "--sort", "name"),
}
"""The files, and the arguments of the command."""

HISTORY = re.compile("[▁▂▃▄▅▆▇█]{10}")
"""What `natsery top` shows of a service when it has watched it for ten intervals."""

# Without fonts from elsewhere, which pages do not load for a picture.
SVG = re.sub(r"@font-face \{\{.*?\}\}\s*", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL).replace("Fira Code", "ui-monospace")


@natsery.endpoint
async def add(numbers: list[int]) -> int:
    """Add whole numbers."""
    return sum(numbers)


@natsery.endpoint
async def divide(numbers: tuple[int, int]) -> int:
    """Divide one whole number by another."""
    if numbers[1] == 0:
        raise natsery.ServiceError(400, "division by zero")
    return numbers[0] // numbers[1]


@natsery.endpoint
async def price(item: str) -> int:
    """Say what an item costs."""
    return 10 * len(item)


def configs() -> list[natsery.ServiceConfig]:
    """Return two instances of one service, and one of another, which say that they are twenty minutes old."""
    clock = natsery.Clock(
        now=lambda: datetime.now(UTC) - timedelta(minutes=20, seconds=10), monotonic_ns=count(0, 7_000).__next__
    )
    calc = [natsery.group("math", [add, divide])]
    about = "Arithmetic on whole numbers"
    return [
        natsery.ServiceConfig("calc", "1.0.0", id="YScq0StNMJ", description=about, endpoints=calc, clock=clock),
        natsery.ServiceConfig("calc", "1.1.0", id="ryt6eqcIL6", description=about, endpoints=calc, clock=clock),
        natsery.ServiceConfig("shop", "2.4.1", id="2dGwmQ2yPH", description="Tea", endpoints=[price], clock=clock),
    ]


@asynccontextmanager
async def services() -> AsyncIterator[natsery.NativeConnection]:
    """Serve them, when each has answered some requests; yields a connection to their server."""
    async with open_server() as server, natsery.connect(server.url) as nc:
        async with anyio.create_task_group() as tasks:
            for config in configs():
                await tasks.start(natsery.serve_forever, nc, config)
            for number in range(240):
                for _ in range(5):
                    await nc.publish("math.add", b"[1,2]", reply="nobody")
                await nc.publish("math.divide", b"[6,%d]" % (number % 20), reply="nobody")
                await nc.publish("price", b'"tea"', reply="nobody")
            await nc.flush()
            yield nc
            tasks.cancel_scope.cancel("the pictures are taken")


async def keep_asking(nc: natsery.NativeConnection) -> None:
    """Make some requests each tenth of a second."""
    for turn in count():
        for _ in range(10 + turn % 7):
            await nc.publish("math.add", b"[1,2]", reply="nobody")
        await nc.publish("math.divide", b"[6,%d]" % (turn % 5), reply="nobody")
        await nc.publish("price", b'"tea"', reply="nobody")
        await anyio.sleep(0.1)


def look(arguments: Sequence[str], url: str) -> pyte.Screen:
    """Return the screen of a terminal in which the command has run."""
    lines = 16 if arguments[0] == "top" else LINES
    screen = pyte.Screen(COLUMNS, lines)
    stream = pyte.ByteStream(screen)
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, COLUMNS, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color", "PYTHONUTF8": "1", "NATS_URL": url, "NATS_CONTEXT": ""}
    command = [sys.executable, "-m", "natsery", *arguments]
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        while True:
            try:
                stream.feed(os.read(ours, 65_536))
            except OSError:  # the command has ended
                break
            if HISTORY.search("\n".join(screen.display)):
                process.kill()
                break
        os.close(ours)
    return screen


def picture(arguments: Sequence[str], screen: pyte.Screen) -> str:
    """Return a screen as SVG."""
    lines = [styled_line(screen, number) for number in range(screen.lines)]
    while not lines[-1].plain.strip():
        lines.pop()
    console = Console(width=COLUMNS, record=True, file=StringIO(), force_terminal=True, color_system="truecolor")
    for line in lines:
        console.print(line, soft_wrap=True)
    title = " ".join(["natsery", *(each for each in arguments[:2] if not each.startswith("-"))])
    svg = console.export_svg(title=title, theme=MONOKAI, code_format=SVG, unique_id=arguments[0])
    return svg.replace("<svg ", f'<svg width="{WIDTH}" ', 1)


def styled_line(screen: pyte.Screen, number: int) -> Text:
    """Return a line of a screen."""
    line = Text()
    cells = [screen.buffer[number][column] for column in range(screen.columns)]
    for style, run in groupby(cells, style_of):
        line.append("".join(cell.data for cell in run), style)
    line.rstrip()
    return line


def style_of(cell: pyte.screens.Char) -> Style:
    """Return rich's style of a cell."""
    return Style(color=color_of(cell.fg), bgcolor=color_of(cell.bg), bold=cell.bold, reverse=cell.reverse)


def color_of(name: str) -> str | None:
    """Return rich's name of a colour of pyte's."""
    if name == "default":
        return None
    if re.fullmatch("[0-9a-f]{6}", name):
        return f"#{name}"
    return name.replace("brown", "yellow").replace("bright", "bright_")


async def take_pictures() -> dict[str, str]:
    """Return the pictures by the names of their files."""
    taken = {}
    async with services() as nc, anyio.create_task_group() as tasks:
        for name, arguments in SCREENS.items():
            if name == "top.svg":
                tasks.start_soon(keep_asking, nc)
            screen = await anyio.to_thread.run_sync(look, arguments, nc.connected_url)
            taken[name] = picture(arguments, screen)
        tasks.cancel_scope.cancel("the pictures are taken")
    return taken


def main() -> None:
    """Write them."""
    for name, svg in anyio.run(take_pictures, backend="trio").items():
        (Path(__file__).parent / name).write_text(svg, encoding="utf-8")


if __name__ == "__main__":
    main()
