"""Names for the parts of an AsyncAPI document, which its references can hold as they are."""

from __future__ import annotations

import re
from typing import Final, final

MAX_LENGTH: Final = 100


@final
class UniqueNames:
    """Gives each part a name of ``A-Z a-z 0-9 _ -``, with a number behind it if another part has it already."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def take(self, wanted: str) -> str:
        """Return a new name that is like the one that is wanted."""
        base = re.sub(r"[^A-Za-z0-9_-]+", "_", wanted)[:MAX_LENGTH].strip("_") or "unnamed"
        name = base
        while name in self._numbers:
            self._numbers[base] += 1
            name = f"{base}_{self._numbers[base]}"
        self._numbers[name] = 1
        return name
