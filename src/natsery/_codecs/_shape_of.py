"""Which shape a type has."""

from __future__ import annotations

import json
from collections import abc
from dataclasses import MISSING, InitVar, fields, is_dataclass
from enum import Enum, Flag
from inspect import cleandoc, get_annotations
from types import UnionType
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

from ._collections import Either, Entries, Items, Named, Row
from ._foreign import is_model, is_struct, model_shape, struct_shape
from ._json_writer import JSONWriter
from ._records import Field, Record
from ._scalars import SHAPES
from ._shapes import Choice, Integer, Shape, Text

_LISTS: Final = {list, abc.Sequence, abc.MutableSequence, abc.Collection, abc.Iterable}
_SETS: Final = {set, abc.Set, abc.MutableSet}
_MAPPINGS: Final = {dict, abc.Mapping, abc.MutableMapping}
_WRAPPERS: Final = {"Annotated", "Final", "ReadOnly", "Required", "NotRequired"}
_INSTEAD: Final = (
    "write a dataclass, a TypedDict, a msgspec.Struct (natsery[msgspec]), a pydantic model (natsery[pydantic]), or a type that "
    "JSON has"
)
_INTEGER_KEY: Final = Text("an int as text", int, "-?[0-9]{1,4000}", pattern="^-?[0-9]+$")


def shape_of(type_: Any) -> Shape:
    """Return the shape of a type.

    Raises:
        TypeError: bodies cannot be of this type, or of one that is inside; says which, where, and what to write instead.
    """
    try:
        return _Builder().shape(type_, "the body")
    except RecursionError:
        raise TypeError(f"the body: {_name(type_)} never ends; write a type whose parts repeat") from None


@final
class _Builder:
    """Makes the shape of a type; each class and name inside has one shape, however often it stands there."""

    def __init__(self) -> None:
        self._shapes = dict(SHAPES)

    def shape(self, type_: Any, where: str) -> Shape:
        """Return the shape of a type, which stands at a place, such as ``Order.lines[]``."""
        if isinstance(type_, abc.Hashable) and type_ in self._shapes:
            return self._shapes[type_]
        origin, arguments = get_origin(type_) or type_, get_args(type_)
        if getattr(origin, "__name__", "") in _WRAPPERS and arguments:
            return self.shape(arguments[0], where)
        if isinstance(origin, NewType):
            return self.shape(origin.__supertype__, where)
        if type(origin).__name__ == "TypeAliasType":
            return self._alias(type_, origin, arguments, where)
        if origin in (Union, UnionType):
            return Either(self.shape(each, where) for each in arguments)
        if origin is Literal:
            return self._choice(
                [(each.value if isinstance(each, Enum) else each, each) for each in arguments], type_, where
            )
        if not isinstance(origin, type):
            self._refuse(type_, where)
        if origin in _MAPPINGS:
            key, item = arguments or (str, Any)
            return Entries(self._key(key, f"{where} (key)"), self.shape(item, f"{where}{{}}"))
        if (
            origin in _LISTS
            or origin in _SETS
            or origin is frozenset
            or (origin is tuple and (type_ is tuple or Ellipsis in arguments))
        ):
            item = self.shape((arguments or (Any,))[0], f"{where}[]")
            collect = None if origin in _LISTS else set if origin in _SETS else origin
            return Items(item, collect, unique=origin in _SETS or origin is frozenset)
        if origin is tuple:
            row = Row(tuple)
            row.expect([self.shape(each, f"{where}[{index}]") for index, each in enumerate(arguments)])
            return row
        return self._class(type_, origin, where)

    def _class(self, type_: Any, cls: Any, where: str) -> Shape:
        if issubclass(cls, Enum) and not issubclass(cls, Flag):
            shape = self._choice([(member.value, member) for member in cls], type_, where, title=cls.__name__)
        elif is_struct(cls):
            shape = struct_shape(type_, _name(type_))
        elif is_model(cls):
            shape = model_shape(type_, _name(type_))
        elif issubclass(cls, tuple) and hasattr(cls, "_fields"):
            return self._named_tuple(type_, cls)
        elif is_dataclass(cls):
            return self._dataclass(type_, cls, where)
        elif issubclass(cls, dict) and hasattr(cls, "__required_keys__"):
            return self._typed_dict(type_, cls)
        else:
            self._refuse(type_, where)
        self._shapes[type_] = shape
        return shape

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
        row = self._shapes[type_] = Row(cls._make, _name(type_), len(cls._fields) - len(cls._field_defaults))
        hints = _hints(type_)
        row.expect([self.shape(hints.get(name, Any), f"{_name(type_)}.{name}") for name in cls._fields])
        return row

    def _alias(self, type_: Any, alias: Any, arguments: tuple[Any, ...], where: str) -> Shape:
        named = self._shapes[type_] = Named(_name(type_))
        named.stand_for(self.shape(alias.__value__[arguments] if arguments else alias.__value__, where))
        if not named.kinds:
            self._refuse(type_, where, "it is nothing but itself")
        return named

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
    hints: dict[str, Any] = {}
    for base in reversed(cls.__dict__.get("__orig_bases__", cls.__bases__)):
        if is_dataclass(get_origin(base) or base):
            hints |= _hints(_fill_in(base, variables))
    return hints | {name: _fill_in(resolved[name], variables) for name in get_annotations(cls)}


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
