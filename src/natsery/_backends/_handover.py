"""How tasks that wait for messages go on as soon as a chunk has been delivered, without a turn of the event loop."""

from __future__ import annotations

from typing import Protocol

from .._wakeup import Wakeups


class Handover(Wakeups, Protocol):
    """The hand-over of one connection's messages to the tasks that handle them."""

    def begin(self) -> None:
        """Prepare for the messages of a chunk."""
        ...

    def end(self, stream: object) -> None:
        """Have the tasks go on that the messages have woken. The chunk came through this stream's socket."""
        ...
