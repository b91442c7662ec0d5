"""Values of a metric's label or attribute that others choose, bounded so that they do not make time series without end."""

from __future__ import annotations

from typing import Final, final

OTHER: Final = "_OTHER"
"""The value for all those beyond a limit; it is OpenTelemetry's word."""


@final
class BoundedValues(dict[object, str]):
    """The first values as they are, and ``_OTHER`` for those beyond a limit."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._limit = limit

    def __missing__(self, value: object) -> str:
        if len(self) >= self._limit:
            return OTHER
        self[value] = text = str(value)
        return text
