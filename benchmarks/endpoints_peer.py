"""Starts one service with many endpoints in a process of its own, for `endpoints.py`, and prints what that took as JSON."""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import nats
import nats.micro
import nats.micro.request
from transports import BACKENDS, describe

import natsery

STATS = "$SRV.STATS.many"
STATS_TIMES = 5


def resident_bytes() -> int:
    """Memory of this process."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def ask_for_stats(ask: Callable[[], Awaitable[bytes]]) -> dict[str, float]:
    """How large the answer is, and how long the fastest takes to come."""
    seconds = []
    for _ in range(STATS_TIMES):
        start = time.perf_counter()
        answer = await ask()
        seconds.append(time.perf_counter() - start)
    return {"stats_kib": len(answer) / 1024, "stats_ms": min(seconds) * 1e3}


async def with_natsery(url: str, count: int) -> None:
    async def echo(request: natsery.Request) -> bytes:
        return request.data

    async with natsery.connect(url) as nc:
        before, start = resident_bytes(), time.perf_counter()
        endpoints = [
            natsery.EndpointConfig(f"echo-{number}", echo, subject=f"many.{number}") for number in range(count)
        ]
        async with natsery.serve(nc, natsery.ServiceConfig("many", "1.0.0", endpoints=endpoints)):
            taken = time.perf_counter() - start

            async def ask() -> bytes:
                return (await nc.request(STATS, b"")).data

            memory = resident_bytes() - before
            say(count, taken, memory, await ask_for_stats(ask), describe("natsery", "anyio", "trio"))


async def with_nats_py(url: str, count: int) -> None:
    async def echo(request: nats.micro.request.Request) -> None:
        await request.respond(request.data)

    client = await nats.connect(url)
    before, start = resident_bytes(), time.perf_counter()
    service = await nats.micro.add_service(client, name="many", version="1.0.0")
    for number in range(count):
        await service.add_endpoint(name=f"echo-{number}", handler=echo, subject=f"many.{number}")
    await client.flush()
    taken = time.perf_counter() - start

    async def ask() -> bytes:
        return (await client.request(STATS, b"", timeout=30)).data

    memory = resident_bytes() - before
    say(count, taken, memory, await ask_for_stats(ask), describe("nats-py"))
    await client.close()


def say(count: int, seconds: float, memory: int, stats: dict[str, float], versions: str) -> None:
    """Print it."""
    found = {"start_ms": seconds * 1e3, "bytes_each": memory / count, **stats, "versions": versions}
    print("done", json.dumps(found), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("service", choices=("nats-py", "native-trio", "native-asyncio"))
    parser.add_argument("url")
    parser.add_argument("count", type=int, help="endpoints")
    arguments = parser.parse_args()
    if arguments.service == "nats-py":
        asyncio.run(with_nats_py(arguments.url, arguments.count))
    else:
        backend, options = BACKENDS[arguments.service.removeprefix("native-")]
        anyio.run(with_natsery, arguments.url, arguments.count, backend=backend, backend_options=options)


if __name__ == "__main__":
    main()
