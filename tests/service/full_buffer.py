"""A connection that has no room for another message."""

from __future__ import annotations

import anyio
import pytest

import natsery
from natsery.abc import Connection
from natsery.testing import MemoryBroker


async def fill(nc: Connection) -> None:
    """Publish, on a connection whose server is away, until not even the smallest message is accepted."""
    for size in (100_000, 0):
        with pytest.raises(natsery.OutboundBufferError):
            while True:
                await nc.publish("other", b"x" * size)


async def go_on_without_room(broker: MemoryBroker, server: Connection, let_go: anyio.Event) -> None:
    """Let what waits for ``let_go`` go on while the server is away and its connection is full, then bring it back."""
    broker.disconnect(server)
    await fill(server)
    let_go.set()
    await anyio.wait_all_tasks_blocked()
    broker.reconnect(server)
