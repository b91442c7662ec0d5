"""Cancellations at a chosen point, for tests that try them all or draw them by lot."""

from __future__ import annotations

from collections.abc import Coroutine, Generator
from typing import Any

import anyio


class CancelledAt:
    """Awaits a coroutine and cancels a scope the n-th time that it gives control to the event loop."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], n: int, scope: anyio.CancelScope) -> None:
        self.coroutine = coroutine
        self.n = n
        self.scope = scope

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
