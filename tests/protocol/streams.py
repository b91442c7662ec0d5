"""What a server sends: an encoder, so that what was read can be compared with what was meant, and streams to try it with."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import strategies as st

from natsery import ProtocolError
from natsery._protocol._parser import ErrorEvent, InfoEvent, Parser, Signal

from .. import corpus


def msg(sid, subject, reply, header, payload):
    fields = [subject, sid, *([reply] if reply else [])]
    if header:
        line = b" ".join([b"HMSG", *fields, b"%d" % len(header), b"%d" % (len(header) + len(payload))])
    else:
        line = b" ".join([b"MSG", *fields, b"%d" % len(payload)])
    return b"%b\r\n%b%b\r\n" % (line, header, payload)


def encode(event):
    if isinstance(event, tuple):
        return msg(*event)
    if isinstance(event, Signal):
        return event.value.encode() + b"\r\n"
    if isinstance(event, InfoEvent):
        return b"INFO %b\r\n" % event.text
    return b"-ERR '%b'\r\n" % event.text.encode()


def comparable(events):
    """Errors compare by identity; what was received differs with the split, for an error comes as early as it can."""
    return [("error", event.reason) if isinstance(event, ProtocolError) else event for event in events]


def cut(stream, positions):
    bounds = [0, *sorted(positions), len(stream)]
    return [stream[start:end] for start, end in pairwise(bounds)]


def bytewise(stream):
    return cut(stream, range(1, len(stream)))


PROTOCOL_TEXT = [
    b"\r\n",
    b"\r",
    b"\n",
    b"\r\r\n",
    b"\n\r",
    b"MSG a 1 5\r\n",
    b"HMSG a 1 2 5\r\n",
    b"PING\r\n",
    b"PONG",
    b"+OK\r\n",
    b"-ERR 'x'\r\n",
    b"INFO {}\r\n",
    b"NATS/1.0\r\n\r\n",
    b"\0",
    b"\xff\xfe",
    b" ",
    b"x" * 5000,
]
payloads = st.one_of(st.binary(max_size=40), st.lists(st.sampled_from(PROTOCOL_TEXT), max_size=6).map(b"".join))
WHITE_SPACE = b" \t\n\r\x0b\x0c"
tokens = st.binary(min_size=1, max_size=12).filter(lambda token: not any(byte in WHITE_SPACE for byte in token))
texts = st.text(max_size=30).filter(lambda text: "\r\n" not in text)
messages = st.tuples(tokens, tokens, st.one_of(st.just(b""), tokens), st.one_of(st.just(b""), payloads), payloads)
events = st.one_of(
    messages,
    messages,
    st.sampled_from(Signal),
    texts.map(lambda text: InfoEvent(text.encode())),
    texts.map(lambda text: ErrorEvent(text.strip("' \t"))).filter(lambda event: event.text == event.text.strip()),
)


def recorded(kind):
    """The header blocks, or the INFO texts, of what servers have sent."""
    found = [event for stream in corpus.STREAMS for event in Parser().feed(stream)]
    if kind == "INFO":
        return [event.text for event in found if isinstance(event, InfoEvent)]
    return [event[3] for event in found if isinstance(event, tuple) and event[3]]


@st.composite
def damaged(draw):
    """A stream of which some bytes have been changed, added or left out."""
    stream = bytearray(b"".join(map(encode, draw(st.lists(events, min_size=1, max_size=4))))[:3000])
    for _ in range(draw(st.integers(1, 4))):
        position = draw(st.integers(0, len(stream)))
        length = draw(st.integers(0, 3))
        stream[position : position + length] = draw(
            st.one_of(st.binary(max_size=3), st.sampled_from([*PROTOCOL_TEXT[:-1], b"0", b"1", b"-", b"\t", b"\x0b"]))
        )
    return bytes(stream)
