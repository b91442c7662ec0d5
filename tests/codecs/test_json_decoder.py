"""What the JSON codec reads, and how it says what does not fit."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import InitVar, dataclass, field
from enum import Enum, Flag
from typing import Any, Literal, TypeVar

import msgspec
import pydantic
import pytest
import typing_extensions

from natsery import DecodeError, JSONCodec

from .samples import INVALID, VALID, Item, Order, Page, name

CODEC = JSONCodec()
T = TypeVar("T")


@pytest.mark.parametrize(("type_", "text", "value"), VALID, ids=name)
def test_what_fits_is_read(type_, text, value):
    read = CODEC.decoder(type_)(text.encode())
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(("type_", "text", "error"), INVALID, ids=name)
def test_what_does_not_fit_is_named(type_, text, error):
    with pytest.raises(DecodeError) as caught:
        CODEC.decoder(type_)(text.encode())
    assert str(caught.value) == error
    assert f"{caught.value.path}: {caught.value.reason}" == error


def test_a_class_may_have_rules_of_its_own():
    with pytest.raises(DecodeError) as caught:
        CODEC.decoder(list[Order])(b'[{"id":-1,"items":[]}]')
    assert str(caught.value) == "$[0]: id must not be negative"
    assert isinstance(caught.value.__cause__, ValueError)


def test_an_error_that_no_rule_raises_is_the_program_s():
    @dataclass
    class Broken:
        a: int

        def __post_init__(self) -> None:
            raise LookupError("a bug")

    with pytest.raises(LookupError, match="a bug"):
        CODEC.decoder(Broken)(b'{"a":1}')


def test_a_class_in_a_function_may_refer_to_itself():
    @dataclass
    class Local:
        next: Local | None = None

    assert CODEC.decoder(Local)(b'{"next":{}}') == Local(Local())


def test_of_fields_with_one_name_the_last_counts():
    assert CODEC.decoder(Item)(b'{"name":"a","name":"b"}') == Item("b")


def test_of_many_choices_the_first_are_named():
    with pytest.raises(DecodeError, match=r"^\$: must be 0 or 1 or 2 or 3 or 4 or 5 or 6 or 7 or \.\.\., got 'x'$"):
        CODEC.decoder(Literal[tuple(range(50))])(b'"x"')


def test_an_item_that_is_not_hashable_does_not_fit_a_set():
    with pytest.raises(DecodeError, match="has an item that cannot be in a set"):
        CODEC.decoder(set)(b"[[]]")


class Stranger:
    pass


class Permissions(Flag):
    READ = 1


class Odd(Enum):
    PLACE = (1, 2)


@dataclass
class WithInitVar:
    a: InitVar[int]


@dataclass
class WithStranger:
    fields: dict[str, list[Stranger]] = field(default_factory=dict)


class BadStruct(msgspec.Struct):
    fields: dict[str, Stranger]


class BadModel(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(defer_build=True)
    stranger: Stranger


class PlainEnum(Enum):
    A = "a"


Loop = typing_extensions.TypeAliasType("Loop", "Loop")  # type: ignore[misc]
Endless = typing_extensions.TypeAliasType("Endless", "list[Endless[list[T]]]", type_params=(T,))  # type: ignore[misc]


@pytest.mark.parametrize(
    ("type_", "error"),
    [
        (Stranger, "the body: Stranger cannot be read from JSON: write a dataclass, .*natsery.pydantic.*"),
        (WithStranger, r"WithStranger.fields\{\}\[\]: Stranger cannot .*"),
        (tuple[int, complex], r"the body\[1\]: complex cannot .*"),
        (list[Stranger | None], r"the body\[\]: Stranger cannot .*"),
        (dict[bytes, int], r"the body \(key\): bytes cannot .* write str, int, a StrEnum or a Literal of strings"),
        (
            Page,
            r"Page.items\[\]: T cannot be read from JSON: it is a type variable; write what it stands for, as in Page\[Item\]",
        ),
        (Permissions, "the body: Permissions cannot .*"),
        (Odd, "the body: Odd cannot be read from JSON: a value of it is none of JSON's; write strings or numbers"),
        (WithInitVar, "the body: WithInitVar cannot be read from JSON: it has an InitVar; write a field"),
        (Loop, "the body: Loop contains itself without an end; .*"),
        (Endless[int], r"the body: Endless.* contains itself without an end; .*"),
        (list[Loop], r"the body: list\[Loop\] contains itself without an end; .*"),
        (list[BadStruct], r"the body\[\]: BadStruct cannot be read from JSON: type .*Stranger'> is not supported"),
        (dict[str, BadModel], r"the body\{\}: BadModel cannot be read from JSON: (.|\n)*Stranger(.|\n)*"),
        (
            dict[PlainEnum, int],
            r"the body \(key\): PlainEnum cannot .* write str, int, a StrEnum or a Literal of strings",
        ),
        (Callable[[], None], "the body: Callable.* cannot .*"),
        ("Order", "the body: 'Order' cannot .*"),
        (1, "the body: 1 cannot .*"),
    ],
    ids=name,
)
def test_a_type_that_is_not_supported_is_named(type_, error):
    for ask in (CODEC.decoder, CODEC.schema):
        with pytest.raises(TypeError, match=f"^{error}$"):
            ask(type_)


def test_a_name_that_is_not_found_is_named():
    Hidden = int  # noqa: N806

    @dataclass
    class Local:
        a: Hidden

    with pytest.raises(TypeError, match="Local: name 'Hidden' is not defined; define what it refers to in its module"):
        CODEC.decoder(Local)
    assert Hidden


@pytest.mark.skipif(sys.version_info < (3, 13), reason="ReadOnly came with 3.13")
def test_read_only_of_typing():
    names: dict[str, Any] = {"__name__": __name__}
    program = "from typing import *\nclass A(TypedDict):\n    a: ReadOnly[NotRequired[int]]"
    exec(compile(program, "a", "exec", dont_inherit=True), names)
    assert CODEC.decoder(names["A"])(b"{}") == {}
