"""Calls by name, and by the functions that answer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, make_dataclass
from functools import partial
from typing import Annotated, Any

import anyio
import pytest

import natsery
from natsery import EndpointConfig, ServiceClient, ServiceError, group
from natsery._client import _directory
from natsery._client._bodies import MAX_KEPT, Bodies
from natsery.abc import Connection
from natsery.testing import MemoryBroker

from ..bounds import HANG_SECONDS, bounded
from ..calc_service import config
from ..virtual_time import in_virtual_time

pytestmark = pytest.mark.anyio


@dataclass
class AddRequest:
    a: int
    b: int


@dataclass
class AddResponse:
    sum: int


@natsery.endpoint
async def add(request: natsery.Request, body: AddRequest) -> AddResponse:
    return AddResponse(body.a + body.b)


@natsery.endpoint("renamed", subject="of.its.own")
async def renamed(body: int) -> int | None:
    return body + 1


@natsery.endpoint
async def plain(request: natsery.Request) -> bytes:
    return request.data + b"!"


@natsery.endpoint(in_thread=True)
def blocking(body: int) -> int:
    return body + 2


@natsery.endpoint(subject="orders.*")
async def orders(request: natsery.Request) -> bytes:
    return b""


async def test_by_the_function(nc: Connection) -> None:
    client = ServiceClient(nc)
    async with bounded(), natsery.serve(nc, config(add, renamed, plain, blocking)):
        assert await client.call(add, AddRequest(1, 2)) == AddResponse(3)
        assert await client.call(renamed, 3) == 4
        assert await client.call(plain) == b"!"
        assert await client.call(plain, b"x", headers={"a": "b"}) == b"x!"
        assert await client.call(blocking, 3) == 5  # type: ignore[call-overload]
        with pytest.raises(ServiceError, match=r"400:Invalid Body: \$"):
            await client.call(add, {"a": 1})  # type: ignore[arg-type]


async def test_by_the_function_in_groups(nc: Connection) -> None:
    client, served = ServiceClient(nc), config(group("math", [add, group("more", [renamed])]))
    async with bounded(), natsery.serve(nc, served):
        assert await client.call(add, AddRequest(1, 2), service=served) == AddResponse(3)
        assert await client.call(add, AddRequest(1, 2), service="calc") == AddResponse(3)
        assert await client.call(renamed, 3, service=served) == 4
        assert await client.call(renamed, 3, service="calc") == 4
        with pytest.raises(natsery.ConfigError, match="must have the endpoint 'plain' once; it is there 0 times"):
            await client.call(plain, service=served)
        with pytest.raises(natsery.NoRespondersError, match="'add'") as caught:
            await client.call(add, AddRequest(1, 2))
        (note,) = caught.value.__notes__
        assert (
            note == "that is the endpoint's own subject; if groups are around it, write service=..., the ServiceConfig"
        )
    with pytest.raises(natsery.NoRespondersError, match=r"'math\.more\.") as caught:
        await client.call(renamed, 3, service=served)
    assert not hasattr(caught.value, "__notes__")


@pytest.mark.parametrize(
    ("args", "options", "hint"),
    [
        (("calc",), {}, r"call\('calc'\): write the endpoint's name after the service's"),
        (("calc", "add", 1, 2), {"returns": int}, r"call\('calc', 'add'\) takes one body, not 2"),
        (("calc", "add", {"a": 1}), {}, r"body: must be bytes, not dict; write returns=\.\.\., the type of the reply"),
        ((add, AddRequest(1, 2), 3), {}, r"call\(add\) takes one body, not 2"),
        ((add, AddRequest(1, 2)), {"returns": int}, "returns: must be left out"),
        (
            (add, AddRequest(1, 2)),
            {"service": 7},
            "service: must be a service's name, or its natsery.ServiceConfig; got 7",
        ),
        (("calc", "add"), {"service": "calc"}, "service: must be left out"),
        (("calc", "add"), {"timeout": 2}, r"call\(\) has no option 'timeout': .*'with anyio.fail_after\(2\):'"),
    ],
)
async def test_calls_that_are_no_calls_say_what_to_write(nc: Connection, args, options, hint: str) -> None:
    async with bounded(), natsery.serve(nc, config(add)):
        with pytest.raises(TypeError, match=hint):
            await ServiceClient(nc).call(*args, **options)


async def test_a_request_of_a_type_needs_the_type_of_its_reply(nc: Connection) -> None:
    with pytest.raises(TypeError, match=r"^data: must be bytes, not AddRequest; write returns=\.\.\."):
        await ServiceClient(nc).request("add", AddRequest(1, 2))  # type: ignore[call-overload]
    with pytest.raises(TypeError, match=r"not str; write text.encode\(\), or returns=\.\.\."):
        await ServiceClient(nc).request("add", "1+2")  # type: ignore[call-overload]


@natsery.endpoint
async def parts(request: natsery.Request) -> AsyncIterator[int]:
    yield 1


@pytest.mark.parametrize(
    ("args", "options", "hint"),
    [
        ((parts,), {"service": "calc"}, "service: must be a natsery.ServiceConfig; got 'calc'"),
        (("parts", {"a": 1}), {}, "body: must be bytes, not dict; write returns="),
        (("parts",), {"service": "calc"}, "service: must be left out where the subject is given"),
        ((parts,), {"returns": int}, "returns: must be left out of a stream by function"),
        ((plain,), {}, r"handler: 'plain' returns one reply; write client\.call\(\.\.\.\)"),
    ],
)
async def test_streams_that_are_none_say_what_to_write(nc: Connection, args, options, hint: str) -> None:
    with pytest.raises(TypeError, match=hint):
        ServiceClient(nc).stream(*args, **options)


async def test_a_group_is_no_endpoint_to_call(nc: Connection) -> None:
    for call in (ServiceClient(nc).call, ServiceClient(nc).stream):
        with pytest.raises(natsery.ConfigError, match=r"^handler: must be one endpoint, not a group; got "):
            result = call(group("math", [plain]))  # type: ignore[call-overload]
            await result


@pytest.mark.parametrize("error", [ValueError("broken"), SystemExit(3)], ids=["error", "exit"])
async def test_an_instrument_that_raises_is_told_nothing_more(
    nc: Connection, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    """Its errors are none of the caller's, unless they are meant to end the program."""

    class Broken(natsery.Instrument):
        def call_started(self, call: natsery.Call) -> None:
            started.append(call.name)
            raise error

    started: list[str] = []
    client = ServiceClient(nc, instruments=[Broken()])
    async with bounded(), natsery.serve(nc, config(plain)):
        if isinstance(error, SystemExit):
            with pytest.raises(SystemExit) as caught:
                await client.call(plain)
            assert caught.value is error
        else:
            assert [await client.call(plain) for _ in range(2)] == [b"!", b"!"]
            assert "the instrument Broken, which is told nothing more, raised" in caplog.text
    assert started == ["plain"]


