"""The service that most tests serve, and how they ask for what its replies say."""

from __future__ import annotations

import natsery
from natsery import Message
from natsery.abc import Connection


@natsery.endpoint(concurrency=4)
async def add(request: natsery.Request) -> bytes:
    try:
        a, b = map(int, request.data.split(b"+"))
    except ValueError:
        raise natsery.ServiceError(400, "expected 'a+b'") from None
    return str(a + b).encode()


def config(*endpoints, **options) -> natsery.ServiceConfig:
    return natsery.ServiceConfig("calc", "1.0.0", endpoints=endpoints, **options)


def error_of(reply: Message) -> str | None:
    error = natsery.ServiceError.from_message(reply)
    return None if error is None else str(error)


async def ask(nc: Connection, subject: str, replies: list[str | bytes]) -> None:
    """Note the data of the reply, or the error that it is."""
    reply = await nc.request(subject)
    replies.append(error_of(reply) or reply.data)


async def ping(url: str) -> tuple[natsery.ServicePing, ...]:
    async with natsery.connect(url) as nc:
        return tuple(await natsery.ServiceClient(nc).ping(count=1))
