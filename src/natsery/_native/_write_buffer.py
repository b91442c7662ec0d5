"""The write buffer of a network connection: how frames are sent, and who waits for that."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, final

from .._condition_event import ConditionEvent
from .._core import AWAY, FrameBuffer, HeldAnswers
from .._protocol import _commands
from .._wakeup import new_wakeup
from ._connection_statistics import Counters

HIGH_WATER_BYTES: Final = 1024 * 1024
"""Waiting bytes above which senders have to wait."""

LOW_WATER_BYTES: Final = HIGH_WATER_BYTES // 2
"""Waiting bytes at which waiting senders are woken."""


@final
class WriteBuffer(FrameBuffer):
    """Synchronous code adds frames; the writer task and ``push`` send them.

    Args:
        counters: what to count in.
        held: what is noted of the answers that wait.
    """

    __slots__ = ("_low_water", "_wakeup")

    def __init__(self, counters: Counters, held: HeldAnswers) -> None:
        super().__init__(counters, held)
        self._wakeup = new_wakeup()
        self._low_water = ConditionEvent(self._may_send)

    def put(self, frame: bytes) -> None:
        """Add a frame that is not a message."""
        self._counters.control_frames += 1
        self.add(frame)

    def open(self, frames: list[bytes], send_nowait: Callable[[bytes], int] | None) -> None:
        """Start sending to a server.

        Args:
            frames: frames, none of them messages, to send before what has been waiting.
            send_nowait: sends as many bytes as the network takes at once and returns their number, if the stream can do so.
        """
        self._send_nowait = send_nowait
        self._counters.control_frames += len(frames)
        self.add_first(frames)
        self.limit = HIGH_WATER_BYTES

    def wake(self) -> None:
        """Wake the writer task."""
        self.is_waiting = False
        self._wakeup.set()

    async def wait_for_frames(self) -> None:
        """Wait until there is something to take. A checkpoint only when it has to wait."""
        while not self.has_frames:
            self.is_waiting = True
            try:
                await self._wakeup.wait()
            finally:
                self.is_waiting = False

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
        frames = self.clear()
        messages = [frame for frame in frames if _commands.is_publish(frame)]
        self._counters.control_frames -= len(frames) - len(messages)
        self.limit = AWAY
        self._send_nowait = None
        self.until_push = 0
        self._low_water.check()
        return messages
