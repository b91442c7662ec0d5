"""Calling services and finding them, through a real server: on every backend and transport."""

from __future__ import annotations

import math
from functools import partial

import anyio
import nats.aio.client
import pytest

import natsery
from natsery import EndReason, Message, ServiceClient
from natsery._client import _replies
from natsery.abc import Connection

from ..bounds import bounded
from ..calc_service import add, config
from ..server import NatsServer

pytestmark = pytest.mark.anyio


async def test_a_call_gives_the_reply_or_raises_the_error(nc: Connection) -> None:
    async def echo(request: natsery.Request) -> None:
        await request.respond(request.data, headers=request.headers)

    async def refuse(request: natsery.Request) -> bytes:
        raise natsery.ServiceError(409, "no, thank yöu", data=b"why", headers={"Retry": "no"})

    client = ServiceClient(nc)
    async with bounded(), natsery.serve(nc, config(echo, refuse)):
        reply = await client.request("echo", b"1", headers={"Name": "value"})
        assert (reply.data, reply.headers["name"]) == (b"1", "value")
        with pytest.raises(natsery.ServiceError) as caught:
            await client.request("refuse")
        assert (caught.value.code, caught.value.description, caught.value.data) == (409, r"no, thank y\xf6u", b"why")
        assert caught.value.headers["retry"] == "no"
        with pytest.raises(natsery.NoRespondersError, match="'nobody'"):
            await client.request("nobody")


async def test_errors_of_other_libraries_are_read(nc: Connection) -> None:
    headers = {
        "text": {"Nats-Service-Error": "oops", "Nats-Service-Error-Code": "oh"},
        "code": {"Nats-Service-Error-Code": "418"},
        "huge": {"Nats-Service-Error-Code": "9" * 30, "Nats-Service-Error": "many"},
    }

    async def answer(request: natsery.Request) -> None:
        await request.respond(headers=headers[request.data.decode()])

    client = ServiceClient(nc)
    async with bounded(), natsery.serve(nc, config(answer)):
        for data, error in {
            "text": "500:oh: oops",
            "code": "418:unknown error",
            "huge": f"500:{'9' * 30}: many",
        }.items():
            with pytest.raises(natsery.ServiceError) as caught:
                await client.request("answer", data.encode())
            assert str(caught.value) == error


async def test_services_are_found_by_name_and_id(nc: Connection) -> None:
    client = ServiceClient(nc)
    other = natsery.ServiceConfig("other", "2.0.0", metadata={"a": "ü"})
    async with bounded(), natsery.serve(nc, config(add)) as one, natsery.serve(nc, config(add)) as two:
        async with natsery.serve(nc, other) as three:
            found = await client.ping(count=3)
            assert {each.id for each in found} == {one.id, two.id, three.id}
            assert (found.ended, found.malformed) == (EndReason.COUNT, ())
            infos = await client.info("other", stall=0.05)
            assert list(infos) == [three.info()]
            assert infos.ended is EndReason.STALL
            assert (await client.request("add", b"1+2")).data == b"3"
            stats = await client.stats("calc", count=2)
            assert sum(each.endpoints[0].num_requests for each in stats) == 1
            async with client.discover("STATS", "calc", two.id) as replies:
                assert [each.id async for each in replies] == [two.id]
            assert replies.ended is EndReason.COUNT


async def test_a_service_that_is_not_there(nc: Connection) -> None:
    client = ServiceClient(nc, prefix="$OTHER")
    async with bounded(), natsery.serve(nc, config(add)):
        found = await client.ping()
        assert (list(found), found.ended) == ([], EndReason.NO_RESPONDERS)
        async with client.request_many("nobody") as replies:
            assert [each async for each in replies] == []
        assert replies.ended is EndReason.NO_RESPONDERS


async def test_many_replies_up_to_a_sentinel(nc: Connection) -> None:
    async def count(request: natsery.Request) -> None:
        for number in range(int(request.data)):
            await request.respond(b"%d" % number)
        await request.respond()
        await request.respond(b"too late")

    client = ServiceClient(nc)
    async with bounded(), natsery.serve(nc, config(count)):
        async with client.request_many("count", b"3", sentinel=b"") as replies:
            assert [each.data async for each in replies] == [b"0", b"1", b"2"]
        assert replies.ended is EndReason.SENTINEL
        async with client.request_many("count", b"3", sentinel=lambda message: message.data == b"2") as replies:
            assert [each.data async for each in replies] == [b"0", b"1"]


