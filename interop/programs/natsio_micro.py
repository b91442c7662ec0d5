"""The `micro` module of natsio; run by a Python that has it."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import natsio
from common import SECONDS, contract, obey, targets, versions
from natsio import micro


async def serve(client: natsio.Client) -> None:
    wanted = contract()

    async def echo(request: micro.Request) -> None:
        if request.data == wanted.unanswered.encode():
            return
        trace = request.headers.get("Trace") if request.headers else None
        await request.respond(request.data, headers={"Traced": trace} if trace else None)

    async def fail(request: micro.Request) -> None:
        if request.data not in (b"expected", b"unicode"):
            raise LookupError("the colour of the database")
        text = wanted.text if request.data == b"expected" else wanted.unicode_text
        await request.respond_error(str(wanted.code), text, wanted.data.encode())

    service = micro.add_service(
        client,
        name=wanted.name,
        version=wanted.version,
        description=wanted.description,
        metadata=wanted.metadata,
    )
    group = service.add_group(wanted.name)
    group.add_endpoint("echo", echo, metadata=wanted.endpoint_metadata)
    group.add_endpoint("fail", fail, queue_group=wanted.failing_queue_group)
    await client.flush()

    async def reset() -> None:
        service.reset()

    await obey({"id": service.id, "versions": versions("natsio")}, reset)


async def discover(client: natsio.Client) -> dict[str, Any]:
    """It has no client for services; its types read their replies."""
    kinds = {"PING": micro.PingResponse, "INFO": micro.InfoResponse, "STATS": micro.StatsResponse}
    found: dict[str, Any] = {}
    for verb, kind in kinds.items():
        for target, (name, instance, count) in targets().items():
            subject = micro.control_subject(verb, *(part for part in (name, instance) if part))
            replies = [
                kind.from_wire(json.loads(reply.data)).to_wire()
                async for reply in client.request_many(subject, max_msgs=count, timeout=SECONDS, stall=None)
            ]
            found.setdefault(verb, {})[target] = replies
    return found


async def request(client: natsio.Client) -> dict[str, Any]:
    results = {}
    for key, subject, payload in json.loads(sys.argv[3]):
        reply = await client.request(subject, payload.encode(), headers={"Trace": "a-1"}, timeout=SECONDS)
        headers = reply.headers or {}
        error = None
        if headers.get(micro.ERROR_HEADER):
            error = {"code": headers.get(micro.ERROR_CODE_HEADER), "text": headers.get(micro.ERROR_HEADER)}
        results[key] = {"data": reply.data.decode(), "traced": headers.get("Traced"), "error": error}
    return results


async def main(what: str, url: str) -> None:
    async with await natsio.connect(url) as client:
        if what == "serve":
            await serve(client)
        else:
            print(json.dumps(await {"discover": discover, "request": request}[what](client)))


asyncio.run(main(*sys.argv[1:3]))
