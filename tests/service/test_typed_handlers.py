"""Handlers of typed bodies."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest

import natsery
from natsery import FailureCause, ServiceError
from natsery.abc import Connection

from ..bounds import bounded
from ..calc_service import config

pytestmark = pytest.mark.anyio


@dataclass
class AddRequest:
    a: int
    b: int


@dataclass
class AddResponse:
    sum: int


@natsery.endpoint
async def add(body: AddRequest) -> AddResponse:
    return AddResponse(body.a + body.b)


@natsery.endpoint
async def add_more(request: natsery.Request, body: list[AddRequest]) -> list[AddResponse]:
    assert request.data.startswith(b"[")
    return [AddResponse(each.a + each.b) for each in body]


async def test_bodies_are_read_and_results_are_written(nc: Connection) -> None:
    async with bounded(), natsery.serve(nc, config(add, add_more)):
        assert json.loads((await nc.request("add", b'{"a": 1, "b": 2}')).data) == {"sum": 3}
        assert json.loads((await nc.request("add_more", b'[{"a": 1, "b": 2}]')).data) == [{"sum": 3}]


@pytest.mark.parametrize(
    ("body", "path"), [(b"", r"\$"), (b"{", r"\$"), (b'{"a": 1}', r"\$\.b"), (b'{"a": 1, "b": "x"}', r"\$\.b")]
)
async def test_a_body_that_does_not_fit_is_answered_400(nc: Connection, body: bytes, path: str) -> None:
    calls: list[AddRequest] = []

    @natsery.endpoint
    async def add(body: AddRequest) -> AddResponse:
        calls.append(body)
        return AddResponse(0)

    async with bounded(), natsery.serve(nc, config(add)) as service:
        client = natsery.ServiceClient(nc)
        with pytest.raises(ServiceError, match=rf"^400:Invalid Body: {path}: ") as caught:
            await client.request("add", body)
        stats = service.endpoints[0].stats()
        assert (stats.num_requests, stats.num_errors) == (1, 1)
        assert stats.last_error == str(caught.value)
        assert service.endpoints[0].stats().failures == {FailureCause.INVALID_BODY: 1}
    assert calls == []


async def test_a_body_that_does_not_fit_is_no_error_of_the_service(nc: Connection, caplog) -> None:
    """It is the requester's, as one that the handler finds is."""
    errors: list[Exception] = []

    async with bounded():
        async with natsery.serve(nc, config(add, error_handler=lambda error, endpoint, request: errors.append(error))):
            await nc.request("add", b"x")
    assert errors == []
    assert caplog.records == []


async def test_middlewares_can_catch_it(nc: Connection) -> None:
    async def middleware(request: natsery.Request, call_next) -> bytes | None:
        try:
            return await call_next(request)
        except natsery.InvalidBodyError as error:
            return error.path.encode()

    async with bounded(), natsery.serve(nc, config(add, middlewares=[middleware])):
        assert (await nc.request("add", b'{"a": 1}')).data == b"$.b"


async def test_what_cannot_be_written_is_500(nc: Connection, caplog) -> None:
    @natsery.endpoint
    async def odd(body: int) -> AddResponse:
        return object()  # type: ignore[return-value]

    async with bounded(), natsery.serve(nc, config(odd)):
        with pytest.raises(ServiceError, match="500:Internal Server Error"):
            await natsery.ServiceClient(nc).request("odd", b"1")
    assert "endpoint odd: the handler raised" in caplog.text


async def test_bytes_pass_as_they_are(nc: Connection) -> None:
    async def echo(body: bytes) -> bytes:
        return body

    async def size(body: bytes) -> AddResponse:
        return AddResponse(len(body))

    async def raw(body: AddRequest) -> AddResponse | bytes:
        return b"\x00"

    async with bounded(), natsery.serve(nc, config(echo, size, raw)):
        assert (await nc.request("echo", b"\xff")).data == b"\xff"
        assert json.loads((await nc.request("size", b"\xff")).data) == {"sum": 1}
        assert (await nc.request("raw", b'{"a": 1, "b": 2}')).data == b"\x00"


async def test_none_is_silence(nc: Connection) -> None:
    async def know(body: int) -> str | None:
        return "I know" if body == 1 else None

    async with bounded(), natsery.serve(nc, config(know)) as service:
        async with natsery.ServiceClient(nc).request_many("know", b"2", wait=0.2) as replies:
            assert [each async for each in replies] == []
        assert json.loads((await nc.request("know", b"1")).data) == "I know"
        assert service.endpoints[0].stats().num_errors == 0


async def test_a_result_may_come_from_respond_as_well(nc: Connection) -> None:
    async def both(request: natsery.Request, body: int) -> None:
        await request.respond_json(body + 1)

    async with bounded(), natsery.serve(nc, config(both)):
        assert (await nc.request("both", b"2")).data == b"3"


class Shop:
    @natsery.endpoint("of-the-shop", concurrency=2)
    async def sell(self, body: AddRequest) -> AddResponse:
        return AddResponse(body.a)


async def test_bound_methods(nc: Connection) -> None:
    async with bounded(), natsery.serve(nc, config(Shop().sell)):
        assert json.loads((await nc.request("of-the-shop", b'{"a": 1, "b": 2}')).data) == {"sum": 1}


async def test_endpoints_that_are_added_later(nc: Connection) -> None:
    async def odd(body: type) -> bytes:
        return b""

    async with bounded(), natsery.serve(nc, config()) as service:
        await service.add_endpoint(add)
        assert json.loads((await nc.request("add", b'{"a": 1, "b": 2}')).data) == {"sum": 3}
        with pytest.raises(natsery.ConfigError, match="type"):
            await service.add_endpoint(odd)


def test_types_that_cannot_be_written_are_refused_with_the_configuration() -> None:
    async def odd(body: type) -> bytes:
        return b""

    with pytest.raises(natsery.ConfigError, match=r"EndpointConfig\('odd'\)\.handler"):
        config(odd)


class Reversed(natsery.Codec):
    """A codec of texts."""

    content_type = "text/plain"

    def decoder(self, type_):
        assert type_ is str
        return lambda data: data.decode()[::-1]

    def encoder(self, type_):
        assert type_ in (str, Any)  # which a client says of what it is given
        return lambda value: value[::-1].encode()

    def schema(self, type_):
        return {}


async def test_another_codec(nc: Connection) -> None:
    async def echo(body: str) -> str:
        assert body == "cba"
        return body + "d"

    for endpoint, options in (
        (natsery.EndpointConfig("echo", echo, codec=Reversed()), {}),
        (echo, {"codec": Reversed()}),
    ):
        async with bounded(), natsery.serve(nc, config(endpoint, **options)):
            assert (await nc.request("echo", b"abc")).data == b"dabc"
            client = natsery.ServiceClient(nc, codec=Reversed())
            assert await client.request("echo", "cba", returns=str) == "cbad"
            assert await client.call("calc", "echo", "cba", returns=str) == "cbad"
    with pytest.raises(natsery.ConfigError, match="codec"):
        config(codec=Reversed)
    with pytest.raises(TypeError, match="codec"):
        natsery.ServiceClient(nc, codec="json")  # type: ignore[arg-type]
