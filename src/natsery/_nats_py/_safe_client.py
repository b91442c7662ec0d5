"""A nats-py client as a safe foundation: everything here runs in the client's own asyncio loop.

nats-py 2.16 breaks when its coroutines are cancelled at the wrong place, and its own fence lets messages through. So
nothing here hands it a future or a coroutine that may be cancelled, and every message comes in through one synchronous call.
The private names of nats-py that this needs are listed in `PRIVATE_NAMES`; a test looks whether they are still there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, final

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription as NatsSubscription
from nats.aio.transport import TcpTransport, Transport

from .._errors import (
    ConfigError,
    ConnectionClosedError,
    NatseryError,
    OutboundBufferError,
    PublishDeniedError,
    PublishError,
    SubscriptionDeniedError,
)
from .._events import ConnectionEvent, EventKind, Listener
from .._fast_path import Interest
from .._message import Deliver, Headers, Message
from .._protocol import _commands
from .._protocol._server_errors import DeniedSubscription, denied_subscription, server_error

PRIVATE_NAMES = (
    "_closed_cb",
    "_disconnected_cb",
    "_error_cb",
    "_flush_pending",
    "_flush_queue",
    "_max_pending_size",
    "_pending",
    "_pending_data_size",
    "_reading_task",
    "_reconnected_cb",
    "_remove_sub",
    "_send_ping",
    "_send_unsubscribe",
    "_status",
    "_subs",
    "_transport",
)

CLOSE_SECONDS = 2.0
"""How long closing a client may take before its socket is dropped."""


@final
class ClientSubscription:
    """A subscription as nats-py's client keeps it.

    Args:
        interest: its ``deliver`` must not raise: that would end nats-py's reader.
    """

    def __init__(self, interest: Interest) -> None:
        self.subject = interest.subject
        self.queue_group = interest.queue_group
        self.take = interest.deliver
        self.on_error = interest.on_error
        self.message_type = interest.message_type
        self.inner: NatsSubscription | None = None
        self.is_ending = False


def _converted(msg: Msg, message_type: type[Message]) -> Message:
    headers = msg.headers
    if headers is None:
        return message_type(msg.subject, msg.data, msg.reply)
    pairs = [(str(getattr(name, "value", name)), value) for name, value in headers.items()]
    status = headers.get("Status", "") if not msg.data else ""
    return message_type(
        msg.subject,
        msg.data,
        reply=msg.reply,
        headers=Headers.from_wire(pairs),
        status=int(status) if status.isascii() and status.isdigit() else 0,
    )


def _is_clear(transport: Transport) -> bool:
    """Whether the operating system has all that was written."""
    writer = transport._io_writer if type(transport) is TcpTransport else None
    return writer is not None and not writer.transport.get_write_buffer_size()


@final
class Intake(asyncio.Future[Msg]):
    """What nats-py takes for the future of a single reply, and what takes every message synchronously instead.

    The other ways to get messages out of nats-py put a queue and a task between, which drop messages when full, end for
    good when a callback is cancelled, and throw the queue away on unsubscribing.
    """

    def __init__(self, take: Deliver, message_type: type[Message], side: SafeClient) -> None:
        super().__init__(loop=side.loop)
        self.take = take
        self.message_type = message_type
        self._side = side

    def set_result(self, result: Msg, /) -> None:
        self._side.unanswered += 1
        self.take(_converted(result, self.message_type))


@final
class _Hook:
    """Stands in one of nats-py's callback slots, in front of the callback that was there."""

    def __init__(self, previous: Callable[..., Awaitable[None]] | None) -> None:
        self.previous = previous
        self.listeners: list[Callable[..., None]] = []

    async def __call__(self, *args: Any) -> None:  # the slots take no or one argument
        for listener in list(self.listeners):
            listener(*args)
        if self.previous is not None:
            await self.previous(*args)


