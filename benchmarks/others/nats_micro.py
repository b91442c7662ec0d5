"""The echo service of `nats-micro`, on nats-py; run by a Python that has it."""

from __future__ import annotations

import asyncio
import sys
from importlib.metadata import version

import nats
from nats_contrib import micro


async def echo(request: micro.Request) -> None:
    await request.respond(request.data())


async def main(url: str, subject: str) -> None:
    client = await nats.connect(url)
    service = micro.add_service(client, name="echo", version="1.0.0")
    await service.start()
    await service.add_endpoint(name="echo", handler=echo, subject=subject)
    await client.flush()
    versions = [f"{name} {version(name)}" for name in ("nats-micro", "nats-py")]
    print("ready", ", ".join([*versions, f"Python {sys.version.split()[0]}"]), flush=True)
    await asyncio.Event().wait()


asyncio.run(main(*sys.argv[1:]))