async def test_a_stream_in_a_group_needs_its_service(nc: Connection) -> None:
    client, served = ServiceClient(nc), config(group("math", [parts]))
    async with bounded(), natsery.serve(nc, served):
        async with client.stream(parts, service=served) as numbers:
            assert [each async for each in numbers] == [1]
        with pytest.raises(natsery.NoRespondersError, match="'parts'") as caught:
            async with client.stream(parts) as numbers:
                await anext(numbers)
        (note,) = caught.value.__notes__
        assert note.endswith("if groups are around it, write service=..., the ServiceConfig")


async def test_the_endpoints_of_all_versions_are_listed_once(nc: Connection) -> None:
    old = [natsery.EndpointConfig(f"e{number:02}", plain) for number in range(15)]
    new = natsery.EndpointConfig("new", plain)
    async with bounded(), natsery.serve(nc, config(*old)), natsery.serve(nc, config(*old, new)):
        with pytest.raises(natsery.UnknownEndpointError) as caught:
            await ServiceClient(nc).call("calc", "div")
    assert [f"'{each.name}'" for each in (*old, new)] == str(caught.value).partition("it has ")[2].split(", ")


async def test_by_name(nc: Connection) -> None:
    client = ServiceClient(nc)
    async with bounded(), natsery.serve(nc, config(group("math", [add, plain]), orders)):
        assert (await client.call("calc", "plain", b"1")).data == b"1!"
        assert (await client.call("calc", "math.plain")).data == b"!"
        assert await client.call("calc", "add", {"a": 1, "b": 2}, returns=AddResponse) == AddResponse(3)
        assert (await client.find_endpoint("calc", "add")).subject == "math.add"
        with pytest.raises(
            natsery.UnknownEndpointError, match="'div': there is none of that name; it has 'add', 'plain'"
        ):
            await client.call("calc", "div")
        with pytest.raises(natsery.UnknownEndpointError, match=r"one that 'orders\.\*' stands for"):
            await client.call("calc", "orders")
        with pytest.raises(natsery.NoRespondersError, match=r"\$SRV\.INFO\.nothing"):
            await client.call("nothing", "add")
        with pytest.raises(ValueError, match="service"):
            await client.call("a b", "add")
        with pytest.raises(TypeError, match="bytes"):
            await client.call("calc", "add", AddRequest(1, 2))  # type: ignore[call-overload]


