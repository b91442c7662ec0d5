"""The package `nats-micro`, on nats-py; run by a Python that has it."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import nats
from common import SECONDS, contract, obey, targets, versions
from nats.aio.client import Client
from nats_contrib import micro


async def serve(client: Client) -> None:
    wanted = contract()

    async def echo(request: micro.Request) -> None:
        if request.data() == wanted.unanswered.encode():
            return
        trace = request.headers().get("Trace")
        await request.respond(request.data(), headers={"Traced": trace} if trace else None)

    async def fail(request: micro.Request) -> None:
        if request.data() not in (b"expected", b"unicode"):
            raise LookupError("the colour of the database")
        text = wanted.text if request.data() == b"expected" else wanted.unicode_text
        await request.respond_error(wanted.code, text, wanted.data.encode())

    service = micro.add_service(
        client,
        name=wanted.name,
        version=wanted.version,
        description=wanted.description,
        metadata=wanted.metadata,
    )
    await service.start()
    group = service.add_group(wanted.name)
    await group.add_endpoint("echo", echo, metadata=wanted.endpoint_metadata)
    await group.add_endpoint("fail", fail, queue_group=wanted.failing_queue_group)
    # A flush of nats-py overtakes what it has yet to send; the second one does not.
    await client.flush()
    await client.flush()

    async def reset() -> None:
        service.reset()

    await obey({"id": service.info().id, "versions": versions("nats-micro", "nats-py")}, reset)


async def discover(client: Client) -> dict[str, Any]:
    services = micro.Client(client)
    found: dict[str, Any] = {}
    for verb in ("ping", "info", "stats"):
        for target, (name, instance, count) in targets().items():
            if instance is None:
                replies = await getattr(services, verb)(name, max_count=count, max_wait=SECONDS)
            else:
                replies = [await getattr(services.instance(name, instance), verb)(timeout=SECONDS)]
            found.setdefault(verb.upper(), {})[target] = [reply.as_dict() for reply in replies]
    return found


async def request(client: Client) -> dict[str, Any]:
    services = micro.Client(client)
    results: dict[str, Any] = {}
    for key, subject, payload in json.loads(sys.argv[3]):
        try:
            reply = await services.request(subject, payload.encode(), headers={"Trace": "a-1"}, timeout=SECONDS)
        except micro.ServiceError as error:
            described = {"code": error.code, "text": error.description}
            results[key] = {"data": error.data.decode(), "traced": error.headers.get("Traced"), "error": described}
        else:
            traced = (reply.headers or {}).get("Traced")
            results[key] = {"data": reply.data.decode(), "traced": traced, "error": None}
    return results


async def main(what: str, url: str) -> None:
    client = await nats.connect(url)
    if what == "serve":
        await serve(client)
    else:
        print(json.dumps(await {"discover": discover, "request": request}[what](client)))
    await client.close()


asyncio.run(main(*sys.argv[1:3]))
