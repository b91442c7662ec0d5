"""How a bridge's client reads: natsery's parser, and messages handed on before any task of nats-py's has its turn."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, final

from nats.errors import ProtocolError as NatsProtocolError

from .._errors import MalformedMessageError, ProtocolError
from .._message import Message
from .._protocol._messages import read_message
from .._protocol._parser import ErrorEvent, Event, InfoEvent, MessageEvent, Parser, Signal
from ._safe_client import Intake

if TYPE_CHECKING:
    from ._own_client import OwnClient


@final
class Reading:
    """What nats-py takes for its parser.

    The transport shows it first what comes, and most of that needs no more: the way through nats-py's stream reader and its
    reading task takes as long as the reading itself.
    """

    def __init__(self, client: OwnClient) -> None:
        self._client = client
        self.reset()

    def reset(self) -> None:
        """Begin a new stream."""
        self._parser = Parser()
        self._is_parsing = False
        self._left: list[Event] = []
        self._bytes_ahead = 0

    def take(self, data: bytes) -> bool:
        """Take what was read, if it is all messages to natsery's subscriptions; otherwise ``parse`` must get it too."""
        if self._is_parsing:
            return False
        events = self._parser.feed(data)
        index = self._take_messages(events, 0)
        if index == len(events):
            return True
        self._left = events[index:]
        self._bytes_ahead = len(data)
        return False

    async def parse(self, data: bytes = b"") -> None:
        """Take what was read, and have all that it completes handled."""
        parser = self._parser
        count = min(self._bytes_ahead, len(data))
        self._bytes_ahead -= count
        events, self._left = self._left, []
        events += parser.feed(data[count:])
        self._is_parsing = True
        try:
            index = 0
            while (index := self._take_messages(events, index)) < len(events):
                await self._handle(events[index])
                if self._parser is not parser:
                    return  # that was the end of this stream
                index += 1
        finally:
            if self._parser is parser:
                self._is_parsing = False

    def _take_messages(self, events: list[Event], index: int) -> int:
        """Take the messages to natsery's subscriptions from there on; the index of what is not one that can be read."""
        client = self._client
        subscriptions = client._subs
        count = size = 0
        while index < len(events):
            event = events[index]
            if type(event) is not tuple:
                break
            subscription = subscriptions.get(int(event[0]))
            intake = None if subscription is None else subscription._future
            if type(intake) is not Intake:
                break
            try:
                message = read_message(event, intake.message_type)
            except MalformedMessageError:
                break
            index += 1
            count += 1
            size += len(event[4])
            intake.take(message)
        counters = client._counters
        counters["in_msgs"] += count
        counters["in_bytes"] += size
        return index

    async def _handle(self, event: Event) -> None:
        client = self._client
        if type(event) is tuple:
            await self._handle_message(event)
        elif event is Signal.PING:
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

    async def _handle_message(self, event: MessageEvent) -> None:
        """A message that nats-py is to hand on itself, or one that cannot be read."""
        client = self._client
        sid, subject, reply, headers, payload = event
        subscription = client._subs.get(int(sid))
        if subscription is not None and type(subscription._future) is Intake:
            client._counters["in_msgs"] += 1
            client._counters["in_bytes"] += len(payload)
            try:
                read_message(event, Message)
            except MalformedMessageError as error:
                await client._error_cb(error)
        else:
            await client._process_msg(int(sid), subject, reply, payload, headers or None)  # type: ignore[arg-type]
