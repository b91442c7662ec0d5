"""The AsyncAPI documents of `natsery schema`, and the JSON schema that AsyncAPI publishes for them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import anyio
import jsonschema
import pytest
from benchmarks.installations import node_with
from tests.cli.shop import SHOP

import natsery
from natsery.abc import Connection
from natsery.testing import NatsServer

from .processes import LIMIT, output

pytestmark = pytest.mark.anyio

SPECIFICATIONS = "@asyncapi/specs@6.11.1"


@pytest.fixture
def asyncapi(got: Any) -> jsonschema.Draft7Validator:
    def get(folder: Path) -> list[str]:
        _, modules = node_with(folder / SPECIFICATIONS.rpartition("/")[2], SPECIFICATIONS)
        return [str(modules / "node_modules" / "@asyncapi" / "specs" / "schemas" / "3.0.0.json")]

    (path,) = got.command(SPECIFICATIONS, get)
    return jsonschema.Draft7Validator(json.loads(Path(path).read_text()))


async def test_documents_are_valid(
    asyncapi: jsonschema.Draft7Validator, nc: Connection, nats_server: NatsServer
) -> None:
    command = [sys.executable, "-m", "natsery", "schema", "shop", "--server", nats_server.url, "--asyncapi"]
    with anyio.fail_after(LIMIT):
        async with natsery.serve(nc, SHOP):
            document = json.loads(await output(command))
            asyncapi.validate(document)
            assert [*document["operations"]] == ["order", "items", "pet", "echo"]
    document["operations"]["order"]["action"] = "answer"
    assert not asyncapi.is_valid(document)
