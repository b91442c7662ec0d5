"""One client in a process of its own, for `client.py`: prints ``ready`` and versions, then ``done`` and what it took.

A receiver prints ``warm`` in between, when it has received what comes first.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import anyio
import nats
import trio
from nats.aio.msg import Msg
from transports import BACKENDS, describe

import natsery

PAYLOAD = b"0123456789abcdef"
TIMEOUT_SECONDS = 10

Receive = Callable[[], Awaitable[object]]
"""Waits until all messages of a subscription have been received, and measures that."""


@dataclass(frozen=True)
class Client:
    """A connected client, and one subject, as functions."""

    request: Callable[[], Awaitable[object]]
    publish: Callable[[], Awaitable[object]]
    flush: Callable[[], Awaitable[object]]
    subscribe: Callable[[int, int], AbstractAsyncContextManager[Receive]]


class Timer:
    """Time and processor time of all threads, from when it is made or started again."""

    def __init__(self) -> None:
        self.start()

    def start(self) -> None:
        self._cpu = time.process_time()
        self._start = time.perf_counter()

    def stop(self) -> None:
        """Print them."""
        taken = {"seconds": time.perf_counter() - self._start, "cpu_seconds": time.process_time() - self._cpu}
        print("done", json.dumps(taken), flush=True)


async def receive_in_loop(messages: AsyncIterator[Any], warm_up: int, count: int) -> None:
    """Loop over so many messages, and measure all but the first ones."""
    await take(messages, warm_up)
    warm()
    timer = Timer()
    await take(messages, count)
    timer.stop()


def warm() -> None:
    """Ask for the messages that are measured."""
    print("warm", flush=True)


async def take(messages: AsyncIterator[Any], count: int) -> None:
    """Loop over so many messages."""
    async for _ in messages:
        count -= 1
        if not count:
            return


@asynccontextmanager
async def natsery_client(
    url: str, subject: str, deadlines: bool, *, services: bool, is_trio: bool
) -> AsyncIterator[Client]:
    """`natsery.connect`, with requests of its own or of a `ServiceClient`."""
    fail_after = trio.fail_after if is_trio else anyio.fail_after  # what a program for this event loop would use

    async def request_with_deadline() -> None:
        with fail_after(TIMEOUT_SECONDS):
            await request()

    @asynccontextmanager
    async def subscribe(warm_up: int, count: int) -> AsyncIterator[Receive]:
        # All are sent at once, and none may be dropped.
        async with nc.subscribe(subject, max_pending=warm_up + count) as messages:
            yield partial(receive_in_loop, messages, warm_up, count)

    async with natsery.connect(url) as nc:
        request = partial((natsery.ServiceClient(nc) if services else nc).request, subject, PAYLOAD)
        yield Client(
            request=request_with_deadline if deadlines else request,
            publish=partial(nc.publish, subject, PAYLOAD),
            flush=nc.flush,
            subscribe=subscribe,
        )


@asynccontextmanager
async def nats_py_client(url: str, subject: str, _: bool, *, loop: bool) -> AsyncIterator[Client]:
    """nats-py, which receives in a callback, as it does best, or in a loop."""

    @asynccontextmanager
    async def subscribe_in_loop(warm_up: int, count: int) -> AsyncIterator[Receive]:
        subscription = await nc.subscribe(subject)
        yield partial(receive_in_loop, subscription.messages, warm_up, count)

    @asynccontextmanager
    async def subscribe(warm_up: int, count: int) -> AsyncIterator[Receive]:
        timer = Timer()
        received = 0
        enough = anyio.Event()

        async def receive(_: Msg) -> None:
            nonlocal received
            received += 1
            if received == warm_up:
                warm()
                timer.start()
            elif received == warm_up + count:
                timer.stop()
                enough.set()

        await nc.subscribe(subject, cb=receive)
        yield enough.wait

    nc = await nats.connect(url)
    yield Client(
        request=partial(nc.request, subject, PAYLOAD, timeout=TIMEOUT_SECONDS),
        publish=partial(nc.publish, subject, PAYLOAD),
        flush=nc.flush,
        subscribe=subscribe_in_loop if loop else subscribe,
    )
    await nc.close()


async def call_all(call: Callable[[], Awaitable[object]], count: int, callers: int) -> None:
    """Call so often, so many at a time."""

    async def caller(first: int) -> None:
        for _ in range(first, count, callers):
            await call()

    async with anyio.create_task_group() as tasks:
        for first in range(min(callers, count)):
            tasks.start_soon(caller, first)


async def publish_all(client: Client, count: int) -> None:
    """Publish so often, until the server has it all."""
    for _ in range(count):
        await client.publish()
    await client.flush()


OPEN: dict[str, tuple[Callable[[str, str, bool], AbstractAsyncContextManager[Client]], str, tuple[str, ...]]] = {
    "nats-py": (partial(nats_py_client, loop=False), "asyncio", ("nats-py",)),
    "nats-py-loop": (partial(nats_py_client, loop=True), "asyncio", ("nats-py",)),
}
for _backend, _packages in {"trio": ("trio",), "asyncio": (), "uvloop": ("uvloop",)}.items():
    for _name, _services in {"native": False, "service": True}.items():
        _open = partial(natsery_client, services=_services, is_trio=_backend == "trio")
        OPEN[f"{_name}-{_backend}"] = (_open, _backend, ("natsery", "anyio", *_packages))


async def work(arguments: argparse.Namespace) -> None:
    """Warm up, then measure."""
    opened, _, packages = OPEN[arguments.client]
    ready = partial(print, "ready", describe(*packages), flush=True)
    async with opened(arguments.url, arguments.subject, arguments.deadlines) as client:
        if arguments.work == "receive":
            async with client.subscribe(arguments.warm_up, arguments.count) as receive:
                await client.flush()
                ready()
                await receive()
            return
        ready()
        if arguments.work == "request":
            run = partial(call_all, client.request, callers=arguments.callers)
        else:
            run = partial(publish_all, client)
        await run(count=arguments.warm_up)
        timer = Timer()
        await run(count=arguments.count)
        timer.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("client", choices=OPEN)
    parser.add_argument("url")
    parser.add_argument("subject")
    parser.add_argument("work", choices=("request", "publish", "receive"))
    parser.add_argument("count", type=int, help="how often to do it, when it is measured")
    parser.add_argument("warm_up", type=int, help="how often to do it before")
    parser.add_argument("callers", type=int, help="requests under way at a time")
    parser.add_argument("--deadlines", action="store_true", help="give each of natsery's requests a deadline of 10 s")
    arguments = parser.parse_args()
    _, backend, _ = OPEN[arguments.client]
    name, options = BACKENDS[backend]
    anyio.run(work, arguments, backend=name, backend_options=options)


if __name__ == "__main__":
    main()
