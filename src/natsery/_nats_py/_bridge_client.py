"""The client of a bridge: nats-py's, but messages to natsery's subscriptions are handed on as soon as they are parsed."""

from __future__ import annotations

from typing import final

from nats.aio.client import Client

from .._errors import MalformedMessageError
from .._protocol._messages import read_message
from ._safe_client import Intake


@final
class BridgeClient(Client):
    """A client without nats-py's ``Msg`` and its look at each message for JetStream, which are half of the way in.

    An application's own client, as ``adapt`` gets it, is left as it is.
    """

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes) -> None:
        subscription = self._subs.get(sid)
        intake = None if subscription is None else subscription._future
        if type(intake) is not Intake:
            await super()._process_msg(sid, subject, reply, data, headers)
            return
        stats = self.stats
        stats["in_msgs"] += 1
        stats["in_bytes"] += len(data)
        try:
            message = read_message((b"", subject, reply, headers or b"", data), intake.message_type)
        except MalformedMessageError as error:
            await self._error_cb(error)
        else:
            intake.deliver(message)
