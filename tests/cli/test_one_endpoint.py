"""``natsery info`` and ``stats`` of one endpoint."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import anyio.from_thread
import pytest

import natsery
from natsery._cli._discovery._one_endpoint import raw_with_only
from natsery._cli._exit_codes import Exit

from ..server import NatsServer
from .conftest import Result

Run = Callable[..., Result]


async def first(request: natsery.Request) -> bytes:
    return b""


async def second(request: natsery.Request) -> bytes:
    return b""


@pytest.fixture(scope="module")
def pair() -> Iterator[str]:
    both = natsery.ServiceConfig("both", "1.0.0", id="b", endpoints=[first, natsery.group("g", [second])])
    one = natsery.ServiceConfig("one", "1.0.0", id="o", endpoints=[first])
    with NatsServer() as server, anyio.from_thread.start_blocking_portal("trio") as portal:
        with (
            portal.wrap_async_context_manager(natsery.connect(server.url)) as nc,
            portal.wrap_async_context_manager(natsery.serve(nc, both)),
            portal.wrap_async_context_manager(natsery.serve(nc, one)),
        ):
            yield server.url


@pytest.mark.parametrize("command", ["info", "stats"])
@pytest.mark.parametrize("endpoint", ["second", "g.second"])
def test_no_other_is_shown(run: Run, pair: str, command: str, endpoint: str) -> None:
    result = run(command, "--endpoint", endpoint, url=pair)
    assert result.status == 0
    assert "g.second" in result.out
    assert "first" not in result.out
    assert "one" not in result.out
    (found,) = json.loads(run(command, "--endpoint", endpoint, "--json", url=pair).out)
    assert found["name"] == "both"
    assert [each["subject"] for each in found["endpoints"]] == ["g.second"]


@pytest.mark.parametrize("command", ["info", "stats"])
def test_an_endpoint_that_nobody_has(run: Run, pair: str, command: str) -> None:
    result = run(command, "--endpoint", "third", url=pair)
    assert result == Result(Exit.NOT_FOUND, "", "Error: no endpoint 'third'; there is first, second\n")
    assert run(command, "nobody", "--endpoint", "first", url=pair).err == "Error: no service nobody answered\n"


def test_the_json_of_replies_that_are_odd() -> None:
    """What cannot be told apart is shown whole."""
    assert json.loads(raw_with_only("a", '{"endpoints": [{"name": "a", "x": 1}, 3, {"name": "b"}]}')) == {
        "endpoints": [{"name": "a", "x": 1}]
    }
    for raw in ('{"endpoints": {"a": 1}}', "{}", '{"name": "x"}'):
        assert json.loads(raw_with_only("a", raw)) == json.loads(raw)
    assert raw_with_only("a", "not JSON") == "not JSON"
