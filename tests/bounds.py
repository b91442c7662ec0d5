"""A bound for tests that wait for servers and other tasks, so that what hangs fails."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

HANG_SECONDS = 300
"""What nothing takes that goes on at all, however busy the machine is; a limit for each test would only measure that."""


@asynccontextmanager
async def bounded(seconds: float = HANG_SECONDS) -> AsyncIterator[None]:
    with anyio.fail_after(seconds):
        yield
