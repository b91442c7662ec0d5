"""What natsery does, so often, for `instructions.py` to count what that takes; each piece of work has a process of its own."""

from __future__ import annotations

import os
import ssl
import sys
import traceback
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from itertools import count

import anyio
from lockstep import ECHO, NEXT, OUT, PAYLOAD, READY, STOP
from transports import BACKENDS

import natsery
from natsery.testing import MemoryBroker

HOUR = 3600.0


@dataclass(frozen=True)
class Job:
    """How often: in so many rounds, so many each."""

    url: str
    tls: ssl.SSLContext | bool
    burst: int
    rounds: int


def connect(job: Job) -> AbstractAsyncContextManager[natsery.NativeConnection]:
    """A connection for which it does not matter how slow all is."""
    return natsery.connect(job.url, tls=job.tls, connect_timeout=HOUR, ping_interval=HOUR)


async def echo(request: natsery.Request) -> bytes:
    return request.data


async def serve(job: Job) -> None:
    """Answer requests until told to stop."""

    async def stop(request: natsery.Request) -> None:
        request.service.stop()

    endpoints = [natsery.EndpointConfig(ECHO, echo, subject=ECHO), natsery.EndpointConfig(STOP, stop, subject=STOP)]
    # One that valgrind does not slow down: what has waited for long is sent at once.
    clock = natsery.Clock(monotonic_ns=count(1).__next__)
    async with connect(job) as nc:
        async with natsery.serve(
            nc, natsery.ServiceConfig("echo", "1.0.0", endpoints=endpoints, clock=clock)
        ) as service:
            await nc.publish(READY, b"")
            await service.wait_stopped()


async def request(job: Job) -> None:
    """Make requests, a burst of callers at a time."""

    async def call() -> None:
        for _ in range(job.rounds):
            await nc.request(ECHO, PAYLOAD)

    async with connect(job) as nc, anyio.create_task_group() as callers:
        for _ in range(job.burst):
            callers.start_soon(call)


async def publish(job: Job) -> None:
    """Publish, with a fence after each burst."""
    async with connect(job) as nc:
        for _ in range(job.rounds):
            for _ in range(job.burst):
                await nc.publish(OUT, PAYLOAD)
            await nc.flush()


async def receive(job: Job) -> None:
    """Receive in a loop, and ask for the next burst after each."""
    async with connect(job) as nc, nc.subscribe(ECHO) as messages:
        for _ in range(job.rounds):
            await nc.publish(NEXT, b"")
            left = job.burst
            async for _ in messages:
                left -= 1
                if not left:
                    break


async def in_memory(job: Job) -> None:
    """Serve and request in memory."""
    endpoint = natsery.EndpointConfig(ECHO, echo, subject=ECHO)
    async with MemoryBroker() as broker, broker.connect() as nc:
        async with natsery.serve(nc, natsery.ServiceConfig("echo", "1.0.0", endpoints=[endpoint])):
            for _ in range(job.rounds * job.burst):
                await nc.request(ECHO, PAYLOAD)


WORKS: dict[str, Callable[[Job], Awaitable[None]]] = {
    "service": serve,
    "request": request,
    "publish": publish,
    "receive": receive,
    "memory": in_memory,
}


def run(work: str, backend: str, url: str, burst: str, rounds: str, authority: str = "") -> None:
    """Do one piece of work."""
    tls = ssl.create_default_context(cafile=authority) if authority else False
    name, options = BACKENDS[backend]
    anyio.run(WORKS[work], Job(url, tls, int(burst), int(rounds)), backend=name, backend_options=options)


async def nothing() -> None:
    pass


def main() -> None:
    """Read a piece of work from each line, and do it in a forked process: imports, which take longest, are done once."""
    for backend in ("trio", "asyncio"):
        anyio.run(nothing, backend=backend)
    for line in sys.stdin:
        pid = os.fork()
        if not pid:
            status = 1
            try:
                run(*line.split())
                status = 0
            except Exception:
                traceback.print_exc()
            finally:
                os._exit(status)
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
