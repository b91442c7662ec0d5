"""A client whose server takes nothing, and more to send than there is room for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import anyio
import anyio.lowlevel
import pytest
from nats.aio.client import Client

import natsery
from natsery.abc import Connection

from ..bounds import HANG_SECONDS

MESSAGES = 300
SIZE = 100_000
"""Together more than natsery, nats-py and the operating system keep."""


@asynccontextmanager
async def filling(nc: Connection, messages: int = MESSAGES) -> AsyncIterator[None]:
    """Publish for the length of a block, which begins when that has to wait or is done."""
    is_done = False

    async def publish() -> None:
        nonlocal is_done
        with suppress(natsery.NatseryError):  # that of a client that is away
            for _ in range(messages):
                await nc.publish("x", bytes(SIZE))
        is_done = True

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(publish)
        await anyio.wait_all_tasks_blocked()
        if isinstance(nc, natsery.BridgedConnection):
            while not (is_done or _stays_full(nc)):
                await anyio.lowlevel.checkpoint()
        yield
        tasks.cancel_scope.cancel()


def _stays_full(nc: natsery.BridgedConnection) -> bool:
    """Whether it is full, and the loop of its client makes no room, whatever it does."""
    for _ in range(10):
        if not nc._is_full:
            return False
        turn = asyncio.run_coroutine_threadsafe(asyncio.sleep(0), nc._thread.loop)
        turn.result(HANG_SECONDS)
    return nc._is_full


def stop_draining(client: Client, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Have the client's transport be full, as it is behind a frozen server, until what is returned is called.

    A frozen server would not do: asyncio's ``writelines`` has no flow control in Python 3.12.0 to 3.12.8 and 3.13.0 to 3.13.1.
    """
    is_clear = asyncio.Event()
    monkeypatch.setattr(client._transport, "drain", is_clear.wait)
    return is_clear.set
