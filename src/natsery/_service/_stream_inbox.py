"""What comes back to a service from the requesters of its streamed replies: acknowledgements, and that they have left."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

import anyio
from anyio.abc import TaskGroup

from .._errors import NatseryError, SubscriptionDeniedError
from .._fast_path import FastSubscription, Interest
from .._interrupts import start_task
from .._message import Message
from .._reply_tokens import ReplyTokens
from .._stream_protocol import ACKNOWLEDGEMENTS, CANCEL, HEARTBEAT_SECONDS, read_number, read_window
from .._wakeup import Wakeup, new_wakeup
from ._stream import OutgoingStream

if TYPE_CHECKING:
    from ._context import ServiceContext
    from ._request import Request

_NO_RESPONDERS = 503
_NUMBER_LENGTH = 20
"""Characters that the number of a part may take in its reply subject."""


@final
class StreamInbox:
    """The streamed replies of one service, over one subscription, which is there from the first streaming endpoint on.

    Each part has a reply subject, so that the server answers there when nobody listens to the replies any more.
    """

    def __init__(self, context: ServiceContext) -> None:
        self._context = context
        self._tokens = ReplyTokens()
        self._streams: dict[str, OutgoingStream] = {}
        self._inbox = ""
        self._is_denied = False
        self._subscription: FastSubscription | None = None
        self._begun: Wakeup | None = None

    async def open(self, tasks: TaskGroup) -> None:
        """Subscribe, unless that was done; the server has accepted it after a fence."""
        if self._inbox:
            return
        self._inbox = self._context.connection.new_inbox()
        self._begun = new_wakeup()
        interest = Interest(f"{self._inbox}.*.*", "", self._deliver, self._on_subscription_error)
        try:
            self._subscription = await self._context.fast_path._subscribe(interest)
        except BaseException:
            self._inbox = ""
            raise
        start_task(tasks, self._send_heartbeats, self._begun, name="natsery stream heartbeats")

    async def close(self) -> None:
        """Unsubscribe."""
        if self._subscription is not None:
            await self._subscription._unsubscribe()

    def begin(self, request: Request) -> OutgoingStream:
        """Return a stream of replies to a request."""
        token = next(self._tokens)
        subject = f"{self._inbox}.{token}."
        size = len(request.reply.encode()) + len(subject.encode()) + _NUMBER_LENGTH
        if not self._inbox or self._is_denied or size > self._context.fast_path._max_subjects:
            return OutgoingStream(self._context, request, "", 0)
        stream = self._streams[token] = OutgoingStream(self._context, request, subject, read_window(request.headers))
        assert self._begun is not None
        self._begun.set()
        return stream

    def end(self, stream: OutgoingStream) -> None:
        """Forget a stream that has ended."""
        self._streams.pop(stream.subject[len(self._inbox) + 1 : -1], None)

    def leave(self, request: Request) -> None:
        """End the streamed reply to a request, if it has one, because the server does not let it through."""
        for stream in self._streams.values():
            if stream.request is request:
                stream.leave()

    def _deliver(self, message: Message) -> None:
        token, _, last = message.subject[len(self._inbox) + 1 :].partition(".")
        stream = self._streams.get(token)
        if stream is None:
            return
        if message.status == _NO_RESPONDERS or message.data == CANCEL:
            stream.leave()
        elif message.data in ACKNOWLEDGEMENTS:
            number = read_number(last)
            if number is not None:
                stream.acknowledge(number)

    def _on_subscription_error(self, error: NatseryError) -> None:
        self._context.errors.report(error)
        if isinstance(error, SubscriptionDeniedError):
            self._is_denied = True
            streams, self._streams = self._streams, {}
            for stream in streams.values():
                stream.go_on_alone()

    async def _send_heartbeats(self, begun: Wakeup) -> None:
        """Send the status again to each requester that has got nothing for a while, until cancelled."""
        connection = self._context.connection
        while True:
            while not self._streams:
                await begun.wait()
            await anyio.sleep(HEARTBEAT_SECONDS / 2)
            if not connection.is_connected:
                continue
            for stream in list(self._streams.values()):
                if stream.is_due():
                    try:
                        await stream.send_status()
                    except Exception as error:  # whatever a connection raises: the others get theirs
                        self._context.errors.report(error, stream.request.endpoint)
