"""What peers have really sent, and the same damaged."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from hypothesis import strategies as st

DATA = Path(__file__).parent / "data"

STREAMS = [path.read_bytes() for path in sorted((DATA / "corpus" / "stream").iterdir())]
"""What a server has sent on a connection."""

REPLIES = [
    *(path.read_bytes() for path in sorted((DATA / "corpus" / "replies").iterdir())),
    *(each["payload"].encode() for each in json.loads((DATA / "control_replies.json").read_text(encoding="utf-8"))),
]
"""Replies to PING, INFO and STATS, of every implementation that is known."""

HEADER_WORDS = [
    b"\r\n",
    b"\r",
    b"\n",
    b":",
    b": ",
    b" ",
    b"\t",
    b"NATS/1.0",
    b" 503",
    b"\r\n\r\n",
    b"A: 1\r\n",
    b"\xc3\xa9",
    b"\xff",
]
"""What header blocks are made of."""

JSON_WORDS = [
    *(
        b"{",
        b"}",
        b"[",
        b"]",
        b'"',
        b",",
        b":",
        b"null",
        b"true",
        b"0",
        b"-1",
        b"1.5",
        b"1e400",
        b"NaN",
        b"\\ud800",
        b"\\",
        b"{}",
    ),
    *(
        b"[]",
        b'"name":',
        b'"subject":',
        b'"endpoints":',
        b'"metadata":{"a":null}',
        b'"data":{"natsery":{}}',
        b"\xff",
        b"\0",
    ),
]
"""What stands in JSON, and what must not."""

MAX_SIZE = 3000
"""Bytes of what is damaged, at most."""


@st.composite
def damaged(draw: st.DrawFn, originals: Sequence[bytes], words: Sequence[bytes]) -> bytes:
    """Return a piece of an original of which something was changed, left out, repeated, or put in from another."""
    data = bytearray(_piece(draw, originals, MAX_SIZE))
    for _ in range(draw(st.integers(1, 5))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.sampled_from([0, 0, 1, 1, 2, 10, 100])))
        how = draw(st.sampled_from(["bytes", "word", "number", "other", "repeat"]))
        if how == "bytes":
            data[start:end] = draw(st.binary(max_size=3))
        elif how == "word":
            data[start:end] = draw(st.sampled_from(words))
        elif how == "number":
            data[start:end] = b"%d" % draw(st.one_of(st.integers(0, 20), st.integers()))
        elif how == "other":
            data[start:end] = _piece(draw, originals, 100)
        else:
            data[end:end] = data[start:end]
    return bytes(data)


def _piece(draw: st.DrawFn, originals: Sequence[bytes], size: int) -> bytes:
    original = draw(st.sampled_from(originals))
    lines = [0, *(at + 1 for at, byte in enumerate(original) if byte == ord("\n"))]
    start = draw(st.sampled_from(lines))
    return original[start : start + size]
