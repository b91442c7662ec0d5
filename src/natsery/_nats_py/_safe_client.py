"""A nats-py client as a safe foundation: everything here runs in the client's own asyncio loop.

nats-py 2.16 ends its reader without a word, and its own fence lets messages through. So this watches the reader, fences
with two round trips, and has every message come in through one synchronous call.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, final

import nats.errors
from nats.aio.client import Client

from .._backends._sockets import keep_in_forks, let_go_in_forks
from .._errors import ConnectionClosedError, NatseryError, PublishDeniedError, SubscriptionDeniedError
from .._events import ConnectionEvent, EventKind, Listener
from .._fast_path import Interest
from .._protocol._server_errors import DeniedSubscription, denied_subscription, server_error
from ._bounds import CANCEL_INTERVAL_SECONDS, CANCEL_SECONDS, CLOSE_SECONDS
from ._callback_slots import listen
from ._clear_text import complaint_of_clear_text
from ._client_writer import CONTROL_LINE_BYTES, ClientWriter, forget_outcome, outcome_of
from ._drain import Drain
from ._incoming import Incoming, Intake

logger = logging.getLogger("natsery")


async def cancel_until_done(find_tasks: Callable[[], set[asyncio.Task[Any]]], seconds: float) -> None:
    """Cancel tasks, repeatedly because nats-py swallows cancellations, until all are done or the time is up."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while (tasks := find_tasks()) and loop.time() < deadline:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=CANCEL_INTERVAL_SECONDS)


@final
class ClientSubscription:
    """A subscription that nats-py's client has made."""

    def __init__(self, interest: Interest, sid: int) -> None:
        self.interest = interest
        self.sid = sid


def _ignore(event: ConnectionEvent) -> None:
    """Stand in for the listener of a client that is not attached."""


