"""What a TCP stream can do that has its event loop's own means beneath it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable

from anyio.abc import AsyncResource


class PlainStream(AsyncResource):
    """A TCP stream for one reading and one writing task, with fewer turns of the loop for each piece than anyio's own."""

    @abstractmethod
    async def receive_into(self, take: Callable[[bytes], None]) -> None:
        """Give all that comes to ``take``, in the event loop but not always in this task; ends with an error. Not twice.

        Raises:
            EndOfStream, BrokenResourceError, ClosedResourceError: as for any stream.
            Exception: ``take`` raised it.

        **Cancellation:** what comes from then on is dropped. A checkpoint.
        """

    @abstractmethod
    async def send(self, item: bytes) -> None:
        """Send all of it; returns when the operating system has it. No checkpoint unless it has to wait for that.

        Raises:
            BrokenResourceError, ClosedResourceError: as for any stream.

        **Cancellation:** a part of it may have been sent.
        """

    @abstractmethod
    def send_nowait(self, item: bytes) -> int:
        """Send as much of it as can be taken at once; how many bytes. Not while ``send`` is under way.

        Errors are left for ``send`` to find.
        """
