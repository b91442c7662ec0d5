"""The client of a bridge: nats-py's, but for how it reads messages and for answers that other threads send."""

from __future__ import annotations

from typing import final

from nats.aio.client import Client
from nats.aio.transport import TcpTransport, Transport

from ._own_reading import Reading
from ._own_transport import OwnTransport


@final
class OwnClient(Client):
    """A client whose messages go from natsery's parser straight to natsery's subscriptions; all else is nats-py's.

    An application's own client is left as it is. This one is natsery's, and nats-py's parser, its ``Msg`` and its look at
    every message for JetStream take as long as all the rest of a request.
    """

    def __init__(self) -> None:
        self._line: Transport | None = None
        self._counters: dict[str, int] = {}
        self._sent_messages = self._sent_bytes = 0  # by `send_nowait`
        self._counted_messages = self._counted_bytes = 0  # of those
        super().__init__()
        self._ps: Reading = Reading(self)  # type: ignore[assignment]  # has all that the client uses of a parser

    @property
    def _transport(self) -> Transport | None:
        return self._line

    @_transport.setter
    def _transport(self, transport: Transport | None) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        self._line = OwnTransport(self._ps) if type(transport) is TcpTransport else transport

    @property
    def stats(self) -> dict[str, int]:
        """nats-py's counters, for the client's own thread."""
        messages, size = self._sent_messages, self._sent_bytes
        counters = self._counters
        counters["out_msgs"] += messages - self._counted_messages
        counters["out_bytes"] += size - self._counted_bytes
        self._counted_messages, self._counted_bytes = messages, size
        return counters

    @stats.setter
    def stats(self, counters: dict[str, int]) -> None:
        self._counters = counters

    def send_nowait(self, frames: list[bytes], payload_bytes: int) -> bool:
        """Send messages from the one other thread that may, if nothing waits here to be sent before them.

        Returns:
            False where that would need a wait; nothing has happened then.
        """
        line = self._line
        if (
            type(line) is not OwnTransport
            or self._status != Client.CONNECTED
            or self._pending_data_size  # nats-py sets it to zero when all has been written
            or not line.send_nowait(b"".join(frames))
        ):
            return False
        self._sent_messages += len(frames)
        self._sent_bytes += payload_bytes
        return True
