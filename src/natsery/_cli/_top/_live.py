"""The live screen of ``natsery top``: polls, draws, and handles keys and signals until the user quits."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from typing import Final, final

import anyio
from rich.console import Console
from rich.text import Text

import natsery

from .._cells import Cells
from .._format import now
from ._figures import ServiceFigures
from ._keys import KeyReader
from ._polling import FIRST_ROUND_SECONDS, LAST_ROUND_SECONDS, Poller, ServerStatus, WatchOptions
from ._rates import Meter
from ._screen import Screen, ScreenState, draw
from ._terminal import Terminal, open_terminal
from ._view import apply_key

GATHER_SECONDS: Final = 0.03
"""How long changes are gathered before the screen is drawn again: many replies arrive at once."""

ENDING_SIGNALS: Final = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
"""The signals that end the program with their own effect, after the terminal is restored."""

OTHER_SIGNALS: Final = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGWINCH", "SIGTSTP", "SIGCONT") if hasattr(signal, name)
)


async def watch_live(nc: natsery.NativeConnection, options: WatchOptions) -> int | None:
    """Show the live screen until the user quits.

    Returns:
        the signal that ended it, ``None`` for a key, Ctrl-C or the count.

    Raises:
        NatseryError: as for `Poller.poll`; the terminal has been restored.
    """
    # The receiver comes first, so that no signal ends the program while the terminal is taken over.
    with anyio.open_signal_receiver(*ENDING_SIGNALS, *OTHER_SIGNALS) as signals:
        async with open_terminal() as terminal:
            live = _Live(nc, options, terminal)
            with ServerStatus.watch(nc, live.mark_changed) as status:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(live.handle_signals, signals)
                    tasks.start_soon(live.paint, status)
                    tasks.start_soon(live.poll, status)
                    if terminal.has_keys:
                        tasks.start_soon(live.handle_keys)
                    await live.done.wait()
                    tasks.cancel_scope.cancel("the live screen has ended")
            return live.ended_by


@final
class _Live:
    """The state that the tasks of the live screen share."""

    def __init__(self, nc: natsery.NativeConnection, options: WatchOptions, terminal: Terminal) -> None:
        self.done = anyio.Event()
        self.ended_by: int | None = None
        self._nc = nc
        self._options = options
        self._terminal = terminal
        self._view = options.view
        self._meter = Meter()
        self._malformed = 0
        self._has_polled = False
        self._poller: Poller | None = None
        self._paint_seconds = 0.0
        self._services: Sequence[ServiceFigures] = ()
        self._moment = now()
        self._screen: Screen | None = None
        self._cells = Cells(sys.stdout.encoding)
        self._console = Console(soft_wrap=True, highlight=False, emoji=False, markup=False)
        self._changed = anyio.Event()
        self.mark_changed()

    def mark_changed(self) -> None:
        """Mark the screen as outdated, so that it is drawn again."""
        self._changed.set()

    async def poll(self, status: ServerStatus) -> None:
        """Poll in rounds until the count is reached."""
        options = self._options
        self._poller = poller = Poller(self._nc, status, self._meter, name=options.name, prefix=options.prefix)
        rounds = 0
        while options.count is None or rounds <= options.count:
            seconds = options.interval
            if rounds == 0:
                seconds = max(seconds, FIRST_ROUND_SECONDS)
            elif rounds == options.count:
                seconds = min(seconds, LAST_ROUND_SECONDS)
            if await poller.poll(seconds, self.mark_changed):
                rounds += 1
            self._malformed = poller.malformed
            self._has_polled = True
            self.mark_changed()
        await self._paint(status)
        self.done.set()

    async def paint(self, status: ServerStatus) -> None:
        """Draw the screen after each change."""
        while True:
            await self._changed.wait()
            # At least half of the time is for the replies, however many services there are to draw.
            await anyio.sleep(max(GATHER_SECONDS, self._paint_seconds))
            self._changed = anyio.Event()
            await self._paint(status)

    async def handle_keys(self) -> None:
        """Apply keys to the view until the user quits."""
        reader = KeyReader()
        while data := await self._terminal.read():
            for key in reader.feed(data):
                screen = self._screen
                rows, page = (0, 1) if screen is None else (screen.rows, screen.page)
                self._view = apply_key(self._view, key, rows=rows, page=page)
                if self._view.is_done:
                    self.done.set()
                    return
            self.mark_changed()
        self.done.set()

    async def handle_signals(self, signals: AsyncIterator[signal.Signals]) -> None:
        """Quit, suspend, resume or draw again, according to the signal."""
        async for number in signals:
            if number in ENDING_SIGNALS:
                self.ended_by = number
                self.done.set()
            elif number == signal.SIGINT:
                self.done.set()
            elif number == getattr(signal, "SIGTSTP", None):
                await self._terminal.restore()
                # Not SIGTSTP, which would be received here again. The shell resumes this process with SIGCONT.
                os.kill(os.getpid(), signal.SIGSTOP)
            else:
                if number == getattr(signal, "SIGCONT", None):
                    await self._terminal.take_over()
                self.mark_changed()

    async def _paint(self, status: ServerStatus) -> None:
        start = anyio.current_time()
        if not self._view.is_paused:
            self._services, self._moment = self._meter.figures(), now()
        state = ScreenState(
            server=", ".join(self._nc.servers),
            services=self._services,
            view=self._view,
            interval=self._options.interval,
            now=self._moment,
            message=status.message,
            is_disconnected=status.is_disconnected,
            malformed=self._malformed,
            empty_text=self._options.empty_text if self._has_polled else "Asking...",
            has_keys=self._terminal.has_keys,
        )
        self._screen = draw(state, *self._terminal.size(), self._cells)
        shown = frame(self._screen.lines, self._console)
        self._paint_seconds = anyio.current_time() - start
        if self._poller is not None:
            self._poller.excuse(self._paint_seconds)
        await self._terminal.show(shown)


def frame(lines: Sequence[Text], console: Console) -> str:
    """Return the text that replaces a terminal's lines with these."""
    with console.capture() as capture:
        console.print(Text("\n").join(lines), end="")
    # Each line is erased before it is written: erasing the rest of a full line would erase its last character. The sequences
    # around it make terminals that support them show all of it at once.
    shown = "\r\n".join(f"\x1b[2K{line}" for line in capture.get().split("\n"))
    return f"\x1b[?2026h\x1b[H{shown}\x1b[?2026l"