async def test_leaving_early_leaves_nothing_behind(nc: Connection, nats_server: NatsServer) -> None:
    async def flood(request: natsery.Request) -> None:
        for _ in range(100):
            await request.respond(b"x" * 100)

    def inboxes() -> list[str]:
        client_id = nc.client.client_id if hasattr(nc, "client") else nc.server_info.client_id  # type: ignore[attr-defined]
        return [each for each in nats_server.subscriptions(client_id) if each.startswith("_INBOX.")]

    client = ServiceClient(nc)
    async with bounded(), natsery.serve(nc, config(flood)):
        before = inboxes()
        async with client.request_many("flood") as replies:
            async for _ in replies:
                break
        with anyio.CancelScope() as scope:
            async with client.request_many("flood", wait=60) as replies:
                async for _ in replies:
                    scope.cancel()
        assert scope.cancelled_caught
        await nc.flush()
        assert inboxes() == before
        assert len(await client.ping(count=1)) == 1


async def test_what_may_not_be_asked_is_told_at_once(transport: str, nats_server: NatsServer) -> None:
    from ..conftest import open_connection

    permissions = 'permissions: { publish: ["fine"], subscribe: ["_INBOX.>"] }'
    with NatsServer(f"authorization {{ users: [{{ user: u, password: p, {permissions} }}] }}") as server:
        async with bounded(), open_connection(transport, server.url, user="u", password="p") as nc:
            client = ServiceClient(nc)
            for call in (client.ping, partial(client.request, "$SRV.PING"), partial(nc.request, "$SRV.PING")):
                with pytest.raises(natsery.PublishDeniedError, match=r"(?i)'\$SRV\.PING'"):
                    await call()


async def test_replies_that_may_not_be_heard_are_told_at_once(transport: str) -> None:
    from ..conftest import open_connection

    permissions = 'permissions: { publish: [">"], subscribe: ["fine"] }'
    with NatsServer(f"authorization {{ users: [{{ user: u, password: p, {permissions} }}] }}") as server:
        async with bounded(), open_connection(transport, server.url, user="u", password="p") as nc:
            client = ServiceClient(nc)
            for call in (client.ping, partial(client.request, "fine")):
                with pytest.raises(natsery.SubscriptionDeniedError, match="_INBOX"):
                    await call()


async def test_a_connection_that_closes_ends_a_collection(transport: str, nats_server: NatsServer) -> None:
    from ..conftest import open_connection

    async with (
        bounded(),
        open_connection(transport, nats_server.url) as nc,
        open_connection(transport, nats_server.url) as other,
    ):
        await other.add_subscription("silent", lambda message: None)
        await other.flush()
        async with ServiceClient(nc).request_many("silent", wait=60) as replies:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(nc.aclose)
                with pytest.raises(natsery.ConnectionClosedError):
                    await anext(replies)


async def test_misuse_is_told(nc: Connection) -> None:
    with pytest.raises(natsery.BackendMismatchError, match=r"async with natsery.adapt\(client\) as nc"):
        ServiceClient(nats.aio.client.Client())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^prefix: "):
        ServiceClient(nc, prefix="$SRV.>")
    client = ServiceClient(nc)
    with pytest.raises(ValueError, match=r"^verb: "):
        client.discover("PONG")  # type: ignore[call-overload]
    with pytest.raises(ValueError, match=r"^id: needs the service's name"):
        await client.stats(id="x")
    with pytest.raises(ValueError, match=r"^wait: "):
        await client.ping(wait=0)
    with pytest.raises(TypeError, match=r"^sentinel: "):
        async with client.request_many("a", sentinel="end"):  # type: ignore[arg-type]
            pass
    with pytest.raises(ValueError, match=r"^subject: "):
        async with client.request_many("a.*"):
            pass


async def test_errors_for_unreadable_replies_are_bounded(nc: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever answered an endless collection with nonsense filled the memory."""
    monkeypatch.setattr(_replies, "MAX_MALFORMED", 3)

    async def answer(message: Message) -> None:
        for _ in range(5):
            await nc.publish(message.reply, b"nonsense")

    async with bounded(), anyio.create_task_group() as tasks:
        await nc.add_subscription("$SRV.PING", lambda message: tasks.start_soon(answer, message))
        found = await ServiceClient(nc).ping(count=5, wait=math.inf, stall=None)
        assert (found.ended, len(found), len(found.malformed)) == (EndReason.COUNT, 0, 3)
