"""The passage between the caller's event loop and an asyncio loop in another thread: batches, and never a wait."""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import Generic, TypeVar, final

import anyio

from .._backends import is_trio

ItemT = TypeVar("ItemT")


def liveness_of_this_loop() -> Callable[[], bool]:
    """What tells other threads whether the running event loop still runs."""
    if is_trio():
        from .._backends import _trio

        return _trio.liveness()
    from .._backends import _asyncio

    return _asyncio.liveness()


@final
class Waker:
    """Lets another thread wake a task of this event loop.

    trio's own way to be called from a thread takes two turns of its loop more.
    """

    def __init__(self) -> None:
        self._near, self._far = socket.socketpair()
        self._near.setblocking(False)
        self._far.setblocking(False)
        self._wait_readable: Callable[[socket.socket], Awaitable[None]] = anyio.wait_readable
        if is_trio():
            # anyio's asks first which loop there is, and this is on the way of every lone request.
            from .._backends._trio import wait_readable

            self._wait_readable = wait_readable

    async def wait(self) -> None:
        """Wait for ``wake``, however often it was called since the last wait. A checkpoint."""
        await self._wait_readable(self._near)
        try:
            self._near.recv(4096)
        except BlockingIOError:
            pass

    def wake(self) -> None:
        """Wake the waiting task, or the next one to wait. From any thread."""
        try:
            self._far.send(b"\0")
        except OSError:
            pass  # too full to take more, which wakes it all the same, or closed, with nobody to wake

    def close(self) -> None:
        """Give the sockets back."""
        self._near.close()
        self._far.close()


@final
class ThreadQueue(Generic[ItemT]):
    """A queue into another thread's loop, whose one receiving task is woken once for all that has gathered.

    ``put`` belongs to one thread and ``gathered`` to the other; neither waits for the other and no lock is held.

    Args:
        wake: has the receiving task woken, from the sending thread.

    Attributes:
        put_bytes: what the sending thread, and it alone, counts of what it has sent.
        taken_bytes: what the receiving thread, and it alone, counts of what it has taken.
        is_woken: whether something was sent that the receiving thread has not begun to take.
        is_at_work: whether the receiving thread may still be at work on what it has taken; it says so itself.
    """

    def __init__(self, wake: Callable[[], object]) -> None:
        self.put_bytes = 0
        self.taken_bytes = 0
        self.is_woken = False
        self.is_at_work = False
        self._wake = wake
        self._items: deque[ItemT] = deque()

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: ItemT) -> None:
        """Send an item across."""
        self._items.append(item)
        if not self.is_woken:
            self.is_woken = True
            self._wake()

    def put_all(self, items: Iterable[ItemT]) -> None:
        """Send several."""
        self._items.extend(items)
        if not self.is_woken:
            self.is_woken = True
            self._wake()

    def gathered(self) -> deque[ItemT]:
        """What has gathered, to be emptied now; what is added after the last look wakes the receiver again."""
        self.is_at_work = True  # first, so that the sending thread never sees neither
        self.is_woken = False
        return self._items