@final
class SafeClient:
    """A connected nats-py client, with a fence that holds and subscriptions that lose nothing.

    Args:
        client: a connected client of the running loop.
        emit: hears of everything that happens to the connection; must not raise.

    Attributes:
        unanswered: messages since the last answer that did not follow another at once.
    """

    def __init__(self, client: Client, emit: Listener) -> None:
        self.client = client
        self._emit = emit
        self.loop = asyncio.get_running_loop()
        self._subscriptions: dict[int, ClientSubscription] = {}
        self._fences: set[asyncio.Future[bool]] = set()
        self._changed: asyncio.Future[None] = self.loop.create_future()
        self._reader: asyncio.Task[Any] | None = None
        self._deaf = asyncio.Event()
        self._is_attached = False
        self._is_closed = False
        self.unanswered = 0

    # The slots of the client

    def attach(self) -> None:
        """Listen in on the client's callbacks."""
        self._is_attached = True
        self._hook("_error_cb").append(self._on_error)
        self._hook("_disconnected_cb").append(self._on_disconnected)
        self._hook("_reconnected_cb").append(self._on_reconnected)
        self._hook("_closed_cb").append(self._on_closed)
        self._watch_reader()

    def detach(self) -> None:
        """Put the client's callbacks back as they were."""
        self._is_attached = False
        for slot, listener in (
            ("_error_cb", self._on_error),
            ("_disconnected_cb", self._on_disconnected),
            ("_reconnected_cb", self._on_reconnected),
            ("_closed_cb", self._on_closed),
        ):
            hook = getattr(self.client, slot)
            if isinstance(hook, _Hook) and listener in hook.listeners:
                hook.listeners.remove(listener)
                if not hook.listeners:
                    setattr(self.client, slot, hook.previous)
        if self._reader is not None:
            self._reader.remove_done_callback(self._on_reader_done)
        self._wake_waiters()

    def _hook(self, slot: str) -> list[Callable[..., None]]:
        current = getattr(self.client, slot)
        if not isinstance(current, _Hook):
            current = _Hook(current)
            setattr(self.client, slot, current)
        return current.listeners

    def _on_error(self, error: Exception) -> None:
        text = str(error)
        denied = denied_subscription(text)
        if denied is not None:
            self._deny(denied)
            return
        complaint = server_error(text)
        self._emit(ConnectionEvent(EventKind.ERROR, complaint if isinstance(complaint, PublishDeniedError) else error))

    def _deny(self, denied: DeniedSubscription) -> None:
        for sid, subscription in list(self._subscriptions.items()):
            subject, queue_group = subscription.subject, subscription.queue_group
            # nats-py hands the server's text on in lower case.
            if denied.concerns(b"%d" % sid, subject.lower(), queue_group.lower()):
                subscription.on_error(SubscriptionDeniedError(subject, queue_group))

    def _on_disconnected(self) -> None:
        # Nothing more comes from the old connection, and nats-py would make these subscriptions again on the next.
        for sid, subscription in list(self._subscriptions.items()):
            if subscription.is_ending:
                self._forget(sid)
        self._wake_waiters()
        if not self.client.is_closed:
            self._emit(ConnectionEvent(EventKind.DISCONNECTED, self.client.last_error))

    def _on_reconnected(self) -> None:
        self._watch_reader()
        self._wake_waiters()
        self._emit(ConnectionEvent(EventKind.RECONNECTED))

    def _on_closed(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            self._wake_waiters()
            self._emit(ConnectionEvent(EventKind.CLOSED, self.client.last_error))

    # A reader that ends without a word

    def _watch_reader(self) -> None:
        reader = self.client._reading_task
        if reader is not None and reader is not self._reader:
            self._reader = reader
            reader.add_done_callback(self._on_reader_done)

    def _on_reader_done(self, reader: asyncio.Task[Any]) -> None:
        if self._is_attached and reader is self.client._reading_task and self.client.is_connected:
            self._deaf.set()

    async def heal(self) -> None:
        """Reconnect whenever nats-py's reader has ended although it takes itself for connected. Runs until cancelled.

        That happens when anybody cancels a ``flush()`` of this client, or sends it a subject that is not UTF-8.
        """
        while True:
            await self._deaf.wait()
            self._deaf.clear()
            reader = self.client._reading_task
            if reader is None or not reader.done() or not self.client.is_connected:
                continue
            error = NatseryError("nats-py's reader ended without a word; reconnecting")
            self._emit(ConnectionEvent(EventKind.ERROR, error))
            if self.client.options["allow_reconnect"]:
                await self.client.force_reconnect()
            else:
                self._on_closed()

    # What the seam needs

    def raise_if_closed(self) -> None:
        """Raise `ConnectionClosedError` once the client is closed."""
        if self._is_closed or self.client.is_closed:
            raise ConnectionClosedError

    async def subscribe(self, subscription: ClientSubscription) -> None:
        """Subscribe; nothing is left if it raises or is cancelled."""
        self.raise_if_closed()
        intake = Intake(subscription.take, subscription.message_type, self)
        try:
            inner = await self.client.subscribe(subscription.subject, queue=subscription.queue_group, future=intake)
        except nats.errors.BadSubjectError:
            raise ConfigError("subject", subscription.subject, "is no subject that can be subscribed to") from None
        except (nats.errors.ConnectionClosedError, nats.errors.ConnectionDrainingError) as error:
            raise ConnectionClosedError(f"nats-py cannot subscribe: {error}") from error
        except BaseException:
            for sid, each in list(self.client._subs.items()):
                if each._future is intake:
                    self.client._remove_sub(sid)
            raise
        subscription.inner = inner
        self._subscriptions[inner._id] = subscription

    async def unsubscribe(self, subscription: ClientSubscription) -> None:
        """Tell the server to send nothing more; what is on the way still arrives until the next fence."""
        inner = subscription.inner
        if inner is None or subscription.is_ending or inner._id not in self._subscriptions:
            return
        subscription.is_ending = True
        was_connected = self.client.is_connected
        if not was_connected:
            self._forget(inner._id)
        if not self.client.is_closed:
            # Also while it is away: a SUB may be waiting in its buffer.
            await self.client._send_unsubscribe(inner._id)

    async def unsubscribe_all(self) -> None:
        """End every subscription at once; what is on the way is dropped."""
        for sid, subscription in list(self._subscriptions.items()):
            await self.unsubscribe(subscription)
            self._forget(sid)

    async def close(self) -> None:
        """Close the client for good, within `CLOSE_SECONDS` whatever the server does. Safe twice."""
        transport = self.client._transport
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self.client.close()
        except TimeoutError:
            # It waits for a server that takes nothing any more.
            writer = getattr(transport, "_io_writer", None)
            if transport is not None and writer is not None:
                writer.transport.abort()
                transport.close()  # type: ignore[no-untyped-call]
        self._on_closed()

    async def publish(self, frames: bytes, messages: int, payload_bytes: int) -> None:
        """Take whole frames into the client's own buffer, as ``Client.publish`` does with one; waits if that is too full.

        Raises:
            ConnectionClosedError, OutboundBufferError: nothing was taken.
            PublishError: the connection broke.
        """
        client = self.client
        limit = client._max_pending_size
        if client._status != Client.CONNECTED:
            self.raise_if_closed()
            if client.is_draining_pubs:
                raise ConnectionClosedError("the nats-py client is draining")
            if not client.is_connected and client._pending_data_size + len(frames) > limit:
                raise OutboundBufferError
        client._pending.append(frames)
        client._pending_data_size += len(frames)
        stats = client.stats
        stats["out_msgs"] += messages
        stats["out_bytes"] += payload_bytes
        is_too_full = 0 < limit < client._pending_data_size
        kicks = client._flush_queue
        try:
            if is_too_full or (kicks is not None and kicks.empty()):
                await client._flush_pending(force_flush=is_too_full)
        except (nats.errors.Error, OSError) as error:
            raise PublishError(f"nats-py could not publish: {error}") from error

    def answer_nowait(self, reply: str, data: bytes) -> bool:
        """Publish to a reply subject off the wire, if that needs no waiting; false if it does, with nothing done."""
        client = self.client
        kicks = client._flush_queue
        size = len(data)
        if (
            kicks is None
            or client._status != Client.CONNECTED
            or size > client._max_payload
            or 0 < client._max_pending_size < client._pending_data_size
        ):
            return False
        frame = _commands.publish_reply(reply, data)
        if not kicks.empty():  # the client's flusher is about to look
            client._pending.append(frame)
            client._pending_data_size += len(frame)
        else:
            is_lone, self.unanswered = self.unanswered == 1, 0
            transport = client._transport if is_lone and not client._pending_data_size else None
            if transport is None or not _is_clear(transport):
                return False
            transport.write(frame)  # what the flusher would do, a turn of the loop later
        stats = client.stats
        stats["out_msgs"] += 1
        stats["out_bytes"] += size
        return True

    def _forget(self, sid: int) -> None:
        self._subscriptions.pop(sid, None)
        self.client._remove_sub(sid)

    async def fence(self) -> None:
        """Wait until the server has processed all that was sent before, and all that it sent is delivered."""
        while True:
            self.raise_if_closed()
            ending = [sid for sid, each in self._subscriptions.items() if each.is_ending]
            if not self.client.is_connected:
                await self._wait_changed()
            # nats-py's PING overtakes commands that wait in its buffer. They have left it by the time of the first PONG,
            # so the second PING follows them.
            elif await self._ping() and await self._ping():
                for sid in ending:
                    self._forget(sid)
                return

    async def _ping(self) -> bool:
        """One round trip; false if the connection went away meanwhile."""
        # nats-py sets the result of `pong` unasked, and its reader dies if somebody has cancelled it. So nobody waits for
        # `pong` itself, and `passed` is the one that a cancellation reaches.
        pong: asyncio.Future[bool] = self.loop.create_future()
        passed: asyncio.Future[bool] = self.loop.create_future()
        pong.add_done_callback(lambda _: None if passed.done() else passed.set_result(True))
        self._fences.add(passed)
        try:
            await self.client._send_ping(pong)
            return await passed
        finally:
            self._fences.discard(passed)

    async def _wait_changed(self) -> None:
        await asyncio.shield(self._changed)

    def _wake_waiters(self) -> None:
        for passed in self._fences:
            if not passed.done():
                passed.set_result(False)
        changed, self._changed = self._changed, self.loop.create_future()
        changed.set_result(None)
