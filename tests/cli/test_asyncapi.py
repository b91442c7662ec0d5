"""AsyncAPI documents. ``nox -s interop`` checks one with AsyncAPI's own JSON schema."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

import natsery
from natsery._cli._schema._asyncapi import asyncapi_document

from .shop import SHOP


def schema_of(*endpoints: natsery.EndpointSchema, **fields: Any) -> natsery.ServiceSchema:
    return natsery.ServiceSchema(**{"name": "shop", "id": "one", "version": "1.0.0", "endpoints": endpoints, **fields})


def endpoint(name: str = "a", subject: str = "a", **fields: Any) -> natsery.EndpointSchema:
    return natsery.EndpointSchema(name=name, subject=subject, **fields)


def at(document: dict[str, Any], reference: str) -> Any:
    """What a reference leads to."""
    assert reference.startswith("#/")
    value: Any = document
    for token in reference[2:].split("/"):
        value = value[token]
    return value


def references(part: Any) -> list[str]:
    if isinstance(part, dict):
        own = [part["$ref"]] if "$ref" in part else []
        return own + [each for value in part.values() for each in references(value)]
    return [each for value in part for each in references(value)] if isinstance(part, list) else []


@pytest.fixture
def shop() -> dict[str, Any]:
    return asyncapi_document(schema_of(*(each.schema for each in SHOP.placed_endpoints()), description="Sells"))


def test_it_says_what_the_service_is(shop: dict[str, Any]) -> None:
    assert shop["asyncapi"] == "3.0.0"
    assert shop["info"] == {"title": "shop", "version": "1.0.0", "description": "Sells"}
    assert shop["defaultContentType"] == "application/json"
    assert asyncapi_document(schema_of())["info"] == {"title": "shop", "version": "1.0.0"}


def test_every_reference_leads_somewhere(shop: dict[str, Any]) -> None:
    found = references(shop)
    assert len(found) > 20
    assert all(isinstance(at(shop, each), dict) for each in found)


def test_an_endpoint_is_an_operation_with_a_reply(shop: dict[str, Any]) -> None:
    operation = shop["operations"]["order"]
    assert operation["action"] == "receive"
    channel = at(shop, operation["channel"]["$ref"])
    assert channel["address"] == "shop.order"
    (request,) = [at(shop, each["$ref"]) for each in operation["messages"]]
    assert request["contentType"] == "application/json"
    assert at(shop, request["payload"]["$ref"])["title"] == "Order"
    assert at(shop, operation["reply"]["channel"]["$ref"])["address"] is None
    reply, error = (at(shop, each["$ref"]) for each in operation["reply"]["messages"])
    assert at(shop, reply["payload"]["$ref"])["title"] == "Receipt"
    error = at(shop, error["$ref"])
    assert set(error["headers"]["required"]) == set(natsery.error_headers(404, "gone"))
    jsonschema.Draft7Validator(error["headers"]).validate(dict(natsery.error_headers(404, "gone").items()))


def test_a_stream_has_an_end(shop: dict[str, Any]) -> None:
    operation = shop["operations"]["items"]
    assert operation["description"].startswith("The reply is a stream")
    replies = [each["$ref"].rpartition("/")[2] for each in operation["reply"]["messages"]]
    assert replies == ["reply", "end", "error"]
    assert "end" not in asyncapi_document(schema_of(endpoint()))["components"]["messages"]


def test_bytes_have_no_schema_and_wildcards_are_parameters(shop: dict[str, Any]) -> None:
    channel = shop["channels"]["echo"]
    assert (channel["address"], channel["x-nats-subject"]) == ("echo.{token2}.in.{token4}", "echo.*.in.>")
    assert [*channel["parameters"]] == ["token2", "token4"]
    assert channel["messages"]["request"] == {"name": "request", "contentType": "application/octet-stream"}
    braces = asyncapi_document(schema_of(endpoint(subject="a.{b}")))["channels"]["a"]
    assert (braces["address"], braces["x-nats-subject"]) == (None, "a.{b}")


def test_types_are_there_once(shop: dict[str, Any]) -> None:
    assert [*shop["components"]["schemas"]] == ["Order", "Item", "Receipt", "Pet", "Cat", "Dog", "pet-reply"]


def test_schemas_mean_the_same(shop: dict[str, Any]) -> None:
    def fits(component: str, value: Any) -> bool:
        return jsonschema.Draft7Validator({**shop, "$ref": f"#/components/schemas/{component}"}).is_valid(value)

    assert fits("Order", {"items": [{"sku": "a"}], "box": [1, 2], "before": {"items": []}})
    assert not fits("Order", {"items": [{}]})
    assert not fits("Order", {"items": [], "box": [1, "b"]})
    assert not fits("Order", {"items": [], "box": [1, 2, 3]})
    assert not fits("Order", {"items": [], "before": {}})
    assert fits("Pet", {"kind": "dog", "friend": {"kind": "cat"}})
    assert not fits("Pet", {"kind": "dog", "friend": {"kind": "cow"}})


def test_types_of_one_name_stay_apart_with_all_that_refers_to_them() -> None:
    def types(size: str) -> dict[str, Any]:
        return {
            "$defs": {"Box": {"$ref": "#/$defs/Size"}, "Size": {"type": size}, "Same": {"type": "null"}},
            "type": "array",
            "prefixItems": [{"$ref": "#/$defs/Box"}, {"$ref": "#/$defs/Same"}],
            "items": False,
        }

    document = asyncapi_document(
        schema_of(
            endpoint("a", request=types("string"), response=types("string")),
            endpoint("a", request=types("integer"), response=types("string")),
        )
    )
    schemas = document["components"]["schemas"]
    assert schemas["a-request"] == {
        "type": "array",
        "items": [{"$ref": "#/components/schemas/Box"}, {"$ref": "#/components/schemas/Same"}],
        "additionalItems": False,
    }
    assert schemas["Box_2"] == {"$ref": "#/components/schemas/Size_2"}
    assert schemas["Size_2"] == {"type": "integer"}
    assert schemas["a-request_2"]["items"][0] == {"$ref": "#/components/schemas/Box_2"}
    assert schemas["a-request_2"]["items"][1] == {"$ref": "#/components/schemas/Same"}
    assert [*document["operations"]] == ["a", "a_2"]
    assert document["channels"]["a_2"]["messages"]["request"]["payload"] == {"$ref": "#/components/schemas/a-request_2"}
    assert document["channels"]["a_2.reply"]["messages"]["reply"]["payload"] == {"$ref": "#/components/schemas/a-reply"}


@pytest.mark.parametrize(
    ("schema", "converted"),
    [
        ({"$schema": "x", "type": "string"}, {"type": "string"}),
        ({"$ref": "#/$defs/A", "default": 1, "$defs": {"A": {}}}, {"default": 1, "allOf": [{"$ref": "{}A"}]}),
        ({"$ref": "#/$defs/A~1B%5Bc%5D/items", "$defs": {"A/B[c]": {}}}, {"$ref": "{}A_B_c/items"}),
        ({"items": {"$ref": "#"}}, {"items": {"$ref": "{}a-request"}}),
        ({"items": {"$ref": "#/properties/b"}}, {"items": {"$ref": "{}a-request/properties/b"}}),
        ({"$ref": "https://example.com/x"}, {"$ref": "https://example.com/x"}),
        ({"items": {"$ref": "#/$defs/Gone"}}, {"items": {"$ref": "#/$defs/Gone"}}),
        ({"const": {"$ref": "#/$defs/A"}, "$defs": {"A": {}}}, {"const": {"$ref": "#/$defs/A"}}),
        ({"properties": {"const": {"prefixItems": []}}}, {"properties": {"const": {"items": []}}}),
        ({"oneOf": [], "discriminator": {"propertyName": "a"}}, {"oneOf": []}),
        ({"items": True, "not": 7, "$ref": 7}, {"items": True, "not": 7}),
        ({}, {}),
    ],
)
def test_words_of_2020_become_those_of_draft_7(schema: dict[str, Any], converted: dict[str, Any]) -> None:
    document = asyncapi_document(schema_of(endpoint(request=schema)))
    expected = json.loads(
        json.dumps(converted).replace("{}A", "#/components/schemas/A").replace("{}a", "#/components/schemas/a")
    )
    assert document["components"]["schemas"]["a-request"] == expected


def test_a_schema_that_is_one_definition_is_that_component() -> None:
    node = {"$ref": "#/$defs/Node", "$defs": {"Node": {"title": "Node", "items": {"$ref": "#/$defs/Node"}}}}
    document = asyncapi_document(schema_of(endpoint(request=node, response={"title": "Node", "items": {}})))
    assert document["components"]["schemas"] == {
        "Node": {"title": "Node", "items": {"$ref": "#/components/schemas/Node"}},
        "Node_2": {"title": "Node", "items": {}},
    }


@pytest.mark.parametrize("odd", [None, 3, "x", {}, {"title": "A"}])
def test_an_odd_all_of_beside_a_reference_is_left_out(odd: object) -> None:
    """It ended the command in a traceback, or put the names of an object's members in the place of schemas."""
    document = asyncapi_document(schema_of(endpoint(request={"title": "A", "allOf": odd, "$ref": "#"})))
    assert document["components"]["schemas"]["A"] == {"title": "A", "allOf": [{"$ref": "#/components/schemas/A"}]}


