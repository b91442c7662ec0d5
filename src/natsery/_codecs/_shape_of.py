"""Which shape a type has."""

from __future__ import annotations

import json
from collections import abc
from collections.abc import Callable
from dataclasses import MISSING, InitVar, fields, is_dataclass
from enum import Enum, Flag
from inspect import cleandoc
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
)

from ._collections import Either, Entries, Items, Named, Row, collect_frozenset, collect_set
from ._foreign import is_model, is_struct, model_shape, struct_shape
from ._hints import hints_of, is_required, unqualified, value_of
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
    builder = _Builder()
    try:
        shape = builder.shape(type_, "the body")
        builder.check_names()
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
        type_ = unqualified(type_)
        origin, arguments = get_origin(type_) or type_, get_args(type_)
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

    def check_names(self) -> None:
        """See that there is a type at the end of each name; a `RecursionError` if not."""
        for shape in self._shapes.values():
            assert shape.kinds

    def _named(self, type_: Any, origin: Any, arguments: tuple[Any, ...], where: str) -> Shape:
        if type_ in self._shapes:
            return self._shapes[type_]
        if type(origin).__name__ == "TypeAliasType":
            named = self._shapes[type_] = Named(_name(type_))
            named.expect(self.shape(value_of(origin, arguments), where))
            return named
        if isinstance(origin, type):
            return self._class(type_, origin, where)
        return self._refuse(type_, where)

    def _class(self, type_: Any, cls: Any, where: str) -> Shape:
        if is_struct(cls) or is_model(cls):
            return self._foreign(type_, struct_shape if is_struct(cls) else model_shape, where)
        if is_dataclass(cls):
            return self._dataclass(type_, cls, where)
        if issubclass(cls, dict) and hasattr(cls, "__required_keys__"):
            return self._typed_dict(type_, cls)
        if issubclass(cls, tuple) and hasattr(cls, "_fields"):
            return self._named_tuple(type_, cls)
        if issubclass(cls, Enum) and not issubclass(cls, Flag):
            return self._choice([(member.value, member) for member in cls], type_, where, title=cls.__name__)
        return self._refuse(type_, where)

    def _foreign(self, type_: Any, shape_of_class: Callable[[Any, str], Shape], where: str) -> Shape:
        try:
            shape = self._shapes[type_] = shape_of_class(type_, _name(type_))
        except TypeError as error:
            raise TypeError(f"{where}: {_name(type_)} cannot be read from JSON: {error}") from error
        return shape

    def _dataclass(self, type_: Any, cls: Any, where: str) -> Shape:
        record = self._shapes[type_] = Record(_name(type_), cls, _description(cls))
        hints = hints_of(type_)
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
                    name, self.shape(hint, f"{_name(type_)}.{name}"), is_required(hint, name in cls.__required_keys__)
                )
                for name, hint in hints_of(type_).items()
            ]
        )
        return record

    def _named_tuple(self, type_: Any, cls: Any) -> Shape:
        row = self._shapes[type_] = Row(
            lambda items: cls(*items), _name(type_), len(cls._fields) - len(cls._field_defaults)
        )
        hints = hints_of(type_)
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
        if isinstance(shape, Choice) and shape.is_text:
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
