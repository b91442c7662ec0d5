"""Takes the terminal over for a full screen, and restores it."""

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
"""The index of the flags for echo and lines in a terminal's attributes."""

CHARACTERS: Final = 6
"""The index of the special characters."""

FALLBACK_SIZE: Final = (80, 24)
"""Columns and lines for a terminal of unknown size."""

RESTORE_SECONDS: Final = 1.0
"""How long a terminal that does not accept output may delay the end."""

# The alternate screen, no cursor, and no line wrapping, for the case that this program and the terminal do not agree on the
# width of a character.
TAKE_OVER: Final = "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[H\x1b[2J"
RESTORE: Final = "\x1b[0m\x1b[?7h\x1b[?25h\x1b[?1049l"


@final
class Terminal:
    """The terminal of stdin and stdout.

    Nothing here blocks the event loop: only the writing task waits for a terminal that is slow, or stopped with Ctrl-S.
    """

    def __init__(self, output: int) -> None:
        self._output = output
        self._lock = anyio.Lock()
        self._is_taken_over = False
        self._mode: list[Any] | None = None
        self.has_keys: bool = sys.platform != "win32" and os.isatty(INPUT)
        """Whether keys can be read."""

    def size(self) -> tuple[int, int]:
        """Return its columns and lines."""
        columns, lines = os.get_terminal_size(OUTPUT)
        return columns or FALLBACK_SIZE[0], lines or FALLBACK_SIZE[1]

    async def take_over(self) -> None:
        """Show an empty screen without a cursor, and read keys at once and without echo. Safe twice.

        **Cancellation:** it may have been taken over; `restore` is safe either way. A checkpoint.
        """
        async with self._lock:
            self._set_mode()
            self._is_taken_over = True
            await self._write(TAKE_OVER)

    async def restore(self) -> None:
        """Restore it as far as possible, within `RESTORE_SECONDS` even if cancelled. Safe twice. A checkpoint."""
        try:
            # Protects the user's shell from a terminal without cursor and echo.
            with anyio.move_on_after(RESTORE_SECONDS, shield=True):
                async with self._lock:
                    if self._is_taken_over:
                        await self._write(RESTORE)
        except OSError:
            pass  # it is closed
        finally:
            self._restore_mode()
            self._is_taken_over = False

    async def show(self, text: str) -> None:
        """Write a text if it is taken over.

        **Cancellation:** a part of it may have been written. A checkpoint.
        """
        async with self._lock:
            if self._is_taken_over:
                await self._write(text)

    async def read(self) -> bytes:
        """Read the bytes of keys; ``b""`` if the terminal is closed. A checkpoint."""
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
        if not self._is_taken_over:
            self._mode = termios.tcgetattr(INPUT)
        # Ctrl-C and Ctrl-Z remain signals, which go to all programs of the same job.
        mode[LOCAL_FLAGS] &= ~(termios.ECHO | termios.ICANON)
        mode[CHARACTERS][termios.VMIN], mode[CHARACTERS][termios.VTIME] = 1, 0
        termios.tcsetattr(INPUT, termios.TCSANOW, mode)

    def _restore_mode(self) -> None:
        if sys.platform == "win32" or self._mode is None or not self._is_taken_over:
            return
        with suppress(termios.error):  # it is closed
            # TCSANOW does not wait for output, which a stopped terminal would not accept.
            termios.tcsetattr(INPUT, termios.TCSANOW, self._mode)


@asynccontextmanager
async def open_terminal() -> AsyncIterator[Terminal]:
    """Take the terminal of stdin and stdout over for the length of a block."""
    output = _open_output()
    try:
        terminal = Terminal(output)
        try:
            await terminal.take_over()
            yield terminal
        finally:
            await terminal.restore()  # noqa: ASYNC102  # shielded and bounded in there
    finally:
        os.close(output)


def _open_output() -> int:
    """Open stdout's terminal without blocking. stdout itself must stay blocking, because the shell shares it."""
    if sys.platform == "win32":
        return os.dup(OUTPUT)
    try:
        return os.open(os.ttyname(OUTPUT), os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:  # it belongs to another user, after su for example; then writing may block
        return os.dup(OUTPUT)
