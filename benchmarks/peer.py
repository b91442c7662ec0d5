"""One echo service in a process of its own, for the other benchmarks: prints ``ready`` once it is live."""

from __future__ import annotations

import argparse
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import anyio
import nats
import nats.micro
import nats.micro.request

import natsery

STAY_SECONDS = 0.02
AWAY_SECONDS = 0.005

Join = Callable[[], AbstractAsyncContextManager[Any]]


@asynccontextmanager
async def nats_py(url: str, subject: str) -> AsyncIterator[Join]:
    """The `micro` module of nats-py itself."""

    async def echo(request: nats.micro.request.Request) -> None:
        await request.respond(request.data)

    @asynccontextmanager
    async def join() -> AsyncIterator[None]:
        service = await nats.micro.add_service(client, name="echo", version="1.0.0")
        await service.add_endpoint(name="echo", handler=echo, subject=subject)
        await client.flush()
        yield
        await service.stop()

    client = await nats.connect(url)
    yield join
    await client.close()


def echo_config(subject: str) -> natsery.ServiceConfig:
    """The same service for natsery."""

    async def echo(request: natsery.Request) -> bytes:
        return request.data

    endpoint = natsery.EndpointConfig("echo", echo, subject=subject)
    return natsery.ServiceConfig("echo", "1.0.0", endpoints=[endpoint])


@asynccontextmanager
async def adapted(url: str, subject: str) -> AsyncIterator[Join]:
    """natsery on a nats-py client of the same loop."""
    client = await nats.connect(url)
    async with natsery.adapt(client) as nc:
        yield lambda: natsery.serve(nc, echo_config(subject))
    await client.close()


@asynccontextmanager
async def bridged(url: str, subject: str) -> AsyncIterator[Join]:
    """natsery on a nats-py client in another thread."""
    async with natsery.bridge(url) as nc:
        yield lambda: natsery.serve(nc, echo_config(subject))


PEERS: dict[str, tuple[Callable[[str, str], AbstractAsyncContextManager[Join]], str, dict[str, Any]]] = {
    "nats-py": (nats_py, "asyncio", {}),
    "adapted": (adapted, "asyncio", {}),
    "uvloop": (adapted, "asyncio", {"use_uvloop": True}),
    "bridged": (bridged, "trio", {}),
}


async def serve(peer: str, url: str, subject: str, rejoins: int) -> None:
    """Serve until killed, or leave and rejoin so often and then say ``done``."""
    async with PEERS[peer][0](url, subject) as join:
        if not rejoins:
            async with join():
                print("ready", flush=True)
                await anyio.sleep_forever()
        print("ready", flush=True)
        for _ in range(rejoins):
            async with join():
                await anyio.sleep(STAY_SECONDS)
            await anyio.sleep(AWAY_SECONDS)
        print("done", flush=True)
        await anyio.sleep_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("peer", choices=PEERS)
    parser.add_argument("url")
    parser.add_argument("subject")
    parser.add_argument("--rejoins", type=int, default=0, help="leave and rejoin so often (%(default)s: just serve)")
    arguments = parser.parse_args()
    _, backend, options = PEERS[arguments.peer]
    anyio.run(
        serve,
        arguments.peer,
        arguments.url,
        arguments.subject,
        arguments.rejoins,
        backend=backend,
        backend_options=options,
    )


if __name__ == "__main__":
    main()
