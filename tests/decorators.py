"""A decorator that is a class, in another module than the functions that it is put on."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import Any


class WrittenElsewhere:
    """Calls an async function with what it gets."""

    def __init__(self, function: Callable[..., Awaitable[Any]]) -> None:
        functools.update_wrapper(self, function)
        self._function = function

    async def __call__(self, *args: Any) -> Any:
        return await self._function(*args)
