"""Types, what they read, and what they refuse: for the decoder and for the schema alike."""

from __future__ import annotations

import sys
from collections import namedtuple
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import KW_ONLY, dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, StrEnum
from typing import (
    Annotated,
    Any,
    Final,
    Generic,
    Literal,
    NamedTuple,
    NewType,
    NotRequired,
    Optional,
    Required,
    TypedDict,
    TypeVar,
    Union,
)
from uuid import UUID

import msgspec
import pydantic
import pydantic.dataclasses
import typing_extensions

T = TypeVar("T")
OrderId = NewType("OrderId", int)


class Colour(Enum):
    RED = "red"
    NONE = None
    SEVEN = 7


class Size(StrEnum):
    SMALL = "s"
    LARGE = "l"


@dataclass
class Item:
    """Something to buy."""

    name: str
    count: int = 1


@dataclass
class Order:
    id: OrderId
    items: list[Item]
    placed: datetime | None = None
    tags: dict[str, str] = field(default_factory=dict)
    total: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        if self.id < 0:
            raise ValueError("id must not be negative")
        self.total = len(self.items)


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    a: int


@dataclass(frozen=True, slots=True)
class Derived(Base):
    b: Annotated[float, "metres"] = 0.5
    _: KW_ONLY
    c: Final[bool] = False


@dataclass
class Node:
    value: int
    children: list[Node] = field(default_factory=list)
    next: Optional["Node"] = None  # noqa: UP045, UP037  # as older programs write it


@dataclass
class Page(Generic[T]):
    items: list[T]
    following: Page[T] | None = None


@dataclass
class Labelled(Generic[T]):
    label: str
    value: T


@dataclass
class Numbers(Page[int]):
    total: int = 0


@dataclass
class Circle:
    kind: Literal["circle"]
    radius: float


@dataclass
class Square:
    kind: Literal["square"]
    side: float


@dataclass
class Left:
    next: Left | Right | None
    kind: Literal["left"]


@dataclass
class Right:
    next: Left | Right | None
    kind: Literal["right"]


class Options(TypedDict):
    name: str
    retries: NotRequired[int]


class MoreOptions(Options, total=False):
    delay: float
    mode: Required[Annotated[Literal["a", "b"], "how"]]
    fixed: typing_extensions.ReadOnly[bool]


class OldOptions(typing_extensions.TypedDict, total=False):
    name: typing_extensions.Required[str]
    children: list[OldOptions]


class Point(NamedTuple):
    x: int
    y: int = 0


Pair = namedtuple("Pair", "a b")  # noqa: PYI024  # as older programs write it

Tree = typing_extensions.TypeAliasType("Tree", "dict[str, Tree] | int")  # type: ignore[misc]
Listing = typing_extensions.TypeAliasType("Listing", list[tuple[str, T]], type_params=(T,))
Member = typing_extensions.TypeAliasType("Member", "Team | str")  # type: ignore[misc]


@dataclass
class Team:
    members: list[Member | int]


class Struct(msgspec.Struct):
    name: str
    item: Item | None = None
    sizes: set[int] = set()


class Tagged(msgspec.Struct, tag="t", rename="camel"):
    some_field: int


class Other(msgspec.Struct, tag="o"):
    next: Other | Tagged | None = None


class Model(pydantic.BaseModel):
    name: str
    item: Item | None = None
    at: datetime | None = pydantic.Field(None, alias="when")


