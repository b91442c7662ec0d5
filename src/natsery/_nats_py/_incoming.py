"""Reads the messages to natsery's subscriptions in nats-py's place: in one step, and whatever comes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, final

from nats.aio.msg import Msg

from .._message import Deliver, Message
from .._protocol._messages import read_message
from ._stand_in import StandIn

if TYPE_CHECKING:
    from ._client_writer import ClientWriter


@final
class Intake(asyncio.Future[Msg]):
    """What nats-py takes for the future of a single reply; it marks a subscription of natsery's.

    The other ways to get messages out of nats-py put a queue and a task between, which drop messages when full, end for
    good when a callback is cancelled, and throw the queue away on unsubscribing.
    """

    def __init__(self, deliver: Deliver, message_type: type[Message], writer: ClientWriter) -> None:
        super().__init__(loop=writer.loop)
        self.deliver = deliver
        self.message_type = message_type
        self.writer = writer

    def set_result(self, result: Msg, /) -> None:
        """Drop a message that comes when the client is not attached any more."""


@final
class Incoming(StandIn):
    """Stands in for a client's ``_process_msg``, which its parser awaits for every message.

    nats-py's own makes a ``Msg`` and looks at each message for JetStream, which is half of the way in, and raises for some
    headers and subjects that any peer can send. What it raises ends the client's reader.
    """

    method = "_process_msg"

    async def call(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes) -> None:
        """Deliver a message; one that cannot be read is reported."""
        client = self._client
        subscription = client._subs.get(sid)
        intake = None if subscription is None else subscription._future
        try:
            if type(intake) is Intake:
                stats = client.stats
                stats["in_msgs"] += 1
                stats["in_bytes"] += len(data)
                intake.writer.unanswered += 1
                intake.deliver(read_message((b"", subject, reply, headers or b"", data), intake.message_type))
            else:
                await self._next(sid, subject, reply, data, headers)
        except Exception as error:
            await client._error_cb(error)