@final
class SafeClient:
    """A connected nats-py client, with a fence that holds and subscriptions that lose nothing.

    Args:
        client: a client of the running loop; connected, for all but ``close`` and ``abort``.

    Attributes:
        writer: what is written through the client.
    """

    def __init__(self, client: Client) -> None:
        self.client = client
        self.writer: ClientWriter = ClientWriter(client, self.raise_if_closed)
        self._emit: Listener = _ignore
        self.loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        self._subscriptions: dict[int, ClientSubscription] = {}
        self._ending: set[int] = set()  # the sids of those that wait for a fence
        self._by_interest: dict[tuple[str, str], list[ClientSubscription]] | None = None
        self._fences: set[asyncio.Future[bool]] = set()
        self._changed: asyncio.Future[None] = self.loop.create_future()
        self._reader: asyncio.Task[Any] | None = None
        self._reader_ended = asyncio.Event()
        self._closed: asyncio.Future[None] = self.loop.create_future()
        self._closing: asyncio.Task[None] | None = None  # kept, for asyncio keeps no task that it runs
        self._holds: list[Callable[[], None]] = []
        self._unheld = asyncio.Event()
        self._unheld.set()
        self._is_attached = False
        self._detaching: list[Callable[[], None]] = []
        self._is_closed = False
        self._is_draining = False
        self._has_warned = False

    # The slots of the client

    def attach(self, emit: Listener) -> None:
        """Have ``emit`` called with everything that happens to the connection; it must not raise."""
        self._emit = emit
        self._is_attached = True
        client = self.client
        self._detaching = [
            Incoming.attach(client),
            Drain.attach(client),
            listen(client, "_error_cb", self._on_error),
            listen(client, "_disconnected_cb", self._on_disconnected),
            listen(client, "_reconnected_cb", self._on_reconnected),
            listen(client, "_closed_cb", self._on_closed),
        ]
        self._watch_reader()
        self._warn_of_clear_text()
        let_go_in_forks(self.writer)

    def detach(self) -> None:
        """Put the client's callbacks back as they were."""
        self._is_attached = False
        keep_in_forks(self.writer)
        while self._detaching:
            self._detaching.pop()()
        if self._reader is not None:
            self._reader.remove_done_callback(self._on_reader_done)
        self._end_waiting()

    def _on_error(self, error: Exception) -> None:
        if asyncio.current_task() is self.client._reconnection_task:
            self.writer.abort()  # an attempt has failed, and nats-py would leave its socket open
        text = str(error)
        denied = denied_subscription(text)
        if denied is not None:
            self._deny(denied)
            return
        complaint = server_error(text)
        self._emit(ConnectionEvent(EventKind.ERROR, complaint if isinstance(complaint, PublishDeniedError) else error))

    def _deny(self, denied: DeniedSubscription) -> None:
        for interest in self._denied_interests(denied):
            interest.on_error(SubscriptionDeniedError(interest.subject, interest.queue_group))

    def _denied_interests(self, denied: DeniedSubscription) -> list[Interest]:
        """Return what a server denies, found in one look through all for as many errors as come."""
        if denied.sid:
            subscription = self._subscriptions.get(int(denied.sid[:20]))  # no sid has more digits
            return [] if subscription is None else [subscription.interest]
        if self._by_interest is None:
            self._by_interest = {}
            for subscription in self._subscriptions.values():
                # nats-py hands the server's text on in lower case.
                key = subscription.interest.subject.lower(), subscription.interest.queue_group.lower()
                self._by_interest.setdefault(key, []).append(subscription)
        return [each.interest for each in self._by_interest.get((denied.subject, denied.queue_group), ())]

    def _on_disconnected(self) -> None:
        # Nothing more comes from the old connection, and nats-py would make these subscriptions again on the next.
        for sid in tuple(self._ending):
            self._forget(sid)
        self._wake_waiters()
        self.writer.stop_flushing()
        if not self.client.is_closed:
            self._emit(ConnectionEvent(EventKind.DISCONNECTED, self.client.last_error))

    def _on_reconnected(self) -> None:
        self._watch_reader()
        self._warn_of_clear_text()
        self._wake_waiters()
        self._emit(ConnectionEvent(EventKind.RECONNECTED))

    def _warn_of_clear_text(self) -> None:
        complaint = None if self._has_warned else complaint_of_clear_text(self.client)
        if complaint is not None:
            self._has_warned = True
            logger.warning(complaint)

    def _on_closed(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            self._closed.set_result(None)
            self._end_waiting()
            self._emit(ConnectionEvent(EventKind.CLOSED, self.client.last_error))

    # A reader that ends without a word

    def _watch_reader(self) -> None:
        reader = self.client._reading_task
        if reader is not None and reader is not self._reader:
            self._reader = reader
            reader.add_done_callback(self._on_reader_done)

    def _on_reader_done(self, reader: asyncio.Task[Any]) -> None:
        if self._is_attached and reader is self.client._reading_task:
            self._reader_ended.set()

    async def heal(self) -> None:
        """See that the client reconnects or closes whenever its reader has ended. Runs until cancelled.

        nats-py does neither when anybody cancels a ``flush()`` of this client, when a callback raises, or when the connection
        is lost while it writes its last messages.
        """
        while True:
            await self._reader_ended.wait()
            self._reader_ended.clear()
            await self._settle()

    async def _settle(self) -> None:
        """Wait until the client is connected or closed, and make it so if nats-py does nothing for it any more."""
        client = self.client
        while not self._closed.done():
            reconnecting, reader = client._reconnection_task, client._reading_task
            if client.is_closed:
                # nats-py calls its callback at the end of closing, if it comes so far.
                await asyncio.wait((self._closed,), timeout=CLOSE_SECONDS)
                self.writer.abort()
                self._on_closed()
            elif reconnecting is not None and not reconnecting.done():
                transport = self.writer.tcp_transport()
                waits = (reconnecting, self._closed)
                done, _ = await asyncio.wait(waits, timeout=CLOSE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                if not done and transport is not None and transport.is_closing():
                    # nats-py waits until the old socket is closed, and asyncio until the server has taken all that was written.
                    transport.abort()
            elif client.is_connected and reader is not None and not reader.done():
                self._watch_reader()
                return
            else:
                if reconnecting is not None:
                    forget_outcome(reconnecting)
                await self._reconnect()

    async def _reconnect(self) -> None:
        """Do what nats-py has left undone."""
        client = self.client
        self._emit(
            ConnectionEvent(EventKind.ERROR, NatseryError("nats-py's reader ended without a word; reconnecting"))
        )
        if not client.options["allow_reconnect"]:
            await self.close()  # as nats-py does when it loses such a connection
        elif client.is_connected:
            await client.force_reconnect()
        else:
            client._status = Client.RECONNECTING
            client._reconnection_task = self.loop.create_task(self._attempt_again())

    async def _attempt_again(self) -> None:
        """Reconnect after a while; ``Client.close`` ends it, for it is the client's own task of that kind."""
        await asyncio.sleep(self.client.options["reconnect_time_wait"])
        await self.client._attempt_reconnect()

    # A program that drains its client

    def hold_open(self, on_drain: Callable[[], None]) -> Callable[[], None]:
        """See `FastPath._hold_open`."""
        holds = self._holds
        holds.append(on_drain)
        self._unheld.clear()

        def release() -> None:
            holds.remove(on_drain)
            if not holds:
                self._unheld.set()

        return release

    async def _drain(self, subscription: ClientSubscription) -> None:
        """Stand in for nats-py's ``Subscription._drain``, of which ``Client.drain`` awaits one for each subscription.

        nats-py's own waits for callbacks of nats-py, which these subscriptions have not; then the client is closed.
        """
        if not self._is_draining:
            self._is_draining = True
            for on_drain in self._holds:
                on_drain()
        await self._unheld.wait()
        with suppress(ConnectionClosedError):
            await self.unsubscribe(subscription)
            await self.fence()

    # What the seam needs

    def raise_if_closed(self) -> None:
        """Raise `ConnectionClosedError` once the client is closed."""
        if self._is_closed or self.client.is_closed:
            raise ConnectionClosedError

    async def subscribe(self, interest: Interest) -> ClientSubscription:
        """Subscribe; nothing is left if it raises or is cancelled.

        Args:
            interest: its ``deliver`` must not raise: that would end nats-py's reader.
        """
        self.raise_if_closed()
        subscribing = self._subscribe(interest)
        if self.writer.takes_at_once(CONTROL_LINE_BYTES):
            return await subscribing
        task = self.writer.start_writing(subscribing)
        try:
            await asyncio.wait((task,))
        except asyncio.CancelledError:
            task.add_done_callback(self._undo_late)
            raise
        return outcome_of(task)

    async def _subscribe(self, interest: Interest) -> ClientSubscription:
        intake = Intake(interest.deliver, interest.message_type, self.writer)
        try:
            inner = await self.client.subscribe(interest.subject, queue=interest.queue_group, future=intake)
        except (nats.errors.ConnectionClosedError, nats.errors.ConnectionDrainingError) as error:
            raise ConnectionClosedError(f"nats-py cannot subscribe: {error}") from error
        subscription = self._subscriptions[inner._id] = ClientSubscription(interest, inner._id)
        inner._drain = partial(self._drain, subscription)  # type: ignore[method-assign]
        self._by_interest = None
        return subscription

    async def unsubscribe(self, subscription: ClientSubscription) -> None:
        """Tell the server to send nothing more; what is on the way still arrives until the next fence."""
        sid = subscription.sid
        if sid in self._ending or sid not in self._subscriptions:
            return
        self._ending.add(sid)
        if not self.client.is_connected:
            self._forget(sid)
        if not self.client.is_closed:
            # Also while it is away: a SUB may be waiting in its buffer.
            await self.writer.write(self.client._send_unsubscribe(sid))

    async def unsubscribe_all(self) -> None:
        """End every subscription at once; what is on the way is dropped."""
        for subscription in list(self._subscriptions.values()):
            await self._undo(subscription)

    async def _undo(self, subscription: ClientSubscription) -> None:
        await self.unsubscribe(subscription)
        self._forget(subscription.sid)

    def _undo_late(self, task: asyncio.Task[ClientSubscription]) -> None:
        if not task.cancelled() and task.exception() is None:
            self.writer.start_writing(self._undo(task.result()))

    async def close(self) -> None:
        """Close the client for good, within a bound whatever nats-py and the server do; at once if cancelled. Safe twice."""
        closing = self._closing = self.loop.create_task(self._close())
        try:
            await asyncio.wait((closing,), timeout=CLOSE_SECONDS)
            self.writer.abort()
            await cancel_until_done(lambda: set() if closing.done() else {closing}, CANCEL_SECONDS)
        finally:
            self.writer.abort()
            closing.cancel()
            self._on_closed()

    async def _close(self) -> None:
        with suppress(Exception):  # when the server has died nats-py raises before it has closed its transport
            await self.client.close()

    def _forget(self, sid: int) -> None:
        self._subscriptions.pop(sid, None)
        self._ending.discard(sid)
        self._by_interest = None
        self.client._remove_sub(sid)

    async def wait_changed(self) -> None:
        """Wait until the client is away, back or closed."""
        self.raise_if_closed()
        await asyncio.shield(self._changed)

    async def fence(self) -> None:
        """Wait until the server has processed all that was sent before, and all that it sent is delivered."""
        while True:
            self.raise_if_closed()
            ending = tuple(self._ending)
            if not self.client.is_connected:
                await self.wait_changed()
            elif await self.reach_server():
                for sid in ending:
                    self._forget(sid)
                return

    async def reach_server(self) -> bool:
        """Wait until the server has processed all that was sent before; false if the connection is away or goes away."""
        # nats-py's PING overtakes commands that wait in its buffer. They have left it by the time of the first PONG, so the
        # second PING follows them.
        return await self._ping() and await self._ping()

    async def _ping(self) -> bool:
        """One round trip; false if there is no connection or it went away meanwhile."""
        if not self.client.is_connected:
            return False
        # nats-py sets the result of `pong` unasked, and its reader dies if that future was cancelled. So no task waits for
        # `pong` itself, and `passed` is the one that a cancellation reaches.
        pong: asyncio.Future[bool] = self.loop.create_future()
        passed: asyncio.Future[bool] = self.loop.create_future()
        pong.add_done_callback(lambda _: None if passed.done() else passed.set_result(True))
        self._fences.add(passed)
        try:
            await self.writer.write(self.client._send_ping(pong))
            return await passed
        except RuntimeError:  # uvloop's, when the socket is closed and nats-py has not noticed yet
            await self.wait_changed()
            return False
        finally:
            self._fences.discard(passed)

    def _wake_waiters(self) -> None:
        for passed in self._fences:
            if not passed.done():
                passed.set_result(False)
        changed, self._changed = self._changed, self.loop.create_future()
        changed.set_result(None)

    def _end_waiting(self) -> None:
        self._wake_waiters()
        self.writer.cancel()
