"""The IP addresses of a server, greeted side by side, so that those that are dead do not keep a client from the others."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import final

import anyio
from anyio.abc import TaskGroup

from .._interrupts import start_task
from .._protocol._addresses import Target
from .._tasks import background_tasks
from ._handshake import Greeting, greet
from ._options import Options

HEAD_START_SECONDS = 0.25
"""How long an address has to answer or to fail before the next one is greeted as well (RFC 8305 recommends this)."""


@asynccontextmanager
async def open_greetings(targets: Iterable[Target], options: Options) -> AsyncIterator[Greetings]:
    """Greet targets in their order, for the length of a block; what still answers at its end is closed."""
    async with background_tasks() as tasks:
        greetings = Greetings(targets, options, tasks)
        try:
            yield greetings
        finally:
            await greetings.close()  # noqa: ASYNC102  # does not wait


@final
class Greetings:
    """Targets that are being greeted, each a little later than the one before it, or as soon as that has failed.

    None is begun while its user is busy with one that has answered.
    """

    def __init__(self, targets: Iterable[Target], options: Options, tasks: TaskGroup) -> None:
        self._options = options
        self._tasks = tasks
        self._waiting = deque(targets)
        self._under_way: list[Target] = []
        self._outcomes: deque[tuple[Target, Greeting | Exception]] = deque()
        self._news = anyio.Event()
        self._is_awaited = False

    @property
    def unanswered(self) -> tuple[Target, ...]:
        """The targets that have been greeted and have neither answered nor failed yet."""
        return tuple(self._under_way)

    async def next(self) -> tuple[Target, Greeting | Exception] | None:
        """Return the next target that has answered or failed, and its greeting or why; ``None`` if there are no more."""
        self._is_awaited = True
        try:
            while not self._outcomes:
                if self._waiting:
                    target = self._waiting.popleft()
                    self._under_way.append(target)
                    start_task(self._tasks, self._greet, target, name="natsery greeting")
                    with anyio.move_on_after(HEAD_START_SECONDS):
                        await self._news.wait()
                elif self._under_way:
                    await self._news.wait()
                else:
                    return None
        finally:
            self._is_awaited = False
        return self._outcomes.popleft()

    async def close(self) -> None:
        """Close a greeting that was not taken. Does not wait."""
        for _, outcome in self._outcomes:
            if isinstance(outcome, Greeting):
                await outcome.close()
        self._outcomes.clear()

    async def _greet(self, target: Target) -> None:
        outcome: Greeting | Exception
        try:
            outcome = await greet(target, self._options)
        except Exception as error:  # handed over
            outcome = error
        self._under_way.remove(target)
        if isinstance(outcome, Greeting):
            if not self._is_awaited:
                # Another has been faster. Servers do not wait long for CONNECT, so this one is greeted again if need be.
                self._waiting.appendleft(target)
                await outcome.close()
                return
            self._is_awaited = False
        self._outcomes.append((target, outcome))
        self._news.set()
        self._news = anyio.Event()
