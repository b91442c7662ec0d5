"""A requester that chooses a reply subject which is too long for the server's lines: its connection is its own problem."""

from __future__ import annotations

import anyio
import pytest

import natsery
from natsery.abc import Connection

from .bounds import bounded
from .calc_service import add, config
from .raw_client import raw_client
from .server import NatsServer

pytestmark = pytest.mark.anyio

REPLY = "r" * 4_085
"""Fits with a PUB to a subject of one letter, and not with the headers of an error reply."""


async def test_the_service_lives_and_counts_it(nc: Connection, nats_server: NatsServer) -> None:
    """The server closed the service's connection, because the line of the error reply was too long for it."""
    malformed: list[Exception] = []
    refused = anyio.Event()

    async def refuse(request: natsery.Request) -> bytes:
        raise natsery.ServiceError(400, "no")

    def note(error: Exception, *_: object) -> None:
        if isinstance(error, natsery.MalformedRequestError):
            malformed.append(error)
            if len(malformed) == 2:
                refused.set()

    endpoint = natsery.EndpointConfig("e", refuse)
    async with bounded(), natsery.serve(nc, config(endpoint, add, prefix="c", error_handler=note)) as service:
        with nc.events() as events:
            with raw_client(nats_server.port) as client:
                client.log_in()
                client.send(f"PUB e {REPLY} 0\r\n\r\nPUB c.PING {REPLY[:-5]} 0\r\n\r\nPING\r\n")
                await anyio.to_thread.run_sync(client.read_until, "PONG")
            await refused.wait()
            assert (await nc.request("add", b"1+2")).data == b"3"
            assert (await events.receive()).kind is natsery.EventKind.CONNECTED
            assert not events._pending
        assert service.stats().endpoints[0].malformed == 1
