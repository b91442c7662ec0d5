"""A connection that has no room for another message."""

from __future__ import annotations

import pytest

import natsery
from natsery.abc import Connection


async def fill(nc: Connection) -> None:
    """Publish, on a connection whose server is away, until not even the smallest message is accepted."""
    for size in (100_000, 0):
        with pytest.raises(natsery.OutboundBufferError):
            while True:
                await nc.publish("other", b"x" * size)
