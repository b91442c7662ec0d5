"""Cancellations at a chosen point, for tests that try them all or draw them by lot, and tasks that are held up by lot."""

from __future__ import annotations

import random
from collections.abc import Coroutine, Generator
from typing import Any

import anyio


class CancelledAt:
    """Awaits a coroutine and cancels a scope the n-th time that it gives control to the event loop.

    With ``chance`` it is now and then resumed later than it could be, as if the event loop had taken others first.
    """

    def __init__(
        self,
        coroutine: Coroutine[Any, Any, Any],
        n: int,
        scope: anyio.CancelScope,
        chance: random.Random | None = None,
    ) -> None:
        self.coroutine = coroutine
        self.n = n
        self.scope = scope
        self.chance = chance

    def __await__(self) -> Generator[Any, Any, Any]:
        steps = self.coroutine.__await__()
        resume = lambda: next(steps)  # noqa: E731
        while True:
            try:
                awaited = resume()
            except StopIteration as stop:
                return stop.value
            self.n -= 1
            if self.n == 0:
                self.scope.cancel()
            try:
                value = yield awaited
            except BaseException as error:
                resume = lambda error=error: steps.throw(error)  # noqa: E731
            else:
                resume = lambda value=value: steps.send(value)  # noqa: E731
            if self.chance is not None and self.chance.random() < 0.3:
                yield from self._let_others_go().__await__()

    async def _let_others_go(self) -> None:
        # Shielded, since what was waited for has come: a cancellation is heard the next time.
        with anyio.CancelScope(shield=True):
            for _ in range(self.chance.randint(1, 3)):
                await anyio.lowlevel.checkpoint()
