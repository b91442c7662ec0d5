"""Keys, read from what a terminal sends for them."""

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
_BEGUN: Final = re.compile(rb"\x1b(\[[0-?]*[ -/]*|O)?")


@final
class KeyReader:
    """Keeps the beginning of a key's sequence until its rest is read."""

    def __init__(self) -> None:
        self._begun = b""

    def feed(self, data: bytes) -> list[str]:
        """The keys in what was read: a character of ASCII as itself, others by name; those without a name are left out.

        A key with Alt is that key. The Escape key alone does nothing: it could be the beginning of another one.
        """
        keys: list[str] = []
        data = self._begun + data
        position = 0
        while position < len(data):
            match = _KEY.match(data, position)
            if match is None:
                if _BEGUN.fullmatch(data, position):
                    break
                position += 1  # what cannot become a key
                continue
            position = match.end()
            key = match[0] if match[0] in _NAMED or len(match[0]) != 2 else match[0][1:]
            if key in _NAMED:
                keys.append(_NAMED[key])
            elif len(key) == 1 and 0x20 <= key[0] < 0x7F:
                keys.append(key.decode())
        self._begun = data[position:]
        return keys