async def test_a_name_that_several_endpoints_have(nc: Connection) -> None:
    client = ServiceClient(nc)
    async with bounded(), natsery.serve(nc, config(group("a", [plain]), group("b", [EndpointConfig("plain", orders)]))):
        with pytest.raises(
            natsery.UnknownEndpointError, match=r"several .* write one of the subjects 'a\.plain', 'b\.plain'"
        ):
            await client.call("calc", "plain")
        assert (await client.call("calc", "a.plain")).data == b"!"


async def test_a_call_that_is_sent_again_has_its_headers_again(nc: Connection) -> None:
    """They may be given as an iterator, which the first attempt has used up."""

    @natsery.endpoint
    async def echo(request: natsery.Request) -> bytes:
        return request.headers.get("a", "").encode()

    client = ServiceClient(nc)
    for place in ("old", "new"):
        async with bounded(), natsery.serve(nc, config(group(place, [echo]))):
            assert (await client.call("calc", "echo", headers=iter([("A", "b")]))).data == b"b"


async def test_the_subject_is_asked_once_and_again_when_nobody_responds(nc: Connection) -> None:
    client = ServiceClient(nc)
    async with bounded(), nc.subscribe("$SRV.INFO.calc") as questions:
        async with natsery.serve(nc, config(group("old", [plain]))):
            async with anyio.create_task_group() as tasks:
                for _ in range(5):
                    tasks.start_soon(client.call, "calc", "plain")
            assert (await client.call("calc", "plain")).data == b"!"
        async with natsery.serve(nc, config(group("new", [plain]))), anyio.create_task_group() as tasks:
            for _ in range(5):  # each finds that the subject that is known has nobody, and one of them asks
                tasks.start_soon(client.call, "calc", "plain")
        await nc.flush()
        assert len(questions._pending) == 2
    with pytest.raises(natsery.NoRespondersError):
        await client.call("calc", "plain")


