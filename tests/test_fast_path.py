"""Connections of others: a service and a client on one that has the public methods alone."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import anyio
import pytest

import natsery
from natsery import Message, NatseryError, ServiceClient
from natsery.abc import Connection, Subscription
from natsery.testing import MemoryBroker

from .bounds import HANG_SECONDS, bounded
from .calc_service import add, config, error_of

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["trio", "asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return request.param


class Others(Connection):
    """A connection that hands everything on to another one, as one that counts or filters would."""

    def __init__(self, inner: Connection) -> None:
        self._inner = inner
        self.published: list[str] = []

    @property
    def max_payload(self) -> int:
        return self._inner.max_payload

    @property
    def is_connected(self) -> bool:
        return self._inner.is_connected

    @property
    def is_closed(self) -> bool:
        return self._inner.is_closed

    async def publish(self, subject: str, data: bytes = b"", *, reply: str = "", headers=None) -> None:
        self.published.append(subject)
        await self._inner.publish(subject, data, reply=reply, headers=headers)

    async def add_subscription(
        self,
        subject: str,
        deliver: Callable[[Message], None],
        *,
        queue_group: str = "",
        on_error: Callable[[NatseryError], None] | None = None,
    ) -> Subscription:
        return await self._inner.add_subscription(subject, deliver, queue_group=queue_group, on_error=on_error)

    async def flush(self) -> None:
        await self._inner.flush()

    async def request(self, subject: str, data: bytes = b"", *, headers=None) -> Message:
        return await self._inner.request(subject, data, headers=headers)

    def new_inbox(self) -> str:
        return self._inner.new_inbox()

    def add_listener(self, listener):
        return self._inner.add_listener(listener)

    async def wait_closed(self) -> None:
        await self._inner.wait_closed()

    async def aclose(self) -> None:
        await self._inner.aclose()


async def test_a_service_and_a_client() -> None:
    @natsery.endpoint
    async def count(body: int) -> AsyncIterator[int]:
        for number in range(body):
            yield number

    async with bounded(), MemoryBroker() as broker, broker.connect() as inner, broker.connect() as caller:
        nc = Others(inner)
        async with natsery.serve(nc, config(add, count)) as service:
            assert (await caller.request("add", b"1+2", headers={"A": "b"})).data == b"3"
            assert error_of(await caller.request("add", b"x")) == "400:expected 'a+b'"
            client = ServiceClient(nc)
            async with client.stream("count", 3, returns=int) as numbers:
                assert [number async for number in numbers] == [0, 1, 2]
            (ping,) = await client.ping("calc", wait=HANG_SECONDS, count=1)
            assert ping.id == service.id
            assert any(subject.startswith("_INBOX.") for subject in nc.published)
        with pytest.raises(natsery.NoRespondersError):
            await caller.request("add", b"1+2")
        assert nc.is_connected


async def test_requests_beyond_the_queue_are_refused() -> None:
    entered, release = anyio.Event(), anyio.Event()

    @natsery.endpoint(pending_messages=1)
    async def slow(request: natsery.Request) -> bytes:
        entered.set()
        await release.wait()
        return b""

    async with bounded(), MemoryBroker() as broker, broker.connect() as inner, broker.connect() as caller:
        async with natsery.serve(Others(inner), config(slow)), anyio.create_task_group() as tasks:
            tasks.start_soon(caller.request, "slow")
            await entered.wait()
            tasks.start_soon(caller.request, "slow")
            await anyio.wait_all_tasks_blocked()
            assert error_of(await caller.request("slow")) == "503:Service Overloaded"
            release.set()


async def test_the_end_of_the_connection_ends_the_service() -> None:
    async with bounded(), MemoryBroker() as broker, broker.connect() as inner:
        with pytest.raises(natsery.ConnectionClosedError):
            async with natsery.serve(Others(inner), config(add)):
                await inner.aclose()
                await anyio.sleep_forever()
