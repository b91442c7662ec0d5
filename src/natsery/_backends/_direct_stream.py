"""The interface of streams that use the event loop directly, for speed."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Final, TypeAlias

from anyio.abc import AsyncResource

RECEIVE_BYTES: Final = 64 * 1024
"""The most bytes of a chunk, so that no chunk keeps other tasks waiting for long."""

LARGE_RECEIVE_BYTES: Final = 256 * 1024
"""The most bytes of a chunk in the middle of a large message."""

Take: TypeAlias = "Callable[[bytes | memoryview], bool]"
"""Takes a chunk, which is valid during the call alone; returns whether it ends in the middle of a large message."""


class DirectStream(AsyncResource):
    """A stream for one reading and one writing task, with fewer loop iterations for each chunk than anyio's own."""

    @abstractmethod
    async def receive_into(self, take: Take) -> None:
        """Call ``take`` with each received chunk, in the event loop but not always in this task, until the stream ends.

        May be called once.

        Raises:
            EndOfStream, BrokenResourceError, ClosedResourceError: as for any stream.
            Exception: raised by ``take``.

        **Cancellation:** what is received from then on is dropped. A checkpoint.
        """

    @abstractmethod
    async def send(self, item: bytes) -> None:
        """Send all bytes; return when the operating system has accepted them. A checkpoint only if it has to wait for that.

        Raises:
            BrokenResourceError, ClosedResourceError: as for any stream.

        **Cancellation:** some of the bytes may have been sent.
        """

    @abstractmethod
    def send_nowait(self, item: bytes) -> int:
        """Send as many bytes as possible without waiting; return how many count as sent. Must not be called during ``send``.

        The others must be the first ones that are sent next: they may be encrypted and sent in part already. Returns 0 if the
        stream is broken; ``send`` raises the error.
        """
