"""How public names show where they are public."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import FunctionType


def set_public_module(module: str, names: Iterable[str], namespace: Mapping[str, object]) -> None:
    """Have tracebacks, ``repr`` and documentation show classes and functions in the module that exports them."""
    for name in names:
        value = namespace[name]
        if isinstance(value, (type, FunctionType)) and value.__module__.startswith("natsery."):
            value.__module__ = module
