"""Messages made from the events of the parser."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._errors import MalformedMessageError
from ._headers import read_headers
from ._parser import MessageEvent

if TYPE_CHECKING:
    from .._message import Message


def read_message(event: MessageEvent, message_type: type[Message]) -> Message:
    """Return the message of an event.

    Raises:
        MalformedMessageError: its subject, reply subject or headers are not UTF-8, or its header block is malformed.
    """
    _, subject, reply, header_block, data = event
    try:
        if not header_block:
            return message_type(subject.decode(), data, reply.decode())
        headers, status, _ = read_headers(header_block)
        return message_type(subject.decode(), data, reply.decode(), headers, status)
    except UnicodeDecodeError:
        reason = "its subject or reply is not UTF-8"
    except MalformedMessageError as error:
        reason = error.reason
    raise MalformedMessageError(reason, subject.decode(errors="replace"))
