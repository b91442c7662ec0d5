"""What the JSON codec writes."""

from __future__ import annotations

import array
import math
import re
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from types import MappingProxyType
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natsery import JSONCodec

from .samples import (
    SAMPLES,
    VALID,
    Circle,
    Colour,
    Derived,
    Item,
    Model,
    Node,
    Order,
    OrderId,
    Point,
    Positive,
    Root,
    Size,
    Square,
    Struct,
    Tagged,
    name,
)

CODEC = JSONCodec()
WRITE = CODEC.encoder(Any)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        ({"a": [1, 2.5, True, "é\n"]}, '{"a":[1,2.5,true,"é\\n"]}'),
        (b"\x00\x01", '"AAE="'),
        (memoryview(b"\x00"), '"AA=="'),
        (datetime(2024, 2, 3, 12, tzinfo=UTC), '"2024-02-03T12:00:00Z"'),
        (datetime(2024, 2, 3, 12, 0, 0, 5, timezone(timedelta(hours=-5))), '"2024-02-03T12:00:00.000005-05:00"'),
        (datetime(2024, 2, 3, 12), '"2024-02-03T12:00:00"'),  # noqa: DTZ001  # as it is
        (date(2024, 2, 3), '"2024-02-03"'),
        (time(12, tzinfo=UTC), '"12:00:00Z"'),
        (timedelta(), '"PT0S"'),
        (timedelta(days=1), '"P1D"'),
        (timedelta(days=-1, seconds=1), '"-PT86399S"'),
        (timedelta(1, 2, 30), '"P1DT2.00003S"'),
        (Decimal("1.10"), '"1.10"'),
        (UUID(int=10), '"00000000-0000-0000-0000-00000000000a"'),
        ([Colour.RED, Colour.SEVEN, Size.SMALL], '["red",7,"s"]'),
        ({Size.SMALL: 1, 2: 2}, '{"s":1,"2":2}'),
        (Point(1), "[1,0]"),
        ({1}, "[1]"),
        (OrderedDict(a=1), '{"a":1}'),
        (MappingProxyType({"a": {1}}), '{"a":[1]}'),
        (Item("x"), '{"name":"x","count":1}'),
        (Order(OrderId(1), [Item("x")]), '{"id":1,"items":[{"name":"x","count":1}],"placed":null,"tags":{}}'),
        (Derived(a=1), '{"a":1,"b":0.5,"c":false}'),
        (Struct("x", Item("y"), {1}), '{"name":"x","item":{"name":"y","count":1},"sizes":[1]}'),
        (Tagged(1), '{"type":"t","someField":1}'),
        (Model(name="x"), '{"name":"x","item":null,"when":null}'),
        ([Positive(value=1, parts=(date(2024, 2, 3),)), Root([1])], '[{"value":1,"parts":["2024-02-03"]},[1]]'),
    ],
    ids=name,
)
def test_values_are_written_by_their_own_type(value, text):
    assert WRITE(value).decode() == text


@pytest.mark.parametrize(("type_", "text", "value"), VALID, ids=name)
def test_what_was_read_is_read_again_from_what_is_written(type_, text, value):
    decode, encode = CODEC.decoder(type_), CODEC.encoder(type_)
    assert decode(encode(decode(text.encode()))) == value


def endless() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


def endless_node() -> Node:
    node = Node(1)
    node.next = node
    return node


def deep() -> list[Any]:
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (object(), TypeError, "builtins.object cannot be written as JSON; write a dataclass, .*"),
        ({"a": [array.array("b")]}, TypeError, "array.array cannot be written as JSON; .*"),
        (Item, TypeError, "builtins.type cannot be written as JSON; .*"),
        ({(1, 2): 3}, TypeError, "keys must be .*"),
        (math.nan, ValueError, "Out of range float values .*"),
        (Decimal("NaN"), ValueError, r"Decimal\('NaN'\) cannot be written; write None for a value that is not there"),
        (endless(), ValueError, "Circular reference .*"),
        (endless_node(), ValueError, "Circular reference .*"),
        (deep(), ValueError, "the value is nested too deeply to be written as JSON"),
        ("\ud800", ValueError, ".*surrogates not allowed"),
        (Struct(object()), TypeError, ".*object cannot be written as JSON; .*"),  # type: ignore[arg-type]
    ],
)
def test_what_json_has_no_form_for_is_refused(value, error, text):
    with pytest.raises(error) as caught:
        WRITE(value)
    assert re.fullmatch(text, str(caught.value))  # without the notes on where it was, which Python 3.14 adds


def test_a_failure_leaves_nothing_behind():
    with pytest.raises(TypeError):
        WRITE({"a": object()})
    assert WRITE(Item("x")) == b'{"name":"x","count":1}'


@dataclass
class Everything:
    number: float
    text: str
    data: bytes
    at: datetime
    day: date
    hour: time
    length: timedelta
    price: Decimal
    id: UUID
    colour: Colour
    shape: Circle | Square | None
    sizes: frozenset[Size]
    by_number: dict[int, list[int | str | None]]
    pair: tuple[bool, Point]
    others: list[Everything]
    rest: Any


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
INTS = st.integers(-(10**17), 10**17)
ZONES = st.none() | st.just(UTC) | st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes)))
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
SHAPES = st.builds(Circle, st.just("circle"), NUMBERS) | st.builds(Square, st.just("square"), NUMBERS)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
NOTHING: st.SearchStrategy[list[Everything]] = st.just([])


def everything(others: st.SearchStrategy[list[Everything]]) -> st.SearchStrategy[Everything]:
    return st.builds(
        Everything,
        number=NUMBERS,
        text=TEXT,
        data=st.binary(max_size=10),
        at=st.datetimes(timezones=ZONES),
        day=st.dates(),
        hour=st.times(timezones=ZONES),
        length=st.timedeltas(),
        price=st.decimals(allow_nan=False, allow_infinity=False),
        id=st.uuids(),
        colour=st.sampled_from(Colour),
        shape=st.none() | SHAPES,
        sizes=st.frozensets(st.sampled_from(Size)),
        by_number=st.dictionaries(INTS, st.lists(st.none() | st.integers() | TEXT, max_size=3), max_size=3),
        pair=st.tuples(st.booleans(), st.builds(Point, st.integers(), st.integers())),
        others=others,
        rest=ANYTHING,
    )


READ_EVERYTHING = CODEC.decoder(Everything)


@given(everything(st.lists(everything(NOTHING), max_size=2)))
def test_what_is_written_reads_as_an_equal_value(value):
    assert READ_EVERYTHING(WRITE(value)) == value


@given(ANYTHING)
def test_json_reads_as_it_was_written(value):
    assert CODEC.decoder(Any)(WRITE(value)) == value


@given(
    st.lists(st.builds(Struct, TEXT, st.none() | st.builds(Item, TEXT, st.integers(0, 9)), st.sets(st.integers(0, 99))))
)
def test_structs_read_as_they_were_written(value):
    assert CODEC.decoder(list[Struct])(WRITE(value)) == value
    assert [CODEC.decoder(Struct)(WRITE(each)) for each in value] == value


@given(st.lists(st.builds(Model, name=TEXT, item=st.none() | st.builds(Item, TEXT, st.integers()))))
def test_models_read_as_they_were_written(value):
    assert CODEC.decoder(list[Model])(WRITE(value)) == value
    assert [CODEC.decoder(Model)(WRITE(each)) for each in value] == value


def test_there_is_a_value_for_every_sample():
    assert all(valid for _, valid, _ in SAMPLES)
