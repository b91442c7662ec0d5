"""The `micro` module of nats-py."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import nats
from common import SECONDS, contract, obey, targets, versions
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.micro import add_service
from nats.micro.request import ERROR_CODE_HEADER, ERROR_HEADER, Request
from nats.micro.service import ServiceInfo, ServicePing, ServiceStats, ServiceVerb, control_subject


async def serve(client: Client) -> None:
    wanted = contract()

    async def echo(request: Request) -> None:
        if request.data == wanted.unanswered.encode():
            return
        trace = (request.headers or {}).get("Trace")
        await request.respond(request.data, headers={"Traced": trace} if trace else None)

    async def fail(request: Request) -> None:
        if request.data not in (b"expected", b"unicode"):
            raise LookupError("the colour of the database")
        text = wanted.text if request.data == b"expected" else wanted.unicode_text
        await request.respond_error(str(wanted.code), text, wanted.data.encode())

    service = await add_service(
        client,
        name=wanted.name,
        version=wanted.version,
        description=wanted.description,
        metadata=wanted.metadata,
    )
    group = service.add_group(name=wanted.name)
    await group.add_endpoint(name="echo", handler=echo, metadata=wanted.endpoint_metadata)
    await group.add_endpoint(name="fail", handler=fail, queue_group=wanted.failing_queue_group)
    # A flush of nats-py overtakes what it has yet to send; the second one does not.
    await client.flush()
    await client.flush()
    await obey({"id": service.id, "versions": versions("nats-py")}, service.reset)


async def collect(client: Client, subject: str, count: int) -> list[Msg]:
    """It has no client for services; its types read their replies."""
    inbox = client.new_inbox()
    subscription = await client.subscribe(inbox)
    await client.publish(subject, b"", reply=inbox)
    replies = [await subscription.next_msg(SECONDS) for _ in range(count)]
    await subscription.unsubscribe()
    return replies


async def discover(client: Client) -> dict[str, Any]:
    kinds = {"PING": ServicePing, "INFO": ServiceInfo, "STATS": ServiceStats}
    found: dict[str, Any] = {}
    for verb, kind in kinds.items():
        for target, (name, instance, count) in targets().items():
            subject = control_subject(ServiceVerb(verb), name, instance)
            replies = [json.loads(reply.data) for reply in await collect(client, subject, count)]
            found.setdefault(verb, {})[target] = [kind.from_dict(reply).to_dict() for reply in replies]
    return found


async def request(client: Client) -> dict[str, Any]:
    results = {}
    for key, subject, payload in json.loads(sys.argv[3]):
        reply = await client.request(subject, payload.encode(), timeout=SECONDS, headers={"Trace": "a-1"})
        headers = reply.headers or {}
        error = {"code": headers[ERROR_CODE_HEADER], "text": headers[ERROR_HEADER]} if ERROR_HEADER in headers else None
        results[key] = {"data": reply.data.decode(), "traced": headers.get("Traced"), "error": error}
    return results


async def main(what: str, url: str) -> None:
    client = await nats.connect(url)
    if what == "serve":
        await serve(client)
    else:
        print(json.dumps(await {"discover": discover, "request": request}[what](client)))
    await client.close()


asyncio.run(main(*sys.argv[1:3]))
