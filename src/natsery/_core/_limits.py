"""The numbers that both forms of the core share."""

from __future__ import annotations

from typing import Final

AWAY: Final = -1
"""The ``limit`` of a frame buffer while no server is connected."""

BATCH_BYTES: Final = 256 * 1024
"""Bytes that are joined for one call to the network; more only if a single message is larger."""

RECENT_REPLIES: Final = 1_024
"""Good replies that are remembered in case the server denies publishing them; a denial that comes later is not counted."""

LONG_NS: Final = 50_000
"""Nanoseconds in a handler after which its answer is sent at once, for those that come with others would keep it waiting."""

REQUESTS_BETWEEN_YIELDS: Final = 256
"""Requests that a worker handles without waiting before it lets other tasks run."""
