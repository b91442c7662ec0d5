"""The schemas say what the JSON codec reads."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

import msgspec
import pydantic
import pytest
from jsonschema import Draft202012Validator, FormatChecker

from natsery import JSONCodec

from . import samples
from .samples import INVALID, SAMPLES, VALID, Item, Mixed, Model, Node, Order, Struct, Tree, name

CODEC = JSONCodec()
FORMATS = FormatChecker(["uuid", "date"])


@FORMATS.checks("date-time", ValueError)
def is_datetime(text: object) -> bool:
    return not isinstance(text, str) or bool(re.match("....-..-..[Tt]", text) and datetime.fromisoformat(text.upper()))


@FORMATS.checks("time")
def is_time(text: object) -> bool:
    return not isinstance(text, str) or bool(re.match("([01].|2[0-3]):", text))


@FORMATS.checks("duration")
def is_duration(text: object) -> bool:
    return not isinstance(text, str) or bool(re.match("-?P[0-9]*[WDT]", text))


def validator(type_: Any) -> Draft202012Validator:
    schema = CODEC.schema(type_)
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema, format_checker=FORMATS)


@pytest.mark.parametrize("type_", [type_ for type_, _, _ in SAMPLES], ids=name)
def test_a_schema_is_valid_and_the_same_each_time(type_):
    schema = CODEC.schema(type_)
    Draft202012Validator.check_schema(schema)
    assert json.dumps(schema) == json.dumps(CODEC.schema(type_))
    references = set(re.findall(r'"\$ref": "([^"]*)"', json.dumps(schema)))
    definitions = {f"#/$defs/{each}" for each in schema.get("$defs", {})}
    assert references == definitions


@pytest.mark.parametrize(("type_", "text", "value"), VALID, ids=name)
def test_what_is_read_is_valid_and_so_is_what_is_written(type_, text, value):
    validator(type_).validate(json.loads(text))
    validator(type_).validate(json.loads(CODEC.encoder(type_)(value)))


@pytest.mark.parametrize(("type_", "text", "error"), INVALID, ids=name)
def test_what_is_not_read_is_not_valid(type_, text, error):
    assert not validator(type_).is_valid(json.loads(text))


def test_a_dataclass_is_described():
    assert CODEC.schema(Item) == {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Item",
        "description": "Something to buy.",
        "type": "object",
        "properties": {"name": {"type": "string"}, "count": {"type": "integer", "default": 1}},
        "required": ["name"],
    }


def test_the_docstring_that_dataclasses_write_is_no_description():
    assert "description" not in CODEC.schema(Order)


def test_a_type_that_refers_to_itself_is_a_definition():
    assert CODEC.schema(Node)["$ref"] == "#/$defs/Node"
    assert list(CODEC.schema(Node)["$defs"]) == ["Node"]
    assert CODEC.schema(Tree)["$ref"] == "#/$defs/Tree"


@dataclass
class Inner:
    a: int


OurInner = Inner


def other_inner() -> type:
    @dataclass
    class Inner:
        b: str

    return Inner


def struct_inner() -> type:
    class Inner(msgspec.Struct):
        c: int

    return Inner


def model_inner() -> type:
    class Inner(pydantic.BaseModel):
        d: int

    return Inner


def test_two_classes_of_one_name_have_two_definitions():
    schema = CODEC.schema(tuple[OurInner, other_inner(), struct_inner(), model_inner(), OurInner])
    assert [each["$ref"] for each in schema["prefixItems"]] == [
        "#/$defs/Inner",
        "#/$defs/Inner_2",
        "#/$defs/Inner_3",
        "#/$defs/Inner_4",
        "#/$defs/Inner",
    ]
    assert [[*each["properties"]] for each in schema["$defs"].values()] == [["a"], ["b"], ["c"], ["d"]]


class One(msgspec.Struct):
    struct: Struct
    again: One | None = None


class Two(msgspec.Struct):
    struct: Struct


class Three(pydantic.BaseModel):
    model: Model


class Four(pydantic.BaseModel):
    model: Model
    day: date


def test_a_class_inside_several_others_has_one_definition():
    schema = CODEC.schema(tuple[One, Two, Struct, Three, Four, Model])
    assert sorted(schema["$defs"]) == ["Four", "Item", "Item_2", "Model", "One", "Struct", "Three", "Two"]
    instance = [{"struct": {"name": "x"}}, {"struct": {"name": "x"}}, {"name": "x"}]
    models = [{"model": {"name": "x"}}, {"model": {"name": "x"}, "day": "2024-02-03"}, {"name": "x"}]
    Draft202012Validator(schema).validate([*instance, *models])


def test_classes_of_all_libraries_stand_in_one_schema():
    schema = CODEC.schema(Mixed)
    assert {"Struct", "Model", "Tagged", "Other", "Positive", "Root"} < set(schema["$defs"])


def test_a_default_that_cannot_be_written_is_left_out():
    @dataclass
    class Local:
        a: Any = object()  # noqa: RUF009

    assert CODEC.schema(Local)["properties"] == {"a": {}}


@pytest.mark.slow
def test_a_schema_does_not_depend_on_the_process():
    program = (
        "import json, natsery\nfrom tests.codecs.samples import SAMPLES\n"
        "print(json.dumps([natsery.JSONCodec().schema(type_) for type_, _, _ in SAMPLES]))"
    )
    root = Path(samples.__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=root)
    assert json.loads(done.stdout) == json.loads(json.dumps([CODEC.schema(type_) for type_, _, _ in SAMPLES]))


def test_a_model_that_no_schema_describes_is_named():
    class Model(pydantic.BaseModel):
        act: Callable[[int], int]

    with pytest.raises(TypeError, match=r"^Model: Cannot generate a JsonSchema"):
        CODEC.schema(Model)
