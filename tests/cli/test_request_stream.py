"""``natsery request --stream``."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator

import anyio
import anyio.from_thread
import pytest

import natsery
from natsery._cli._exit_codes import Exit

from ..server import NatsServer
from .conftest import Result

Run = Callable[..., Result]


@natsery.endpoint
async def count(body: int) -> AsyncIterator[int]:
    for number in range(body):
        yield number
    if body == 2:
        raise natsery.ServiceError(418, "tea", data=b"hot")


@natsery.endpoint
async def silent(request: natsery.Request) -> AsyncIterator[bytes]:
    await anyio.sleep_forever()
    yield b"x"


@pytest.fixture(scope="module")
def streaming() -> Iterator[str]:
    config = natsery.ServiceConfig("streams", "1.0.0", endpoints=[count, silent])
    with NatsServer() as server, anyio.from_thread.start_blocking_portal("trio") as portal:
        with (
            portal.wrap_async_context_manager(natsery.connect(server.url)) as nc,
            portal.wrap_async_context_manager(natsery.serve(nc, config, grace=0)),
        ):
            yield server.url


def test_all_replies_are_printed(run: Run, streaming: str) -> None:
    assert run("request", "count", "3", "--stream", url=streaming) == Result(0, "0\n1\n2\n", "")
    assert run("request", "--service", "streams", "--endpoint", "count", "1", "--stream", url=streaming).out == "0\n"
    assert run("request", "count", "0", "--stream", url=streaming) == Result(0, "", "")
    lines = run("request", "count", "3", "--stream", "--json", url=streaming).out.splitlines()
    assert [json.loads(line)["data"] for line in lines] == ["0", "1", "2"]


def test_an_error_comes_last(run: Run, streaming: str) -> None:
    assert run("request", "count", "2", "--stream", url=streaming) == Result(1, "0\n1\n", "Error: 418: tea\nhot\n")


def test_one_reply_of_a_stream_is_said_to_be_one(run: Run, streaming: str) -> None:
    assert run("request", "count", "3", url=streaming) == Result(
        0, "0\n", "this is the first reply of a stream; --stream prints all of them\n"
    )
    assert run("request", "count", "3", "--replies", "2", url=streaming).err == ""
    assert run("request", "count", "0", url=streaming) == Result(0, "\n", "")
    assert run("request", "count", "3", "--count", "2", url=streaming).err.count("--stream") == 1


@pytest.mark.parametrize(
    ("arguments", "status", "error"),
    [
        (("nothing", "1", "--stream"), Exit.NOT_FOUND, "no responders"),
        (
            ("silent", "1", "--stream", "--timeout", "0.1"),
            Exit.TIMEOUT,
            "'silent' sent neither a reply nor the end of a stream within 0.1 s",
        ),
        (("count", "1", "--stream", "--replies", "2"), Exit.USAGE, "--stream and --replies cannot be given together"),
    ],
)
def test_what_goes_wrong(run: Run, streaming: str, arguments: tuple[str, ...], status: Exit, error: str) -> None:
    result = run("request", *arguments, url=streaming)
    assert (result.status, result.out) == (status, "")
    assert error in result.err
    assert result.err.count("\n") == 1
