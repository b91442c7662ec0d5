"""The secrets that were sent to a server, kept out of what is shown of its answers."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Final, final

from .._errors import ProtocolError

_LEAST: Final = 4
"""Characters of a secret below which it, or a part of it, is not looked for: it would be found everywhere."""


@final
class Secrets:
    """What no error may show, should the other side send it back.

    Args:
        values: the secrets.
    """

    __slots__ = ("_written",)

    def __init__(self, values: Iterable[str] = ()) -> None:
        self._written = {
            written for value in values if len(value) >= _LEAST for written in (value, json.dumps(value)[1:-1])
        }

    def hide(self, text: str) -> str:
        """Return a text with dots in place of secrets."""
        for written in self._written:
            text = text.replace(written, "...")
        return text

    def hide_received(self, error: ProtocolError) -> ProtocolError:
        """Return an error that shows what was received only if no part of a secret is in it, which may be cut."""
        shown = error.received.decode("latin-1")
        parts = {shown[index : index + _LEAST] for index in range(len(shown) - _LEAST + 1)}
        for written in self._written:
            known = written.encode().decode("latin-1")
            if any(part in known for part in parts):
                return ProtocolError(error.reason, b"...")
        return error
