"""Streamed replies: how fast a requester takes them, and whether it is still there."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import TYPE_CHECKING, Any, Final, final

import anyio

from .._adr32 import REQUEST_TIMEOUT
from .._condition_event import ConditionEvent
from .._errors import NatseryError
from .._fast_path import FastSubscription, Interest
from .._interrupts import start_task
from .._message import Message
from .._reply_tokens import ReplyTokens
from .._service_error import ServiceError
from .._stream_headers import HEARTBEAT_SECONDS, number_in, window_headers, window_in
from ._invoke import reply_from
from ._request import Request

if TYPE_CHECKING:
    from ._context import ServiceContext

CONFIRMATION_SECONDS: Final = 5.0
"""How long a full window waits for the first acknowledgement; without one, it does not count any more."""

MAX_SILENT_BEATS: Final = 3
"""Heartbeats without any acknowledgement after which a requester that has acknowledged before is gone."""

CLEANUP_SECONDS: Final = 5.0
"""How long a generator that is closed may take for its ``finally``."""

_NO_RESPONDERS: Final = 503


async def stream(generator: AsyncGenerator[Any, None], write: Callable[[Any], bytes], request: Request) -> None:
    """Send each value that a generator yields as a reply, and an empty one at the end.

    Returns early if the requester has left. The generator is closed in any case before this returns or raises.
    """
    try:
        replies = await request.endpoint._context.streams.open(request)
        try:
            with replies.scope:
                async for part in generator:
                    await replies.send(write(part))
                await request._send(b"", None)
            if replies.is_unacknowledged:
                raise ServiceError(
                    REQUEST_TIMEOUT, f"No Acknowledgement in {MAX_SILENT_BEATS * HEARTBEAT_SECONDS:.0f} s"
                )
        finally:
            replies.close()
    finally:
        # Protects the generator's own `finally`, which may have to wait.
        with anyio.move_on_after(CLEANUP_SECONDS, shield=True):
            await generator.aclose()


@final
class StreamedReplies:
    """The replies to one request.

    Args:
        request: the request.
        subject: what the subjects of acknowledgements begin with.
        window: how many replies may be unacknowledged, ``None`` for any number.
        forget: called at the end.

    Attributes:
        scope: what is cancelled when the requester has left.
        is_unacknowledged: whether it has left without a word, as far as can be seen.
    """

    def __init__(self, request: Request, subject: str, window: int | None, forget: Callable[[], None]) -> None:
        self.scope = anyio.CancelScope()
        self._request = request
        self._subject = subject
        self._window = window
        self._forget = forget
        self._sent = 0
        self._acknowledged = 0
        self._is_confirmed = False
        self._is_idle = False
        self._silent_beats = 0
        self.is_unacknowledged = False
        self._room = ConditionEvent(self._has_room)

    def _has_room(self) -> bool:
        return self._window is None or self._sent - self._acknowledged < self._window

    async def send(self, part: object) -> None:
        """Send a reply as soon as the requester takes one more."""
        data = part if type(part) is bytes else reply_from(part, is_yielded=True)
        if not data:
            raise ValueError("a handler must not yield an empty reply, which marks the end; leave it out")
        request = self._request
        await request.endpoint._context.turns.checkpoint(len(data))
        while not self._has_room():
            await self._wait_for_room()
        self._sent += 1
        self._is_idle = False
        await request._send(data, None, acknowledgements=f"{self._subject}.{self._sent}")

    async def _wait_for_room(self) -> None:
        if self._is_confirmed:
            await self._room.wait()
            return
        with anyio.move_on_after(CONFIRMATION_SECONDS):
            await self._room.wait()
        if not self._is_confirmed:
            # Acknowledgements may have no way back, as to a requester in another account.
            self.lift_window()

    async def say_open(self) -> None:
        """Tell the requester that there are replies to come, and where it can acknowledge them or leave."""
        if self._window is None:
            return
        request = self._request
        await request.endpoint._context.fast_path._send(
            request.reply, reply=f"{self._subject}.0", headers=window_headers(self._window)
        )

    async def beat(self) -> None:
        """Say so again if nothing has been sent for a while."""
        was_idle, self._is_idle = self._is_idle, True
        if not was_idle:
            return
        if self._is_confirmed:
            # Requesters acknowledge this, too. Between accounts, nothing else shows that one is gone.
            self._silent_beats += 1
            if self._silent_beats > MAX_SILENT_BEATS:
                self.is_unacknowledged = True
                self.scope.cancel("the requester acknowledges nothing")
                return
        await self.say_open()

    def take(self, message: Message, number: int) -> None:
        """Take what came for the acknowledgements of these replies."""
        if message.status == _NO_RESPONDERS or window_in(message.headers) == 0:
            self.scope.cancel("the requester has left")
            return
        self._is_confirmed = True
        self._silent_beats = 0
        self._acknowledged = max(self._acknowledged, min(number, self._sent))
        self._room.check()

    def lift_window(self) -> None:
        """Wait for acknowledgements no more."""
        self._window = None
        self._room.check()

    def close(self) -> None:
        """End them; what still comes is ignored."""
        self._forget()


@final
class Streams:
    """All streamed replies of a service, and the one subscription for their acknowledgements, made for the first of them."""

    def __init__(self, context: ServiceContext) -> None:
        self._context = context
        self._inbox = ""
        self._subscription: FastSubscription | None = None
        self._subscribing: anyio.Lock | None = None
        self._is_denied = False
        self._is_beating = False
        self._tokens = ReplyTokens()
        self._open: dict[str, StreamedReplies] = {}

    async def open(self, request: Request) -> StreamedReplies:
        """Begin to answer a request."""
        await self._subscribe()
        token = next(self._tokens)
        window = None if self._is_denied else window_in(request.headers) or None
        replies = StreamedReplies(request, f"{self._inbox}.{token}", window, lambda: self._close(token))
        self._open[token] = replies
        if window is not None:
            self._keep_beating()
            await replies.say_open()
        return replies

    def _close(self, token: str) -> None:
        self._open.pop(token, None)

    async def _subscribe(self) -> None:
        if self._subscription is not None:
            return
        if self._subscribing is None:
            self._subscribing = anyio.Lock()
        async with self._subscribing:
            if self._subscription is None:
                self._inbox = self._context.connection.new_inbox()
                interest = Interest(f"{self._inbox}.*.*", "", self._take, self._on_error)
                self._subscription = await self._context.fast_path._subscribe(interest)

    def _take(self, message: Message) -> None:
        token = message.subject[len(self._inbox) + 1 :].partition(".")[0]
        replies, number = self._open.get(token), number_in(message.subject)
        if replies is not None and number is not None:
            replies.take(message, number)

    def _on_error(self, error: NatseryError) -> None:
        """Go on without acknowledgements."""
        self._is_denied = True
        self._context.errors.report(error)
        for replies in self._open.values():
            replies.lift_window()

    def _keep_beating(self) -> None:
        service = self._context.service
        if not self._is_beating and service is not None and service._plumbing is not None:
            self._is_beating = True
            start_task(service._plumbing, self._beat, name="natsery stream heartbeats")

    async def _beat(self) -> None:
        try:
            while self._open:
                await anyio.sleep(HEARTBEAT_SECONDS)
                for replies in tuple(self._open.values()):
                    try:
                        await replies.beat()
                    except NatseryError as error:
                        self._context.errors.report(error)
        finally:
            self._is_beating = False

    async def unsubscribe(self) -> None:
        """Take no more acknowledgements."""
        if self._subscription is not None:
            await self._subscription._unsubscribe()
