"""``--max-requests``: after how many requests a worker is exchanged."""

from __future__ import annotations

import random
from collections.abc import Callable

import anyio

LOOK_SECONDS = 0.5
"""How often the number is looked at."""


async def wait_until_spent(count: Callable[[], int], limit: int, jitter: int) -> None:
    """Wait until ``count`` has reached a limit, and a random number more. A checkpoint."""
    end = limit + random.randint(0, jitter)  # noqa: S311  # so that not all workers are exchanged at once
    while count() < end:  # noqa: ASYNC110  # nobody tells of each request
        await anyio.sleep(LOOK_SECONDS)