def test_names_may_be_anything() -> None:
    odd = [endpoint(name, request={"title": name}) for name in ("a/b~c", "a b c", "", "é" * 500, "a_b_c")]
    document = asyncapi_document(schema_of(*odd))
    assert [*document["operations"]] == ["a_b_c", "a_b_c_2", "unnamed", "unnamed_2", "a_b_c_3"]
    assert all(isinstance(at(document, each), dict) for each in references(document))


NAMES = st.sampled_from(
    ["", "A", "B", "a/b", "$ref", "$defs", "title", "const", "properties", "prefixItems", "items", "allOf"]
)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from(["", "A", "#", "#/$defs/A", "#/$defs/B/items", "#/A", "x"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=20,
)
ENTRY = st.fixed_dictionaries(
    {"name": st.sampled_from("ab"), "subject": st.just("a"), "request": VALUES, "response": VALUES}
)


@given(st.lists(ENTRY, max_size=3))
def test_whatever_a_service_says_becomes_a_document(endpoints: list[Any]) -> None:
    answer = {"name": "shop", "id": "one", "endpoints": endpoints}
    schema = natsery.ServiceSchema.from_json(json.dumps(answer).encode())
    document = asyncapi_document(schema)
    assert len(document["operations"]) == len(endpoints)
    assert json.loads(json.dumps(document)) == document == asyncapi_document(schema)
