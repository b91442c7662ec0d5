"""The parser: turns the bytes of a server into events, which do not depend on how the stream is split."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from typing import Final, NamedTuple, TypeAlias, final

from .._errors import ProtocolError

MAX_CONTROL_LINE: Final = 64 * 1024
"""Maximum bytes of a control line. Servers send up to 4096 by default, and more only in the INFO of large clusters."""

MAX_MESSAGE_SIZE: Final = 64 * 1024 * 1024
"""Maximum bytes of a message, including headers: the most that a server accepts unless its ``max_pending`` is raised too."""

LARGE_MESSAGE: Final = 32 * 1024
"""Bytes from which on a message is large: worth receiving in larger chunks, and copying as seldom as possible."""

MessageEvent: TypeAlias = "tuple[bytes, bytes, bytes, bytes, bytes]"
"""A message: sid, subject, reply subject (empty if none), header block, payload. A plain tuple, for speed."""


@final
class Signal(Enum):
    """An event without content."""

    PING = "PING"
    PONG = "PONG"
    OK = "+OK"


@final
@dataclass(frozen=True, slots=True)
class InfoEvent:
    """INFO, with its JSON text."""

    text: bytes


@final
@dataclass(frozen=True, slots=True)
class ErrorEvent:
    """-ERR, with its text, without the quotes."""

    text: str


Event: TypeAlias = "MessageEvent | Signal | InfoEvent | ErrorEvent | ProtocolError"
"""Anything that a server sends. A `ProtocolError` is the last event of a stream: what follows cannot be parsed."""

_SIGNALS: Final = {b"PING": Signal.PING, b"PONG": Signal.PONG, b"+OK": Signal.OK}

# Most messages are small, and a look-up is faster than parsing the digits, and as strict.
_SMALL_SIZES: Final = {b"%d" % size: size for size in range(4096)}
_SMALL_TEXTS: Final = tuple(_SMALL_SIZES)


@final
class Parser:
    """An incremental parser, which buffers at most one incomplete message or control line."""

    __slots__ = ("_body", "_has_failed", "_line", "_message")

    def __init__(self) -> None:
        self._has_failed = False
        self._line = b""
        self._message: _MessageHead | None = None
        self._body = bytearray()

    @property
    def is_between_events(self) -> bool:
        """Whether all bytes so far have been returned as events."""
        return not self._line and self._message is None

    @property
    def size_of_incomplete(self) -> int:
        """Bytes of the message whose body is on the way, 0 if there is none."""
        return 0 if self._message is None else self._message.size

    def feed(self, data: bytes) -> list[Event]:
        """Return the events that these bytes complete, in order; none after a `ProtocolError`.

        Source: NATS client protocol.
        """
        events: list[Event] = []
        if self._has_failed:
            return events
        try:
            if self._message is not None:
                data = self._read_body(self._message, data, events)
            if self._line:
                data, self._line = self._line + data, b""
            if len(data) > LARGE_MESSAGE:
                data = self._read_large(data, events)
            self._read(data, events)
        except ProtocolError as error:
            self._has_failed = True
            self._line, self._message = b"", None
            self._body.clear()
            events.append(error)
        return events

    def _read_large(self, data: bytes, events: list[Event]) -> bytes:
        """Parse the large messages without headers at the start, which are not worth splitting; return what follows them."""
        start = 0
        while len(data) - start > LARGE_MESSAGE:
            line_end = data.find(b"\r\n", start, start + MAX_CONTROL_LINE)
            line = data[start : max(start, line_end)]
            fields = line.split(b" ")
            if fields[0] != b"MSG" or len(fields) not in (4, 5) or line.split() != fields:
                break  # left to `_read`, as is everything else that is not as expected
            size = int(fields[-1]) if fields[-1].isdigit() and len(fields[-1]) <= 9 else 0
            if not LARGE_MESSAGE <= size <= MAX_MESSAGE_SIZE:
                break
            head = _MessageHead(fields[2], fields[1], fields[3] if len(fields) == 5 else b"", 0, size)
            body, end = line_end + 2, line_end + 2 + size
            if len(data) < end + 2:
                self._message = head
                self._body += memoryview(data)[body:]
                return b""
            if not data.startswith(b"\r\n", end):
                break
            events.append(head.message(data[body:end]))
            start = end + 2
        return data[start:]

    def _read(self, data: bytes, events: list[Event]) -> None:
        may_hold_a_long_line = len(data) > MAX_CONTROL_LINE
        # One call splits at all line ends. Most payloads contain none, so they are whole pieces.
        pieces = data.split(b"\r\n")
        self._line = tail = pieces.pop()
        count = len(pieces)
        # Only line ends and single blanks are separators. In most chunks there is no other white space, and then no line
        # has to be checked for it.
        has_odd_space = (
            b"\t" in data
            or b"\x0b" in data
            or b"\x0c" in data
            or data.count(b"\n") != count
            or data.count(b"\r") != count
        )
        index = 0
        if not (has_odd_space or may_hold_a_long_line):
            index = _take_plain_messages(pieces, events)
        while index < count:
            line = pieces[index]
            index += 1
            if may_hold_a_long_line and len(line) > MAX_CONTROL_LINE:
                check_start(line)
            fields = line.split(b" ")
            if fields[0] == b"MSG":
                if len(fields) == 5 and fields[3]:
                    _, subject, sid, reply, size_text = fields
                elif len(fields) == 4:
                    _, subject, sid, size_text = fields
                    reply = b""
                else:
                    raise _wrong_fields(line)
                header_size = 0
            elif fields[0] == b"HMSG":
                if len(fields) == 6 and fields[3]:
                    _, subject, sid, reply, header_text, size_text = fields
                elif len(fields) == 5:
                    _, subject, sid, header_text, size_text = fields
                    reply = b""
                else:
                    raise _wrong_fields(line)
                header_size = _read_size(header_text, line)
            else:
                events.append(_read_other(line))
                continue
            if not (subject and sid) or (has_odd_space and line.split() != fields):
                raise _wrong_fields(line)
            size = _SMALL_SIZES.get(size_text, -1)
            if size < 0:
                size = _read_size(size_text, line)
            if index < count and len(pieces[index]) == size and not header_size:
                events.append((sid, subject, reply, b"", pieces[index]))
                index += 1
                continue
            if header_size > size:
                raise ProtocolError("the headers are longer than the message", line)
            # The payload contains line ends, or is incomplete.
            start, length = index, -2
            while length < size and index < count:
                length += 2 + len(pieces[index])
                index += 1
            head = _MessageHead(sid, subject, reply, header_size, size)
            if length == size:
                events.append(head.message(b"\r\n".join(pieces[start:index])))
                continue
            self._message, self._line = head, b""
            self._read_body(head, b"\r\n".join([*pieces[start:], tail]), events)
            return
        if tail:
            check_start(tail)

    def _read_body(self, head: _MessageHead, data: bytes, events: list[Event]) -> bytes:
        """Add to the body of a message; return the bytes that follow it once it is complete, ``b""`` until then."""
        body, size = self._body, head.size
        missing = size + 2 - len(body)
        body += memoryview(data)[:missing]
        if len(body) < size + 2:
            return b""
        if not body.startswith(b"\r\n", size):
            received = bytes(body[size:]) + data[missing : missing + 98]
            raise ProtocolError("a message is longer than its size says", received)
        events.append(head.message(bytes(memoryview(body)[:size])))
        self._message = None
        body.clear()
        return data[missing:]


@final
class _MessageHead(NamedTuple):
    """A message's control line, while its body is on the way."""

    sid: bytes
    subject: bytes
    reply: bytes
    header_size: int
    size: int

    def message(self, body: bytes) -> MessageEvent:
        return self.sid, self.subject, self.reply, body[: self.header_size], body[self.header_size :]


