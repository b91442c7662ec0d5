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
        self._every = max(1, window // 2)
        """How many replies are acknowledged at once."""
        self._numbered = ""
        """What the reply subjects of numbered replies begin with."""
        self._last = ""
        """The subject that acknowledges all that has been read; empty as long as the service takes no acknowledgements."""
        self._before_last = ""
        """The one before, which has not been used: between accounts, a server takes one answer to each reply subject."""
        self._unacknowledged = 0
        self._number = 0
        self._is_over = False

    async def receive(self) -> T:
        """See `ReplyStream` and `ServiceClient.stream`."""
        if self._unacknowledged >= self._every:
            # Before a reply is taken, which would be lost if this were cancelled.
            await self._nc.publish(self._last)
            self._unacknowledged = 0
        try:
            return await super().receive()
        except anyio.EndOfStream:
            if self.ended is EndReason.NO_RESPONDERS:
                raise NoRespondersError(self._subject) from None
            raise

    def _read_numbered(self, message: Message) -> T:
        error = ServiceError.from_message(message)
        if error is not None:
            self._is_over = True
            raise error
        if self._last and _may_be_acknowledged(message.reply):
            self._note_read(message.reply)
        return self._decode(message)

    def _note_read(self, reply: str) -> None:
        if self._numbered and reply.startswith(self._numbered):
            self._check_number(number_in(reply) or 0)
        self._before_last, self._last = self._last, reply
        self._unacknowledged += 1
        if self._unacknowledged >= self._every:
            self._acknowledge()

    def _check_number(self, number: int) -> None:
        expected = self._number + 1
        if number != expected:
            which = f"reply {expected}" if number == expected + 1 else f"replies {expected} to {number - 1}"
            raise ConnectionLostError(f"{which} of the stream on {self._subject!r} did not arrive")
        self._number = number

    def _acknowledge(self) -> None:
        """Acknowledge what has been read, if that needs no waiting."""
        if self._fast_path._answer_nowait(self._last, b""):
            self._unacknowledged = 0

    def _note_malformed(self, error: MalformedReplyError) -> None:
        raise error  # a stream that leaves something out is not whole

    def _deliver(self, message: Message) -> None:
        if not is_opening(message):
            super()._deliver(message)
        elif _may_be_acknowledged(message.reply):
            if not self._last:
                # The service keeps to the window, so what is received is bounded by it.
                self._max_pending_bytes = self._window * self._nc.max_payload
                self._last = message.reply
                # Servers write other reply subjects into what crosses to another account.
                self._numbered = message.reply[:-1] if message.reply.endswith(".0") else ""
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
        return bool(self._last) and subject.lower().rpartition(".")[0] == self._last.lower().rpartition(".")[0]

    async def _leave(self) -> None:
        """Tell the service that no more replies are wanted, unless it has ended the stream."""
        if not self._last or self._is_over or self.ended is EndReason.SENTINEL:
            return
        # Protects a generator from going on until it notices that nobody takes its replies.
        with anyio.move_on_after(LEAVING_SECONDS, shield=True), suppress(NatseryError):
            await self._fast_path._send(self._before_last or self._last, headers=window_headers(0))


def _may_be_acknowledged(reply: str) -> bool:
    """Whether a reply subject that a service chose may be published to."""
    return bool(reply) and is_answerable(reply, _FORBIDDEN, len(reply))


def _is_end(message: Message) -> bool:
    return not message.data and ServiceError.from_message(message) is None


def _window_rule(value: object) -> str | None:
    """How many replies may be on their way."""
    wrong = f"must be an int from 1 to {MAX_WINDOW:,}"
    if not isinstance(value, int) or isinstance(value, bool):
        return WrongType(wrong)
    return None if 1 <= value <= MAX_WINDOW else wrong
