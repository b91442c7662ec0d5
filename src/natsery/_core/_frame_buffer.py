"""The write buffer: frames in, one run of bytes out."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from .._protocol._commands import SIZE_FIELDS, SMALL
from .._subjects import LONG_SUBJECT, PLAIN_SUBJECT
from ._limits import AWAY, BATCH_BYTES, LONG_AGO

if TYPE_CHECKING:
    from .._native._connection_statistics import Counters
    from ._fields import HeldAnswers


class FrameBuffer:
    """Frames in the order of sending, which are taken as one run of bytes. A subclass says how they are sent.

    Args:
        counters: what to count in.
        held: what is noted of the answers that wait.

    Attributes:
        size: bytes that wait.
        limit: size above which a sender has to check whether it may send, and perhaps wait.
        max_payload: the most bytes of an answer.
        is_waiting: whether a task waits for a frame.
        until_push: answers until the next ``push``; below 1 if none is due.
    """

    __slots__ = (
        "_counters",
        "_frames",
        "_held",
        "_is_sending",
        "_rest",
        "_send_nowait",
        "is_waiting",
        "limit",
        "max_payload",
        "size",
        "until_push",
    )

    def __init__(self, counters: Counters, held: HeldAnswers) -> None:
        self.size: int = 0
        self.limit: int = AWAY
        self.max_payload: int = 0
        self.is_waiting: bool = False
        self.until_push: int = 0
        self._counters = counters
        self._held = held
        self._frames: list[bytes] = []
        self._send_nowait: Callable[[bytes], int] | None = None
        self._is_sending = False
        self._rest = b""

    # What a subclass has

    def wake(self) -> None:
        """Wake the task that waits."""
        raise NotImplementedError

    def sent(self) -> None:
        """Handle that the network has accepted what was taken."""
        raise NotImplementedError

    # Frames in

    @property
    def count(self) -> int:
        """Frames that wait."""
        return len(self._frames)

    def add(self, frame: bytes) -> None:
        """Add a frame."""
        self._frames.append(frame)
        self.size += len(frame)
        if self.is_waiting:
            self.wake()

    def add_first(self, frames: list[bytes]) -> None:
        """Add frames before all others, while no server is connected."""
        self._frames[:0] = frames
        self.size += sum(map(len, frames))

    def answer(self, reply: str, data: bytes) -> bool:
        """Add a PUB to a reply subject, which was received as a single field and so needs no check; push if that is due.

        Returns:
            False, with nothing added, if a sender has to wait or the payload is too large.
        """
        size = len(data)
        if self.size > self.limit or size > self.max_payload:
            return False
        size_field = SIZE_FIELDS[size] if size < SMALL else b" %d\r\n" % size
        frame = b"".join((b"PUB ", reply.encode(), size_field, data, b"\r\n"))
        self._frames.append(frame)
        self.size += len(frame)
        self.until_push = until_push = self.until_push - 1
        if not until_push:
            self.push()
        else:
            held = self._held
            if not held.since:
                held.since = LONG_AGO
            if self.is_waiting:
                self.wake()
        return True

    def publish(self, subject: str, data: bytes) -> bool:
        """Add a PUB without a reply subject.

        Returns:
            False, with nothing added, if a sender has to wait, the payload is too large, or the subject is not one of which
            it is plain that it may be sent.
        """
        size = len(data)
        if (
            self.size > self.limit
            or size > self.max_payload
            or type(subject) is not str
            or not PLAIN_SUBJECT.fullmatch(subject)
            or len(subject) > LONG_SUBJECT
        ):
            return False
        frame = b"PUB %b %d\r\n%b\r\n" % (subject.encode(), size, data)
        self._frames.append(frame)
        self.size += len(frame)
        if self.is_waiting:
            self.wake()
        return True

    # Bytes out

    def expect_answers(self, count: int) -> None:
        """Plan a push for when this many messages, which have been received together, are answered."""
        if self._send_nowait is not None:
            self.until_push = count

    def push(self) -> None:
        """Send all frames from the calling task if that is possible; otherwise the writer task sends what remains."""
        self.until_push = 0
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

    def push_early(self) -> None:
        """Push what waits; a push that is planned for later stays so."""
        if self.size:
            until_push = self.until_push
            self.push()
            self.until_push = until_push

    @property
    def has_frames(self) -> bool:
        """Whether there is something to take."""
        return bool(self._frames or self._rest)

    def take(self) -> bytes:
        """Return the next frames, joined; nothing else may be sent until ``sent`` is called."""
        self._is_sending = True
        self._held.since = 0
        if self._rest:
            data, self._rest = self._rest, b""
            return data
        frames = self._frames
        if self.size <= BATCH_BYTES:
            self._frames, rest = [], 0
        else:
            count = size = 0
            while size < BATCH_BYTES and count < len(frames):
                size += len(frames[count])
                count += 1
            self._frames, rest = frames[count:], self.size - size
            del frames[count:]
        counters = self._counters
        counters.taken_frames += len(frames)
        counters.out_bytes += self.size - rest
        self.size = rest
        return b"".join(frames)

    def clear(self) -> list[bytes]:
        """Remove and return the frames that wait; the rest of one that has been taken in part stays."""
        frames, self._frames = self._frames, []
        self.size = 0
        return frames
