"""What a native connection has counted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final


@final
@dataclass(frozen=True, kw_only=True)
class ConnectionStatistics:
    """What a connection has counted since it was made.

    Attributes:
        in_messages: messages received, those of no subscription and malformed ones included.
        in_bytes: bytes received from the network, TLS apart.
        out_messages: messages taken for sending.
        out_bytes: bytes given to the network, TLS apart.
        malformed: messages dropped because they cannot be read.
        reconnects: times that another network connection took the place of one that had ended.
    """

    in_messages: int
    in_bytes: int
    out_messages: int
    out_bytes: int
    malformed: int
    reconnects: int
