"""All streamed replies of a service: what their requesters send back, and the heartbeats that they get."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

import anyio

from .._errors import NatseryError, SubscriptionDeniedError
from .._fast_path import FastSubscription, Interest
from .._interrupts import protect_from_interrupt, start_task
from .._message import Message
from .._reply_tokens import ReplyTokens
from .._stream_headers import HEARTBEAT_SECONDS, number_in, window_in
from ._request import Request
from ._stream import StreamedReplies

if TYPE_CHECKING:
    from ._context import ServiceContext

_NO_RESPONDERS = 503

_NUMBER_LENGTH = 20
"""Characters that the number of a reply may have in its subject of acknowledgement."""


@final
class Streams:
    """The streams of a service, and the one subscription for their acknowledgements, made for the first of them.

    Each reply names a subject of acknowledgement, so that the server says there when nobody listens to the replies any more.
    """

    _inbox: str  # set with the subscription

    def __init__(self, context: ServiceContext) -> None:
        self._context = context
        self._subscription: FastSubscription | None = None
        self._subscribing: anyio.Lock | None = None
        self._is_denied = False
        self._is_beating = False
        self._tokens = ReplyTokens()
        self._open: dict[str, StreamedReplies] = {}

    async def open(self, request: Request) -> StreamedReplies:
        """Begin to answer a request."""
        await self._subscribe()
        subject = f"{self._inbox}.{next(self._tokens)}"
        size = len(request.reply.encode()) + len(subject.encode()) + _NUMBER_LENGTH
        if self._is_denied or size > self._context.fast_path._max_subjects:
            return StreamedReplies(self._context, request, "", 0)
        window = window_in(request.headers) if request.reply else None
        replies = StreamedReplies(self._context, request, subject, window or 0)
        self._open[subject] = replies
        self._keep_beating()
        return replies

    def close(self, replies: StreamedReplies) -> None:
        """Forget a stream; what still comes for it is ignored."""
        self._open.pop(replies.subject, None)

    def give_up(self, request: Request) -> None:
        """End the stream of a request, if it has one, because the server does not let its replies through."""
        for replies in self._open.values():
            if replies.request is request:
                replies.leave()

    async def unsubscribe(self) -> None:
        """Take no more acknowledgements."""
        if self._subscription is not None:
            await self._context.unsubscribe(self._subscription)

    async def _subscribe(self) -> None:
        # No fence before the first reply: the server reads both in this order.
        if self._subscription is not None:
            return
        if self._subscribing is None:
            self._subscribing = anyio.Lock()
        async with self._subscribing:
            if self._subscription is None:  # pragma: no branch - coverage does not see the way out of an `async with`
                self._inbox = self._context.connection.new_inbox()
                interest = Interest(f"{self._inbox}.*.*", "", self._take, self._on_error)
                self._subscription = await self._context.fast_path._subscribe(interest)

    def _take(self, message: Message) -> None:
        replies = self._open.get(message.subject.rpartition(".")[0])
        number = number_in(message.subject)
        if replies is None or number is None:
            return
        if message.status == _NO_RESPONDERS or window_in(message.headers) == 0:
            replies.leave()
        else:
            # The answer to a heartbeat says how far the replies have been taken.
            replies.acknowledge(max(number, number_in(message.data[:_NUMBER_LENGTH].decode(errors="replace")) or 0))

    def _on_error(self, error: NatseryError) -> None:
        """Go on without acknowledgements if they cannot come any more; those that were dropped are repeated."""
        self._context.errors.report(error)
        if isinstance(error, SubscriptionDeniedError):
            self._is_denied = True
            for replies in self._open.values():
                replies.lift_window()
            self._open.clear()

    def _keep_beating(self) -> None:
        service = self._context.service
        if not self._is_beating and service is not None and service._plumbing is not None:
            self._is_beating = True
            protect_from_interrupt(Streams._beat)
            start_task(service._plumbing, self._beat, name="natsery stream heartbeats")

    async def _beat(self) -> None:
        """Send the heartbeats that are due, until there is no stream."""
        try:
            while self._open:
                # Twice as often as they are sent, for they are due after so long without a reply.
                await anyio.sleep(HEARTBEAT_SECONDS / 2)
                if not self._context.connection.is_connected:
                    continue
                for replies in tuple(self._open.values()):
                    try:
                        await replies.beat()
                    except Exception as error:  # whatever a connection raises: the others get theirs
                        self._context.errors.report(error)
        finally:
            self._is_beating = False