class Positive(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(strict=True)
    value: Annotated[int, pydantic.Field(gt=0)]
    parts: tuple[date, ...] = ()


class Root(pydantic.RootModel[list[int]]):
    pass


@pydantic.dataclasses.dataclass
class Checked:
    value: Annotated[int, pydantic.Field(gt=0)]


@dataclass
class Mixed:
    struct: Struct
    model: Model
    others: list[Tagged | Other] = field(default_factory=list)
    positive: Positive | Root | None = None


NOON = datetime(2024, 2, 3, 12, tzinfo=UTC)

# A type, then texts and what they mean, then texts that do not fit, where and why.
SAMPLES: list[tuple[Any, dict[str, Any], dict[str, str]]] = [
    (
        Labelled[int],
        {'{"label":"x","value":1}': Labelled("x", 1)},
        {'{"label":"x","value":"y"}': "$.value: must be an int, got 'y'"},
    ),
    (None, {"null": None}, {"0": "$: must be null, got 0"}),
    (
        bool,
        {"true": True, "false": False},
        {"1": "$: must be true or false, got 1", "null": "$: must be true or false, got null"},
    ),
    (
        int,
        {"1": 1, "-5": -5, "2.0": 2, "1e3": 1000},
        {
            '"x"': "$: must be an int, got 'x'",
            "true": "$: must be an int, got true",
            "1.5": "$: must be an int, got 1.5",
        },
    ),
    (
        float,
        {"1": 1.0, "1.5": 1.5},
        {"false": "$: must be a number, got false", "[]": "$: must be a number, got an array of 0"},
    ),
    (str, {'"x"': "x", '"\\u00e9\\ud83d\\ude00"': "é😀"}, {"1": "$: must be a string, got 1"}),
    (Any, {'{"a":[1]}': {"a": [1]}, "null": None}, {}),
    (object, {"[]": []}, {}),
    (bytes, {'"AAE="': b"\x00\x01", '""': b""}, {"1": "$: must be base64 text, got 1"}),
    (
        datetime,
        {'"2024-02-03T12:00:00Z"': NOON, '"2024-02-03t13:00:00.000000000+01:00"': NOON},
        {
            '"2024-02-03"': "$: must be a date and time (RFC 3339), got '2024-02-03'",
            '"2024-02-30T12:00:00Z"': "$: must be a date and time (RFC 3339), got '2024-02-30T12:00:00Z'",
            "0": "$: must be a date and time (RFC 3339), got 0",
        },
    ),
    (date, {'"2024-02-03"': date(2024, 2, 3)}, {'"2024-W05-1"': "$: must be a date (RFC 3339), got '2024-W05-1'"}),
    (time, {'"12:30:00Z"': time(12, 30, tzinfo=UTC)}, {'"25:00:00Z"': "$: must be a time (RFC 3339), got '25:00:00Z'"}),
    (
        timedelta,
        {
            '"P1DT2H3M4.5S"': timedelta(1, 4.5, hours=2, minutes=3),
            '"-PT1S"': timedelta(seconds=-1),
            '"P2W"': timedelta(14),
        },
        {
            '"P1"': "$: must be a duration (ISO 8601), got 'P1'",
            '"P"': "$: must be a duration (ISO 8601), got 'P'",
            '"1"': "$: must be a duration (ISO 8601), got '1'",
        },
    ),
    (
        Decimal,
        {'"1.10"': Decimal("1.10"), '"-1e5"': Decimal(-100000)},
        {"1": "$: must be a decimal number as text, got 1", '"NaN"': "$: must be a decimal number as text, got 'NaN'"},
    ),
    (UUID, {'"00000000-0000-0000-0000-00000000000a"': UUID(int=10)}, {'"a"': "$: must be a UUID, got 'a'"}),
    (
        Colour,
        {'"red"': Colour.RED, "null": Colour.NONE, "7": Colour.SEVEN},
        {'"RED"': "$: must be 'red' or null or 7, got 'RED'", "[]": "$: must be 'red' or null or 7, got an array of 0"},
    ),
    (
        Literal["a", 1, None, Size.LARGE],  # noqa: PYI061
        {'"a"': "a", "1": 1, "null": None, '"l"': Size.LARGE},
        {"true": "$: must be 'a' or 1 or null or 'l', got true", '"s"': "$: must be 'a' or 1 or null or 'l', got 's'"},
    ),
    (list, {"[1,null]": [1, None]}, {"{}": "$: must be an array, got an object of 0"}),
    (list[int], {"[]": [], "[1,2]": [1, 2]}, {"[1,2,null]": "$[2]: must be an int, got null"}),
    (Sequence[Sequence[int]], {"[[1],[]]": [[1], []]}, {'[[1],[2,"x"]]': "$[1][1]: must be an int, got 'x'"}),
    (
        tuple[int, str],
        {'[1,"x"]': (1, "x")},
        {
            "[1]": "$: must be an array of 2, got an array of 1",
            '[1,"x",2]': "$: must be an array of 2, got an array of 3",
            "[1,2]": "$[1]: must be a string, got 2",
        },
    ),
    (tuple[int, ...], {"[]": (), "[1]": (1,)}, {'["x"]': "$[0]: must be an int, got 'x'"}),
    (tuple[()], {"[]": ()}, {"[1]": "$: must be an array of 0, got an array of 1"}),
    (tuple, {"[1]": (1,)}, {"1": "$: must be an array, got 1"}),
    (set[int], {"[1,1]": {1}}, {"1": "$: must be an array, got 1"}),
    (frozenset[str], {'["a"]': frozenset("a")}, {"[1]": "$[0]: must be a string, got 1"}),
    (AbstractSet[Size], {'["s"]': {Size.SMALL}}, {'["m"]': "$[0]: must be 's' or 'l', got 'm'"}),
    (dict, {'{"a":1}': {"a": 1}}, {"[]": "$: must be an object, got an array of 0"}),
    (Mapping[str, float], {'{"a":1}': {"a": 1.0}}, {'{"a b":"x"}': "$['a b']: must be a number, got 'x'"}),
    (
        dict[int, bool],
        {'{"1":true,"-2":false}': {1: True, -2: False}},
        {'{"x":true}': "$.x: must be an int as text, got 'x'"},
    ),
    (dict[Size, int], {'{"s":1}': {Size.SMALL: 1}}, {'{"m":1}': "$.m: must be 's' or 'l', got 'm'"}),
    (int | None, {"1": 1, "null": None}, {'"x"': "$: must be an int or null, got 'x'"}),
    (Union[int, str], {"1": 1, '"x"': "x"}, {"null": "$: must be an int or a string, got null"}),  # noqa: UP007
    (
        datetime | str,
        {'"2024-02-03T12:00:00Z"': NOON, '"x"': "x"},
        {"1": "$: must be a date and time (RFC 3339) or a string, got 1"},
    ),
    (UUID | date, {'"2024-02-03"': date(2024, 2, 3)}, {'"x"': "$: must be a UUID or a date (RFC 3339), got 'x'"}),
    (OrderId, {"1": 1}, {'"x"': "$: must be an int, got 'x'"}),
    (Annotated[list[Annotated[int, ["not", "hashable"]]], {}], {"[1]": [1]}, {"1": "$: must be an array, got 1"}),
    (
        Item,
        {'{"name":"x"}': Item("x"), '{"name":"x","count":2,"unknown":[]}': Item("x", 2)},
        {
            "{}": "$.name: is missing",
            "[]": "$: must be an object (Item), got an array of 0",
            '{"name":1}': "$.name: must be a string, got 1",
        },
    ),
    (
        Order,
        {
            '{"id":1,"items":[]}': Order(OrderId(1), []),
            '{"id":1,"items":[{"name":"x"}],"placed":"2024-02-03T12:00:00Z","tags":{"a":"b"}}': Order(
                OrderId(1), [Item("x")], NOON, {"a": "b"}
            ),
        },
        {
            '{"id":1,"items":[{"name":"x"},{}]}': "$.items[1].name: is missing",
            '{"id":1,"items":[],"tags":{"a":1}}': "$.tags.a: must be a string, got 1",
        },
    ),
    (
        Derived,
        {'{"a":1}': Derived(a=1), '{"a":1,"b":2,"c":true}': Derived(2.0, a=1, c=True)},
        {'{"b":1}': "$.a: is missing"},
    ),
    (
        Node,
        {'{"value":1,"next":{"value":2},"children":[{"value":3}]}': Node(1, [Node(3)], Node(2))},
        {'{"value":1,"next":{"value":2,"next":{}}}': "$.next.next.value: is missing"},
    ),
    (
        Page[Item],
        {'{"items":[{"name":"x"}],"following":{"items":[]}}': Page([Item("x")], Page([]))},
        {'{"items":[1]}': "$.items[0]: must be an object (Item), got 1"},
    ),
    (Numbers, {'{"items":[1]}': Numbers([1])}, {'{"items":["x"]}': "$.items[0]: must be an int, got 'x'"}),
    (
        Circle | Square,
        {'{"kind":"square","side":1}': Square("square", 1.0), '{"kind":"circle","radius":1}': Circle("circle", 1.0)},
        {
            "1": "$: must be an object (Circle) or an object (Square), got 1",
            '{"kind":"square"}': "$: must be an object (Circle): .kind must be 'circle', got 'square'; or an object (Square): .side is missing",
        },
    ),
    (
        Left | Right,
        {'{"next":{"next":null,"kind":"right"},"kind":"right"}': Right(Right(None, "right"), "right")},
        {
            '{"next":null,"kind":"x"}': "$: must be an object (Left): .kind must be 'left', got 'x'; or an object (Right): .kind must be 'right', got 'x'"
        },
    ),
    (
        Options,
        {'{"name":"x"}': {"name": "x"}, '{"name":"x","retries":1,"unknown":1}': {"name": "x", "retries": 1}},
        {'{"retries":1}': "$.name: is missing", '{"name":"x","retries":"1"}': "$.retries: must be an int, got '1'"},
    ),
    (
        MoreOptions,
        {'{"name":"x","mode":"a","fixed":true}': {"name": "x", "mode": "a", "fixed": True}},
        {'{"name":"x"}': "$.mode: is missing", '{"name":"x","mode":"c"}': "$.mode: must be 'a' or 'b', got 'c'"},
    ),
    (
        OldOptions,
        {'{"name":"x","children":[{"name":"y"}]}': {"name": "x", "children": [{"name": "y"}]}},
        {'{"name":"x","children":[{}]}': "$.children[0].name: is missing"},
    ),
    (
        Point,
        {"[1,2]": Point(1, 2), "[1]": Point(1)},
        {"[]": "$: must be an array of 1 to 2, got an array of 0", '[1,"x"]': "$[1]: must be an int, got 'x'"},
    ),
    (Pair, {'[1,"x"]': Pair(1, "x")}, {"{}": "$: must be an array of 2, got an object of 0"}),
    (
        Tree,
        {'{"a":{"b":1},"c":2}': {"a": {"b": 1}, "c": 2}},
        {'{"a":{"b":"x"}}': "$.a.b: must be an object or an int, got 'x'"},
    ),
    (Listing[int], {'[["a",1]]': [("a", 1)]}, {'[["a","x"]]': "$[0][1]: must be an int, got 'x'"}),
    (
        Member,
        {'{"members":[{"members":["x"]},1]}': Team([Team(["x"]), 1])},
        {'{"members":[{"members":[null]}]}': "$.members[0].members[0]: must be Member or an int, got null"},
    ),
    (
        Struct,
        {'{"name":"x","item":{"name":"y"}}': Struct("x", Item("y"))},
        {
            "{}": "$: Object missing required field `name`",
            '{"name":"x","item":{"name":1}}': "$.item.name: Expected `str`, got `int`",
            '{"name":"x","sizes":[1,null]}': "$.sizes[1]: Expected `int`, got `null`",
            "[]": "$: Expected `object`, got `array`",
        },
    ),
    (
        Tagged | Other,
        {'{"type":"o","next":{"type":"t","someField":1}}': Other(Tagged(1))},
        {
            '{"type":"t"}': "$: must be an object (Tagged): Object missing required field `someField`; or an object (Other): .type Invalid value 't'"
        },
    ),
    (
        Model,
        {'{"name":"x","item":{"name":"y"},"when":"2024-02-03T12:00:00Z"}': Model(name="x", item=Item("y"), when=NOON)},
        {
            "{}": "$.name: is missing",
            '{"name":"x","item":{"name":1}}': "$.item.name: Input should be a valid string, got 1",
        },
    ),
    (
        Positive,
        {'{"value":1,"parts":["2024-02-03"]}': Positive(value=1, parts=(date(2024, 2, 3),))},
        {
            '{"value":0}': "$.value: Input should be greater than 0, got 0",
            '{"value":"1"}': "$.value: Input should be a valid integer, got '1'",
        },
    ),
    (
        Root,
        {"[1]": Root([1])},
        {'["x"]': "$[0]: Input should be a valid integer, unable to parse string as an integer, got 'x'"},
    ),
    (Checked, {'{"value":1}': Checked(1)}, {'{"value":0}': "$.value: Input should be greater than 0, got 0"}),
    (
        list[Positive],
        {'[{"value":1,"parts":["2024-02-03"]}]': [Positive(value=1, parts=(date(2024, 2, 3),))]},
        {'[{"value":1},{"value":"1"}]': "$[1].value: Input should be a valid integer, got '1'"},
    ),
    (
        Mixed,
        {
            '{"struct":{"name":"x","item":{"name":"z"}},"model":{"name":"y"},"others":[{"type":"t","someField":1},{"type":"o"}],"positive":[1]}': Mixed(
                Struct("x", Item("z")), Model(name="y"), [Tagged(1), Other()], Root([1])
            )
        },
        {
            '{"struct":{"name":1},"model":{"name":"y"}}': "$.struct.name: Expected `str`, got `int`",
            '{"struct":{"name":"x"},"model":{"name":"y","item":{}}}': "$.model.item.name: is missing",
        },
    ),
]

if sys.version_info >= (3, 12):
    names: dict[str, Any] = {"__name__": __name__}
    exec(
        "from dataclasses import dataclass\n"
        "type Json = None | bool | float | str | list[Json] | dict[str, Json]\n"
        "type Grid[C] = list[list[C]]\n"
        "@dataclass\n"
        "class Box[V]:\n    value: V\n    inner: 'Box[V] | None' = None\n",
        names,
    )
    SAMPLES += [
        (names["Json"], {'{"a":[1,null]}': {"a": [1.0, None]}}, {}),
        (names["Grid"][int], {"[[1]]": [[1]]}, {"[1]": "$[0]: must be an array, got 1"}),
        (
            names["Box"][int],
            {'{"value":1,"inner":{"value":2}}': names["Box"](1, names["Box"](2))},
            {'{"value":"x"}': "$.value: must be an int, got 'x'"},
        ),
    ]

VALID = [(type_, text, value) for type_, valid, _ in SAMPLES for text, value in valid.items()]
INVALID = [(type_, text, error) for type_, _, invalid in SAMPLES for text, error in invalid.items()]


def name(value: Any) -> str | None:
    text = value if isinstance(value, str) else getattr(value, "__name__", repr(value))
    return None if " at 0x" in text else text[:40]  # every process gives a test the same name
