"""What leaves a bridge on the caller's side: gathered for a moment, and sent from here where nothing is before it."""

from __future__ import annotations

from typing import Final, final

from .._wakeup import new_wakeup
from ._own_client import OwnClient
from ._thread_queue import ThreadQueue
from ._worker_thread import Outbound

HIGH_WATER_BYTES: Final = 8 * 1024 * 1024
"""Bytes of payload on their way to nats-py over which those who send wait."""

GATHERED_FRAMES: Final = 256
"""Frames that leave without waiting for more."""

GATHERED_BYTES: Final = 256 * 1024
"""Bytes of payload that leave without waiting for more."""


@final
class Outlet:
    """The way out, in the order of sending.

    A hop to nats-py's thread, and the wait until that runs, is half of what a lone request takes; one system call from here
    does without.

    Args:
        client: the client over there.
        lane: the way to its thread.
    """

    def __init__(self, client: OwnClient, lane: ThreadQueue[Outbound]) -> None:
        self._client = client
        self._lane = lane
        self._frames: list[bytes] = []
        self._payload_bytes = 0
        self._until_push = 0
        self._wakeup = new_wakeup()
        self._is_woken = False

    @property
    def is_full(self) -> bool:
        """Whether those who send should wait until what is on its way over there has been taken."""
        return self._lane.put_bytes - self._lane.taken_bytes > HIGH_WATER_BYTES

    def put(self, item: Outbound) -> None:
        """Have something done over there, after all that was sent before."""
        self.push()
        self._lane.put(item)

    def send(self, frame: bytes, payload_bytes: int) -> None:
        """Send a message, with what else is sent at this moment."""
        self._frames.append(frame)
        self._payload_bytes += payload_bytes
        if len(self._frames) >= GATHERED_FRAMES or self._payload_bytes >= GATHERED_BYTES:
            self.push()
        elif not self._is_woken:
            self._is_woken = True
            self._wakeup.set()

    def expect_answers(self, count: int) -> None:
        """So many messages have come at once: if each is answered at once, the answers leave with the last of them."""
        self._until_push = count

    def answer(self, frame: bytes, payload_bytes: int) -> None:
        """Send an answer, with the others that are expected."""
        self._until_push -= 1
        if self._until_push:
            self.send(frame, payload_bytes)
        else:
            self._frames.append(frame)
            self._payload_bytes += payload_bytes
            self.push()

    def push(self) -> None:
        """Send what has gathered."""
        frames = self._frames
        if not frames:
            return
        lane, payload_bytes = self._lane, self._payload_bytes
        self._frames, self._payload_bytes = [], 0
        # What is under way over there must not be overtaken.
        if lane.is_woken or lane.is_at_work or not self._client.send_nowait(frames, payload_bytes):
            lane.put_bytes += payload_bytes
            lane.put_all(frames)

    async def run(self) -> None:
        """Send what has gathered when all who can run have had their turn, until cancelled."""
        while True:
            await self._wakeup.wait()
            self._is_woken = False
            self.push()
