"""Task groups that are an implementation detail: what leaves them is what was raised, not a group around it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NoReturn, final

import anyio
from anyio import get_cancelled_exc_class
from anyio.abc import TaskGroup

from ._interrupts import start_task


def raise_as_it_is(error: BaseException) -> NoReturn:
    """Raise an exception without giving it a context that it did not have."""
    context = error.__context__
    try:
        raise error
    finally:
        error.__context__ = context


def lone(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the only exception in a group, or the group if it has several."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


@asynccontextmanager
async def background_tasks() -> AsyncIterator[TaskGroup]:
    """Open a task group for the length of a block, cancelled at its end; what the block raises leaves it unwrapped.

    A cancellation from outside reaches the block first, and the tasks only when the block has been left, so that a block
    may rely on them while it unwinds, as a service that drains does.
    """
    failure: BaseException | None = None
    try:
        async with anyio.create_task_group() as outer:
            # Protects the tasks until the end of the block, which cancels this scope.
            shield = anyio.CancelScope(shield=True)
            home = _Home()
            try:
                # Not `outer.start`: cancelled, that waits for a host that is shielded from the same cancellation.
                start_task(outer, home.run, shield, name="natsery background tasks")
                await home.ready.wait()
                yield home.tasks
            except get_cancelled_exc_class():
                raise
            except BaseException as error:  # raised again below, outside of the task group
                failure = error
            finally:
                shield.cancel("the block has ended")
    except BaseExceptionGroup as group:  # what a task raised
        failure = lone(group) if failure is None else BaseExceptionGroup(group.message, [failure, *group.exceptions])
    if failure is not None:
        raise_as_it_is(failure)


@final
class _Home:
    """The task that holds the task group."""

    def __init__(self) -> None:
        self.tasks = anyio.create_task_group()
        self.ready = anyio.Event()

    async def run(self, shield: anyio.CancelScope) -> None:
        with shield:
            async with self.tasks:
                self.ready.set()
                await anyio.sleep_forever()
