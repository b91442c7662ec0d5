"""A client whose server has frozen, with more to send than there is room for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import anyio
import anyio.lowlevel

import natsery
from natsery.abc import Connection

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
            while not (nc._is_full or is_done):  # until then, the other loop makes room
                await anyio.lowlevel.checkpoint()
        yield
        tasks.cancel_scope.cancel()
