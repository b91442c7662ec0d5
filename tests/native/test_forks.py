"""Sockets of which a forked process has a copy, and connections that are used there."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

import natsery
from natsery import EventKind
from natsery._backends._sockets import ConnectedSocket, _owners

from ..bounds import bounded
from ..certificates import Certificates
from ..forks import in_a_fork
from ..server import NatsServer
from .tools import PINGS, QUICK, Events, lose_patience

pytestmark = [pytest.mark.anyio, pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")]


@pytest.fixture(params=["plain", "tls"])
def secure(request: pytest.FixtureRequest) -> bool:
    return request.param == "tls"


@contextmanager
def served(secure: bool, certificates: Certificates) -> Iterator[tuple[NatsServer, dict[str, object]]]:
    with NatsServer(certificates.server_config() if secure else "") as server:
        yield server, {**QUICK, **({"tls": certificates.client_context()} if secure else {})}


def number_of(nc: natsery.NativeConnection) -> int:
    """The number of its socket in this process."""
    assert nc._session is not None
    return nc._session.link.socket._number


def connections(server: NatsServer) -> int:
    return int(server.monitor("/connz")["num_connections"])


async def gone(server: NatsServer, left: int) -> None:
    """Wait until the server has so many connections."""
    await anyio.to_thread.run_sync(
        lambda: server.wait_until(lambda: connections(server) == left, f"not {left} connections")
    )


@pytest.mark.parametrize("how", ["leave", "aclose", "cancel"])
async def test_a_connection_ends_although_there_is_a_copy_of_its_socket(
    secure: bool, how: str, certificates: Certificates
) -> None:
    """It was closed only: as long as a forked process lived, the server took it for a member of the queue group."""
    with served(secure, certificates) as (server, options):
        async with bounded():
            with anyio.CancelScope() as scope:
                async with natsery.connect(server.url, **options) as nc:
                    copy = os.dup(number_of(nc))
                    if how == "aclose":
                        await nc.aclose()
                    elif how == "cancel":
                        scope.cancel()
            try:
                await gone(server, 0)
            finally:
                os.close(copy)


async def test_a_connection_that_is_given_up_ends_although_there_is_a_copy(
    secure: bool, certificates: Certificates
) -> None:
    """After a freeze, the server went on sending half of all requests to a socket that nobody read."""
    with served(secure, certificates) as (server, options):
        async with bounded(), natsery.connect(server.url, **PINGS, **options) as nc:
            heard = Events(nc)
            copy = os.dup(number_of(nc))
            try:
                server.freeze()
                lose_patience(nc)
                await heard.wait(EventKind.DISCONNECTED)
                server.thaw()
                await heard.wait(EventKind.RECONNECTED)
                await nc.flush()
                await gone(server, 1)
            finally:
                os.close(copy)


async def test_a_handshake_that_fails_ends_although_there_is_a_copy() -> None:
    with NatsServer("authorization { token: secret, timeout: 60 }") as server:
        copies: list[int] = []

        def token() -> str:
            sockets = [each for each in _owners if isinstance(each, ConnectedSocket)]
            copies.extend(os.dup(each._number) for each in sockets if each._name is not None)
            raise LookupError

        async with bounded():
            with pytest.raises(LookupError):
                async with natsery.connect(server.url, token=token):
                    pytest.fail("it has connected")
            try:
                assert copies
                await gone(server, 0)
            finally:
                for copy in copies:
                    os.close(copy)


async def test_a_forked_process_keeps_no_copy(secure: bool, certificates: Certificates) -> None:
    """When this process was killed, its forks kept the connection open."""
    with served(secure, certificates) as (server, options):
        async with bounded(), natsery.connect(server.url, **options) as nc, nc.subscribe("a") as messages:
            number = number_of(nc)
            here = str(Path(f"/proc/self/fd/{number}").readlink())
            there = in_a_fork(lambda: str(Path(f"/proc/self/fd/{number}").readlink()))
            assert here.startswith("socket:")
            assert there == os.devnull
            await nc.publish("a", b"1")
            assert (await messages.receive()).data == b"1"


async def test_a_connection_that_is_used_in_a_fork_says_so(nats_server: NatsServer) -> None:
    async with bounded(), natsery.connect(nats_server.url) as nc:

        def use() -> str:
            nc.publish("a").send(None)
            return "published"

        def use_in_a_loop_of_its_own() -> str:
            asyncio.run(nc.flush())
            return "flushed"

        for each in (use, use_in_a_loop_of_its_own):
            assert in_a_fork(each) == (
                f"RuntimeError: this NATS connection belongs to process {os.getpid()}, of which this one is a fork; "
                "open another connection here"
            )
        await nc.flush()


async def test_a_number_that_is_another_files_by_now_is_left_alone(nats_server: NatsServer) -> None:
    async with bounded(), natsery.connect(nats_server.url) as one, natsery.connect(nats_server.url) as other:
        assert one._session is not None
        assert other._session is not None
        stale = one._session.link.socket
        number, stale._number = stale._number, other._session.link.socket._number
        stale.shut_down()
        stale._name = "something else"
        stale.let_go()
        await other.flush()
        stale._number = number
