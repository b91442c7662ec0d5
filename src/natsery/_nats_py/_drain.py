"""Drains a nats-py client out of the reach of cancellations."""

from __future__ import annotations

import asyncio
from typing import final

from nats.aio.client import Client

from ._stand_in import StandIn


@final
class Drain(StandIn):
    """Stands in for a client's ``drain``, and has nats-py's run in a task of its own.

    Cancelled, as in a handler when its service's grace is over, nats-py's own leaves the client half drained for good: it can
    send nothing any more, and is never closed.
    """

    method = "drain"

    def __init__(self, client: Client) -> None:
        super().__init__(client)
        self._tasks: set[asyncio.Task[None]] = set()  # kept, for asyncio keeps no task that it runs

    async def call(self) -> None:
        """Drain the client; cancelled meanwhile, it goes on without this task."""
        task = asyncio.get_running_loop().create_task(self._next())
        self._tasks.add(task)
        task.add_done_callback(self._on_done)
        await asyncio.wait((task,))
        task.result()

    def _on_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # or asyncio complains that no task looked at it