def _take_plain_messages(pieces: list[bytes], events: list[Event]) -> int:
    """Parse the small messages with a reply subject at the start, as nearly all requests are; return the number of pieces."""
    texts = _SMALL_TEXTS
    append = events.append
    before = len(events)
    # An incomplete message is left to the caller, as is everything from the first other line on, which may raise here.
    with suppress(ValueError, IndexError):
        for line, payload in zip(pieces[::2], pieces[1::2], strict=False):
            verb, subject, sid, reply, size = line.split(b" ")
            if size != texts[len(payload)] or verb != b"MSG" or not (subject and sid and reply):
                break
            append((sid, subject, reply, b"", payload))
    return 2 * (len(events) - before)


def check_start(line: bytes) -> None:
    """Check that a line, complete or not, begins with a known operation and is not too long."""
    # A stream that is not NATS is detected by its first bytes, long before its first line ends.
    start = line[:5]
    if not start.startswith(_VERBS) and not any(verb.startswith(start) for verb in _VERBS):
        raise ProtocolError("unknown operation", line)
    if len(line.removesuffix(b"\r")) > MAX_CONTROL_LINE:  # the first half of a line end does not count
        raise ProtocolError(f"a line is longer than {MAX_CONTROL_LINE} bytes", line)


_VERBS: Final = (b"MSG ", b"HMSG ", b"PING", b"PONG", b"INFO ", b"+OK", b"-ERR ")


def _wrong_fields(line: bytes) -> ProtocolError:
    """Return the error for the control line of a message; a reply is one field more."""
    verb, *others = line.split()
    if line == verb:
        return ProtocolError("unknown operation", line)
    least = 4 if verb == b"HMSG" else 3
    if len(others) not in (least, least + 1):
        return ProtocolError(f"{verb.decode()} has a wrong number of fields", line)
    return ProtocolError("fields must be separated by one space", line)


def _read_size(text: bytes, line: bytes) -> int:
    if line.split() != line.split(b" "):
        raise _wrong_fields(line)
    # `int` also accepts signs and underscores.
    if not text.isdigit() or len(text) > 9:
        raise ProtocolError("a size must be a number", line)
    size = int(text)
    if size > MAX_MESSAGE_SIZE:
        raise ProtocolError(f"a message is larger than {MAX_MESSAGE_SIZE} bytes", line)
    return size


def _read_other(line: bytes) -> Event:
    """Parse a line that does not begin a message."""
    signal = _SIGNALS.get(line)
    if signal is not None:
        return signal
    if line.startswith(b"INFO "):
        return InfoEvent(line[5:])
    if line.startswith(b"-ERR "):
        return ErrorEvent(line[5:].decode(errors="replace").strip().strip("'"))
    raise ProtocolError("unknown operation", line)
