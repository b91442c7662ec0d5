"""``--wait-for-server``: connects as soon as there is a server."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

import anyio

import natsery

from .._connection_options._settings import Settings
from .._exit_codes import line_of

FIRST_PAUSE: Final = 0.1
"""Seconds before the second attempt; it doubles with each further one."""

LONGEST_PAUSE: Final = 2.0
"""Seconds that the pause grows to at most."""


@asynccontextmanager
async def connect_when_there(
    settings: Settings, name: str, say: Callable[[str], None]
) -> AsyncIterator[natsery.NativeConnection]:
    """Connect for the length of a block; while no server can be reached, wait for one.

    Raises:
        Exception: what `natsery.connect` raises, but for what waiting may help against.

    **Cancellation:** nothing is left behind. A checkpoint.
    """
    pause = FIRST_PAUSE
    async with AsyncExitStack() as stack:
        while True:
            try:
                nc = await stack.enter_async_context(settings.connect(name))
            except natsery.ConnectError as error:
                if pause == FIRST_PAUSE:
                    say(f"waiting for a server: {line_of(error)}")
            else:
                break
            await anyio.sleep(pause * random.uniform(0.8, 1.2))  # noqa: S311  # so that many do not come at once
            pause = min(2 * pause, LONGEST_PAUSE)
        if pause > FIRST_PAUSE:
            say("the server is there")
        yield nc
