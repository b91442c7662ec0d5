"""A terminal taken over for a screen of one's own, and given back as it was."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, final

import anyio
from anyio.lowlevel import checkpoint

if sys.platform != "win32":
    import termios

INPUT: Final = 0
"""The descriptor of stdin."""

OUTPUT: Final = 1
"""The descriptor of stdout."""

LOCAL_FLAGS: Final = 3
"""Where a terminal's mode has the flags for echo and lines."""

CHARACTERS: Final = 6
"""Where it has the special characters."""

FALLBACK_SIZE: Final = (80, 24)
"""Columns and lines of a terminal that does not know its size."""

GIVE_BACK_SECONDS: Final = 1.0
"""How long a terminal that takes nothing more holds up the end."""

# The alternate screen; no cursor; what is too long for a line is cut off there, even where this program and the terminal
# do not agree on the width of a character.
TAKE: Final = "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[H\x1b[2J"
GIVE_BACK: Final = "\x1b[0m\x1b[?7h\x1b[?25h\x1b[?1049l"


@final
class Terminal:
    """The terminal of stdin and stdout, between `take` and `give_back`.

    Nothing here blocks the event loop: what is written waits for a terminal that is slow, or is stopped with Ctrl-S.
    """

    def __init__(self, output: int) -> None:
        self._output = output
        self._lock = anyio.Lock()
        self._is_taken = False
        self._mode: list[Any] | None = None
        self.has_keys: bool = sys.platform != "win32" and os.isatty(INPUT)
        """Whether keys can be read."""

    def size(self) -> tuple[int, int]:
        """Its columns and lines."""
        columns, lines = os.get_terminal_size(OUTPUT)
        return columns or FALLBACK_SIZE[0], lines or FALLBACK_SIZE[1]

    async def take(self) -> None:
        """Take it over: an empty screen, no cursor, and keys that come at once and unseen. Safe when it is taken.

        **Cancellation:** it may be taken; `give_back` knows. A checkpoint.
        """
        async with self._lock:
            self._set_mode()
            self._is_taken = True
            await self._write(TAKE)

    async def give_back(self) -> None:
        """Leave it as it was, as far as it lets one, within `GIVE_BACK_SECONDS` even if cancelled. Safe twice. A checkpoint."""
        try:
            # Protects the user's shell from a terminal that shows neither a cursor nor what is typed.
            with anyio.move_on_after(GIVE_BACK_SECONDS, shield=True):
                async with self._lock:
                    if self._is_taken:
                        await self._write(GIVE_BACK)
        except OSError:
            pass  # it is closed, and nobody sees it any more
        finally:
            self._restore_mode()
            self._is_taken = False

    async def show(self, text: str) -> None:
        """Write a text if it is taken. **Cancellation:** a part of it may have been written. A checkpoint."""
        async with self._lock:
            if self._is_taken:
                await self._write(text)

    async def read(self) -> bytes:
        """What keys send; ``b""`` when the terminal is closed. A checkpoint."""
        await anyio.wait_readable(INPUT)
        try:
            return os.read(INPUT, 1024)
        except OSError:
            return b""

    async def _write(self, text: str) -> None:
        data = text.encode(sys.stdout.encoding, "replace")
        await checkpoint()
        while data:
            try:
                data = data[os.write(self._output, data) :]
            except BlockingIOError:
                await anyio.wait_writable(self._output)

    def _set_mode(self) -> None:
        if sys.platform == "win32" or not self.has_keys:
            return
        mode = termios.tcgetattr(INPUT)
        if not self._is_taken:
            self._mode = termios.tcgetattr(INPUT)
        # Ctrl-C and Ctrl-Z remain signals: they are meant for all programs of the same job.
        mode[LOCAL_FLAGS] &= ~(termios.ECHO | termios.ICANON)
        mode[CHARACTERS][termios.VMIN], mode[CHARACTERS][termios.VTIME] = 1, 0
        termios.tcsetattr(INPUT, termios.TCSANOW, mode)

    def _restore_mode(self) -> None:
        if sys.platform == "win32" or self._mode is None or not self._is_taken:
            return
        with suppress(termios.error):  # it is closed
            # Without waiting for what is written: a stopped terminal would not take it.
            termios.tcsetattr(INPUT, termios.TCSANOW, self._mode)


@asynccontextmanager
async def open_terminal() -> AsyncIterator[Terminal]:
    """Take the terminal of stdin and stdout over for the length of a block."""
    output = _open_output()
    try:
        terminal = Terminal(output)
        try:
            await terminal.take()
            yield terminal
        finally:
            await terminal.give_back()  # noqa: ASYNC102  # shielded and bounded in there
    finally:
        os.close(output)


def _open_output() -> int:
    """A descriptor of stdout's terminal that does not block; that of stdout itself is the shell's too, and must stay as it is."""
    if sys.platform == "win32":
        return os.dup(OUTPUT)
    try:
        return os.open(os.ttyname(OUTPUT), os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:  # another user's, after su for example; then writing may block
        return os.dup(OUTPUT)
