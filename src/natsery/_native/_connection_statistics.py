"""Statistics of a native connection: the running counters, and the snapshot that users get."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final


@final
@dataclass(frozen=True, kw_only=True)
class ConnectionStatistics:
    """The statistics of a connection since it was created.

    Attributes:
        in_messages: messages received, including malformed ones and those that match no subscription.
        in_bytes: bytes received from the network, without TLS overhead.
        out_messages: messages accepted for sending.
        out_bytes: bytes handed to the network, without TLS overhead.
        malformed: messages dropped because they could not be parsed.
        reconnects: times that a new network connection replaced one that had ended.
    """

    in_messages: int
    in_bytes: int
    out_messages: int
    out_bytes: int
    malformed: int
    reconnects: int


@final
class Counters:
    """Running totals of a connection, which its sessions and write buffers share.

    Attributes:
        in_messages, in_bytes, out_bytes, malformed, reconnects: as in `ConnectionStatistics`.
        taken_frames: frames taken out of write buffers.
        control_frames: frames put into write buffers that are not messages.
    """

    __slots__ = ("control_frames", "in_bytes", "in_messages", "malformed", "out_bytes", "reconnects", "taken_frames")

    def __init__(self) -> None:
        self.in_messages: int = 0
        self.in_bytes: int = 0
        self.out_bytes: int = 0
        self.malformed: int = 0
        self.reconnects: int = 0
        self.taken_frames: int = 0
        self.control_frames: int = 0

    @property
    def sent_messages(self) -> int:
        """Messages handed to the network, as long as no other frames wait in write buffers."""
        return self.taken_frames - self.control_frames

    def snapshot(self, waiting_frames: int) -> ConnectionStatistics:
        """Return the statistics.

        Args:
            waiting_frames: frames that are still in write buffers.
        """
        return ConnectionStatistics(
            in_messages=self.in_messages,
            in_bytes=self.in_bytes,
            # Messages are added to a write buffer without being counted, because that happens for every request.
            out_messages=self.taken_frames + waiting_frames - self.control_frames,
            out_bytes=self.out_bytes,
            malformed=self.malformed,
            reconnects=self.reconnects,
        )
