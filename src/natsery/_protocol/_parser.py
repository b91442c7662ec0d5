"""What a server sends, cut into events: any way of splitting the stream gives the same ones."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final, TypeAlias, final

from .._errors import ProtocolError

MAX_CONTROL_LINE: Final = 64 * 1024
"""Bytes of the longest line that is read; servers send 4096 unless told otherwise, INFO of large clusters apart."""

MAX_MESSAGE_SIZE: Final = 64 * 1024 * 1024
"""Bytes of the largest message, headers counted, that is read: the most that any server can be configured for."""

MessageEvent: TypeAlias = "tuple[bytes, bytes, bytes, bytes, bytes]"
"""A message, as a plain tuple because there are so many: sid, subject, reply (empty if none), header block, payload."""


@final
class Signal(Enum):
    """What a server says in one word."""

    PING = "PING"
    PONG = "PONG"
    OK = "+OK"


@final
@dataclass(frozen=True, slots=True)
class InfoEvent:
    """INFO, as the JSON text that it carries."""

    text: bytes


@final
@dataclass(frozen=True, slots=True)
class ErrorEvent:
    """-ERR, its text without the quotes around it."""

    text: str


Event: TypeAlias = "MessageEvent | Signal | InfoEvent | ErrorEvent | ProtocolError"
"""A `ProtocolError` is the last event of a stream: what follows it cannot be read."""

_SIGNALS: Final = {b"PING": Signal.PING, b"PONG": Signal.PONG, b"+OK": Signal.OK}

# Most messages are small: a look-up is faster than reading the digits, and as strict.
_SMALL_SIZES: Final = {b"%d" % size: size for size in range(4096)}


@final
class Parser:
    """Takes a stream in pieces. It holds no more than one message or control line that is not complete yet."""

    __slots__ = ("_gathered", "_has_failed", "_needed", "_parts")

    def __init__(self) -> None:
        self._has_failed = False
        self._parts: list[bytes] = []
        self._gathered = 0
        self._needed = 0

    @property
    def is_between_events(self) -> bool:
        """Whether all that was fed has come out as events."""
        return not self._parts

    def feed(self, data: bytes) -> list[Event]:
        """The events that these bytes complete, in order; none after a `ProtocolError`.

        Source: NATS client protocol.
        """
        events: list[Event] = []
        if self._has_failed:
            return events
        try:
            self._read(data, events)
        except ProtocolError as error:
            self._has_failed = True
            self._parts.clear()
            events.append(error)
        return events

    def _read(self, data: bytes, events: list[Event]) -> None:
        if self._parts:
            # Joined only when something is complete, so that a large message is not copied again with every piece.
            self._parts.append(data)
            self._gathered += len(data)
            if self._gathered < self._needed:
                return
            data = b"".join(self._parts)
            self._parts.clear()
        position, end = 0, len(data)
        while position < end:
            line_end = data.find(b"\r\n", position, position + MAX_CONTROL_LINE)
            if line_end < 0:
                _check_unfinished_line(data, position)
                self._keep(data[position:], 0)
                break
            line = data[position:line_end]
            fields = line.split()
            verb = fields[0] if fields else b""
            if verb == b"MSG":
                if len(fields) == 4:
                    _, subject, sid, size_text = fields
                    reply = b""
                elif len(fields) == 5:
                    _, subject, sid, reply, size_text = fields
                else:
                    raise ProtocolError("MSG has a wrong number of fields", line)
                header_size = 0
            elif verb == b"HMSG":
                if len(fields) == 5:
                    _, subject, sid, header_text, size_text = fields
                    reply = b""
                elif len(fields) == 6:
                    _, subject, sid, reply, header_text, size_text = fields
                else:
                    raise ProtocolError("HMSG has a wrong number of fields", line)
                header_size = _read_size(header_text, line)
            else:
                events.append(_read_other(line))
                position = line_end + 2
                continue
            if line.count(b" ") != len(fields) - 1:
                raise ProtocolError("fields must be separated by one space", line)
            size = _SMALL_SIZES.get(size_text, -1)
            if size < 0:
                size = _read_size(size_text, line)
            payload_start = line_end + 2
            payload_end = payload_start + size
            if payload_end + 2 > end:
                self._keep(data[position:], payload_end + 2 - position)
                break
            if not data.startswith(b"\r\n", payload_end):
                raise ProtocolError("a message is longer than its size says", line)
            if header_size:
                if header_size > size:
                    raise ProtocolError("the headers are longer than the message", line)
                split = payload_start + header_size
                events.append((sid, subject, reply, data[payload_start:split], data[split:payload_end]))
            else:
                events.append((sid, subject, reply, b"", data[payload_start:payload_end]))
            position = payload_end + 2

    def _keep(self, rest: bytes, needed: int) -> None:
        self._parts.append(rest)
        self._gathered = len(rest)
        self._needed = needed


def _check_unfinished_line(data: bytes, position: int) -> None:
    if len(data) - position >= MAX_CONTROL_LINE:
        raise ProtocolError(f"a line is longer than {MAX_CONTROL_LINE} bytes", data[position : position + 100])
    # A stream that is not NATS is known by its first bytes, long before a line of it ends.
    start = data[position : position + 5]
    if not start.startswith(_VERBS) and not any(verb.startswith(start) for verb in _VERBS):
        raise ProtocolError("unknown operation", data[position : position + 100])


_VERBS: Final = (b"MSG ", b"HMSG ", b"PING", b"PONG", b"INFO ", b"+OK", b"-ERR ")


def _read_size(text: bytes, line: bytes) -> int:
    # `int` takes signs and underscores too.
    if not text.isdigit() or len(text) > 9:
        raise ProtocolError("a size must be a number", line)
    size = int(text)
    if size > MAX_MESSAGE_SIZE:
        raise ProtocolError(f"a message is larger than {MAX_MESSAGE_SIZE} bytes", line)
    return size


def _read_other(line: bytes) -> Event:
    """A line that is no message."""
    signal = _SIGNALS.get(line)
    if signal is not None:
        return signal
    word, _, rest = line.partition(b" ")
    if word == b"INFO":
        return InfoEvent(rest)
    if word == b"-ERR":
        return ErrorEvent(rest.decode(errors="replace").strip().strip("'"))
    raise ProtocolError("unknown operation", line)
