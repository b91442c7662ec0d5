"""Ctrl-C in trio programs: it is to end the body of a scope, not to strike in the middle of the books."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from anyio.lowlevel import current_token


def protect_from_interrupt(*functions: Callable[..., Any]) -> None:
    """On trio, have Ctrl-C raise in the main task instead of inside these functions or what they call."""
    if "trio" in current_token().backend_class.__module__:
        from ._backends._trio import protect_from_interrupt as protect

        for function in functions:
            protect(function)
