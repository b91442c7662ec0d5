"""Streams of what a connection delivers: messages, and events."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, TypeVar, final

import anyio
from anyio.abc import ObjectReceiveStream
from anyio.lowlevel import checkpoint

from ._errors import ConnectionClosedError, NatseryError, SlowConsumerError, another
from ._events import ConnectionEvent, EventKind
from ._message import Message
from ._turns import Turns
from ._wakeup import Wakeup, new_wakeup

if TYPE_CHECKING:
    from . import abc
    from ._fast_path import FastPath

MAX_EVENTS = 1024
"""Events kept for a slow receiver; what comes beyond is dropped and counted, but for the last one."""

ItemT = TypeVar("ItemT")


class _Stream(ObjectReceiveStream[ItemT]):
    """Items put in by synchronous code, for one receiving task."""

    def __init__(self) -> None:
        self._pending: deque[ItemT] = deque()
        self._is_closed = False
        self._is_waited_for = False
        self._turns = Turns()
        self._wakeup: Wakeup = new_wakeup()

    async def receive(self) -> ItemT:
        """Return the next item; what it raises besides is said by the stream's class.

        Raises:
            anyio.ClosedResourceError: the stream is closed.
            anyio.BusyResourceError: another task waits for an item of this stream.

        **Cancellation:** no item is lost. Each call is a cancellation point; other tasks get their turn when it has to wait,
        and at the latest after 64 items.
        """
        # `Turns.checkpoint`, written out: a call less for each item.
        if self._turns.is_due():
            await checkpoint()
            self._go_on()
        else:
            await self._turns.checkpoint_if_cancelled()
        while not self._pending:
            self._raise_if_ended()
            await self._wait()
        return self._pending.popleft()

    async def _wait(self) -> None:
        """Wait for an item or for the end."""
        if self._is_waited_for:
            raise anyio.BusyResourceError("receiving from")
        self._is_waited_for = True
        try:
            await self._wakeup.wait()
        finally:
            self._is_waited_for = False
        self._turns.restart()
        self._go_on()

    def _go_on(self) -> None:
        """Called when other tasks have had their turn, before the next item is taken."""

    def _raise_if_ended(self) -> None:
        if self._is_closed:
            raise anyio.ClosedResourceError

    def _add(self, item: ItemT) -> None:
        self._pending.append(item)
        self._wakeup.set()

    async def aclose(self) -> None:
        """Close the stream: what is waiting is dropped, and nothing more comes. Safe twice. A checkpoint."""
        self._close()
        await checkpoint()

    def _close(self) -> None:
        self._is_closed = True
        self._pending.clear()
        self._wakeup.set()


@final
class Messages(_Stream[Message]):
    """The messages of one subscription, as an `anyio.abc.ObjectReceiveStream`; for one task at a time.

    Made by `Connection.subscribe <natsery.abc.Connection.subscribe>`, and taken with ``async for`` or ``receive``.

    Attributes:
        subject: the subscription's subject.
        dropped: messages that came while ``max_pending`` others were waiting, or that the connection had no room for.

    ``receive`` raises:
        SubscriptionDeniedError: the server has taken the subscription away.
        ConnectionClosedError: the connection is closed and all that came before has been taken.
        SlowConsumerError: messages were dropped here; raised once for each congestion, after what came before it.
    """

    subject: str
    dropped: int

    def __init__(self, subject: str, max_pending: int, fast_path: FastPath) -> None:
        super().__init__()
        self._fast_path = fast_path
        self.subject = subject
        self.dropped = 0
        self._lost = 0  # of them, by the connection
        self._max_pending = max_pending
        self._failure: NatseryError | None = None

    def _go_on(self) -> None:
        # The answers that a service has made meanwhile do not wait for what is computed on the next message.
        held = self._fast_path._held
        if held.since:
            self._fast_path._push_answers()
            held.since = 0

    def _has_pending(self) -> bool:
        return bool(self._pending)

    def _raise_if_ended(self) -> None:
        super()._raise_if_ended()
        self._raise_failure()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            failure = self._failure
            if isinstance(failure, SlowConsumerError):
                self._failure = None
            raise another(failure)

    def _deliver(self, message: Message) -> None:
        if self._is_closed:
            return
        if len(self._pending) >= self._max_pending:
            self._drop()
            return
        self._add(message)

    def _drop(self, count: int = 1) -> None:
        """Count messages that are not kept."""
        self.dropped += count
        if self._failure is None:
            self._fail(SlowConsumerError(self.subject, self.dropped))

    def _fail(self, error: NatseryError) -> None:
        self._failure = error
        self._wakeup.set()

    def _on_error(self, error: NatseryError) -> None:
        """Take an error of the subscription."""
        if isinstance(error, SlowConsumerError):
            self._drop(error.dropped - self._lost)
            self._lost = error.dropped
        else:
            self._fail(error)

    def _on_event(self, event: ConnectionEvent) -> None:
        if event.kind is EventKind.CLOSED:
            self._fail(ConnectionClosedError.because(event.error))


@final
class Events(_Stream[ConnectionEvent]):
    """What happens to a connection, as an `anyio.abc.ObjectReceiveStream`; for one task at a time. Ends after ``closed``.

    Made by `Connection.events <natsery.abc.Connection.events>`, and taken with ``async for`` or ``receive``.

    Attributes:
        dropped: events that came while 1,024 others were waiting.

    ``receive`` raises `anyio.EndOfStream` after ``closed``.
    """

    dropped: int

    def __init__(self) -> None:
        super().__init__()
        self.dropped = 0
        self._has_ended = False

    def _raise_if_ended(self) -> None:
        super()._raise_if_ended()
        if self._has_ended:
            raise anyio.EndOfStream

    def _put(self, event: ConnectionEvent) -> None:
        if self._is_closed:
            return
        if len(self._pending) >= MAX_EVENTS and event.kind is not EventKind.CLOSED:
            self.dropped += 1
            return
        self._has_ended = event.kind is EventKind.CLOSED
        self._add(event)


async def unsubscribe_while_unwinding(subscription: abc.Subscription) -> None:
    """Unsubscribe although the task may be cancelled, within a bound."""
    # Protects the UNSUB: without it the server would go on sending messages that no task takes.
    with anyio.move_on_after(1, shield=True):
        await subscription.unsubscribe()
