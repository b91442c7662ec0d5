"""Peers that do not read, read slowly, or are gone before the answer; the others are answered as ever."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

import natsery

from ..harness import Bench, Run

REQUESTS = 50
PARTS = 300


@natsery.endpoint("echo", subject="slow_peers.echo", concurrency=4)
async def echo(request: natsery.Request) -> bytes:
    await anyio.lowlevel.checkpoint()
    return request.data


@natsery.endpoint("large", subject="slow_peers.large", concurrency=4)
async def large(request: natsery.Request) -> bytes:
    return bytes(200_000)


@natsery.endpoint("parts", subject="slow_peers.parts", concurrency=8)
async def parts(request: natsery.Request) -> AsyncIterator[bytes]:
    for number in range(PARTS):
        yield b"%d" % number


@asynccontextmanager
async def slow_peers(bench: Bench) -> AsyncIterator[Run]:
    config = natsery.ServiceConfig("slow_peers", "1.0.0", endpoints=[echo, large, parts])
    async with (
        natsery.connect(bench.url) as nc,
        natsery.connect(bench.url) as client,
        natsery.serve(nc, config) as service,
    ):

        async def run(chance: random.Random) -> None:
            async with anyio.create_task_group() as tasks:
                for _ in range(3):
                    peer = chance.choice([read_nothing, leave_at_once, read_slowly])
                    tasks.start_soon(peer, bench, client, random.Random(chance.random()))
                for number in range(REQUESTS):
                    reply = await bench.ask(client, "slow_peers.echo", b"%d" % number)
                    assert reply is None or reply.data == b"%d" % number, reply

        yield run
    bench.check_ended(service)


@asynccontextmanager
async def bare_peer(bench: Bench) -> AsyncIterator[anyio.abc.SocketStream]:
    """A client that has logged in, and does nothing by itself."""
    async with await anyio.connect_tcp("127.0.0.1", bench.server.port) as stream:
        await stream.receive()
        await stream.send(b"CONNECT %b\r\nSUB _INBOX.bare.* 1\r\n" % json.dumps({"verbose": False}).encode())
        yield stream


async def read_nothing(bench: Bench, client: natsery.NativeConnection, chance: random.Random) -> None:
    """Ask for megabytes and let them lie for a while: the server holds them, or ends the connection."""
    async with bare_peer(bench) as stream:
        await stream.send(b"PUB slow_peers.large _INBOX.bare.1 0\r\n\r\n" * chance.randrange(1, 40))
        await anyio.sleep(chance.random() * 0.1)


async def leave_at_once(bench: Bench, client: natsery.NativeConnection, chance: random.Random) -> None:
    async with bare_peer(bench) as stream:
        await stream.send(b"PUB slow_peers.echo _INBOX.bare.1 1\r\nx\r\n" * chance.randrange(1, 200))


async def read_slowly(bench: Bench, client: natsery.NativeConnection, chance: random.Random) -> None:
    """Read a stream with pauses; the service is held back, and no part is left out."""
    bench.tally.requests += 1
    seen: list[bytes] = []
    async with natsery.ServiceClient(client).stream("slow_peers.parts", window=chance.choice([1, 8, 128])) as replies:
        async for reply in replies:
            seen.append(reply.data)
            if chance.random() < 0.05:
                await anyio.sleep(0.001)
    assert seen == [b"%d" % number for number in range(PARTS)]
