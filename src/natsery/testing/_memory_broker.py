"""`MemoryBroker`: routes messages in this process as nats-server does, without taking real time."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import final

import anyio
from anyio import AsyncContextManagerMixin
from anyio.lowlevel import checkpoint

from .._checks import check_argument, check_config, seconds_rule
from .._errors import ConfigError, ConnectionLostError, PublishDeniedError
from .._interrupts import start_task
from .._message import Message
from .._subjects import is_allowed, queue_group_rule, subject_rule
from .._tasks import background_tasks, block_of_one_task
from .._wakeup import Wakeup, new_wakeup
from ._memory_connection import MemoryConnection, MemorySubscription
from ._subject_index import SubjectIndex

DELIVERIES_BETWEEN_YIELDS = 64

NO_RESPONDERS = 503

_DELAY_RULE = seconds_rule(zero=True)


async def _close_connections(broker: MemoryBroker) -> None:
    for connection in list(broker._connections):
        connection._close()


@final
class MemoryBroker(AsyncContextManagerMixin):
    """A broker in memory, for the length of a block::

        async with MemoryBroker() as broker, broker.connect() as nc:
            async with natsery.serve(nc, config):
                assert (await nc.request("math.add", b"1+2")).data == b"3"

    Its connections keep the contract of `natsery.abc.Connection`. Messages are delivered one after the other, in the order
    in which they were sent, by one task; no real time passes, so that it suits trio's ``MockClock``.

    Args:
        seed: the seed of the choice which member of a queue group gets a message.
        max_payload: the most bytes that a message may have, headers counted.

    Attributes:
        delay: seconds before each delivery, 0 for none; may be changed at any time.
    """

    def __init__(self, *, seed: int = 0, max_payload: int = 1024 * 1024) -> None:
        if not isinstance(max_payload, int) or isinstance(max_payload, bool) or max_payload < 1:
            raise ConfigError("max_payload", max_payload, "must be an int of at least 1")
        self.max_payload: int = max_payload
        self.delay: float = 0.0
        self._random = random.Random(seed)  # noqa: S311  # no secret
        self._connections: dict[MemoryConnection, None] = {}  # in order
        self._index = SubjectIndex()
        self._subscribed = 0
        self._made = 0
        self._deliveries: deque[Callable[[], None]] = deque()
        self._wakeup: Wakeup | None = None

    @block_of_one_task("MemoryBroker", _close_connections)
    @asynccontextmanager
    async def __asynccontextmanager__(self) -> AsyncGenerator[MemoryBroker, None]:
        if self._wakeup is not None:
            raise RuntimeError("a MemoryBroker can be entered once; make another one")
        self._wakeup = new_wakeup()
        async with background_tasks() as tasks:
            start_task(tasks, self._deliver, name="natsery memory broker")
            try:
                yield self
            finally:
                await _close_connections(self)  # noqa: ASYNC102  # does not wait

    @asynccontextmanager
    async def connect(
        self, *, publish: Iterable[str] | None = None, subscribe: Iterable[str] | None = None
    ) -> AsyncIterator[MemoryConnection]:
        """Connect for the length of a block.

        Args:
            publish: subjects, wildcards allowed, that the connection may publish to; all if left out.
            subscribe: subjects that it may subscribe to; all if left out. As in nats-server's configuration, a subject may be
                followed by a blank and the only queue group that is allowed there.

        Raises:
            ConfigError: a subject breaks a rule.

        Entering is a checkpoint.
        """
        if self._wakeup is None:
            raise RuntimeError("enter the broker first: async with MemoryBroker() as broker, broker.connect() as nc")
        await checkpoint()
        connection = MemoryConnection(self, _patterns("publish", publish), _patterns("subscribe", subscribe))
        self._connections[connection] = None
        try:
            yield connection
        finally:
            connection._close()

    # Faults

    def disconnect(self, nc: MemoryConnection) -> None:
        """Disconnect a connection from the broker: messages on the way to it are lost, and what it sends waits."""
        nc._disconnect(ConnectionLostError("the broker ended the connection"))

    def reconnect(self, nc: MemoryConnection) -> None:
        """Connect it again."""
        nc._reconnect()

    def permit(
        self, nc: MemoryConnection, *, publish: Iterable[str] | None = None, subscribe: Iterable[str] | None = None
    ) -> None:
        """Change the permissions of a connection. Subscriptions that they do not allow any more are denied.

        Raises:
            ConfigError: a subject breaks a rule.
        """
        nc._permit(_patterns("publish", publish), _patterns("subscribe", subscribe))

    def drop(self, nc: MemoryConnection, subject: str, count: int = 1) -> None:
        """Drop the next ``count`` messages for a connection's subscriptions to ``subject``, as for a slow consumer."""
        nc._drop_next(check_argument("subject", subject, subject_rule), count)

    # Called by connections

    def _next_number(self) -> int:
        """Return a number that no connection has had."""
        self._made += 1
        return self._made

    def _next_subscription(self) -> int:
        """Return a number that no subscription has had."""
        self._subscribed += 1
        return self._subscribed

    def _forget(self, connection: MemoryConnection) -> None:
        """Remove a connection that is closed."""
        del self._connections[connection]

    def _post(self, delivery: Callable[[], None]) -> None:
        """Append a delivery to the queue."""
        assert self._wakeup is not None
        self._deliveries.append(delivery)
        self._wakeup.set()

    def _route(self, sender: MemoryConnection, message: Message) -> None:
        """Post a message to the subscriptions that match its subject, or post that there is none."""
        if not is_allowed(sender._may_publish, message.subject):
            self._post(lambda: sender._report(PublishDeniedError(message.subject)))
            return
        groups: dict[str, list[MemorySubscription]] = {}
        receivers: list[MemorySubscription] = []
        for subscription in self._index.receivers(message.subject):
            if subscription.queue_group:
                groups.setdefault(subscription.queue_group, []).append(subscription)
            else:
                receivers.append(subscription)
        receivers += [self._random.choice(members) for members in groups.values()]
        for receiver in receivers:
            self._post(receiver._delivery(message))
        if not receivers and message.reply:
            status = Message(message.reply, status=NO_RESPONDERS)
            for subscription in self._index.receivers(message.reply):
                if subscription._connection is sender:
                    self._post(subscription._delivery(status))

    async def _deliver(self) -> None:
        assert self._wakeup is not None
        deliveries = self._deliveries
        delivered = 0
        while True:
            while deliveries:
                check_argument("delay", self.delay, _DELAY_RULE)
                if self.delay:
                    await anyio.sleep(self.delay)
                deliveries.popleft()()
                delivered += 1
                if delivered % DELIVERIES_BETWEEN_YIELDS == 0:
                    await checkpoint()
            await self._wakeup.wait()


def _patterns(field: str, subjects: Iterable[str] | None) -> tuple[str, ...] | None:
    if subjects is None:
        return None
    if isinstance(subjects, str):
        raise ConfigError(field, subjects, "must be a sequence of subjects")
    return tuple(_check_permission(field, each) for each in subjects)


def _check_permission(field: str, permission: object) -> str:
    subject, blank, queue_group = permission.partition(" ") if isinstance(permission, str) else (permission, "", "")
    checked = str(check_config(field, subject, subject_rule))
    return f"{checked} {check_config(field, queue_group, queue_group_rule)}" if blank else checked
