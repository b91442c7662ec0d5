"""A requester of streamed replies that takes part in the protocol by hand."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

import natsery
from natsery.abc import Connection

from ..calc_service import error_of


class Requester:
    """Asks for a stream and takes part in the protocol by hand."""

    def __init__(self, nc: Connection, inbox: str, messages: natsery.Messages) -> None:
        self._nc = nc
        self.inbox = inbox
        self.messages = messages

    async def next(self) -> natsery.Message:
        return await self.messages.receive()

    async def take(self, count: int) -> list[bytes]:
        return [(await self.next()).data for _ in range(count)]

    async def rest(self) -> list[bytes | str]:
        """What comes up to the end; an error as its text."""
        found: list[bytes | str] = []
        while True:
            message = await self.next()
            error = error_of(message)
            found.append(message.data if error is None else error)
            if error is not None or (not message.data and not message.headers):
                return found

    async def is_quiet(self) -> bool:
        await self._nc.flush()
        await anyio.wait_all_tasks_blocked()
        return not self.messages._has_pending()


@asynccontextmanager
async def ask(nc: Connection, subject: str, data: bytes = b"", window: object = None) -> AsyncIterator[Requester]:
    inbox = nc.new_inbox()
    async with nc.subscribe(inbox) as messages:
        headers = None if window is None else {"Reply-Window": str(window)}
        await nc.publish(subject, data, reply=inbox, headers=headers)
        yield Requester(nc, inbox, messages)


@natsery.endpoint
async def numbers(request: natsery.Request) -> AsyncIterator[bytes]:
    for number in range(int(request.data)):
        yield b"%d" % number
