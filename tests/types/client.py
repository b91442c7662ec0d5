"""What type checkers say of the client; checked by mypy and pyright, never run."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from typing import Any, assert_type

import natsery
from natsery import EndReason, Replies, ReplyStream, ServiceClient, ServiceInfo, ServicePing, ServiceStats, Verb


async def lists(client: ServiceClient) -> None:
    assert_type(await client.ping(), Replies[ServicePing])
    assert_type(await client.info("calc"), Replies[ServiceInfo])
    stats = await client.stats("calc", "id", wait=1, stall=None, count=1)
    assert_type(stats, Replies[ServiceStats])
    assert_type(stats[0], ServiceStats)
    assert_type(stats.ended, EndReason)
    schema = await client.schema("calc", "id", endpoint="add")
    assert_type(schema, natsery.ServiceSchema)
    assert_type(schema.endpoints, tuple[natsery.EndpointSchema, ...])


async def streams(client: ServiceClient) -> None:
    async with client.discover("PING") as pings:
        assert_type(pings, ReplyStream[ServicePing])
        async for ping in pings:
            assert_type(ping, ServicePing)
    async with client.discover(Verb.INFO, "calc") as infos:
        assert_type(infos, ReplyStream[ServiceInfo])
    async with client.discover("STATS", "calc", "id") as stats:
        assert_type(stats, ReplyStream[ServiceStats])
        assert_type(stats.ended, EndReason | None)
    async with client.request_many("subject", sentinel=b"") as replies:
        assert_type(replies, ReplyStream[natsery.Message])


@dataclass
class AddRequest:
    a: int
    b: int


@dataclass
class AddResponse:
    sum: int


@natsery.endpoint
async def plain(request: natsery.Request) -> bytes:
    return b""


@natsery.endpoint
async def silent(request: natsery.Request) -> AddResponse | None:
    return None


@natsery.endpoint
async def add(request: natsery.Request[str], body: AddRequest) -> AddResponse:
    assert_type(request.state, str)
    return AddResponse(body.a + body.b)


@natsery.endpoint(timeout=1)
async def of_the_body(body: AddRequest) -> AddResponse | None:
    return None


@natsery.endpoint(in_thread=True, concurrency=4)
def blocking(body: AddRequest) -> AddResponse:
    return AddResponse(0)


@natsery.endpoint(in_thread=False)
async def parts(body: AddRequest) -> AsyncIterator[AddResponse]:
    yield AddResponse(0)


class Handlers:
    @natsery.endpoint
    async def add(self, request: natsery.Request, body: AddRequest) -> AddResponse:
        assert_type(request.state, Any)
        return AddResponse(0)


async def handlers_stay_what_they_are(request: natsery.Request[str]) -> None:
    assert_type(await add(request, AddRequest(1, 2)), AddResponse)
    assert_type(blocking(AddRequest(1, 2)), AddResponse)


async def calls(client: ServiceClient, config: natsery.ServiceConfig) -> None:
    assert_type(await client.request("add"), natsery.Message)
    assert_type(await client.request("add", b"", headers={"a": "b"}), natsery.Message)
    assert_type(await client.request("add", AddRequest(1, 2), returns=AddResponse), AddResponse)
    assert_type(await client.request("add", {"a": 1}, returns=list[int]), list[int])
    assert_type(await client.call("calc", "add"), natsery.Message)
    assert_type(await client.call("calc", "add", b""), natsery.Message)
    assert_type(await client.call("calc", "add", AddRequest(1, 2), returns=AddResponse), AddResponse)
    assert_type(await client.call("calc", "list", returns=list[int]), list[int])
    assert_type(await client.call(plain), bytes)
    assert_type(await client.call(plain, b""), bytes)
    assert_type(await client.call(silent), AddResponse)
    assert_type(await client.call(add, AddRequest(1, 2)), AddResponse)
    assert_type(await client.call(of_the_body, AddRequest(1, 2)), AddResponse)
    assert_type(await client.call(add, AddRequest(1, 2), service="calc"), AddResponse)
    assert_type(await client.call(add, AddRequest(1, 2), service=config, headers={"a": "b"}), AddResponse)
    assert_type(await client.call(Handlers().add, AddRequest(1, 2)), AddResponse)
    assert_type(await client.find_endpoint("calc", "add"), natsery.EndpointInfo)


@natsery.endpoint
async def lines(request: natsery.Request) -> AsyncIterator[bytes]:
    yield b""


@natsery.endpoint
async def sums(request: natsery.Request[str], body: AddRequest) -> AsyncGenerator[int, None]:
    yield 0


async def streamed_replies(client: ServiceClient, config: natsery.ServiceConfig) -> None:
    async with client.stream("parts", b"", window=4, wait=1) as messages:
        assert_type(messages, ReplyStream[natsery.Message])
    async with client.stream("parts", AddRequest(1, 2), returns=AddResponse) as responses:
        assert_type(responses, ReplyStream[AddResponse])
        async for response in responses:
            assert_type(response, AddResponse)
    async with client.stream(lines) as payloads:
        assert_type(payloads, ReplyStream[bytes])
    async with client.stream(parts, AddRequest(1, 2), service=config) as responses:
        assert_type(responses, ReplyStream[AddResponse])
    async with client.stream(sums, AddRequest(1, 2)) as totals:
        assert_type(await totals.receive(), int)


async def errors(client: ServiceClient) -> None:
    try:
        await client.request("add")
    except natsery.ServiceError as error:
        assert_type(error.headers, natsery.Headers)
        assert_type(error.headers["Reason"], str)


async def wrong_calls(client: ServiceClient) -> None:
    await client.request("add", AddRequest(1, 2))  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    await client.call(add, 3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]
    await client.call("calc", "add", AddRequest(1, 2))  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]


async def requests(client: ServiceClient, nc: natsery.NativeConnection, any_nc: natsery.abc.Connection) -> None:
    assert_type(await client.request("subject", b"", headers={}), natsery.Message)
    assert_type(await nc.request("subject", b"", headers={}), natsery.Message)
    # Options that are explained when they are given are still none.
    await client.request("subject", timeout=1)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    await nc.request("subject", timeout=1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await any_nc.request("subject", timeout=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
