"""Streams of what a connection delivers: messages, and events."""

from __future__ import annotations

from collections import deque
from typing import final

from ._errors import ConnectionClosedError, NatseryError, SlowConsumerError
from ._events import ConnectionEvent, EventKind
from ._message import Message
from ._wakeup import Wakeup, new_wakeup

MAX_EVENTS = 1024
"""Events kept for a slow loop; what comes beyond is dropped and counted, but for the last one."""


@final
class Messages:
    """The messages of one subscription, taken with ``async for`` or ``await messages.receive()``; by one task at a time.

    Attributes:
        dropped: messages that came while ``max_pending`` others were waiting.
    """

    subject: str
    dropped: int

    def __init__(self, subject: str, max_pending: int) -> None:
        self.subject = subject
        self.dropped = 0
        self._max_pending = max_pending
        self._pending: deque[Message] = deque()
        self._failure: NatseryError | None = None
        self._closed = False
        self._wakeup: Wakeup = new_wakeup()

    def __aiter__(self) -> Messages:
        return self

    async def __anext__(self) -> Message:
        return await self.receive()

    async def receive(self) -> Message:
        """The next message.

        Raises:
            SubscriptionDeniedError: the server has taken the subscription away.
            ConnectionClosedError: the connection is closed and all that came before has been taken.
            SlowConsumerError: messages were dropped here; raised once for each congestion, after what came before it.

        **Cancellation:** no message is lost. A checkpoint only when it has to wait.
        """
        while not self._pending:
            self._raise_failure()
            await self._wakeup.wait()
        return self._pending.popleft()

    def _has_pending(self) -> bool:
        return bool(self._pending)

    def _raise_failure(self) -> None:
        if self._failure is not None:
            failure = self._failure
            if isinstance(failure, SlowConsumerError):
                self._failure = None
            raise failure

    def _deliver(self, message: Message) -> None:
        if self._closed:
            return
        if len(self._pending) >= self._max_pending:
            self.dropped += 1
            if self._failure is None:
                self._fail(SlowConsumerError(self.subject, self.dropped))
            return
        self._pending.append(message)
        self._wakeup.set()

    def _fail(self, error: NatseryError) -> None:
        self._failure = error
        self._wakeup.set()

    def _on_event(self, event: ConnectionEvent) -> None:
        if event.kind is EventKind.CLOSED:
            self._fail(ConnectionClosedError.because(event.error))

    def _close(self) -> None:
        self._closed = True
        self._pending.clear()


@final
class Events:
    """What happens to a connection, taken with ``async for``; by one task at a time. Ends after ``closed``.

    Attributes:
        dropped: events that came while `MAX_EVENTS` others were waiting.
    """

    dropped: int

    def __init__(self) -> None:
        self.dropped = 0
        self._pending: deque[ConnectionEvent] = deque()
        self._has_ended = False
        self._wakeup: Wakeup = new_wakeup()

    def __aiter__(self) -> Events:
        return self

    async def __anext__(self) -> ConnectionEvent:
        """The next event. **Cancellation:** none is lost. A checkpoint only when it has to wait."""
        while not self._pending:
            if self._has_ended:
                raise StopAsyncIteration
            await self._wakeup.wait()
        event = self._pending.popleft()
        self._has_ended = event.kind is EventKind.CLOSED
        return event

    def _put(self, event: ConnectionEvent) -> None:
        if len(self._pending) >= MAX_EVENTS and event.kind is not EventKind.CLOSED:
            self.dropped += 1
            return
        self._pending.append(event)
        self._wakeup.set()
