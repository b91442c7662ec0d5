"""The ways in which natsery connects, the event loops that it runs in, and the core that it runs on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import nats

import natsery

try:
    from natsery._core import NAME as CORE
except ImportError:
    CORE = "python"  # the only one there is

TRANSPORTS = ("native", "adapted", "bridged")

BACKENDS: dict[str, tuple[str, dict[str, Any]]] = {
    "trio": ("trio", {}),
    "asyncio": ("asyncio", {}),
    "uvloop": ("asyncio", {"use_uvloop": True}),
}


@asynccontextmanager
async def open_connection(transport: str, url: str) -> AsyncIterator[natsery.abc.Connection]:
    """A connection of that kind; ``"adapted"`` needs asyncio."""
    if transport == "native":
        async with natsery.connect(url) as nc:
            yield nc
    elif transport == "bridged":
        async with natsery.bridge(url) as nc:
            yield nc
    else:
        client = await nats.connect(url)
        async with natsery.adapt(client) as nc:
            yield nc
        await client.close()
