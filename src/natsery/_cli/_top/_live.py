"""The live screen of ``natsery top``: polls, draws, and obeys keys and signals until it is left."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from typing import Final, final

import anyio
from rich.console import Console
from rich.text import Text

from ..._native._native_connection import NativeConnection
from ..._tasks import background_tasks
from ..._wakeup import Wakeup, new_wakeup
from .._format import now
from ._cells import Cells
from ._figures import ServiceFigures
from ._keys import KeyReader
from ._polling import FIRST_ROUND_SECONDS, LAST_ROUND_SECONDS, Link, Poller, Watch
from ._rates import Meter
from ._screen import Screen, State, draw
from ._terminal import Terminal, open_terminal
from ._view import press

GATHER_SECONDS: Final = 0.03
"""How long changes are gathered before a new screen is drawn: answers come in swarms."""

ENDING: Final = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
"""The signals that end the program as they always do, after the terminal has been given back."""

OTHERS: Final = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGWINCH", "SIGTSTP", "SIGCONT") if hasattr(signal, name)
)


async def watch_live(nc: NativeConnection, watch: Watch) -> int | None:
    """Show the live screen until it is left.

    Returns:
        the signal that ended it, ``None`` for a key, Ctrl-C or the count.

    Raises:
        NatseryError: as for `Poller.ask`; the terminal is as it was by then.
    """
    # First of all: from here on no signal strikes in the middle.
    with anyio.open_signal_receiver(*ENDING, *OTHERS) as signals:
        async with open_terminal() as terminal:
            changed = new_wakeup()
            async with background_tasks() as tasks:
                with Link.watch(nc, changed.set) as link:
                    live = _Live(nc, link, watch, terminal, changed)
                    tasks.start_soon(live.obey_signals, signals)
                    tasks.start_soon(live.paint)
                    tasks.start_soon(live.poll)
                    if terminal.has_keys:
                        tasks.start_soon(live.obey_keys)
                    await live.done.wait()
            return live.ended_by


@final
class _Live:
    """What the tasks of the live screen share."""

    def __init__(self, nc: NativeConnection, link: Link, watch: Watch, terminal: Terminal, changed: Wakeup) -> None:
        self.done = anyio.Event()
        self.ended_by: int | None = None
        self._changed = changed
        self._nc = nc
        self._link = link
        self._watch = watch
        self._terminal = terminal
        self._view = watch.view
        self._meter = Meter()
        self._poller = Poller(nc, link, self._meter, name=watch.name, prefix=watch.prefix)
        self._has_asked = False
        self._services: Sequence[ServiceFigures] = ()
        self._moment = now()
        self._screen: Screen | None = None
        self._cells = Cells(sys.stdout.encoding)
        self._console = Console(soft_wrap=True, highlight=False, emoji=False, markup=False)
        self._changed.set()

    async def poll(self) -> None:
        """Ask round after round, as many as are wanted."""
        rounds = 0
        while self._watch.count is None or rounds <= self._watch.count:
            seconds = self._watch.interval
            if rounds == 0:
                seconds = max(seconds, FIRST_ROUND_SECONDS)
            elif rounds == self._watch.count:
                seconds = min(seconds, LAST_ROUND_SECONDS)
            if await self._poller.ask(seconds, self._changed.set):
                rounds += 1
            self._has_asked = True
            self._changed.set()
        await self._paint()
        self.done.set()

    async def paint(self) -> None:
        """Draw the screen whenever something has changed."""
        while True:
            await self._changed.wait()
            await anyio.sleep(GATHER_SECONDS)
            await self._paint()

    async def obey_keys(self) -> None:
        """Do what keys say, until one says to leave."""
        reader = KeyReader()
        while data := await self._terminal.read():
            for key in reader.feed(data):
                screen = self._screen
                rows, page = (0, 1) if screen is None else (screen.rows, screen.page)
                self._view = press(self._view, key, rows=rows, page=page)
                if self._view.is_done:
                    self.done.set()
                    return
            self._changed.set()
        self.done.set()

    async def obey_signals(self, signals: AsyncIterator[signal.Signals]) -> None:
        """Do what signals say."""
        async for number in signals:
            if number in ENDING:
                self.ended_by = number
                self.done.set()
            elif number == signal.SIGINT:
                self.done.set()
            elif number == getattr(signal, "SIGTSTP", None):
                await self._terminal.give_back()
                # Not SIGTSTP, which would come here again. Whoever has this go on again sends SIGCONT.
                os.kill(os.getpid(), signal.SIGSTOP)
            else:
                if number == getattr(signal, "SIGCONT", None):
                    await self._terminal.take()
                self._changed.set()

    async def _paint(self) -> None:
        if not self._view.is_paused:
            self._services, self._moment = self._meter.figures(), now()
        state = State(
            server=", ".join(self._nc.servers),
            services=self._services,
            view=self._view,
            interval=self._watch.interval,
            now=self._moment,
            message=self._link.message,
            is_away=self._link.is_away,
            malformed=self._poller.malformed,
            nobody=self._watch.nobody if self._has_asked else "Asking...",
            has_keys=self._terminal.has_keys,
        )
        self._screen = draw(state, *self._terminal.size(), self._cells)
        await self._terminal.show(frame(self._screen.lines, self._console))


def frame(lines: Sequence[Text], console: Console) -> str:
    """What shows these lines on a terminal in place of others."""
    with console.capture() as capture:
        console.print(Text("\n").join(lines), end="")
    # Each line is emptied before it is written: emptying what is behind a full line would take its last character. The
    # brackets have terminals that know them show it all at once.
    shown = "\r\n".join(f"\x1b[2K{line}" for line in capture.get().split("\n"))
    return f"\x1b[?2026h\x1b[H{shown}\x1b[?2026l"
