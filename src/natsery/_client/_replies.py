"""Several replies to one request: as a stream while they come, and as a list."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar, final, overload

import anyio
from anyio.abc import ObjectReceiveStream
from anyio.lowlevel import checkpoint

from .. import abc
from .._errors import MalformedReplyError, PublishDeniedError, shorten
from .._events import ConnectionEvent
from .._message import HeadersInput, Message
from .._streams import Messages, unsubscribe_while_unwinding
from ._collection import Collection, EndReason

T = TypeVar("T")

MAX_PENDING = 65_536
"""Replies kept for a slow loop; what comes beyond is dropped, with `SlowConsumerError`."""

MAX_MALFORMED = 1_024
"""Unreadable replies of which a stream keeps the errors; those beyond are skipped without a trace."""

_NO_RESPONDERS = 503


@final
@dataclass(frozen=True)
class Replies(Sequence[T]):
    """The replies of a collection that has ended, in the order of arrival: an immutable sequence; a slice of it is one too.

    Attributes:
        items: the replies.
        ended: why the collection ended.
        malformed: an error for each reply that could not be read, up to 1,024 of them.
    """

    items: tuple[T, ...]
    ended: EndReason
    malformed: tuple[MalformedReplyError, ...] = ()

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> Replies[T]: ...
    def __getitem__(self, index: int | slice) -> T | Replies[T]:
        return replace(self, items=self.items[index]) if isinstance(index, slice) else self.items[index]

    def __len__(self) -> int:
        return len(self.items)

    def sorted(self, *, key: Callable[[T], Any], reverse: bool = False) -> Replies[T]:
        """Return the same with the replies in the order of a key, as the built-in ``sorted`` has it."""
        return replace(self, items=tuple(sorted(self.items, key=key, reverse=reverse)))


@final
class ReplyStream(ObjectReceiveStream[T]):
    """Replies as they come, as an `anyio.abc.ObjectReceiveStream`; for one task at a time.

    Made by `ServiceClient.discover` and `ServiceClient.request_many`, and taken with ``async for`` or ``receive``.

    Attributes:
        ended: why the collection ended, ``None`` as long as it has not.
        malformed: an error for each reply so far that could not be read, up to 1,024 of them.
    """

    ended: EndReason | None
    malformed: list[MalformedReplyError]

    def __init__(
        self,
        subject: str,
        collection: Collection,
        read: Callable[[Message], T],
        is_sentinel: Callable[[Message], bool] | None,
    ) -> None:
        self.ended = None
        self.malformed = []
        self._has_replies = False
        self._subject = subject
        self._collection = collection
        self._read = read
        self._is_sentinel = is_sentinel
        self._messages = Messages(subject, MAX_PENDING)

    async def receive(self) -> T:
        """Return the next reply that can be read.

        Raises:
            anyio.EndOfStream: the collection has ended; ``ended`` says why.
            SubscriptionDeniedError: this user may not subscribe to its own inbox.
            PublishDeniedError: this user may not publish to the subject.
            SlowConsumerError: replies were dropped because this task was too slow.
            ConnectionClosedError: the connection closed.
            anyio.ClosedResourceError: the stream is closed.
            anyio.BusyResourceError: another task waits for a reply of this stream.

        **Cancellation:** no reply is lost. Each call is a cancellation point; other tasks get their turn when it has to wait,
        and at the latest after 64 replies.
        """
        while self.ended is None:
            message = await self._next_message()
            if message is None:
                self.ended = self._collection.ended
            elif message.status == _NO_RESPONDERS:
                # The server's own comes before any reply; later, a peer has written it.
                if not self._has_replies:
                    self.ended = EndReason.NO_RESPONDERS
            elif self._is_sentinel is not None and self._is_sentinel(message):
                self.ended = EndReason.SENTINEL
            else:
                self._has_replies = True
                try:
                    return self._read(message)
                except MalformedReplyError as error:
                    if len(self.malformed) < MAX_MALFORMED:
                        self.malformed.append(error)
        await checkpoint()
        raise anyio.EndOfStream

    async def _next_message(self) -> Message | None:
        """Return the next message that came in time, ``None`` when there are no more."""
        collection, messages = self._collection, self._messages
        while True:
            # What came in time is taken although the time is over by now.
            if messages._has_pending():
                return await messages.receive()
            if collection.ended is not None:
                if messages.dropped:
                    messages._raise_failure()
                return None
            with anyio.CancelScope(deadline=collection.deadline):
                return await messages.receive()
            collection.expire(anyio.current_time())

    async def aclose(self) -> None:
        """Close the stream: what is waiting is dropped, and nothing more comes. Safe twice. A checkpoint."""
        await self._messages.aclose()

    def _deliver(self, message: Message) -> None:
        if self._collection.accept(anyio.current_time()):
            self._messages._deliver(message)

    def _on_event(self, event: ConnectionEvent) -> None:
        if isinstance(event.error, PublishDeniedError) and event.error.concerns(self._subject):
            self._messages._fail(event.error)
        self._messages._on_event(event)

    async def _collect(self) -> Replies[T]:
        """Return all replies, to the end."""
        replies = tuple([reply async for reply in self])
        assert self.ended is not None
        return Replies(replies, self.ended, tuple(self.malformed))


@asynccontextmanager
async def open_replies(
    nc: abc.Connection,
    subject: str,
    data: bytes,
    headers: HeadersInput | None,
    *,
    read: Callable[[Message], T],
    wait: float,
    stall: float | None,
    count: int | None,
    sentinel: bytes | Callable[[Message], bool] | None,
) -> AsyncIterator[ReplyStream[T]]:
    """Send a request and collect the replies to it for the length of a block."""
    is_sentinel = _check_sentinel(sentinel)
    collection = Collection(anyio.current_time(), wait=wait, stall=stall, count=count)
    replies = ReplyStream(subject, collection, read, is_sentinel)
    inbox = nc.new_inbox()
    stop_listening = nc.add_listener(replies._on_event)
    try:
        # No fence before the request: the server reads both in this order.
        subscription = await nc.add_subscription(inbox, replies._deliver, on_error=replies._messages._fail)
        try:
            await nc.publish(subject, data, reply=inbox, headers=headers)
            yield replies
        finally:
            replies._messages._close()
            await unsubscribe_while_unwinding(subscription)  # noqa: ASYNC102  # shielded and bounded in there
    finally:
        stop_listening()


def _check_sentinel(sentinel: object) -> Callable[[Message], bool] | None:
    if sentinel is None:
        return None
    if isinstance(sentinel, bytes):
        return lambda message: message.data == sentinel
    if callable(sentinel):
        return lambda message: bool(sentinel(message))
    raise TypeError(
        "sentinel: must be the payload of the last message, a function that recognises it, or None; "
        f"got {shorten(sentinel)}"
    )
