"""Coverage-guided fuzzing of what reads a peer's bytes: ``python -m tests.fuzz stream FOLDER -max_total_time=600``.

FOLDER keeps the inputs that have come further than others, from one run to the next, and what follows goes to libFuzzer.
An input that breaks what must hold ends the run with a traceback, and is written to FOLDER/crash-….
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["natsery"]):
    import natsery
    from natsery._protocol._headers import read_headers
    from natsery._protocol._server_info import read_info

    from . import corpus
    from .core.reading import assert_alike
    from .protocol.streams import PROTOCOL_TEXT, recorded


def read_stream(data: bytes) -> None:
    """Both cores make the same of a stream, and of the same stream in two pieces."""
    cut = data[0] * len(data) // 256 if data else 0
    whole = assert_alike(data)
    halves = assert_alike(data[:cut], data[cut:])
    assert _however_cut(whole) == _however_cut(halves)


def _however_cut(seen: list[object]) -> list[object]:
    """What was seen, without the counts for each piece and what an error says of where a piece ended."""
    return [
        ("error", each[2]) if isinstance(each, tuple) and each[0] is natsery.ProtocolError else each
        for each in seen
        if not (isinstance(each, tuple) and each[0] == "fed")
    ]


def read_header_block(data: bytes) -> None:
    """A block is malformed, or headers that come out as they can be sent on, or may not be."""
    try:
        headers, status, _ = read_headers(data)
    except natsery.MalformedMessageError:
        return
    assert 0 <= status <= 999
    assert (
        read_headers(natsery.Headers.from_wire(headers.multi_items()).encode()).headers.multi_items()
        == headers.multi_items()
    )
    with suppress(ValueError):
        sent = natsery.Headers(headers).encode()
        assert sent.isascii()
        assert read_headers(sent).headers == natsery.Headers(headers)


def read_server_info(data: bytes) -> None:
    """It is an INFO, or breaks the protocol."""
    with suppress(natsery.ProtocolError):
        read_info(data)


def read_reply(data: bytes) -> None:
    """It is malformed, or a reply that comes out as it is written."""
    for kind in (natsery.ServicePing, natsery.ServiceInfo, natsery.ServiceStats):
        try:
            reply = kind.from_json(data)
        except natsery.MalformedReplyError:
            continue
        assert kind.from_json(reply.to_json()).to_dict() == reply.to_dict()


TARGETS: dict[str, tuple[Callable[[bytes], None], list[bytes], list[bytes]]] = {
    "stream": (read_stream, corpus.STREAMS, PROTOCOL_TEXT),
    "headers": (read_header_block, recorded("headers"), corpus.HEADER_WORDS),
    "info": (read_server_info, recorded("INFO"), corpus.JSON_WORDS),
    "replies": (read_reply, corpus.REPLIES, corpus.JSON_WORDS),
}
"""What is called, what it begins with, and the words that are put in."""


def main(name: str, folder: str, *options: str) -> None:
    """Fuzz one target, from what peers have really sent and what earlier runs have found."""
    target, seeds, words = TARGETS[name]
    there = Path(folder)
    there.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds):
        (there / f"seed-{number}").write_bytes(seed)
    dictionary = there.with_suffix(".words")
    dictionary.write_text("".join('"' + "".join(f"\\x{byte:02x}" for byte in word) + '"\n' for word in words if word))
    atheris.Setup([sys.argv[0], str(there), f"-dict={dictionary}", f"-artifact_prefix={there}/", *options], target)
    atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
