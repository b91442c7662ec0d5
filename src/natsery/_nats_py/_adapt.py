"""`adapt`: a nats-py client of this asyncio loop as a connection."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, final

from anyio import move_on_after
from anyio.lowlevel import checkpoint

from .._backends import is_trio
from .._connection_base import ConnectionBase, SubscriptionBase
from .._errors import BackendMismatchError, ConnectionClosedError
from .._fast_path import Interest
from .._headers import Headers, HeadersInput
from .._home import Home
from .._interrupts import start_task
from .._protocol import _commands
from .._tasks import background_tasks, block_of_one_task
from ._bounds import ACLOSE_SECONDS
from ._private_names import check_private_names

if TYPE_CHECKING:
    from nats.aio.client import Client

    from ._safe_client import ClientSubscription, SafeClient


async def _let_go(connection: AdaptedConnection) -> None:
    safe_client = connection._safe_client
    # Protects the UNSUBs of what was not unsubscribed by its owner, such as the inbox for replies.
    with move_on_after(1, shield=True):
        await safe_client.unsubscribe_all()
    safe_client.detach()


@block_of_one_task("natsery.adapt", _let_go)
@asynccontextmanager
async def adapt(client: Client) -> AsyncIterator[AdaptedConnection]:
    """Use a connected nats-py client as a connection, for the length of a block::

        client = await nats.connect("nats://127.0.0.1:4222")
        async with natsery.adapt(client) as nc:
            ...

    ``serve`` also takes such a client as it is. The client stays the caller's: its callbacks go on being called, and
    leaving the block puts them back and does not close it. Subscriptions made through the block end with it.

    ``client.drain()`` ends the services on it first, as ``Service.stop`` does, and closes the client when they have answered
    what they have accepted, at the latest after the client's ``drain_timeout`` (30 s unless given). Awaited in a handler, it
    waits for that handler until the service's grace is over. Cancelled, it goes on in the background. ``client.close()``
    closes it under the services.

    nats-py notices a link over which nothing comes, or nothing goes, after ``max_outstanding_pings`` + 1 intervals of
    ``ping_interval``: six minutes unless ``nats.connect`` was given others. It reconnects then, and so it does when a server
    has complained of a stale connection; after any other complaint, as of a password that was changed, it closes for good.

    A message that cannot be read is dropped and reported, also to the client's ``error_cb``; what the client's callbacks
    raise is logged, since it would end nats-py's reading or reconnecting.

    Raises:
        BackendMismatchError: this is not asyncio, or not the loop that the client was connected in, or natsery does not
            support the installed version of nats-py.
        ConnectionClosedError: the client is closed or was never connected.
    """
    _check_client(client)
    from ._safe_client import SafeClient

    safe_client = SafeClient(client)
    connection = AdaptedConnection(safe_client)
    async with background_tasks() as tasks:
        safe_client.attach(connection._emit)
        try:
            start_task(tasks, safe_client.heal, name="natsery nats-py watch")
            yield connection
        finally:
            await _let_go(connection)  # noqa: ASYNC102  # shielded and bounded in there


def _check_client(client: Client) -> None:
    """Check that this is a nats-py client as natsery knows it, connected in this asyncio loop."""
    from nats.aio.client import Client

    if not isinstance(client, Client):
        raise BackendMismatchError(f"adapt needs a nats-py client, not {type(client).__name__}")
    if is_trio():
        raise BackendMismatchError(
            "a nats-py client needs asyncio and this is trio; "
            "write 'async with natsery.bridge(\"nats://...\") as nc' and give it the options of nats.connect"
        )
    check_private_names(client)
    reader = client._reading_task
    if client.is_closed or reader is None:
        raise ConnectionClosedError(
            "the nats-py client is not connected; write 'client = await nats.connect(...)' first"
        )
    import asyncio

    if reader.get_loop() is not asyncio.get_running_loop():
        raise BackendMismatchError(
            "this nats-py client was connected in another event loop; connect it in the loop that serves, "
            "or write 'async with natsery.bridge(\"nats://...\") as nc'"
        )


@final
class AdaptedSubscription(SubscriptionBase):
    """A subscription of a client of this loop."""

    def __init__(self, safe_client: SafeClient, interest: Interest, home: Home) -> None:
        super().__init__(interest, home)
        self._safe_client = safe_client
        self._inner: ClientSubscription

    async def _begin(self, interest: Interest) -> None:
        self._inner = await self._safe_client.subscribe(interest._replace(deliver=self._take, on_error=self._fail))

    async def _unsubscribe(self) -> None:
        await self._safe_client.unsubscribe(self._inner)


@final
class AdaptedConnection(ConnectionBase):
    """A nats-py client of this asyncio loop; made by ``adapt``."""

    def __init__(self, safe_client: SafeClient) -> None:
        client = safe_client.client
        super().__init__(client.new_inbox())
        self._safe_client = safe_client
        self._writer = safe_client.writer
        self._client = client

    @property
    def client(self) -> Client:
        """The nats-py client, for JetStream, key-value and whatever else it can do."""
        return self._client

    @property
    def max_payload(self) -> int:
        """See `abc.Connection`."""
        return self._client.max_payload

    @property
    def is_connected(self) -> bool:
        """See `abc.Connection`."""
        return self._client.is_connected

    async def _send(
        self, subject: str, data: bytes = b"", *, reply: str = "", headers: HeadersInput | None = None
    ) -> None:
        frame = _commands.publish(
            subject, data, reply, headers, self._client._max_payload, takes_headers=self._takes_headers
        )
        await self._writer.publish(frame, 1, len(data))

    def _answer_nowait(self, reply: str, data: bytes) -> bool:
        return self._writer.answer_nowait(reply, data)

    def _push_answers(self) -> None:
        self._writer.push()

    @property
    def _takes_headers(self) -> bool:
        return bool(self._client._server_info.get("headers"))

    def _refuse_nowait(self, reply: str, headers: Headers) -> bool:
        if not self._takes_headers:
            return False
        frame = _commands.publish(reply, b"", "", headers, self._client._max_payload)
        return self._writer.write_nowait(frame, 1, 0)

    async def _subscribe(self, interest: Interest) -> AdaptedSubscription:
        self._raise_if_closed()
        subscription = AdaptedSubscription(self._safe_client, interest, self._home)
        await subscription._begin(interest)
        return subscription

    def _hold_open(self, on_drain: Callable[[], None]) -> Callable[[], None]:
        return self._safe_client.hold_open(on_drain)

    async def flush(self) -> None:
        """See `abc.Connection`."""
        self._home.check()
        await checkpoint()
        await self._safe_client.fence()

    async def aclose(self) -> None:
        """See `abc.Connection`; this closes the nats-py client too."""
        self._home.check()
        # Protects the connection from staying half closed.
        with move_on_after(ACLOSE_SECONDS, shield=True):
            await self._safe_client.close()
        await checkpoint()
