"""One echo service in a process of its own, for the other benchmarks: prints ``ready`` and versions once it is live."""

from __future__ import annotations

import argparse
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import anyio
import nats
import nats.micro
import nats.micro.request
from feature_configs import FEATURES, NONE
from transports import BACKENDS, describe, nats_py_options, open_connection

import natsery

STAY_SECONDS = 0.02
AWAY_SECONDS = 0.005

Join = Callable[[], AbstractAsyncContextManager[Any]]
Open = Callable[..., AbstractAsyncContextManager[Join]]


@asynccontextmanager
async def nats_py(url: str, subject: str, authority: str | None) -> AsyncIterator[Join]:
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

    client = await nats.connect(url, **nats_py_options(authority))
    yield join
    await client.close()


def natsery_on(transport: str) -> Open:
    """natsery on a connection of that kind."""

    @asynccontextmanager
    async def open_natsery(url: str, subject: str, authority: str | None, feature: str = NONE) -> AsyncIterator[Join]:
        async with open_connection(transport, url, authority) as nc:
            config = FEATURES[feature](subject)
            yield lambda: natsery.serve(nc, config)

    return open_natsery


@dataclass(frozen=True)
class Peer:
    """How to serve, where, and whose versions matter."""

    open: Open
    backend: str
    packages: tuple[str, ...]

    def versions(self) -> str:
        """What is measured."""
        return describe(*self.packages)


PEERS = {
    "nats-py": Peer(nats_py, "asyncio", ("nats-py",)),
    "native-trio": Peer(natsery_on("native"), "trio", ("natsery", "anyio", "trio")),
    "native-asyncio": Peer(natsery_on("native"), "asyncio", ("natsery", "anyio")),
    "native-uvloop": Peer(natsery_on("native"), "uvloop", ("natsery", "anyio", "uvloop")),
    "adapted-asyncio": Peer(natsery_on("adapted"), "asyncio", ("natsery", "anyio", "nats-py")),
    "adapted-uvloop": Peer(natsery_on("adapted"), "uvloop", ("natsery", "anyio", "nats-py", "uvloop")),
    "bridged-trio": Peer(natsery_on("bridged"), "trio", ("natsery", "anyio", "trio", "nats-py")),
}


async def serve(
    peer: Peer, url: str, subject: str, options: dict[str, str], authority: str | None, rejoins: int
) -> None:
    """Serve until killed, or leave and rejoin so often and then say ``done``."""
    async with peer.open(url, subject, authority, **options) as join:
        if not rejoins:
            async with join():
                print("ready", peer.versions(), flush=True)
                await anyio.sleep_forever()
        print("ready", peer.versions(), flush=True)
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
    parser.add_argument("--feature", choices=FEATURES, help="have natsery serve with that")
    parser.add_argument("--tls", metavar="FILE", help="connect with TLS, trusting the authority in this file")
    arguments = parser.parse_args()
    peer = PEERS[arguments.peer]
    backend, options = BACKENDS[peer.backend]
    anyio.run(
        serve,
        peer,
        arguments.url,
        arguments.subject,
        {"feature": arguments.feature} if arguments.feature else {},
        arguments.tls,
        arguments.rejoins,
        backend=backend,
        backend_options=options,
    )


if __name__ == "__main__":
    main()
