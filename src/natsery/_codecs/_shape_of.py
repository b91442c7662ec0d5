"""Which shape a type has."""

from __future__ import annotations

import json
import sys
from collections import abc
from collections.abc import Callable
from dataclasses import MISSING, InitVar, fields, is_dataclass
from enum import Enum, Flag
from inspect import cleandoc, get_annotations
from types import SimpleNamespace, UnionType
from typing import (
    Any,
    Final,
    Literal,
    NewType,
    NoReturn,
    TypeVar,
    Union,
    final,
    get_args,
    get_origin,
    get_type_hints,
)

from ._collections import Either, Entries, Items, Named, Row, collect_frozenset, collect_set
from ._foreign import is_model, is_struct, model_shape, struct_shape
from ._json_writer import JSONWriter
from ._records import Field, Record
from ._scalars import SHAPES
from ._shapes import Choice, Integer, Shape, Text

_COLLECT: Final[dict[Any, Callable[[list[Any]], Any] | None]] = {
    **dict.fromkeys((list, abc.Sequence, abc.MutableSequence, abc.Collection, abc.Iterable)),
    **dict.fromkeys((set, abc.Set, abc.MutableSet), collect_set),
    frozenset: collect_frozenset,
    tuple: tuple,
}
_MAPPINGS: Final = {dict, abc.Mapping, abc.MutableMapping}
_WRAPPERS: Final = {"Annotated", "Final", "ReadOnly", "Required", "NotRequired"}
_INSTEAD: Final = (
    "write a dataclass, a TypedDict, a msgspec.Struct (natsery[msgspec]), a pydantic model (natsery[pydantic]), or a type that "
    "JSON has"
)
_INTEGER_KEY: Final = Text("an int as text", int, "-?[0-9]{1,18}", pattern="^-?[0-9]{1,18}$")


def shape_of(type_: Any) -> Shape:
    """Return the shape of a type.

    Raises:
        TypeError: bodies cannot be of this type, or of one that is inside; says which, where, and what to write instead.
    """
    try:
        shape = _Builder().shape(type_, "the body")
        assert shape.kinds
    except RecursionError:
        raise TypeError(
            f"the body: {_name(type_)} contains itself without an end; write a type that values can have"
        ) from None
    return shape


@final
class _Builder:
    """Makes the shape of a type; each class and name inside has one shape, so that types may refer to themselves."""

    def __init__(self) -> None:
        self._shapes: dict[Any, Shape] = {}

    def shape(self, type_: Any, where: str) -> Shape:
        """Return the shape of a type, which stands at a place, such as ``Order.lines[]``."""
        origin, arguments = get_origin(type_) or type_, get_args(type_)
        if getattr(origin, "__name__", "") in _WRAPPERS and arguments:
            return self.shape(arguments[0], where)
        if isinstance(origin, NewType):
            return self.shape(origin.__supertype__, where)
        if origin in (Union, UnionType):
            return Either([self.shape(each, where) for each in arguments])
        if origin is Literal:
            choices = [(each.value if isinstance(each, Enum) else each, each) for each in arguments]
            return self._choice(choices, type_, where)
        if origin in _MAPPINGS:
            key, item = arguments or (str, Any)
            return Entries(self._key(key, f"{where} (key)"), self.shape(item, f"{where}{{}}"))
        if origin is tuple and type_ is not tuple and Ellipsis not in arguments:
            row = Row(tuple)
            row.expect([self.shape(each, f"{where}[{index}]") for index, each in enumerate(arguments)])
            return row
        if origin in _COLLECT:
            return Items(self.shape((arguments or (Any,))[0], f"{where}[]"), _COLLECT[origin])
        return SHAPES[type_] if type_ in SHAPES else self._named(type_, origin, arguments, where)

    def _named(self, type_: Any, origin: Any, arguments: tuple[Any, ...], where: str) -> Shape:
        if type_ in self._shapes:
            return self._shapes[type_]
        if type(origin).__name__ == "TypeAliasType":
            named = self._shapes[type_] = Named(_name(type_))
            variables = dict(zip(origin.__type_params__, arguments, strict=False))
            named.expect(self.shape(_fill_in(_value_of(origin), variables), where))
            return named
        if isinstance(origin, type):
            return self._class(type_, origin, where)
        return self._refuse(type_, where)

    def _class(self, type_: Any, cls: Any, where: str) -> Shape:
        if is_struct(cls) or is_model(cls):
            self._shapes[type_] = (struct_shape if is_struct(cls) else model_shape)(type_, _name(type_))
            return self._shapes[type_]
        if is_dataclass(cls):
            return self._dataclass(type_, cls, where)
        if issubclass(cls, dict) and hasattr(cls, "__required_keys__"):
            return self._typed_dict(type_, cls)
        if issubclass(cls, tuple) and hasattr(cls, "_fields"):
            return self._named_tuple(type_, cls)
        if issubclass(cls, Enum) and not issubclass(cls, Flag):
            return self._choice([(member.value, member) for member in cls], type_, where, title=cls.__name__)
        return self._refuse(type_, where)

    def _dataclass(self, type_: Any, cls: Any, where: str) -> Shape:
        record = self._shapes[type_] = Record(_name(type_), cls, _description(cls))
        hints = _hints(type_)
        if any(isinstance(hint, InitVar) for hint in hints.values()):
            self._refuse(type_, where, "it has an InitVar; write a field")
        record.expect(
            [
                Field(
                    each.name,
                    self.shape(hints[each.name], f"{_name(type_)}.{each.name}"),
                    each.default is MISSING and each.default_factory is MISSING,
                    _default(each.default),
                )
                for each in fields(cls)
                if each.init
            ]
        )
        return record

    def _typed_dict(self, type_: Any, cls: Any) -> Shape:
        record = self._shapes[type_] = Record(_name(type_), dict, _description(cls))
        record.expect(
            [
                Field(
                    name, self.shape(hint, f"{_name(type_)}.{name}"), _is_required(hint, name in cls.__required_keys__)
                )
                for name, hint in _hints(type_).items()
            ]
        )
        return record

    def _named_tuple(self, type_: Any, cls: Any) -> Shape:
        row = self._shapes[type_] = Row(
            lambda items: cls(*items), _name(type_), len(cls._fields) - len(cls._field_defaults)
        )
        hints = _hints(type_)
        row.expect([self.shape(hints.get(name, Any), f"{_name(type_)}.{name}") for name in cls._fields])
        return row

    def _choice(self, choices: list[tuple[Any, Any]], type_: Any, where: str, **schema: str) -> Shape:
        if not all(written is None or type(written) in (bool, int, float, str) for written, _ in choices):
            self._refuse(type_, where, "a value of it is none of JSON's; write strings or numbers")
        return Choice(choices, **schema)

    def _key(self, type_: Any, where: str) -> Shape | None:
        shape = self.shape(type_, where)
        if shape is SHAPES[str] or shape is SHAPES[Any]:
            return None
        if isinstance(shape, Integer):
            return _INTEGER_KEY
        if (
            isinstance(shape, Choice)
            and shape.kinds == {str}
            and (not isinstance(type_, type) or issubclass(type_, str))
        ):
            return shape
        return self._refuse(type_, where, "keys are text in JSON; write str, int, a StrEnum or a Literal of strings")

    def _refuse(self, type_: Any, where: str, reason: str = "") -> NoReturn:
        if isinstance(type_, TypeVar):
            reason = "it is a type variable; write what it stands for, as in Page[Item]"
        raise TypeError(f"{where}: {_name(type_)} cannot be read from JSON: {reason or _INSTEAD}")


