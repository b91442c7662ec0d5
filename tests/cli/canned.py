"""A server on which whoever asks for services gets the same replies, whatever they are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import anyio
import anyio.from_thread

import natsery

PREFIX = "$CANNED"


@contextmanager
def canned(url: str, *replies: bytes | tuple[dict[str, str], bytes], times: int = 1) -> Iterator[Sequence[str]]:
    """Answer discovery below `PREFIX` with replies, which may have headers; yields options to ask for all of them."""

    async def answer(nc: natsery.NativeConnection, message: natsery.Message) -> None:
        for _ in range(times):
            for each in replies:
                headers, data = each if isinstance(each, tuple) else ({}, each)
                await nc.publish(message.reply, data, headers=headers or None)

    async def serve(*, task_status: anyio.abc.TaskStatus[None]) -> None:
        async with natsery.connect(url) as nc, nc.subscribe(f"{PREFIX}.>") as messages:
            task_status.started()
            async for message in messages:
                await answer(nc, message)

    with anyio.from_thread.start_blocking_portal("trio") as portal:
        future, _ = portal.start_task(serve)
        try:
            yield ("--prefix", PREFIX, "--count", str(times * len(replies)))
        finally:
            future.cancel()
