"""What drains a client in nats-py's place, out of the reach of cancellations."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import final

from nats.aio.client import Client


@final
class Drain:
    """Stands in for a client's ``drain``, and has nats-py's run in a task of its own.

    Cancelled, as in a handler when its service's grace is over, nats-py's own leaves the client half drained for good: it can
    send nothing any more, and is never closed.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._own = vars(client).get("drain")  # a program's own, if it has put one there
        self._next = client.drain
        self._users = 0
        self._tasks: set[asyncio.Task[None]] = set()  # kept, for asyncio keeps no task that it runs

    @staticmethod
    def attach(client: Client) -> Callable[[], None]:
        """Stand in until what is returned is called; what has begun then goes on."""
        current = getattr(client.drain, "__self__", None)
        drain = current if isinstance(current, Drain) else Drain(client)
        drain._users += 1
        client.drain = drain.drain  # type: ignore[method-assign]
        return drain._detach

    def _detach(self) -> None:
        self._users -= 1
        if self._users == 0:
            del self._client.drain
            if self._own is not None:
                self._client.drain = self._own  # type: ignore[method-assign]

    async def drain(self) -> None:
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
