"""How public names show where they are public."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import FunctionType
from typing import TypeVar

ClassT = TypeVar("ClassT", bound=type)


def set_public_module(module: str, names: Iterable[str], namespace: Mapping[str, object]) -> None:
    """Have tracebacks, ``repr`` and documentation show classes and functions in the module that exports them."""
    for name in names:
        value = namespace[name]
        if isinstance(value, (type, FunctionType)) and value.__module__.startswith("natsery."):
            value.__module__ = module


def show_methods_as_of(public: str) -> Callable[[ClassT], ClassT]:
    """Decorate a base class of public ones, so that Python's own errors and warnings name its methods as users know them."""

    def decorate(base: ClassT) -> ClassT:
        for name, value in vars(base).items():
            function = value
            while isinstance(function, FunctionType):
                function.__qualname__ = f"{public}.{name}"
                function = getattr(function, "__wrapped__", None)  # decorated, as a block or to explain options
        return base

    return decorate
