"""What waits to be sent over one network connection."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final, final

import anyio

from .._protocol import _commands
from .._wakeup import new_wakeup

BATCH_BYTES: Final = 256 * 1024
"""Bytes that are joined for one call to the network, more only if one message alone is larger."""

HIGH_WATER_BYTES: Final = 1024 * 1024
"""Bytes waiting over which those who send wait too."""


@final
class Outbox:
    """Frames in the order of sending, filled from synchronous code and emptied by one task.

    Attributes:
        frames: the frames.
        size: their bytes.
        limit: bytes that they may come to; no limit while a server takes them.
        is_waiting: whether the task that empties it waits for a frame.
    """

    __slots__ = ("_low_water", "_wakeup", "frames", "is_waiting", "limit", "size")

    def __init__(self, frames: Iterable[bytes] = (), limit: float = math.inf) -> None:
        self.frames = list(frames)
        self.size = sum(map(len, self.frames))
        self.limit = limit
        self._wakeup = new_wakeup()
        self.is_waiting = False
        self._low_water: anyio.Event | None = None

    def put(self, frame: bytes) -> None:
        """Add a frame."""
        self.frames.append(frame)
        self.size += len(frame)
        if self.is_waiting:
            self.wake()

    def wake(self) -> None:
        """Have the task that empties it go on."""
        self.is_waiting = False
        self._wakeup.set()

    def put_first(self, frames: list[bytes]) -> None:
        """Add frames in front of those that are there."""
        self.frames[:0] = frames
        self.size += sum(map(len, frames))

    async def wait_for_frames(self) -> None:
        """Wait until there is something to take. A checkpoint only when it has to wait."""
        while not self.frames:
            self.is_waiting = True
            try:
                await self._wakeup.wait()
            finally:
                self.is_waiting = False

    def take(self) -> bytes:
        """The next frames, joined."""
        frames = self.frames
        if self.size <= BATCH_BYTES:
            self.frames = []
            self.size = 0
            return b"".join(frames)
        count = batch_size = 0
        while batch_size < BATCH_BYTES and count < len(frames):
            batch_size += len(frames[count])
            count += 1
        batch = b"".join(frames[:count])
        del frames[:count]
        self.size -= batch_size
        return batch

    async def wait_low_water(self) -> None:
        """Wait until those who send may go on."""
        while self.size > HIGH_WATER_BYTES and self.limit == math.inf:
            if self._low_water is None:
                self._low_water = anyio.Event()
            await self._low_water.wait()

    def tell_low_water(self) -> None:
        """Let those go on who wait, if there is room now."""
        if self._low_water is not None and self.size <= HIGH_WATER_BYTES // 2:
            self._low_water.set()
            self._low_water = None

    def retire(self) -> list[bytes]:
        """Give up what was for this network connection only, and let everybody go on; the messages that are left."""
        frames = [frame for frame in self.frames if _commands.is_publish(frame)]
        self.frames = []
        self.size = 0
        if self._low_water is not None:
            self._low_water.set()
            self._low_water = None
        return frames
