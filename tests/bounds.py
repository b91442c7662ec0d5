"""A bound for tests that wait for servers and other tasks, so that what hangs fails."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio


@asynccontextmanager
async def bounded(seconds: float = 20) -> AsyncIterator[None]:
    with anyio.fail_after(seconds):
        yield