async def test_the_subjects_that_are_kept_have_a_bound(nc: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that calls endpoints by names that it is given keeps no more of them than that."""
    monkeypatch.setattr(_directory, "MAX_KEPT", 2)
    client, asked = ServiceClient(nc), []
    async with (
        bounded(),
        natsery.serve(nc, config(plain, blocking, renamed)),
        nc.subscribe("$SRV.INFO.calc") as questions,
    ):
        for name in ("plain", "blocking", "plain", "renamed", "blocking", "plain"):
            await client.call("calc", name, b"1")
            await nc.flush()
            asked.append(len(questions._pending))
    assert asked == [1, 2, 2, 3, 3, 4]


@asynccontextmanager
async def claiming(nc: Connection, subjects: dict[str, str]) -> AsyncIterator[list[str]]:
    """Answer INFO as a service with these endpoints, and give the subjects of all other requests."""
    endpoints = tuple(natsery.EndpointInfo(name=name, subject=subject) for name, subject in subjects.items())
    info = natsery.ServiceInfo(name="calc", id="x", version="1.0.0", endpoints=endpoints)
    seen: list[str] = []

    async def answer() -> None:
        async for question in questions:
            await nc.publish(question.reply, info.to_json())

    def note(message: natsery.Message) -> None:
        if not message.subject.startswith(("$SRV.INFO.", "_INBOX.")):
            seen.append(message.subject)

    async with nc.subscribe("$SRV.INFO.calc") as questions, anyio.create_task_group() as tasks:
        everything = await nc.add_subscription(">", note)
        tasks.start_soon(answer)
        yield seen
        await everything.unsubscribe()
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("subject", "reason"),
    [
        ("$JS.API.STREAM.DELETE.orders", "one of servers or of the control plane"),
        ("$SYS.REQ.SERVER.PING", "one of servers or of the control plane"),
        ("$SRV.PING", "one of servers or of the control plane"),
        ("$KV.bucket.key", "one of servers or of the control plane"),
        ("a\r\nPUB x 0", "must not contain white space or control characters"),
        ("a..b", "must not contain an empty token"),
        ("orders.>", r"send the request to one that 'orders\.>' stands for"),
        ("a" * 5000, "must not be longer than"),
    ],
)
async def test_no_call_goes_where_a_peer_must_not_send_it(nc: Connection, subject: str, reason: str) -> None:
    async with bounded(), claiming(nc, {"add": subject}) as seen:
        with pytest.raises(natsery.UnknownEndpointError, match=reason):
            await ServiceClient(nc).call("calc", "add", b"x")
        await nc.flush()
        assert seen == []


def test_a_call_that_no_instance_hears_says_so() -> None:
    """The error said that there was no subscription, where instances were too slow to say where the call should go."""

    async def main() -> None:
        async with MemoryBroker() as broker, broker.connect() as nc, nc.subscribe("$SRV.INFO.calc"):
            client = ServiceClient(nc)
            for call in (client.call("calc", "add", b"1+2"), client.schema("calc")):
                with pytest.raises(natsery.NoRespondersError) as caught:
                    await call
                assert caught.value.wait == 2
                assert str(caught.value) == "no responders: nobody has answered on '$SRV.INFO.calc' within 2 s"

    assert in_virtual_time(main) == 4


async def test_those_who_ask_at_the_same_time_share_a_failure(nc: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    client = ServiceClient(nc)
    monkeypatch.setattr(client, "discover", partial(client.discover, wait=HANG_SECONDS))  # for a busy machine
    errors: list[Exception] = []

    async def call() -> None:
        try:
            await client.call("calc", "nothing")
        except natsery.UnknownEndpointError as error:
            errors.append(error)

    async with bounded(), natsery.serve(nc, config(plain)), nc.subscribe("$SRV.INFO.calc") as questions:
        async with anyio.create_task_group() as tasks:
            for _ in range(20):
                tasks.start_soon(call)
        await nc.flush()
        assert len(questions._pending) == 1
        assert len(set(map(id, errors))) == 20
        assert len(set(map(str, errors))) == 1
        await call()
        await nc.flush()
        assert len(questions._pending) == 2


async def test_what_asks_may_be_cancelled_while_others_wait(nc: Connection) -> None:
    client = ServiceClient(nc)
    async with bounded(), claiming(nc, {"add": "calc.add"}), anyio.create_task_group() as tasks:
        with anyio.CancelScope() as scope:
            tasks.start_soon(client._directory._ask_once, ("calc", "add"))
            scope.cancel()
            await client._directory._ask_once(("calc", "add"))
        assert scope.cancelled_caught
        assert await client._directory._ask_once(("calc", "add")) == "calc.add"


async def test_bytes_are_sent_as_they_are(nc: Connection) -> None:
    @natsery.endpoint
    async def same(body: bytes) -> bytes:
        return body

    client = ServiceClient(nc)
    async with bounded(), natsery.serve(nc, config(same)):
        assert await client.call(same, bytearray(b"x")) == b"x"  # type: ignore[call-overload]
        assert await client.call(same, memoryview(b"x")) == b"x"  # type: ignore[call-overload]
        with pytest.raises(TypeError, match=r"must be bytes, not str; write text\.encode\(\)"):
            await client.call(same, "x")  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("args", "hint"),
    [
        (("calc", AddRequest(1, 2)), "endpoint: must be a str; got AddRequest"),
        (("calc", 5), "endpoint: must be a str; got 5"),
        ((AddRequest(1, 2),), "target: must be a name as a str, or the async function of an endpoint"),
        ((None,), "target: must be a name as a str"),
    ],
)
async def test_what_is_no_endpoint_is_told(nc: Connection, args, hint: str) -> None:
    with pytest.raises((TypeError, natsery.ConfigError), match=hint):
        await ServiceClient(nc).call(*args)


async def test_a_name_that_is_none_is_told(nc: Connection) -> None:
    client = ServiceClient(nc)
    with pytest.raises(TypeError, match="endpoint: must be a str; got 5"):
        await client.find_endpoint("calc", 5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="endpoint: must be a str; got 5"):
        await client.schema("calc", endpoint=5)  # type: ignore[arg-type]


async def test_a_type_that_cannot_be_read_is_told_before_anything_is_sent(nc: Connection) -> None:
    client = ServiceClient(nc)
    async with bounded(), nc.subscribe("plain") as requests:
        for returns in (object(), bytearray, 5):
            with pytest.raises(TypeError, match="cannot be read from JSON"):
                await client.request("plain", returns=returns)  # type: ignore[call-overload]
            with pytest.raises(TypeError, match="cannot be read from JSON"):
                client.stream("plain", returns=returns)  # type: ignore[call-overload]
        await nc.flush()
        assert len(requests._pending) == 0


async def test_a_type_of_a_reply_needs_no_hash(nc: Connection) -> None:
    async def one(request: natsery.Request) -> int:
        return 1

    async with bounded(), natsery.serve(nc, config(one)):
        assert await ServiceClient(nc).request("one", returns=Annotated[int, []]) == 1  # type: ignore[call-overload]


def test_what_is_kept_for_types_is_bounded() -> None:
    bodies, kept = Bodies(natsery.JSONCodec()), []
    for number in range(MAX_KEPT + 10):
        kept.append(make_dataclass(f"Body{number}", [("a", int)]))
        assert bodies.reader(kept[-1])(natsery.Message("x", b'{"a": 1}')) == kept[-1](1)
        assert bodies.write(kept[-1](1), kept[-1]) == b'{"a":1}'
    assert len(bodies._readers) == len(bodies._encoders) == MAX_KEPT
    assert kept[-1] in bodies._readers


@dataclass  # so that it has no hash
class CountingCodec(natsery.Codec):
    made: list[object]

    content_type = "application/json"

    def decoder(self, type_: Any) -> Callable[[bytes], Any]:
        self.made.append(type_)
        return natsery.JSONCodec().decoder(type_)

    def encoder(self, type_: Any) -> Callable[[Any], bytes]:
        self.made.append(type_)
        return natsery.JSONCodec().encoder(type_)

    def schema(self, type_: Any) -> dict[str, Any]:
        return natsery.JSONCodec().schema(type_)


async def test_the_codec_of_an_endpoint_is_asked_once_for_each_type(nc: Connection) -> None:
    """Each call by function had the endpoint's own codec make its reader and writer again."""
    codec = CountingCodec([])

    @natsery.endpoint(codec=codec)
    async def length(body: str) -> int:
        return len(body)

    async with bounded(), natsery.serve(nc, config(length)):
        client = ServiceClient(nc)
        codec.made.clear()  # what the service asked for
        for _ in range(3):
            assert await client.call(length, "tea") == 3
    assert codec.made == [str, int]


async def test_what_does_not_fit_is_told(nc: Connection) -> None:
    async def text(request: natsery.Request) -> str:
        return "x"

    async with bounded(), natsery.serve(nc, config(text)):
        with pytest.raises(natsery.MalformedReplyError, match=r"the reply does not fit int: \$: "):
            await ServiceClient(nc).request("text", returns=int)


async def test_streams_are_read_with_stream(nc: Connection) -> None:
    @natsery.endpoint
    async def parts(body: int):
        yield body

    with pytest.raises(TypeError, match=r"'parts' is an async generator function; write client\.stream"):
        await ServiceClient(nc).call(parts, 1)  # type: ignore[call-overload]
