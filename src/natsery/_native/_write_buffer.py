"""The write buffer: frames that wait to be sent over one network connection."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, final

from .._condition_event import ConditionEvent
from .._protocol import _commands
from .._wakeup import new_wakeup
from ._connection_statistics import Counters

BATCH_BYTES: Final = 256 * 1024
"""Bytes that are joined for one call to the network; more only if a single message is larger."""

HIGH_WATER_BYTES: Final = 1024 * 1024
"""Waiting bytes above which senders have to wait."""

LOW_WATER_BYTES: Final = HIGH_WATER_BYTES // 2
"""Waiting bytes at which waiting senders are woken."""

AWAY: Final = -1
"""The ``limit`` while no server is connected."""


@final
class WriteBuffer:
    """Frames in the order of sending. Synchronous code adds them; the writer task and ``push`` send them.

    Adding a message is inlined in `NativeConnection`: append it to ``frames``, add to ``size``, and ``wake`` the writer task
    if it ``is_waiting``.

    Args:
        counters: what to count in.

    Attributes:
        frames: the frames.
        size: their total bytes.
        limit: size above which a sender has to check whether it may send, and perhaps wait.
        is_waiting: whether the writer task waits for a frame.
        until_push: answers until the next ``push``; below 1 if none is due.
    """

    __slots__ = (
        "_counters",
        "_is_sending",
        "_low_water",
        "_rest",
        "_second_half",
        "_send_nowait",
        "_wakeup",
        "frames",
        "is_waiting",
        "limit",
        "size",
        "until_push",
    )

    def __init__(self, counters: Counters) -> None:
        self.frames: list[bytes] = []
        self.size: int = 0
        self.limit: int = AWAY
        self.is_waiting: bool = False
        self.until_push: int = 0
        self._counters = counters
        self._second_half = 0
        self._send_nowait: Callable[[bytes], int] | None = None
        self._is_sending = False
        self._rest = b""
        self._wakeup = new_wakeup()
        self._low_water = ConditionEvent(self._may_send)

    def put(self, frame: bytes) -> None:
        """Add a frame that is not a message."""
        self._counters.control_frames += 1
        self.frames.append(frame)
        self.size += len(frame)
        if self.is_waiting:
            self.wake()

    def put_first(self, frames: list[bytes]) -> None:
        """Add messages before all other frames, while no server is connected."""
        self.frames[:0] = frames
        self.size += sum(map(len, frames))

    def open(self, frames: list[bytes], send_nowait: Callable[[bytes], int] | None) -> None:
        """Start sending to a server.

        Args:
            frames: frames, none of them messages, to send before what has been waiting.
            send_nowait: sends as many bytes as the network takes at once and returns their number, if the stream can do so.
        """
        self._send_nowait = send_nowait
        self._counters.control_frames += len(frames)
        self.put_first(frames)
        self.limit = HIGH_WATER_BYTES

    def wake(self) -> None:
        """Wake the writer task."""
        self.is_waiting = False
        self._wakeup.set()

    def expect_answers(self, count: int) -> None:
        """Plan two pushes for the answers to this many messages, which have been received together.

        The requester can begin with the first half while the second half is produced, and neither needs a task switch.
        """
        if self._send_nowait is not None:
            self._second_half = count // 2
            self.until_push = count - self._second_half

    def push(self) -> None:
        """Send all frames from the calling task if that is possible; otherwise the writer task sends what remains."""
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
        """Return the next frames, joined; nothing else may be sent until ``sent`` is called."""
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
        counters = self._counters
        counters.taken_frames += len(frames)
        counters.out_bytes += self.size - rest
        self.size = rest
        return b"".join(frames)

    def sent(self) -> None:
        """Handle that the network has accepted what was taken: wake the waiting senders if there is enough room."""
        self._is_sending = False
        if self.size <= LOW_WATER_BYTES:
            self._low_water.check()

    def _may_send(self) -> bool:
        return self.size <= HIGH_WATER_BYTES or self.limit == AWAY

    async def wait_low_water(self) -> None:
        """Wait until senders may continue, or the server is away. Not a checkpoint if they may already."""
        await self._low_water.wait()

    def retire(self) -> list[bytes]:
        """Stop sending to this server, drop the frames that were only for it, wake all senders, and return the messages."""
        messages = [frame for frame in self.frames if _commands.is_publish(frame)]
        self._counters.control_frames -= len(self.frames) - len(messages)
        self.frames = []
        self.size = 0
        self.limit = AWAY
        self._send_nowait = None
        self.until_push = self._second_half = 0
        self._low_water.check()
        return messages
