"""For asyncio: wake-ups that step their tasks in the callback in which a chunk has been received."""

from __future__ import annotations

import asyncio
from asyncio import AbstractEventLoop
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context
from typing import Any, final

from .._wakeup import PlainWakeups


def turns_are_cheap() -> bool:
    """Return whether a turn of this event loop costs no system call, as uvloop's, and less than what saves it."""
    return type(asyncio.get_running_loop()).__module__.partition(".")[0] == "uvloop"


@final
class LoopHandover(PlainWakeups):
    """The hand-over by the event loop, in its next turn."""

    def begin(self) -> None:
        """See `Handover`."""

    def end(self, stream: object) -> None:
        """See `Handover`."""


@final
class AsyncioHandover:
    """See `natsery._backends._handover.Handover`."""

    __slots__ = ("_loop", "_woken")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._woken: list[StepwiseWakeup] | None = None

    def new_wakeup(self) -> StepwiseWakeup:
        """See `Handover`."""
        return StepwiseWakeup(self, self._loop)

    def run(self, work: Coroutine[Any, Any, None], wakeup: object) -> Coroutine[Any, Any, None]:  # noqa: ARG002
        """See `Handover`."""
        return work

    def begin(self) -> None:
        """See `Handover`."""
        self._woken = []

    def end(self, stream: object) -> None:  # noqa: ARG002
        """See `Handover`."""
        woken, self._woken = self._woken or [], None
        # A task cannot be stepped while another one is running.
        is_callback = bool(woken) and asyncio.current_task(self._loop) is None
        waiting = iter(woken)
        try:
            if is_callback:
                for wakeup in waiting:
                    wakeup.step()
        finally:
            # The others go on even if one of them ends the program.
            for wakeup in waiting:
                self._loop.call_soon(wakeup.step)

    def put(self, wakeup: StepwiseWakeup) -> None:
        """Have the task of a wake-up go on."""
        if self._woken is None:
            self._loop.call_soon(wakeup.step)
        else:
            self._woken.append(wakeup)


@final
class StepwiseWakeup:
    """`natsery._wakeup.Wakeup` as a future-like object, which calls its task back when it is told to.

    asyncio's futures have the event loop call back in its next turn, which is a system call and a walk through the loop later.
    """

    __slots__ = ("_asyncio_future_blocking", "_callback", "_context", "_error", "_handover", "_is_set", "_loop")

    def __init__(self, handover: AsyncioHandover, loop: AbstractEventLoop) -> None:
        self._asyncio_future_blocking = False
        self._handover = handover
        self._loop = loop
        self._callback: Callable[[StepwiseWakeup], object] | None = None
        self._context: Context | None = None
        self._error: BaseException | None = None
        self._is_set = False

    async def wait(self) -> None:
        """See `natsery._wakeup.Wakeup`."""
        while not self._is_set:
            await self
        self._is_set = False

    def set(self) -> None:
        """See `natsery._wakeup.Wakeup`."""
        if self._is_set:
            return
        self._is_set = True
        if self._callback is not None:
            self._handover.put(self)

    def step(self) -> None:
        """Call the waiting task back, unless that has been done."""
        callback, self._callback = self._callback, None
        if callback is not None and self._context is not None:
            self._context.run(callback, self)

    # What a task asks of the future that it waits for

    def __await__(self) -> Generator[StepwiseWakeup, None, None]:
        """Wait for the next step."""
        self._asyncio_future_blocking = True
        yield self

    def get_loop(self) -> AbstractEventLoop:
        """Return the event loop."""
        return self._loop

    def add_done_callback(self, callback: Callable[[StepwiseWakeup], object], *, context: Context) -> None:
        """Keep the callback of the task."""
        self._callback, self._context = callback, context

    def done(self) -> bool:
        """Return whether no task waits for it."""
        return self._callback is None

    def result(self) -> None:
        """Raise the cancellation, if there is one."""
        error, self._error = self._error, None
        if error is not None:
            raise error

    def cancel(self, msg: object = None) -> bool:
        """Cancel the waiting, which has not ended: a task asks this of what it waits for alone."""
        self._error = asyncio.CancelledError() if msg is None else asyncio.CancelledError(msg)
        self._loop.call_soon(self.step)
        return True
