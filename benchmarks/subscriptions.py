"""Measures what subscriptions cost in memory, and what a connection leaves behind when it is opened and closed often.

First come the cycles: each opens a connection, subscribes, sends itself a message and closes. Then one connection makes
many subscriptions and ends them. Bytes are of the resident set, of which the allocator keeps some for later; blocks are
what Python has allocated, so those tell a loss from a reserve.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
from dataclasses import astuple, dataclass, fields
from functools import partial
from os import sysconf
from pathlib import Path

import anyio
from transports import BACKENDS, TRANSPORTS, open_connection

from natsery import Message
from natsery.abc import Connection
from natsery.testing import NatsServer
from processes import progress

WARM_UP_CYCLES = 100


@dataclass(frozen=True)
class Holdings:
    """What this process has: everything that could be left behind."""

    tasks: int
    threads: int
    files: int
    blocks: int
    kib: int

    @classmethod
    def now(cls) -> Holdings:
        """Counted after a collection of garbage."""
        gc.collect()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return cls(
            tasks=len(anyio.get_running_tasks()),
            threads=len(list(Path("/proc/self/task").iterdir())),
            files=len(list(Path("/proc/self/fd").iterdir())),
            blocks=sys.getallocatedblocks(),
            kib=pages * sysconf("SC_PAGE_SIZE") // 1024,
        )


async def use(nc: Connection) -> None:
    """Send one message from the connection to itself."""
    received: list[Message] = []
    await nc.add_subscription("cycle", received.append)
    await nc.publish("cycle", b"x")
    await nc.flush()
    if len(received) != 1:
        raise SystemExit(f"{len(received)} messages arrived instead of 1")


async def open_and_close(transport: str, url: str, cycles: int) -> None:
    """Use so many connections, one after the other."""
    for _ in range(cycles):
        async with open_connection(transport, url) as nc:
            await use(nc)


async def measure_cycles(transport: str, url: str, cycles: int) -> None:
    """Print what there is before and after the cycles."""
    # What is made once and kept, such as imports and caches, is no loss.
    await open_and_close(transport, url, WARM_UP_CYCLES)
    before = Holdings.now()
    start = time.monotonic()
    await open_and_close(transport, url, cycles)
    seconds = time.monotonic() - start
    after = Holdings.now()
    print(f"{cycles} connections opened, used and closed, {seconds / cycles * 1000:.1f} ms each")
    print()
    print("| | " + " | ".join(field.name for field in fields(Holdings)) + " |")
    print("|---|" + "---|" * len(fields(Holdings)))
    print(f"| before | {' | '.join(map(str, astuple(before)))} |")
    print(f"| after | {' | '.join(map(str, astuple(after)))} |")


async def measure_subscriptions(transport: str, url: str, count: int) -> None:
    """Print what subscriptions cost while they are there, and what is left of them."""
    received: list[Message] = []
    async with open_connection(transport, url) as nc:
        await use(nc)
        before = Holdings.now()
        start = time.monotonic()
        subscriptions = [await nc.add_subscription(f"many.{number}", received.append) for number in range(count)]
        await nc.flush()
        seconds = time.monotonic() - start
        during = Holdings.now()
        await nc.publish(f"many.{count - 1}", b"x")
        await nc.flush()
        if len(received) != 1:
            raise SystemExit(f"{len(received)} messages arrived instead of 1")
        start = time.monotonic()
        for subscription in subscriptions:
            await subscription.unsubscribe()
        await nc.flush()
        seconds_of_end = time.monotonic() - start
        del subscriptions, subscription
        after = Holdings.now()
    print()
    print(f"{count} subscriptions, each with a subject of its own, for one callback")
    print()
    print("| bytes each | blocks each | tasks each | µs to begin | µs to end | bytes each, left | blocks each, left |")
    print("|---|---|---|---|---|---|---|")
    cells = [
        f"{(during.kib - before.kib) * 1024 / count:.0f}",
        f"{(during.blocks - before.blocks) / count:.1f}",
        f"{(during.tasks - before.tasks) / count:.1f}",
        f"{seconds / count * 1e6:.1f}",
        f"{seconds_of_end / count * 1e6:.1f}",
        f"{(after.kib - before.kib) * 1024 / count:.0f}",
        f"{(after.blocks - before.blocks) / count:.1f}",
    ]
    print(f"| {' | '.join(cells)} |")


async def measure(transport: str, url: str, cycles: int, count: int) -> None:
    """First the cycles: memory that subscriptions had used could hide a loss."""
    progress("cycles")
    await measure_cycles(transport, url, cycles)
    progress("subscriptions")
    await measure_subscriptions(transport, url, count)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--transport", choices=TRANSPORTS, default="native", help="(%(default)s)")
    parser.add_argument("--backend", choices=BACKENDS, help="(trio; asyncio for adapted)")
    parser.add_argument("--cycles", type=int, default=1_000, help="connections to open and close (%(default)s)")
    parser.add_argument("--subscriptions", type=int, default=10_000, help="subscriptions to make (%(default)s)")
    arguments = parser.parse_args()
    name = arguments.backend or ("asyncio" if arguments.transport == "adapted" else "trio")
    if (arguments.transport, name) == ("adapted", "trio"):
        parser.error("a nats-py client lives in asyncio")
    backend, options = BACKENDS[name]
    with NatsServer() as server:
        print(f"natsery {arguments.transport}, {name}")
        print()
        run = partial(measure, arguments.transport, server.url, arguments.cycles, arguments.subscriptions)
        anyio.run(run, backend=backend, backend_options=options)


if __name__ == "__main__":
    main()
