"""The numbers that both forms of the core share."""

from __future__ import annotations

from typing import Final

AWAY: Final = -1
"""The ``limit`` of a frame buffer while no server is connected."""

BATCH_BYTES: Final = 256 * 1024
"""Bytes that are joined for one call to the network; more only if a single message is larger."""

RECENT_REPLIES: Final = 1_024
"""Replies that an endpoint remembers in case the server denies publishing them, good ones and errors each.

A denial that comes later is not counted, and reported without the endpoint.
"""

HOLD_NS: Final = 250_000
"""Nanoseconds that answers wait for others at most, unless a handler computes for longer."""

LONG_AGO: Final = 1
"""A time of clocks in nanoseconds that was long before any other."""

REQUESTS_BETWEEN_YIELDS: Final = 256
"""Requests that a worker handles without waiting before it lets other tasks run."""
