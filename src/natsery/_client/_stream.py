"""The reader of streamed replies: acknowledges them as they are read, and misses none unnoticed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final, TypeVar, final

import anyio

from .. import abc
from .._adr32 import DEFAULT_PREFIX
from .._checks import WrongType, check_argument
from .._errors import ConnectionLostError, MalformedReplyError, NatseryError, NoRespondersError, PublishDeniedError
from .._events import ConnectionEvent, EventKind
from .._fast_path import fast_path
from .._message import Headers, HeadersInput, Message
from .._service_error import ServiceError
from .._stream_headers import MAX_WINDOW, WINDOW_HEADER, is_opening, number_in, window_headers
from .._subjects import forbidden_reply_prefixes, is_answerable
from ._collection import Collection, EndReason
from ._replies import ReplyStream, receive_replies

T = TypeVar("T")

LEAVING_SECONDS: Final = 1.0
"""How long it may take to tell a service that no more replies are wanted."""

_FORBIDDEN: Final = forbidden_reply_prefixes(DEFAULT_PREFIX)


@asynccontextmanager
async def open_stream(
    nc: abc.Connection,
    subject: str,
    data: bytes,
    headers: HeadersInput | None,
    *,
    decode: Callable[[Message], T],
    window: int,
    wait: float,
    stall: float | None,
    count: int | None,
) -> AsyncIterator[ReplyStream[T]]:
    """Send a request and read the streamed replies to it for the length of a block."""
    check_argument("window", window, _window_rule)
    with_window = [*Headers(headers).multi_items(), (WINDOW_HEADER, str(window))]
    collection = Collection(anyio.current_time(), wait=wait, stall=stall, count=count)
    reader = _StreamReader(nc, subject, collection, decode, window)
    async with receive_replies(nc, subject, data, with_window, reader) as replies:
        try:
            yield replies
        finally:
            await replies._leave()  # noqa: ASYNC102  # shielded and bounded in there


@final
class _StreamReader(ReplyStream[T]):
    """Replies to one request, in order and whole."""

    def __init__(
        self, nc: abc.Connection, subject: str, collection: Collection, decode: Callable[[Message], T], window: int
    ) -> None:
        super().__init__(subject, collection, self._read_numbered, _is_end, None)
        self._nc = nc
        self._fast_path = fast_path(nc)
        self._decode = decode
        self._window = window
        self._acknowledgements = ""
        """What the subjects of acknowledgements begin with; empty as long as the service has not said that it takes them."""
        self._number = 0
        self._acknowledged = 0
        self._is_over = False

    async def receive(self) -> T:
        """See `ReplyStream` and `ServiceClient.stream`."""
        if self._number - self._acknowledged >= max(1, self._window // 2):
            # Before a reply is taken, which would be lost if this were cancelled.
            await self._nc.publish(self._subject_of(self._number))
            self._acknowledged = self._number
        try:
            return await super().receive()
        except anyio.EndOfStream:
            if self.ended is EndReason.NO_RESPONDERS:
                raise NoRespondersError(self._subject) from None
            raise

    def _read_numbered(self, message: Message) -> T:
        if self._acknowledgements and message.reply.startswith(self._acknowledgements):
            self._count(number_in(message.reply) or 0)
        error = ServiceError.from_message(message)
        if error is not None:
            self._is_over = True
            raise error
        return self._decode(message)

    def _count(self, number: int) -> None:
        expected = self._number + 1
        if number != expected:
            which = f"reply {expected}" if number == expected + 1 else f"replies {expected} to {number - 1}"
            raise ConnectionLostError(f"{which} of the stream on {self._subject!r} did not arrive")
        self._number = number
        if number - self._acknowledged >= max(1, self._window // 2):
            self._acknowledge()

    def _acknowledge(self) -> None:
        """Acknowledge what has been read, if that needs no waiting."""
        if self._fast_path._answer_nowait(self._subject_of(self._number), b""):
            self._acknowledged = self._number

    def _subject_of(self, number: int) -> str:
        return f"{self._acknowledgements}{number}"

    def _note_malformed(self, error: MalformedReplyError) -> None:
        raise error  # a stream that leaves something out is not whole

    def _deliver(self, message: Message) -> None:
        if not is_opening(message):
            super()._deliver(message)
            return
        reply = message.reply
        if not self._acknowledgements and reply.endswith(".0") and is_answerable(reply, _FORBIDDEN, len(reply)):
            self._acknowledgements = reply[:-1]
            # The service keeps to the window, so what is received is bounded by it.
            self._max_pending_bytes = self._window * self._nc.max_payload
        if self._acknowledgements:
            self._acknowledge()

    def _on_event(self, event: ConnectionEvent) -> None:
        error = event.error
        if event.kind is EventKind.DISCONNECTED:
            self._messages._fail(ConnectionLostError("the connection ended before the stream did"))
        elif isinstance(error, PublishDeniedError) and self._is_acknowledgement(error.subject):
            self._messages._fail(error)
        super()._on_event(event)

    def _is_acknowledgement(self, subject: str) -> bool:
        # nats-py hands the server's text on in lower case.
        return bool(self._acknowledgements) and subject.lower().startswith(self._acknowledgements.lower())

    async def _leave(self) -> None:
        """Tell the service that no more replies are wanted, unless it has ended the stream."""
        if not self._acknowledgements or self._is_over or self.ended is EndReason.SENTINEL:
            return
        # Protects a generator from going on until it notices that nobody takes its replies.
        with anyio.move_on_after(LEAVING_SECONDS, shield=True), suppress(NatseryError):
            await self._fast_path._send(self._subject_of(self._number), headers=window_headers(0))


def _is_end(message: Message) -> bool:
    return not message.data and ServiceError.from_message(message) is None


def _window_rule(value: object) -> str | None:
    """How many replies may be on their way."""
    wrong = f"must be an int from 1 to {MAX_WINDOW:,}"
    if not isinstance(value, int) or isinstance(value, bool):
        return WrongType(wrong)
    return None if 1 <= value <= MAX_WINDOW else wrong
