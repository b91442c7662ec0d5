"""The command in a terminal that a test looks at."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pyte

from ..bounds import HANG_SECONDS

ALTERNATE_SCREEN = 1049 << 5
WRAPS = 7 << 5

# Makes the terminal that it has as stdin its own, so that Ctrl-C in it is a signal for the command.
START = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.executable, sys.argv[1:])"


class PseudoTerminal:
    """A terminal of some size, and the command in it."""

    def __init__(self, arguments: tuple[str, ...], columns: int, lines: int, environment: dict[str, str]) -> None:
        self._ours, self.theirs = pty.openpty()
        self._is_open = True
        self._screen = pyte.Screen(columns, lines)
        self._stream = pyte.ByteStream(self._screen)
        self.resize(columns, lines)
        self.mode_before = self.mode()
        self.written = b""
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", START, sys.executable, "-W", "error", "-m", "natsery", *arguments],
            stdin=self.theirs,
            stdout=self.theirs,
            stderr=self.theirs,
            start_new_session=True,
            env={**os.environ, "TERM": "xterm-256color", "PYTHONUTF8": "1", **environment},
        )

    def mode(self) -> list[Any]:
        """Echo, lines, special characters and all that."""
        return termios.tcgetattr(self.theirs)

    def resize(self, columns: int, lines: int) -> None:
        self._screen.resize(lines, columns)
        # The kernel tells the program of it.
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def press(self, keys: bytes) -> None:
        os.write(self._ours, keys)

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    @property
    def text(self) -> str:
        """What is to be seen."""
        return "\n".join(line.rstrip() for line in self._screen.display)

    @property
    def is_taken(self) -> bool:
        """Whether the command has a screen of its own."""
        return ALTERNATE_SCREEN in self._screen.mode

    @property
    def is_as_it_was(self) -> bool:
        """Whether it is as if nothing had been."""
        screen = self._screen
        return (
            not self.is_taken
            and not screen.cursor.hidden
            and WRAPS in screen.mode
            and screen.cursor.attrs == screen.default_char
            and self.mode() == self.mode_before
        )

    def wait_until(self, condition: Callable[[], object]) -> None:
        """Look on until something is so."""
        deadline = time.monotonic() + HANG_SECONDS
        while not condition():
            assert time.monotonic() < deadline, f"it is never so; the screen is\n{self.text}"
            self.look(0.05)

    def wait_for(self, *texts: str) -> None:
        """Look on until all these texts are to be seen."""
        self.wait_until(lambda: all(each in self.text for each in texts))

    def wait_ended(self) -> int:
        """Look on until the command has ended; its status."""
        self.wait_until(lambda: self.process.poll() is not None)
        while self.look():
            pass
        return self.process.returncode

    def look(self, seconds: float = 0) -> bool:
        """Take what has been written, if there is anything."""
        readable, _, _ = select.select([self._ours], [], [], seconds)
        if readable:
            data = os.read(self._ours, 65_536)
            self.written += data
            self._stream.feed(data)
        return bool(readable)

    def hang_up(self) -> None:
        """Close the terminal, as a user closes its window."""
        os.close(self._ours)
        os.close(self.theirs)
        self._is_open = False

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(HANG_SECONDS)
        if self._is_open:
            self.hang_up()


@contextmanager
def terminal(
    *arguments: str, columns: int = 80, lines: int = 24, environment: dict[str, str] | None = None
) -> Iterator[PseudoTerminal]:
    this = PseudoTerminal(arguments, columns, lines, environment or {})
    try:
        yield this
    finally:
        this.end()
