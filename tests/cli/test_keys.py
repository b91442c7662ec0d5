"""Keys: what terminals send for them."""

from __future__ import annotations

import pytest

from natsery._cli._top._keys import KeyReader


@pytest.mark.parametrize(
    ("sent", "keys"),
    [
        (b"qR ?", ["q", "R", " ", "?"]),
        (b"\r\n", ["enter", "enter"]),
        (b"\x03", ["interrupt"]),
        (b"\x1b[A\x1bOB\x1b[5~\x1b[6~", ["up", "down", "page up", "page down"]),
        (b"\x1b[H\x1b[F\x1b[1~\x1b[4~\x1bOH\x1bOF", ["home", "end"] * 3),
        (b"\x1bq", ["q"]),
        (b"\x1b[1;5Aj", ["j"]),
        (b"\x1b\x1b[A", ["up"]),
        ("größe".encode(), ["g", "r", "e"]),
        (b"\x00\x01\xff\x7fk", ["k"]),
        (b"\x1b[\x01q", ["[", "q"]),
    ],
)
@pytest.mark.parametrize("at_once", [True, False])
def test_keys_are_read_in_pieces_of_any_size(sent: bytes, keys: list[str], at_once: bool) -> None:
    reader = KeyReader()
    pieces = [sent] if at_once else [sent[index : index + 1] for index in range(len(sent))]
    assert [key for piece in pieces for key in reader.feed(piece)] == keys
