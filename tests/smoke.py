"""Serves an echo in memory, on trio and on asyncio, to see that an installation works; prints which core runs."""

from __future__ import annotations

import anyio

import natsery
from natsery.testing import MemoryBroker


@natsery.endpoint
async def echo(request: natsery.Request) -> bytes:
    return request.data


async def main() -> None:
    config = natsery.ServiceConfig("echo", "1.0.0", endpoints=[echo])
    async with MemoryBroker() as broker, broker.connect() as nc, natsery.serve(nc, config) as service:
        with anyio.fail_after(10):
            for number in range(1000):
                data = b"%d" % number
                assert (await nc.request("echo", data)).data == data
        assert service.stats().endpoints[0].num_requests == 1000


if __name__ == "__main__":
    for backend in ("trio", "asyncio"):
        anyio.run(main, backend=backend)
    print(natsery.CORE)
