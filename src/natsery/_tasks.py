"""Task groups that are an implementation detail: what leaves them is what was raised, not a group around it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import wraps
from types import TracebackType
from typing import NoReturn, ParamSpec, TypeVar, final

import anyio
from anyio import get_cancelled_exc_class
from anyio.abc import TaskGroup

from ._backends import current_task
from ._interrupts import start_task
from ._usage import UsedAsBlock

ArgsP = ParamSpec("ArgsP")
ValueT = TypeVar("ValueT")


def raise_as_it_is(error: BaseException) -> NoReturn:
    """Raise an exception without giving it a context that it did not have."""
    context = error.__context__
    try:
        raise error
    finally:
        error.__context__ = context


def lone(error: BaseException) -> BaseException:
    """Return the only exception in a group, or the group if it has several; another exception as it is."""
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
        failure = lone(group) if failure is None else BaseExceptionGroup(group.message, [failure, lone(group)])
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


def block_of_one_task(
    name: str, abandon: Callable[[ValueT], Awaitable[None]]
) -> Callable[
    [Callable[ArgsP, AbstractAsyncContextManager[ValueT]]], Callable[ArgsP, AbstractAsyncContextManager[ValueT]]
]:
    """Decorate a function that returns an async context manager which holds tasks.

    Only the task that has entered such a block can leave it. Another one that tries gets an error that says so, instead of
    those of the task groups inside.

    Args:
        name: what to call the block in the error.
        abandon: ends what the block is about, as far as another task can; given what the block yields.
    """

    def decorate(
        make: Callable[ArgsP, AbstractAsyncContextManager[ValueT]],
    ) -> Callable[ArgsP, AbstractAsyncContextManager[ValueT]]:
        @wraps(make)
        def open_block(*args: ArgsP.args, **kwargs: ArgsP.kwargs) -> AbstractAsyncContextManager[ValueT]:
            return _Block(name, make(*args, **kwargs), abandon)

        return open_block

    return decorate


@final
class _Block(UsedAsBlock, AbstractAsyncContextManager[ValueT]):
    """A block that must be left by the task that has entered it."""

    def __init__(
        self, name: str, block: AbstractAsyncContextManager[ValueT], abandon: Callable[[ValueT], Awaitable[None]]
    ) -> None:
        self._name = name
        self._block = block
        self._abandon = abandon

    async def __aenter__(self) -> ValueT:
        self._task = current_task()
        self._value = value = await self._block.__aenter__()
        return value

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        if current_task() is self._task:
            return await self._block.__aexit__(kind, error, traceback)  # noqa: ASYNC102  # it bounds itself
        await self._abandon(self._value)  # noqa: ASYNC102  # it bounds itself
        raise RuntimeError(
            f"the block of {self._name} was entered in one task and is left in another, as by fixtures of "
            "pytest-asyncio or two cells of a notebook; write 'async with' in a task of its own that holds the block open "
            '(docs/connection.md, "One task for each block")'
        ) from error
