"""What `serve` takes as a connection, and what it says of a connection or client that it cannot use here."""

from __future__ import annotations

import anyio
import pytest
from nats.aio.client import Client

import natsery
from natsery.testing import MemoryBroker

from ..calc_service import config


class OwnClient(Client):
    """A program may derive from nats-py's client."""


@pytest.mark.parametrize("kind", [Client, OwnClient])
@pytest.mark.parametrize(
    ("backend", "error", "text"),
    [
        ("trio", natsery.BackendMismatchError, "needs asyncio and this is trio; write 'async with natsery.bridge("),
        ("asyncio", natsery.ConnectionClosedError, "is not connected; write 'client = await nats.connect(...)' first"),
    ],
    ids=["trio", "asyncio"],
)
def test_a_nats_py_client_is_adapted_or_refused_with_what_to_write(
    kind: type[Client], backend: str, error: type[Exception], text: str
) -> None:
    async def main() -> None:
        async with natsery.serve(kind(), config()):
            raise AssertionError

    with pytest.raises(error) as caught:
        anyio.run(main, backend=backend)
    assert text in str(caught.value)


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_a_connection_of_another_event_loop_is_refused(backend: str) -> None:
    async def connect() -> natsery.abc.Connection:
        async with MemoryBroker() as broker, broker.connect() as nc:
            return nc

    async def serve(nc: natsery.abc.Connection) -> None:
        async with natsery.serve(nc, config()):
            raise AssertionError

    nc = anyio.run(connect, backend=backend)
    with pytest.raises(
        natsery.BackendMismatchError, match=r"^this NATS connection belongs to another event loop"
    ) as caught:
        anyio.run(serve, nc, backend=backend)
    assert caught.value.__suppress_context__
