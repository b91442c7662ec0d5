"""What waits to be sent over one network connection."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, final

import anyio

from .._protocol import _commands
from .._wakeup import new_wakeup

BATCH_BYTES: Final = 256 * 1024
"""Bytes that are joined for one call to the network, more only if one message alone is larger."""

HIGH_WATER_BYTES: Final = 1024 * 1024
"""Bytes waiting over which those who send wait too."""

AWAY: Final = -1
"""The limit of an write_buffer whose server is away."""


@final
class WriteBuffer:
    """Frames in the order of sending, filled from synchronous code; one task empties it, and now and then who fills it.

    Attributes:
        frames: the frames.
        size: their bytes.
        limit: bytes from which on those who send must look closer.
        is_waiting: whether that task waits for a frame.
        until_push: answers after which to ``push``; below 1 if never.
        taken_messages: messages that were taken to be sent.
        taken_bytes: bytes that were.
    """

    __slots__ = (
        "_is_sending",
        "_low_water",
        "_other_frames",
        "_rest",
        "_second_half",
        "_send_nowait",
        "_wakeup",
        "frames",
        "is_waiting",
        "limit",
        "size",
        "taken_bytes",
        "taken_messages",
        "until_push",
    )

    def __init__(self, frames: Iterable[bytes] = ()) -> None:
        self.frames: list[bytes] = list(frames)
        self.size: int = sum(map(len, self.frames))
        self.limit: int = AWAY
        self.is_waiting: bool = False
        self.taken_messages: int = 0
        self.taken_bytes: int = 0
        self.until_push: int = 0
        self._second_half = 0
        self._other_frames = 0
        self._send_nowait: Callable[[bytes], int] | None = None
        self._is_sending = False
        self._rest = b""
        self._wakeup = new_wakeup()
        self._low_water: anyio.Event | None = None

    def put(self, frame: bytes) -> None:
        """Add a frame that is no message."""
        self._other_frames += 1
        self.frames.append(frame)
        self.size += len(frame)
        if self.is_waiting:
            self.wake()

    def open(self, frames: list[bytes], send_nowait: Callable[[bytes], int] | None) -> None:
        """Let everything pass from now on, these frames, which are no messages, in front.

        Args:
            frames: the frames.
            send_nowait: sends what the network takes at once and says how many bytes, if there is a way to do so.
        """
        self._send_nowait = send_nowait
        self._other_frames += len(frames)
        self.put_first(frames)
        self.limit = HIGH_WATER_BYTES

    def put_first(self, frames: list[bytes]) -> None:
        """Add frames before all others; nobody waits for them yet."""
        self.frames[:0] = frames
        self.size += sum(map(len, frames))

    def wake(self) -> None:
        """Have the task that empties it go on."""
        self.is_waiting = False
        self._wakeup.set()

    def expect_answers(self, count: int) -> None:
        """So many messages have come at once: if each is answered at once, the answers leave in two halves.

        The server begins with the first half while the second is made, and no other task has to have its turn for either.
        """
        if self._send_nowait is not None:
            self._second_half = count // 2
            self.until_push = count - self._second_half

    def push(self) -> None:
        """Send what there is from here, if that can be; otherwise, and with what is left, the task goes on."""
        self.until_push, self._second_half = self._second_half, 0
        if self._send_nowait is not None and not self._is_sending:
            frames = self.take()
            sent = self._send_nowait(frames)
            if sent == len(frames):
                self.sent()
                return
            self._rest = frames[sent:]
            self._is_sending = False
        if self.is_waiting:
            self.wake()

    async def wait_for_frames(self) -> None:
        """Wait until there is something to take. A checkpoint only when it has to wait."""
        while not (self.frames or self._rest):
            self.is_waiting = True
            try:
                await self._wakeup.wait()
            finally:
                self.is_waiting = False

    def take(self) -> bytes:
        """The next frames, joined; nothing else may be sent until they are ``sent``."""
        self._is_sending = True
        if self._rest:
            data, self._rest = self._rest, b""
            return data
        frames = self.frames
        if self.size <= BATCH_BYTES:
            self.frames, rest = [], 0
        else:
            count = size = 0
            while size < BATCH_BYTES and count < len(frames):
                size += len(frames[count])
                count += 1
            self.frames, rest = frames[count:], self.size - size
            del frames[count:]
        self.taken_messages += len(frames)
        self.taken_bytes += self.size - rest
        self.size = rest
        return b"".join(frames)

    @property
    def messages(self) -> int:
        """Messages that were put in so far, those included that it began with."""
        return self.taken_messages + len(self.frames) - self._other_frames

    async def wait_low_water(self) -> None:
        """Wait until those who send may go on."""
        while self.size > HIGH_WATER_BYTES and self.limit != AWAY:
            if self._low_water is None:
                self._low_water = anyio.Event()
            await self._low_water.wait()

    def sent(self) -> None:
        """The network has what was taken; let those go on who wait, if there is room now."""
        self._is_sending = False
        if self._low_water is not None and self.size <= HIGH_WATER_BYTES // 2:
            self._low_water.set()
            self._low_water = None

    def retire(self) -> list[bytes]:
        """Give up what was for this network connection only, and let everybody go on; the messages that are left."""
        frames = [frame for frame in self.frames if _commands.is_publish(frame)]
        self._other_frames -= len(self.frames) - len(frames)
        self.frames = []
        self.size = 0
        self.limit = AWAY
        self._send_nowait = None
        self.until_push = self._second_half = 0
        if self._low_water is not None:
            self._low_water.set()
            self._low_water = None
        return frames
