"""What tests of the native connection have in common."""

from __future__ import annotations

import logging
import os
import secrets
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.abc import ByteStream, SocketAttribute

import natsery
from natsery import ConnectionEvent, EventKind

from ..bounds import HANG_SECONDS

QUICK = {"reconnect_wait": 0.001, "max_reconnect_wait": 0.01}
"""Options for those who do not want to wait for a reconnect."""


PINGS = {"ping_interval": 0.01, "max_outstanding_pings": 1_000_000}
"""Options for those who want PINGs, and to lose patience when they say so: a busy machine answers late."""


def lose_patience(nc: natsery.NativeConnection) -> None:
    """Have a connection with ``PINGS`` take its link for dead at the second PING without an answer."""
    assert nc._session is not None
    nc._session._max_outstanding_pings = 2


AT_ONCE = {**QUICK, "credentials_grace": 0}
"""The same, for those who do not want to wait for credentials either."""

PASSWORD = f"p@ss:w/rd {secrets.token_hex(8)}"
TOKEN = f"t0ken {secrets.token_hex(8)}"
WRONG = f"wrong-{secrets.token_hex(8)}"


def password_config(password: str) -> str:
    return f'authorization {{ user: u, password: "{password}" }}'


def token_config(token: str) -> str:
    return f'authorization {{ token: "{token}" }}'


FUNCTIONS = pytest.mark.parametrize("how", ["function", "async function"])
"""For options that may be given as functions."""


def bounded() -> anyio.abc.CancelScope:
    return anyio.fail_after(HANG_SECONDS)


async def settled() -> None:
    """Wait until what has been closed is really gone: event loops let go of sockets a few turns later."""
    for _ in range(5):
        await anyio.lowlevel.checkpoint()
    await anyio.wait_all_tasks_blocked()


def running_tasks() -> set[str]:
    """The names of all tasks but those of pytest's own plugin, of which every fixture and test has another."""
    tasks = anyio.get_running_tasks()
    return {task.name for task in tasks if "TestRunner" not in getattr(task.coro, "__qualname__", "")}


def open_sockets() -> int:
    """How many there are; uvloop has others of its own every time that it runs."""
    found = 0
    for file in Path("/proc/self/fd").iterdir():
        try:
            target = str(file.readlink())
        except OSError:
            continue
        if target.startswith("socket:"):
            found += 1
    return found


class Events:
    """What a connection tells its listeners, in order."""

    def __init__(self, nc: natsery.NativeConnection) -> None:
        self.seen: list[ConnectionEvent] = []
        self._news = anyio.Event()
        nc.add_listener(self._hear)

    def _hear(self, event: ConnectionEvent) -> None:
        self.seen.append(event)
        self._news.set()
        self._news = anyio.Event()

    async def wait(self, kind: EventKind, times: int = 1) -> ConnectionEvent:
        """The first event of a kind, or the one that is so many in order."""
        while len(found := [event for event in self.seen if event.kind is kind]) < times:
            await self._news.wait()
        return found[times - 1]


async def connection_error(
    servers: str | list[str],
    caplog: pytest.LogCaptureFixture | None = None,
    /,
    *,
    hidden: tuple[str, ...] = (),
    **options: object,
) -> Exception:
    """Why a first connection fails; none of ``hidden`` is shown by the error or the log."""
    if caplog is not None:
        caplog.set_level(logging.DEBUG)
    with bounded(), pytest.raises(Exception) as caught:  # noqa: PT011  # whatever it is, it is returned
        async with natsery.connect(servers, **options):
            pytest.fail("it connected")
    shown = str(caught.value) + "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    for error in chain(caught.value):
        shown += repr(error) + repr(vars(error))
    shown += caplog.text if caplog is not None else ""
    for secret in hidden:
        assert secret not in shown
    if os.environ.get("NATSERY_SHOW_ERRORS"):
        print(f"\n>>> {type(caught.value).__name__}: {caught.value}")
    return caught.value


async def stall_error(servers: str, waiting: str, **options: Any) -> Exception:
    """Why a first connection fails that waits for this in vain; a busy machine takes longer to come so far."""
    error = None
    for seconds in (0.25, 1, 5, 25):
        error = await connection_error(servers, connect_timeout=seconds, **options)
        if str(error).endswith(f"gave up after {seconds:g} s (connect_timeout), waiting for {waiting})"):
            return error
    raise AssertionError(error)


def chain(error: BaseException | None) -> list[BaseException]:
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found


class RecordingServer:
    """Where it listens, and what it has received."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = f"nats://127.0.0.1:{port}"
        self.tls_url = f"tls://127.0.0.1:{port}"
        self.connections = 0
        self.received = bytearray()
        self.is_done = anyio.Event()
        """Set when the last client has gone."""


@asynccontextmanager
async def recording_server(
    say: bytes = b"", script: Callable[[ByteStream], Awaitable[None]] | None = None
) -> AsyncIterator[RecordingServer]:
    """A server that says something, does something if told to, and then writes down all that it receives."""

    async def handle(stream: ByteStream) -> None:
        server.connections += 1
        async with stream:
            try:
                if say:
                    await stream.send(say)
                if script is not None:
                    await script(stream)
                while True:
                    server.received += await stream.receive()
            except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
                server.is_done.set()

    async with (
        await anyio.create_tcp_listener(local_host="127.0.0.1") as listener,
        anyio.create_task_group() as tasks,
    ):
        server = RecordingServer(listener.extra(SocketAttribute.local_port))
        tasks.start_soon(listener.serve, handle)
        yield server
        tasks.cancel_scope.cancel()
