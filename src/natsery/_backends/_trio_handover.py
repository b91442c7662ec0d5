"""For trio: a task that waits for messages receives them itself, in the place of the task that receives for all."""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any, Final, cast, final

import trio

from .._wakeup import Wakeup
from ._trio_stream import TrioStream


@final
class TrioHandover:
    """See `natsery._backends._handover.Handover`.

    Between a chunk and the task that it wakes lies a turn of the event loop. When that task has nothing left to do, it is lent
    the stream, so that it is the one that the next chunk wakes. It gives it back as soon as it waits for anything else.
    """

    __slots__ = ("_borrower", "_is_delivering")

    def __init__(self) -> None:
        self._is_delivering = False
        self._borrower: ReceivingWakeup | None = None

    def new_wakeup(self) -> ReceivingWakeup:
        """See `Handover`."""
        return ReceivingWakeup(self)

    def run(self, work: Coroutine[Any, Any, None], wakeup: Wakeup) -> Awaitable[None]:
        """See `Handover`."""
        assert isinstance(wakeup, ReceivingWakeup)
        return _Watched(work, wakeup.give_back)

    def begin(self) -> None:
        """See `Handover`."""
        self._is_delivering = True
        self._borrower = None

    def end(self, stream: object) -> None:
        """See `Handover`."""
        self._is_delivering = False
        borrower, self._borrower = self._borrower, None
        if borrower is not None and isinstance(stream, TrioStream) and stream.borrower is None:
            borrower.borrow(stream)

    def note(self, wakeup: ReceivingWakeup) -> None:
        """Note that a task is being woken: the first one that a chunk wakes may borrow the stream."""
        if self._is_delivering and self._borrower is None:
            self._borrower = wakeup


@final
class ReceivingWakeup:
    """`natsery._wakeup.Wakeup` for a task that may receive from the stream that wakes it."""

    __slots__ = ("_handover", "_is_receiving", "_is_set", "_stream", "_task")

    def __init__(self, handover: TrioHandover) -> None:
        self._handover = handover
        self._task: trio.lowlevel.Task | None = None
        self._stream: TrioStream | None = None
        self._is_receiving = False
        self._is_set = False

    async def wait(self) -> None:
        """See `natsery._wakeup.Wakeup`."""
        while self._stream is not None and not self._is_set:
            self._is_receiving = True
            can_go_on = False
            try:
                can_go_on = await self._stream.receive_for_owner()
            finally:
                self._is_receiving = False
                if not can_go_on:
                    self.give_back()
        while not self._is_set:
            self._task = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._abort)
        self._is_set = False

    def _abort(self, _raise_cancel: object) -> trio.lowlevel.Abort:
        self._task = None
        return trio.lowlevel.Abort.SUCCEEDED

    def set(self) -> None:
        """See `natsery._wakeup.Wakeup`."""
        if self._is_set:
            return
        self._is_set = True
        if self._task is not None:
            task, self._task = self._task, None
            trio.lowlevel.reschedule(task)
            self._handover.note(self)
        elif self._is_receiving and self._stream is not None and not self._stream.is_taking:
            self._stream.interrupt_receiving()

    def borrow(self, stream: TrioStream) -> None:
        """Receive from a stream while there is nothing else to do."""
        self._stream = stream
        stream.borrower = self

    def give_back(self) -> None:
        """Have the task that owns the stream receive from it, unless this one is waiting for that itself."""
        if self._stream is not None and not self._is_receiving:
            stream, self._stream = self._stream, None
            stream.take_back()


@final
class _Watched:
    """An awaitable that runs a coroutine, and calls a function whenever it waits, and when it ends."""

    __slots__ = ("_coroutine", "_on_wait")

    def __init__(self, coroutine: Any, on_wait: Callable[[], None]) -> None:
        self._coroutine = coroutine
        self._on_wait = on_wait

    def __await__(self) -> Generator[Any, Any, None]:
        return cast("Generator[Any, Any, None]", self)

    def __next__(self) -> Any:
        return self.send(None)

    def send(self, value: Any) -> Any:
        try:
            return self._coroutine.send(value)
        finally:
            self._on_wait()

    def throw(self, *error: Any) -> Any:
        try:
            return self._coroutine.throw(*error)
        finally:
            self._on_wait()

    # trio shows where a task waits by way of these.

    @property
    def cr_frame(self) -> Any:
        return self._coroutine.cr_frame

    @property
    def cr_await(self) -> Any:
        awaited = self._coroutine.cr_await
        # A compiled coroutine waits for an iterator over another one, which does not show it.
        return gc.get_referents(awaited)[0] if isinstance(awaited, _CoroutineIterator) else awaited


async def _nothing() -> None:
    """Wait for nothing."""


_coroutine = _nothing()
_CoroutineIterator: Final = type(_coroutine.__await__())
_coroutine.close()
