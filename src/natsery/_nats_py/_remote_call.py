"""A call that one event loop has another one make."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Generic, TypeVar, final

import anyio

if TYPE_CHECKING:
    import asyncio

ResultT = TypeVar("ResultT")


@final
class RemoteCall(Generic[ResultT]):
    """A coroutine function to be awaited in nats-py's thread, and its outcome once ``done``.

    Attributes:
        aio_function: the function.
        aio_task: the task over there, once it has begun.
        is_cancelled: set over there if it was cancelled before it began.
        value: what it returned.
        error: what it raised.
        done: set in the caller's loop when it has ended.
    """

    def __init__(self, aio_function: Callable[[], Awaitable[ResultT]]) -> None:
        self.aio_function = aio_function
        self.aio_task: asyncio.Task[None] | None = None
        self.is_cancelled = False
        self.value: ResultT | None = None
        self.error: BaseException | None = None
        self.done = anyio.Event()

    def result(self) -> ResultT:
        """Return or raise what came of it."""
        if self.error is not None:
            raise self.error
        return self.value  # type: ignore[return-value]  # set whenever there is no error
