"""What annotations mean: names resolved where they stand, type variables filled in, qualifiers taken off."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import is_dataclass
from inspect import get_annotations
from types import SimpleNamespace
from typing import Any, Final, TypeVar, get_args, get_origin, get_type_hints

_QUALIFIERS: Final = {"Annotated", "Final", "ReadOnly", "Required", "NotRequired"}


def hints_of(type_: Any) -> dict[str, Any]:
    """Return the types of the fields of a class, which may have been given types as arguments (``Page[Item]``)."""
    cls = get_origin(type_) or type_
    # Not found in the module: a class inside a function, and variables before Python 3.12.4.
    local = {each.__name__: each for base in reversed(cls.__mro__) for each in getattr(base, "__type_params__", ())}
    resolved = _resolve(cls, cls.__name__, localns={**local, cls.__name__: cls})
    variables = dict(zip(getattr(cls, "__parameters__", ()), get_args(type_), strict=False))
    hints = {name: _fill_in(hint, variables) for name, hint in resolved.items()}
    own = {name: hints[name] for name in get_annotations(cls)}
    # Each base may give its variables another meaning.
    for base in reversed(cls.__dict__.get("__orig_bases__", cls.__bases__)):
        if is_dataclass(get_origin(base) or base):
            hints |= hints_of(_fill_in(base, variables))
    return hints | own


def value_of(alias: Any, arguments: tuple[Any, ...]) -> Any:
    """Return the type that ``type X = ...`` gives a name to."""
    # Before Python 3.12 names may stand in it as text.
    holder = SimpleNamespace(__annotations__={"value": alias.__value__})
    resolved = _resolve(holder, alias.__name__, globalns=vars(sys.modules[alias.__module__]))
    return _fill_in(resolved["value"], dict(zip(alias.__type_params__, arguments, strict=False)))


def unqualified(type_: Any) -> Any:
    """Return a type without ``Annotated``, ``Final`` and the like."""
    while _qualifier(type_):
        type_ = get_args(type_)[0]
    return type_


def is_required(type_: Any, default: bool) -> bool:
    """Whether a key of a typed dictionary must be there; ``default`` if its type does not say."""
    while qualifier := _qualifier(type_):
        if qualifier in ("Required", "NotRequired"):
            return qualifier == "Required"
        type_ = get_args(type_)[0]
    return default


def _qualifier(type_: Any) -> str:
    name = getattr(get_origin(type_), "__name__", "")
    return name if name in _QUALIFIERS else ""


def _resolve(holder: Any, name: str, **namespaces: dict[str, Any]) -> Mapping[str, Any]:
    try:
        return get_type_hints(holder, **namespaces, include_extras=True)
    except (NameError, AttributeError) as error:
        raise TypeError(f"{name}: {error}; define what it refers to in its module, outside of functions") from error


def _fill_in(type_: Any, variables: Mapping[Any, Any]) -> Any:
    if isinstance(type_, TypeVar):
        return variables.get(type_, type_)
    parameters = getattr(type_, "__parameters__", ()) if get_args(type_) else ()
    return type_[tuple(variables.get(each, each) for each in parameters)] if parameters else type_
