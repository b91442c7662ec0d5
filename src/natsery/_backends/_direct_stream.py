"""The interface of streams that use the event loop directly, for speed."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable

from anyio.abc import AsyncResource


class DirectStream(AsyncResource):
    """A stream for one reading and one writing task, with fewer loop iterations for each chunk than anyio's own."""

    @abstractmethod
    async def receive_into(self, take: Callable[[bytes], None]) -> None:
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
