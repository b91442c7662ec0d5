"""What a nats-py client gets from services, without natsery."""

from __future__ import annotations

import asyncio
import json

import nats

from .bounds import HANG_SECONDS


def ask_json(url: str, *requests: tuple[str, str]) -> list[object]:
    """What a plain nats-py client gets for requests, one after the other: JSON, or an error's code and description."""

    async def main() -> list[object]:
        client = await nats.connect(url)
        try:
            replies = [await client.request(subject, body.encode(), timeout=HANG_SECONDS) for subject, body in requests]
        finally:
            await client.close()  # noqa: ASYNC102
        return [
            f"{reply.headers['Nats-Service-Error-Code']}: {reply.headers['Nats-Service-Error']}"
            if reply.headers
            else json.loads(reply.data)
            for reply in replies
        ]

    return asyncio.run(main())
