"""Reads keys from the bytes that a terminal sends for them."""

from __future__ import annotations

import re
from typing import Final, final

_NAMED: Final = {
    b"\x03": "interrupt",
    b"\r": "enter",
    b"\n": "enter",
    b"\x1b[A": "up",
    b"\x1bOA": "up",
    b"\x1b[B": "down",
    b"\x1bOB": "down",
    b"\x1b[5~": "page up",
    b"\x1b[6~": "page down",
    b"\x1b[H": "home",
    b"\x1bOH": "home",
    b"\x1b[1~": "home",
    b"\x1b[F": "end",
    b"\x1bOF": "end",
    b"\x1b[4~": "end",
}

_KEY: Final = re.compile(rb"\x1b\[[0-?]*[ -/]*[@-~]|\x1bO[@-~]|\x1b[^\[O\x1b]|[^\x1b]", re.DOTALL)
_UNFINISHED: Final = re.compile(rb"\x1b(\[[0-?]*[ -/]*|O)?")


@final
class KeyReader:
    """Decodes keys, and keeps an unfinished escape sequence until the rest of it is read."""

    def __init__(self) -> None:
        self._unfinished = b""

    def feed(self, data: bytes) -> list[str]:
        """Return the keys in the bytes that were read: ASCII characters as they are, others by name if they have one.

        Alt is ignored. The Escape key alone is ignored, because it could be the beginning of a sequence.
        """
        keys: list[str] = []
        data = self._unfinished + data
        position = 0
        while position < len(data):
            match = _KEY.match(data, position)
            if match is None:
                if _UNFINISHED.fullmatch(data, position):
                    break
                position += 1  # not the beginning of any key
                continue
            position = match.end()
            key = match[0] if match[0] in _NAMED or len(match[0]) != 2 else match[0][1:]
            if key in _NAMED:
                keys.append(_NAMED[key])
            elif len(key) == 1 and 0x20 <= key[0] < 0x7F:
                keys.append(key.decode())
        self._unfinished = data[position:]
        return keys
