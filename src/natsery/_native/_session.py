"""A session: one network connection at work, from the handshake until it breaks or is ended."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import final

import anyio

from .._backends._direct_stream import DirectStream
from .._backends._handover import Handover
from .._backends._tls_stream import TlsStream
from .._core import Reader
from .._errors import ConnectionLostError, MalformedMessageError, NatseryError, ProtocolError, PublishDeniedError
from .._message import Message
from .._protocol import _commands
from .._protocol._messages import read_message
from .._protocol._parser import ErrorEvent, Event, InfoEvent, MessageEvent, Signal
from .._protocol._server_errors import denied_subscription, is_too_many_subscriptions, server_error
from .._protocol._server_info import ServerInfo, read_info
from ._connection_statistics import Counters
from ._handshake import RECEIVE_BYTES, Link, check_headers
from ._options import Options
from ._subscriptions import NativeSubscription, Subscriptions
from ._unconfirmed import Fence, Unconfirmed
from ._write_buffer import WriteBuffer

logger = logging.getLogger("natsery")


@final
class Session:
    """Receives and dispatches, sends, and checks that the server still answers, until the link breaks or ``end`` is called.

    Creating it opens the write buffer, with the SUBs of all subscriptions in front.

    Args:
        link: the network connection; it is closed when ``run`` returns.
        write_buffer: what to send.
        subscriptions: where to deliver messages.
        counters: what to count in.
        options: how long the server may be silent.
        handover: how tasks that wait for messages go on.
        on_info: called with each INFO.
        on_error: called with errors that do not end the session and do not belong to a subscription.

    Attributes:
        is_lame_duck: set when the server has announced that it is about to shut down.
    """

    def __init__(
        self,
        link: Link,
        write_buffer: WriteBuffer,
        subscriptions: Subscriptions,
        counters: Counters,
        options: Options,
        handover: Handover,
        *,
        on_info: Callable[[ServerInfo], None],
        on_error: Callable[[NatseryError], None],
    ) -> None:
        self.link = link
        self.write_buffer = write_buffer
        self.is_lame_duck: anyio.Event = anyio.Event()
        self._subscriptions = subscriptions
        self._counters = counters
        self._handover = handover
        self._ping_interval = options.ping_interval
        self._max_outstanding_pings = options.max_outstanding_pings
        self._on_info = on_info
        self._on_error = on_error
        self._unconfirmed = Unconfirmed(counters.sent_messages)
        self._unanswered_pings = 0
        self._scope = anyio.CancelScope()
        self._reason: Exception | None = None
        self._last_error: NatseryError | None = None
        self._frames_at_pong = -1
        self._reader = Reader(subscriptions.by_sid, self._handle, self._drop)
        self._open_write_buffer()
        self._handle_info(link.info)

    def _open_write_buffer(self) -> None:
        self._subscriptions.remove_ending()
        live = self._subscriptions.live()
        for subscription in live:
            self._unconfirmed.add_subscribed(subscription)
        stream = self.link.stream
        self._socket_stream = stream.below if isinstance(stream, TlsStream) else stream
        self.write_buffer.open(
            [subscription.command for subscription in live],
            stream.send_nowait if isinstance(stream, DirectStream) else None,
        )
        if isinstance(stream, TlsStream):
            stream.on_unsent = partial(self.write_buffer.put, b"")  # has the writer task call `send`

    # Commands

    def subscribe(self, subscription: NativeSubscription) -> None:
        """Send a SUB."""
        self._unconfirmed.add_subscribed(subscription)
        self.write_buffer.put(subscription.command)

    def unsubscribe(self, subscription: NativeSubscription) -> None:
        """Send an UNSUB; the subscription is removed when the server has confirmed it."""
        self._unconfirmed.add_unsubscribed(subscription)
        self.write_buffer.put(_commands.unsubscribe(subscription.sid))
        if self._unconfirmed.is_ping_due:
            self.ping()

    def ping(self, fence: Fence | None = None) -> None:
        """Send a PING; its PONG passes the fence."""
        self._unconfirmed.add_ping(self.messages, fence)
        self.write_buffer.put(_commands.PING)

    def leave(self) -> Fence:
        """Ask the server to send no more messages; the subscriptions are kept for the next session.

        Returns:
            A fence that is passed when the server has received all that was sent before, and its messages are delivered.
        """
        for subscription in self._subscriptions.live():
            self.write_buffer.put(_commands.unsubscribe(subscription.sid))
        fence = Fence(self.messages)
        self.ping(fence)
        return fence

    @property
    def _frames(self) -> int:
        """Frames added to the write buffer so far."""
        return self._counters.taken_frames + self.write_buffer.count

    @property
    def messages(self) -> int:
        """Messages sent so far by the connection, those that wait in this session's write buffer included."""
        return self._counters.sent_messages + self.write_buffer.count

    def retire(self, later_fences: Iterable[Fence]) -> tuple[list[bytes], list[Fence]]:
        """Stop sending; return the messages and the fences that the next session takes over.

        Fences fail if a message before them has left the write buffer and the server has not confirmed it.

        Args:
            later_fences: those that were made while this session was leaving its server.
        """
        messages = self.write_buffer.retire()
        confirmed = self._unconfirmed.confirmed_messages
        is_lossy = self._counters.sent_messages > confirmed
        kept: list[Fence] = []
        for fence in (*self._unconfirmed.fences(), *later_fences):
            if is_lossy and fence.messages > confirmed:
                loss = ConnectionLostError("the connection to the server ended before it confirmed what was sent")
                loss.__cause__ = self._reason
                fence.fail(loss)
            else:
                kept.append(fence)
        return messages, kept

    # The tasks

    async def run(self) -> Exception | None:
        """Run until the link breaks or ``end`` is called; return why it broke."""
        try:
            async with anyio.create_task_group() as tasks:
                with self._scope:
                    tasks.start_soon(self._until_broken, self._write, name="natsery writer")
                    tasks.start_soon(self._until_broken, self._keep_alive, name="natsery keep-alive")
                    await self._until_broken(self._read)
                tasks.cancel_scope.cancel("the network connection has ended")
        finally:
            with suppress(Exception):
                await self.link.close()  # noqa: ASYNC102  # closes without waiting
        return self._reason

    def end(self) -> None:
        """Make ``run`` return soon."""
        self._scope.cancel("the network connection is no longer needed")

    def _break(self, reason: Exception) -> None:
        if self._reason is None:
            self._reason = reason
        self.end()

    async def _until_broken(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError) as error:
            # A server that closes the connection because of an error sends the error first.
            self._break(self._last_error or _lost(error))
        except ProtocolError as error:
            self._break(self.link.secrets.hide_received(error))
        except NatseryError as error:
            self._break(error)
        except Exception as error:
            logger.exception("the NATS connection to %s failed unexpectedly", self.link.target)
            self._break(error)

    async def _read(self) -> None:
        self._take(self.link.unread)
        stream = self.link.stream
        if isinstance(stream, DirectStream):
            await stream.receive_into(self._take)
        else:
            while True:
                self._take(await stream.receive(RECEIVE_BYTES))

    def _take(self, chunk: bytes | memoryview) -> bool:
        counters = self._counters
        counters.in_bytes += len(chunk)
        self._handover.begin()
        try:
            count = self._reader.feed(chunk)
            counters.in_messages += count
            self.write_buffer.expect_answers(count)
        finally:
            self._handover.end(self._socket_stream)
        self.write_buffer.push_early()  # where some of its messages are not answered by now, the others' answers leave
        return self._reader.is_in_large_message

    async def _write(self) -> None:
        stream, write_buffer = self.link.stream, self.write_buffer
        while True:
            await write_buffer.wait_for_frames()
            await stream.send(write_buffer.take())
            write_buffer.sent()

    async def _keep_alive(self) -> None:
        # Counts PONGs rather than received bytes: on a link that is dead in one direction, messages may still arrive.
        while True:
            await anyio.sleep(self._ping_interval)
            if self._unanswered_pings >= self._max_outstanding_pings:
                silence = self._ping_interval * self._max_outstanding_pings
                raise ConnectionLostError(
                    f"the server has not answered {self._unanswered_pings} PINGs, the first for {silence:g} s"
                )
            self._unanswered_pings += 1
            self.ping()

    # What is received

    def _drop(self, event: MessageEvent) -> None:
        self._counters.malformed += 1
        try:
            read_message(event, Message)
        except MalformedMessageError as error:
            self._on_error(error)

    def _handle(self, event: Event) -> None:
        if event is Signal.PING:
            # A server that does not read must not fill the memory; one PONG answers all PINGs before it.
            if self.write_buffer.size <= self.write_buffer.limit or self._frames_at_pong != self._frames:
                self.write_buffer.put(_commands.PONG)
                self._frames_at_pong = self._frames
        elif event is Signal.PONG:
            self._unanswered_pings = 0
            self._last_error = None  # it has gone on after that
            self._subscriptions.remove(self._unconfirmed.confirm())
        elif isinstance(event, InfoEvent):
            info = read_info(event.text)
            check_headers(info, has_headers=self.link.has_headers)
            self._handle_info(info)
        elif isinstance(event, ErrorEvent):
            self._handle_error(event.text)
        elif isinstance(event, ProtocolError):
            raise event

    def _handle_info(self, info: ServerInfo) -> None:
        self._on_info(info)
        if info.lame_duck:
            self.is_lame_duck.set()

    def _handle_error(self, text: str) -> None:
        denied = denied_subscription(text)
        if denied is not None:
            for subscription in self._subscriptions.denied(denied):
                subscription._deny()
            return
        refused = self._unconfirmed.pop_refused() if is_too_many_subscriptions(text) else None
        if refused is not None:
            refused._deny()
            return
        error = server_error(text, self.link.secrets.hide)
        if not isinstance(error, PublishDeniedError):  # which ends nothing
            self._last_error = error
        self._on_error(error)


def _lost(error: Exception) -> ConnectionLostError:
    text = "the server closed the network connection" if isinstance(error, anyio.EndOfStream) else "the network failed"
    cause = error.__cause__
    lost = ConnectionLostError(f"{text} ({cause})" if cause is not None and str(cause) else text)
    lost.__cause__ = error
    return lost