def _name(type_: Any) -> str:
    origin, arguments = get_origin(type_), get_args(type_)
    if arguments and hasattr(origin, "__name__") and origin not in (Literal, Union):
        return f"{origin.__name__}[{', '.join(map(_name, arguments))}]"
    return getattr(type_, "__name__", f"{type_!r}"[:100]) if not arguments else f"{type_!r}"[:100]


def _hints(type_: Any) -> dict[str, Any]:
    """Return the types of a class's fields, names resolved where the class stands, its arguments in place of its variables."""
    cls = get_origin(type_) or type_
    try:
        resolved = get_type_hints(cls, localns={cls.__name__: cls}, include_extras=True)
    except NameError as error:
        raise TypeError(
            f"{cls.__name__}: {error}; define what its fields need in its module, outside of functions"
        ) from error
    variables = dict(zip(getattr(cls, "__parameters__", ()), get_args(type_), strict=False))
    hints = {name: _fill_in(hint, variables) for name, hint in resolved.items()}
    for base in reversed(cls.__dict__.get("__orig_bases__", cls.__bases__)):
        if is_dataclass(get_origin(base) or base):
            hints |= _hints(_fill_in(base, variables))
    return hints | {
        name: _fill_in(resolved[name], variables) for name in get_annotations(cls)
    }  # what bases say gives way


def _value_of(alias: Any) -> Any:
    # Before Python 3.12 names may stand in it as text.
    holder = SimpleNamespace(__annotations__={"value": alias.__value__})
    return get_type_hints(holder, vars(sys.modules[alias.__module__]), include_extras=True)["value"]


def _fill_in(type_: Any, variables: dict[Any, Any]) -> Any:
    if isinstance(type_, TypeVar):
        return variables.get(type_, type_)
    parameters = getattr(type_, "__parameters__", ()) if get_args(type_) else ()
    return type_[tuple(variables.get(each, each) for each in parameters)] if parameters else type_


def _is_required(hint: Any, otherwise: bool) -> bool:
    while arguments := get_args(hint):
        name = getattr(get_origin(hint), "__name__", "")
        if name in ("Required", "NotRequired"):
            return name == "Required"
        if name not in _WRAPPERS:
            break
        hint = arguments[0]
    return otherwise


def _description(cls: type) -> str:
    text = cls.__dict__.get("__doc__") or ""
    return "" if text.startswith(f"{cls.__name__}(") else cleandoc(text)  # dataclasses write one themselves


def _default(value: Any) -> dict[str, Any]:
    if value is MISSING:
        return {}
    try:
        return {"default": json.loads(JSONWriter().write(value))}
    except (TypeError, ValueError):
        return {}
