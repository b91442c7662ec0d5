"""Several replies to one request: as a stream while they come, and as a list."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Hashable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar, final, overload

import anyio
from anyio.abc import ObjectReceiveStream
from anyio.lowlevel import checkpoint

from .. import abc
from .._errors import MalformedReplyError, NoRespondersError, PublishDeniedError, SlowConsumerError, shorten
from .._events import ConnectionEvent
from .._fast_path import FastPath, fast_path
from .._headers import HeadersInput
from .._message import Message
from .._streams import Messages, unsubscribe_while_unwinding
from ._collection import Collection, EndReason

T = TypeVar("T")
StreamT = TypeVar("StreamT", bound="ReplyStream[Any]")

MAX_PENDING = 65_536
"""Replies kept for a slow loop; what comes beyond is dropped, with `SlowConsumerError`."""

MAX_PENDING_BYTES = 64 * 1024 * 1024
"""The same in bytes of payload."""

MAX_REPLIES = 65_536
"""Replies that a list holds; what comes beyond is dropped and counted."""

MAX_BYTES = 64 * 1024 * 1024
"""The same in bytes of payload."""

MAX_MALFORMED = 1_024
"""Unreadable replies, and repeated ones, that a stream keeps; those beyond are skipped without a trace."""

_NO_RESPONDERS = 503


@final
@dataclass(frozen=True)
class Replies(Sequence[T]):
    """The replies of a collection that has ended, in the order of arrival: an immutable sequence; a slice of it is one too.

    Attributes:
        items: the replies.
        ended: why the collection ended.
        malformed: an error for each reply that could not be read, up to 1,024 of them.
        repeated: further replies of instances that had answered already, up to 1,024 of them, as they come when a server
            imports a service over two ways.
        dropped: replies that were dropped, because they came faster than they could be read, or were more than 65,536 or
            64 MiB.
    """

    items: tuple[T, ...]
    ended: EndReason
    malformed: tuple[MalformedReplyError, ...] = ()
    repeated: tuple[T, ...] = ()
    dropped: int = 0

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


class ReplyStream(ObjectReceiveStream[T]):
    """Replies as they come, as an `anyio.abc.ObjectReceiveStream`; for one task at a time.

    Made by `ServiceClient.discover` and `ServiceClient.request_many`, and taken with ``async for`` or ``receive``.

    Attributes:
        ended: why the collection ended, ``None`` as long as it has not.
        malformed: an error for each reply so far that could not be read, up to 1,024 of them.
        repeated: further replies so far of instances that had answered already, up to 1,024 of them. Such replies are not
            returned; `ServiceClient.request_many` knows no instances, and returns every reply.
    """

    ended: EndReason | None
    malformed: list[MalformedReplyError]
    repeated: list[T]

    def __init__(
        self,
        fast_path: FastPath,
        subject: str,
        collection: Collection,
        read: Callable[[Message], T],
        is_sentinel: Callable[[Message], bool] | None,
        identify: Callable[[T], Hashable] | None,
    ) -> None:
        self.ended = None
        self.malformed = []
        self.repeated = []
        self._has_replies = False
        self._identify = identify
        self._seen: set[Hashable] = set()
        self._pending_bytes = self._last_bytes = self._repeated_bytes = 0
        self._max_pending_bytes = MAX_PENDING_BYTES
        self._subject = subject
        self._collection = collection
        self._read = read
        self._is_sentinel = is_sentinel
        self._messages = Messages(subject, MAX_PENDING, fast_path)

    @property
    def dropped(self) -> int:
        """Replies so far that were dropped because this task was too slow."""
        return self._messages.dropped

    async def receive(self) -> T:
        """Return the next reply that can be read, and is not the second one of an instance.

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
                    reply = self._read(message)
                except MalformedReplyError as error:
                    self._note_malformed(error)
                    continue
                if not self._is_repeated(reply):
                    return reply
                self._note_repeated(reply)
        await checkpoint()
        raise anyio.EndOfStream

    def _no_responders(self) -> NoRespondersError:
        """Return why nothing has come until the end."""
        is_nobody_there = self.ended is EndReason.NO_RESPONDERS
        return NoRespondersError(self._subject, None if is_nobody_there else self._collection.wait)

    def _note_malformed(self, error: MalformedReplyError) -> None:
        if len(self.malformed) < MAX_MALFORMED:
            # Both hold what was read, which may be large.
            error.__traceback__ = error.__context__ = None
            self.malformed.append(error)

    def _note_repeated(self, reply: T) -> None:
        self._repeated_bytes += self._last_bytes
        if len(self.repeated) < MAX_MALFORMED and self._repeated_bytes <= MAX_BYTES:
            self.repeated.append(reply)

    def _is_repeated(self, reply: T) -> bool:
        if self._identify is None:
            return False
        instance = self._identify(reply)
        if instance in self._seen:
            return True
        if len(self._seen) < MAX_REPLIES:
            self._seen.add(instance)
        return False

    async def _next_message(self) -> Message | None:
        """Return the next message that came in time, ``None`` when there are no more."""
        collection, messages = self._collection, self._messages
        while True:
            # What came in time is taken although the time is over by now.
            if messages._has_pending():
                return await self._take()
            if collection.ended is not None:
                if messages.dropped:
                    messages._raise_failure()
                return None
            with anyio.CancelScope(deadline=collection.deadline):
                return await self._take()
            collection.expire(anyio.current_time())

    async def _take(self) -> Message:
        message = await self._messages.receive()
        self._last_bytes = len(message.data)
        self._pending_bytes -= self._last_bytes
        return message

    async def aclose(self) -> None:
        """Close the stream: what is waiting is dropped, and nothing more comes. Safe twice. A checkpoint."""
        await self._messages.aclose()

    def _deliver(self, message: Message) -> None:
        if not self._collection.accept(anyio.current_time()):
            return
        if self._pending_bytes + len(message.data) > self._max_pending_bytes and self._messages._has_pending():
            self._messages._drop()
            return
        dropped = self._messages.dropped
        self._messages._deliver(message)
        if self._messages.dropped == dropped:
            self._pending_bytes += len(message.data)

    def _on_event(self, event: ConnectionEvent) -> None:
        if isinstance(event.error, PublishDeniedError) and event.error.concerns(self._subject):
            self._messages._fail(event.error)
        self._messages._on_event(event)

    async def _collect(self) -> Replies[T]:
        """Return all replies, to the end: a peer that sends too many hides neither those before nor those after."""
        replies: list[T] = []
        left, more = MAX_BYTES, 0
        while True:
            try:
                reply = await self.receive()
            except anyio.EndOfStream:
                break
            except SlowConsumerError:
                continue  # they are counted
            left -= self._last_bytes
            if len(replies) < MAX_REPLIES and left >= 0:
                replies.append(reply)
            else:
                more += 1
        assert self.ended is not None
        return Replies(tuple(replies), self.ended, tuple(self.malformed), tuple(self.repeated), self.dropped + more)


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
    identify: Callable[[T], Hashable] | None = None,
) -> AsyncIterator[ReplyStream[T]]:
    """Send a request and collect the replies to it for the length of a block."""
    is_sentinel = _check_sentinel(sentinel)
    collection = Collection(anyio.current_time(), wait=wait, stall=stall, count=count)
    stream = ReplyStream(fast_path(nc), subject, collection, read, is_sentinel, identify)
    async with receive_replies(nc, subject, data, headers, stream) as replies:
        yield replies


@asynccontextmanager
async def receive_replies(
    nc: abc.Connection, subject: str, data: bytes, headers: HeadersInput | None, replies: StreamT
) -> AsyncIterator[StreamT]:
    """Send a request and have the replies to it received by a stream for the length of a block."""
    inbox = nc.new_inbox()
    stop_listening = nc.add_listener(replies._on_event)
    try:
        # No fence before the request: the server reads both in this order.
        subscription = await nc.add_subscription(inbox, replies._deliver, on_error=replies._messages._on_error)
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
