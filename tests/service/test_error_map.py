"""`map_errors`: exceptions of the program as answers."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import pytest

import natsery
from natsery.abc import Connection

from ..bounds import bounded
from ..calc_service import config, error_of
from ..virtual_time import IN_VIRTUAL_TIME


class NotThereError(KeyError):
    """An exception of a subclass."""


ERRORS: dict[bytes, Exception] = {
    b"value": ValueError("must be small"),
    b"empty": ValueError(),
    b"white": ValueError(" \n"),
    b"key": KeyError("secret"),
    b"sub": NotThereError("secret"),
    b"unicode": UnicodeError("odd"),
    b"other": ZeroDivisionError(),
    b"service": natsery.ServiceError(409, "taken"),
    b"group": ExceptionGroup("", [ValueError("a"), ExceptionGroup("", [ValueError("a")])]),
    b"groups": ExceptionGroup("", [ValueError("a"), ValueError("b")]),
    b"mixed": ExceptionGroup("", [ValueError("a"), ZeroDivisionError()]),
}


async def fail(request: natsery.Request) -> bytes:
    raise ERRORS[request.data]


MAPPED = natsery.map_errors({ValueError: 400, KeyError: (404, "there is none"), UnicodeError: "422"})  # type: ignore[dict-item]


@pytest.mark.anyio
@IN_VIRTUAL_TIME
@pytest.mark.parametrize(
    ("data", "answer"),
    [
        (b"value", "400:must be small"),
        (b"empty", "400:ValueError"),
        (b"white", "400:ValueError"),
        (b"key", "404:there is none"),
        (b"sub", "404:there is none"),
        (b"unicode", "422:odd"),
        (b"other", "500:Internal Server Error"),
        (b"service", "409:taken"),
        (b"group", "400:a"),
        (b"groups", "500:Internal Server Error"),
        (b"mixed", "500:Internal Server Error"),
    ],
)
@pytest.mark.parametrize("place", ["service", "group", "endpoint"])
async def test_exceptions_are_answered(
    nc: Connection, data: bytes, answer: str, place: str, caplog: pytest.LogCaptureFixture
) -> None:
    around = {"middlewares": [MAPPED]}
    endpoint = natsery.EndpointConfig("fail", fail, **(around if place == "endpoint" else {}))  # type: ignore[arg-type]
    grouped = natsery.group("", [endpoint], **(around if place == "group" else {}))  # type: ignore[arg-type]
    async with bounded(), natsery.serve(nc, config(grouped, **(around if place == "service" else {}))) as service:
        assert error_of(await nc.request("fail", data)) == answer
    assert service.stats().endpoints[0].last_error == answer
    assert bool(caplog.records) is answer.startswith("500")
    caplog.clear()


@pytest.mark.anyio
@IN_VIRTUAL_TIME
async def test_those_of_streams_and_inner_ones_too(nc: Connection) -> None:
    async def lines(request: natsery.Request) -> AsyncIterator[bytes]:
        yield b"1"
        raise ERRORS[request.data]

    inner = natsery.group("", [lines], middlewares=[natsery.map_errors({ValueError: (418, "inner")})])
    async with bounded(), natsery.serve(nc, config(inner, middlewares=[MAPPED])):
        for data, code in ((b"value", 418), (b"key", 404)):
            async with natsery.ServiceClient(nc).stream("lines", data) as replies:
                assert (await replies.receive()).data == b"1"
                with pytest.raises(natsery.ServiceError) as caught:
                    await replies.receive()
            assert caught.value.code == code


@pytest.mark.anyio
@IN_VIRTUAL_TIME
async def test_a_cancellation_stays_one(nc: Connection) -> None:
    @natsery.endpoint(timeout=1)
    async def stuck(request: natsery.Request) -> None:
        await anyio.sleep_forever()

    async with bounded(), natsery.serve(nc, config(stuck, middlewares=[natsery.map_errors({Exception: 400})])):
        assert error_of(await nc.request("stuck")) == "504:Deadline Exceeded"


@pytest.mark.parametrize(
    ("mapping", "text"),
    [
        ([ValueError], "must be a dict of classes and codes"),
        ({"ValueError": 400}, "must have classes of exceptions as keys"),
        ({ValueError(): 400}, "must have classes of exceptions as keys"),
        ({KeyboardInterrupt: 400}, "must have classes of exceptions as keys"),
        ({natsery.ServiceError: 400}, "must not have ServiceError"),
        ({ValueError: "x"}, "code: must be an int"),
        ({ValueError: (400,)}, r"must be a code, or \(code, description\)"),
        ({ValueError: (400, "")}, "description: must not be empty"),
    ],
)
def test_what_is_no_mapping_is_refused(mapping: object, text: str) -> None:
    with pytest.raises((TypeError, ValueError), match=text):
        natsery.map_errors(mapping)  # type: ignore[arg-type]
