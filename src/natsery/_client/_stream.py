"""The reader of streamed replies: acknowledges them as they are read, and misses none unnoticed."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager, suppress
from typing import Final, TypedDict, TypeVar, final

import anyio
from anyio.lowlevel import checkpoint

from .. import abc
from .._adr32 import DEFAULT_PREFIX
from .._checks import WrongType, check_argument
from .._errors import (
    ConnectionLostError,
    MalformedReplyError,
    NatseryError,
    NoRespondersError,
    PublishDeniedError,
    another,
)
from .._events import ConnectionEvent, EventKind
from .._fast_path import fast_path
from .._headers import Headers, HeadersInput
from .._message import Message
from .._service_error import ServiceError
from .._stream_headers import HEARTBEAT_SECONDS, MAX_WINDOW, WINDOW_HEADER, is_opening, number_in, window_headers
from .._subjects import forbidden_reply_prefixes, is_answerable
from ._collection import Collection, EndReason
from ._replies import MAX_PENDING, ReplyStream, receive_replies

T = TypeVar("T")

SILENCE_SECONDS: Final = 3 * HEARTBEAT_SECONDS
"""How long nothing may come of a service that sends heartbeats."""

LEAVING_SECONDS: Final = 1.0
"""How long it may take to tell a service that no more replies are wanted."""

_RECENT_ANSWERS: Final = 8
"""Subjects that were answered last and are remembered, in case the server denies publishing to them."""

_ACROSS_ACCOUNTS: Final = "_R_."
"""What the subjects begin with that a server puts in place of those of a service in another account."""

_FORBIDDEN: Final = forbidden_reply_prefixes(DEFAULT_PREFIX)


class StreamOptions(TypedDict, total=False):
    """What `ServiceClient.stream` takes by name."""

    headers: HeadersInput | None
    window: int
    wait: float
    stall: float | None
    count: int | None


@asynccontextmanager
async def open_stream(
    nc: abc.Connection,
    subject: str,
    data: bytes,
    call: AbstractContextManager[HeadersInput | None],
    *,
    decode: Callable[[Message], T],
    window: int,
    wait: float,
    stall: float | None,
    count: int | None,
    hint: str | None,
) -> AsyncIterator[ReplyStream[T]]:
    """Send a request and read the streamed replies to it for the length of a block.

    ``call`` stands around it and gives its headers. The error for no responders gets ``hint`` as a note.
    """
    check_argument("window", window, _window_rule)
    collection = Collection(anyio.current_time(), wait=wait, stall=stall, count=count)
    reader = _StreamReader(nc, subject, collection, decode, window, hint)
    with call as headers:
        with_window = [*Headers(headers).multi_items(), (WINDOW_HEADER, str(window))]
        try:
            async with receive_replies(nc, subject, data, with_window, reader) as replies:
                try:
                    yield replies
                finally:
                    await replies._leave()  # noqa: ASYNC102  # shielded and bounded in there
        finally:
            await reader._leave_late()  # noqa: ASYNC102  # the same


@final
class _StreamReader(ReplyStream[T]):
    """Replies to one request, in order and whole."""

    def __init__(
        self,
        nc: abc.Connection,
        subject: str,
        collection: Collection,
        decode: Callable[[Message], T],
        window: int,
        hint: str | None,
    ) -> None:
        self._nc = nc
        self._fast_path = fast_path(nc)
        super().__init__(self._fast_path, subject, collection, self._read_numbered, self._is_end, None)
        self._decode = decode
        self._window = window
        self._hint = hint
        self._is_open = False
        """Whether the service has said that it keeps to the window, and takes acknowledgements."""
        self._prefix = ""
        """What its subjects of acknowledgement begin with; unknown for one in another account, where servers replace them."""
        self._received = 0
        self._number = 0
        self._acknowledged = 0
        self._subjects = ("", "")
        """The last two subjects of acknowledgement that came."""
        self._last_read_subject = ""
        self._answered: deque[str] = deque(maxlen=_RECENT_ANSWERS)
        self._failure: NatseryError | None = None
        self._has_left = False
        self._is_unheard = False
        """Whether nothing of the service had come when the reader left."""

    async def receive(self) -> T:
        """See `ReplyStream` and `ServiceClient.stream`."""
        if self._failure is not None:
            await checkpoint()
            raise another(self._failure)
        if self._is_due:
            # Before a reply is taken, which would be lost if this were cancelled.
            await self._nc.publish(self._last_read_subject)
            self._note_answer(self._last_read_subject)
            self._acknowledged = self._number
        try:
            return await super().receive()
        except anyio.EndOfStream:
            if self.ended is EndReason.NO_RESPONDERS:
                failure = NoRespondersError(self._subject)
                if self._hint is not None:
                    failure.add_note(self._hint)
                raise failure from None
            raise
        except (ServiceError, ConnectionLostError) as error:
            self._failure = error
            raise

    async def _take(self) -> Message:
        while self._is_open and not self._messages._has_pending():
            received = self._received
            with anyio.move_on_after(SILENCE_SECONDS):
                return await super()._take()
            if self._received == received:
                raise ConnectionLostError(
                    f"the service has sent nothing of the stream on {self._subject!r} for {SILENCE_SECONDS:g} s, "
                    "although it sends heartbeats; it has ended, or cannot be reached"
                )
        return await super()._take()

    def _read_numbered(self, message: Message) -> T:
        error = ServiceError.from_message(message)
        if error is not None:
            raise error
        self._count(message)
        self._acknowledge()
        return self._decode(message)

    def _is_end(self, message: Message) -> bool:
        if message.data or ServiceError.from_message(message) is not None:
            return False
        self._count(message)
        return True

    def _count(self, message: Message) -> None:
        """Check that no reply is missing before this one, as far as its number can be seen."""
        expected = self._number + 1
        if self._prefix and message.reply.startswith(self._prefix):
            number = number_in(message.reply)
            if number != expected:
                raise ConnectionLostError(_describe_gap(self._subject, expected, number or 0))
        self._number = expected
        self._last_read_subject = message.reply

    @property
    def _is_due(self) -> bool:
        """Whether the service is to be told how far the replies have been read."""
        return (
            self._is_open
            and self._number - self._acknowledged >= max(1, self._window // 2)
            and _may_answer(self._last_read_subject)
        )

    def _acknowledge(self) -> None:
        """Acknowledge what has been read if that is due, and needs no waiting."""
        if self._is_due and self._answer_nowait(self._last_read_subject, b""):
            self._acknowledged = self._number

    def _answer_nowait(self, subject: str, data: bytes) -> bool:
        if not self._fast_path._answer_nowait(subject, data):
            return False
        self._note_answer(subject)
        return True

    def _note_answer(self, subject: str) -> None:
        # nats-py hands the server's text on in lower case.
        self._answered.append(subject.lower())

    def _note_malformed(self, error: MalformedReplyError) -> None:
        raise error  # a stream that leaves something out is not whole

    def _deliver(self, message: Message) -> None:
        self._received += 1
        if message.reply:
            self._subjects = (self._subjects[-1], message.reply)
        if is_opening(message):
            self._take_opening(message.reply)
        else:
            super()._deliver(message)

    def _take_opening(self, subject: str) -> None:
        """Answer what the service sends at the start, and as heartbeat, whether or not the reader has time for replies."""
        if not _may_answer(subject):
            return
        if not self._is_open:
            self._is_open = self._has_replies = True
            if subject.endswith(".0"):
                self._prefix = subject[:-1]
            # The service keeps to the window, so what is received is bounded by it.
            self._max_pending_bytes = self._window * self._nc.max_payload
            self._messages._max_pending = max(MAX_PENDING, self._window + 1)
        # With how far they have been read, in case an acknowledgement was lost.
        if not self._has_left and self._answer_nowait(subject, b"%d" % self._number):
            self._acknowledged = self._number

    def _on_event(self, event: ConnectionEvent) -> None:
        error = event.error
        if event.kind is EventKind.DISCONNECTED:
            self._messages._fail(ConnectionLostError("the connection ended before the stream did"))
        elif isinstance(error, PublishDeniedError) and self._is_answer(error.subject):
            self._messages._fail(PublishDeniedError(error.subject, _what_to_allow(error.subject)))
        super()._on_event(event)

    def _is_answer(self, subject: str) -> bool:
        lowered = subject.lower()
        return lowered in self._answered or bool(self._prefix and lowered.startswith(self._prefix.lower()))

    async def _leave(self) -> None:
        """Tell the service that no more replies are wanted, unless it has ended the stream."""
        self._has_left = True
        self._is_unheard = not self._received
        await self._say_leaving()

    async def _leave_late(self) -> None:
        """Tell it now if nothing of it had come when the reader left, and it has opened the stream meanwhile."""
        if not self._is_unheard or self.ended is EndReason.NO_RESPONDERS or not self._nc.is_connected:
            return
        # Protects the generator as below. What the server had sent has been delivered then, and what comes later it reports
        # to the service as sent to nobody.
        with anyio.move_on_after(LEAVING_SECONDS, shield=True), suppress(NatseryError):
            await self._nc.flush()
        await self._say_leaving()

    async def _say_leaving(self) -> None:
        is_over = self.ended is EndReason.SENTINEL or isinstance(self._failure, ServiceError)
        # Between accounts, a server takes one answer to each.
        unused = [each for each in self._subjects if _may_answer(each) and each.lower() not in self._answered]
        subject = unused[-1] if unused else self._subjects[-1]
        if not self._is_open or is_over or not _may_answer(subject):
            return
        # Protects a generator from going on until it notices that nobody takes its replies.
        with anyio.move_on_after(LEAVING_SECONDS, shield=True), suppress(NatseryError):
            await self._fast_path._send(subject, headers=window_headers(0))


def _may_answer(subject: str) -> bool:
    """Whether a service may have a client publish there."""
    return bool(subject) and is_answerable(subject, _FORBIDDEN, len(subject.encode()))


def _what_to_allow(subject: str) -> str:
    # nats-py hands the server's text on in lower case.
    if subject.upper().startswith(_ACROSS_ACCOUNTS):
        where = f"'{_ACROSS_ACCOUNTS}>', the server's reply subjects between accounts"
    else:
        where = "the inboxes of services, such as '_INBOX.>'"
    return f"a stream is acknowledged there: allow this user to publish to {where}, or give it 'allow_responses'"


def _describe_gap(subject: str, expected: int, number: int) -> str:
    which = f"reply {expected}" if number == expected + 1 else f"replies {expected} to {number - 1}"
    if number <= expected:
        return f"reply {number} of the stream on {subject!r} came where reply {expected} was expected"
    return f"{which} of the stream on {subject!r} did not arrive"


def _window_rule(value: object) -> str | None:
    """How many replies may be on their way."""
    wrong = f"must be an int from 1 to {MAX_WINDOW:,}"
    if not isinstance(value, int) or isinstance(value, bool):
        return WrongType(wrong)
    return None if 1 <= value <= MAX_WINDOW else wrong
