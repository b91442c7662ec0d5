"""The client of a bridge: nats-py's, but for how it reads messages."""

from __future__ import annotations

import json
from typing import Any, final

from nats.aio.client import Client
from nats.errors import ProtocolError as NatsProtocolError

from .._errors import MalformedMessageError, ProtocolError
from .._protocol._messages import read_message
from .._protocol._parser import ErrorEvent, Event, InfoEvent, Parser, Signal
from ._client import Intake


@final
class OwnClient(Client):
    """A client whose messages go from natsery's parser straight to natsery's subscriptions; all else is nats-py's.

    An application's own client is left as it is. This one is natsery's, and nats-py's parser, its ``Msg`` and its look at
    every message for JetStream take as long as all the rest of a request.
    """

    def __init__(self) -> None:
        super().__init__()
        self._ps: _Reading = _Reading(self)  # type: ignore[assignment]  # has all that the client uses of a parser


@final
class _Reading:
    """What nats-py takes for its parser."""

    def __init__(self, client: OwnClient) -> None:
        self._client = client
        self.reset()

    def reset(self) -> None:
        """Begin a new stream."""
        self._parser = Parser()

    async def parse(self, data: bytes = b"") -> None:
        """Take what was read, and have all that it completes handled."""
        parser = self._parser
        client = self._client
        subscriptions = client._subs
        count = size = 0
        for event in parser.feed(data):
            if type(event) is not tuple:
                await self._handle(event)
                if self._parser is not parser:
                    break  # that was the end of this stream
                continue
            subscription = subscriptions.get(int(event[0]))
            intake = None if subscription is None else subscription._future
            if type(intake) is not Intake:
                sid, subject, reply, headers, payload = event
                await client._process_msg(int(sid), subject, reply, payload, headers or None)  # type: ignore[arg-type]
                continue
            count += 1
            size += len(event[4])
            try:
                message = read_message(event, intake.message_type)
            except MalformedMessageError as error:
                await client._error_cb(error)
            else:
                intake.take(message)
        client.stats["in_msgs"] += count
        client.stats["in_bytes"] += size

    async def _handle(self, event: Event) -> None:
        client = self._client
        if event is Signal.PING:
            await client._process_ping()
        elif event is Signal.PONG:
            await client._process_pong()
        elif isinstance(event, InfoEvent):
            info: dict[str, Any] = json.loads(event.text)
            await client._process_info(info)
        elif isinstance(event, ErrorEvent):
            await client._process_err(f"'{event.text.lower()}'")
        elif isinstance(event, ProtocolError):
            raise NatsProtocolError(str(event)) from event
