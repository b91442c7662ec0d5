"""The socket of a nats-py client, of which a forked process would have a copy."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import natsery
from natsery import EventKind

from ..bounds import bounded
from ..calc_service import add, config
from ..conftest import BACKENDS, open_connection
from ..forks import in_a_fork
from ..native.tools import Events
from ..server import NatsServer

pytestmark = [pytest.mark.anyio, pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")]

QUICK = {"reconnect_time_wait": 0.01, "max_reconnect_attempts": -1}


@pytest.fixture(params=["asyncio-adapted", "uvloop-adapted", "trio-bridged"])
def setting(request: pytest.FixtureRequest) -> object:
    backend, transport = request.param.split("-")
    return BACKENDS[backend], transport


def number_of(nc: natsery.AdaptedConnection | natsery.BridgedConnection) -> int:
    """The number of the client's socket in this process."""
    return nc.client._transport._io_writer.get_extra_info("socket").fileno()


def file_of(number: int) -> str:
    return str(Path(f"/proc/self/fd/{number}").readlink())


async def test_a_forked_process_keeps_no_copy(transport: str) -> None:
    """After a freeze, the server went on sending requests to the old socket, which the processes of a pool kept open."""
    with NatsServer() as server:
        async with bounded(), open_connection(transport, server.url, **QUICK) as nc, natsery.serve(nc, config(add)):
            heard = Events(nc)
            for reconnects in (0, 1):
                if reconnects:
                    server.restart()
                    await heard.wait(EventKind.RECONNECTED)
                number = number_of(nc)
                assert file_of(number).startswith("socket:")
                assert in_a_fork(lambda number=number: file_of(number)) == os.devnull
                assert (await nc.request("add", b"1+1")).data == b"2"


async def test_a_number_that_is_another_files_by_now_is_left_alone(transport: str) -> None:
    with NatsServer() as server:
        async with bounded(), open_connection(transport, server.url, allow_reconnect=False) as nc:
            number = number_of(nc)
            server.kill()
            await nc.wait_closed()
            files = [os.open(__file__, os.O_RDONLY)]
            while files[-1] < number:
                files.append(os.open(__file__, os.O_RDONLY))
            try:
                assert number in files
                assert in_a_fork(lambda: file_of(number)) == __file__
            finally:
                for each in files:
                    os.close(each)


async def test_a_client_that_is_not_adapted_any_more_is_the_callers_alone(
    transport: str, nats_server: NatsServer
) -> None:
    if transport == "bridged":
        pytest.skip("its client ends with the block")
    import nats

    async with bounded():
        client = await nats.connect(nats_server.url)
        async with natsery.adapt(client) as nc:
            number = number_of(nc)
        assert in_a_fork(lambda: file_of(number)).startswith("socket:")
        await client.close()
