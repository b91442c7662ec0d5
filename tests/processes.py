"""Programs under test: started, read line by line within a bound, interrupted, and always ended."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

from .bounds import HANG_SECONDS


class Program:
    """A Python program that runs beside the test; its output, both streams together, can be read with a bound."""

    def __init__(
        self, arguments: tuple[str, ...], cwd: Path | None, environment: Mapping[str, str], *, is_daemon: bool
    ) -> None:
        self._process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            start_new_session=is_daemon,
            env={**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8", **environment},
        )
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.output = ""

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def wait_for(self, text: str) -> str:
        """Read until a line holds the text, and return it."""
        while True:
            line = self._lines.get(timeout=HANG_SECONDS)
            assert line is not None, f"no {text!r} in:\n{self.output}"
            self.output += line
            if text in line:
                return line

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, how: signal.Signals) -> None:
        self._process.send_signal(how)

    def interrupt(self) -> None:
        self.send(signal.SIGINT)

    def terminate(self) -> None:
        self.send(signal.SIGTERM)

    def wait(self) -> int:
        """Read to the end, which is the end of its children too, and return the exit status."""
        while (line := self._lines.get(timeout=HANG_SECONDS)) is not None:
            self.output += line
        return self._process.wait(HANG_SECONDS)

    def end(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait(HANG_SECONDS)
        self._reader.join(HANG_SECONDS)
        assert self._process.stdout is not None
        self._process.stdout.close()


@contextmanager
def running(
    *arguments: str,
    cwd: Path | None = None,
    environment: Mapping[str, str] = MappingProxyType({}),
    is_daemon: bool = False,
) -> Iterator[Program]:
    """Run a program; a daemon belongs to no terminal."""
    program = Program(arguments, cwd, environment, is_daemon=is_daemon)
    try:
        yield program
    finally:
        program.end()
