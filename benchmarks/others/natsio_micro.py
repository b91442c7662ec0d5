"""The echo service of `natsio`; run by a Python that has it."""

from __future__ import annotations

import asyncio
import sys
from importlib.metadata import version

import natsio
from natsio import micro


async def echo(request: micro.Request) -> None:
    await request.respond(request.data)


async def main(url: str, subject: str) -> None:
    async with await natsio.connect(url) as client:
        async with micro.add_service(client, name="echo", version="1.0.0") as service:
            service.add_endpoint("echo", echo, subject=subject)
            await client.flush()
            print("ready", f"natsio {version('natsio')}, Python {sys.version.split()[0]}", flush=True)
            await service.stopped


asyncio.run(main(*sys.argv[1:]))
