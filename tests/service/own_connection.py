"""A connection of a program's own, which has nothing but what `natsery.abc.Connection` asks for."""

from __future__ import annotations

from typing import Any

import natsery
from natsery import abc


class Own(abc.Connection):
    """Passes everything on to a connection in memory, by public methods only."""

    def __init__(self, inner: abc.Connection) -> None:
        self._inner = inner

    max_payload = property(lambda self: self._inner.max_payload)
    is_connected = property(lambda self: self._inner.is_connected)
    is_closed = property(lambda self: self._inner.is_closed)

    async def publish(self, *args: Any, **options: Any) -> None:
        await self._inner.publish(*args, **options)

    async def request(self, *args: Any, **options: Any) -> natsery.Message:
        return await self._inner.request(*args, **options)

    async def add_subscription(self, *args: Any, **options: Any) -> abc.Subscription:
        return await self._inner.add_subscription(*args, **options)

    async def flush(self) -> None:
        await self._inner.flush()

    def new_inbox(self) -> str:
        return self._inner.new_inbox()

    def add_listener(self, listener: Any) -> Any:
        return self._inner.add_listener(listener)

    async def wait_closed(self) -> None:
        await self._inner.wait_closed()

    async def aclose(self) -> None:
        await self._inner.aclose()
