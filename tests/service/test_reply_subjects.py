"""Which replies are never sent, because of where they would go."""

from __future__ import annotations

import pytest

import natsery
from natsery.abc import Connection

from ..bounds import bounded
from ..calc_service import add, config

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    "reply", ["$SRV.PING", "$SYS.x", "$JS.x", "$KV.a.b", "$O.a.M.b", "$MQTT.x", "a.*", "a.>", "a..b", ".a", "a."]
)
async def test_replies_that_aim_are_not_answered(nc: Connection, reply: str) -> None:
    called = False
    heard: list[tuple[type[Exception], str | None]] = []
    seen: list[str] = []

    async def touch(request: natsery.Request) -> None:
        nonlocal called
        called = True

    def hear(error: Exception, endpoint: natsery.Endpoint | None, request: natsery.Request | None) -> None:
        heard.append((type(error), endpoint and endpoint.name))

    async with bounded(), natsery.serve(nc, config(touch, add, error_handler=hear)) as service:
        await nc.add_subscription(">", lambda message: seen.append(message.subject))
        await nc._send("touch", reply=reply)
        await nc._send("$SRV.PING", reply=reply)
        await nc.request("add", b"1+1")
    assert not called
    assert [subject for subject in seen if not subject.startswith("_INBOX.")] == ["touch", "$SRV.PING", "add"]
    assert heard == [(natsery.MalformedRequestError, "touch"), (natsery.MalformedRequestError, None)]
    stats = service.stats().endpoints[0]
    assert (stats.num_requests, stats.malformed) == (0, 1)


async def test_nor_are_those_that_aim_at_control_subjects_of_its_own_prefix(nc: Connection) -> None:
    async with bounded(), natsery.serve(nc, config(add, prefix="mine")) as service:
        await nc._send("add", b"1+1", reply="mine.PING")
        await nc._send("add", b"1+1", reply="minerva")
        await nc.request("add", b"1+1")
    stats = service.stats().endpoints[0]
    assert (stats.num_requests, stats.malformed) == (2, 1)


async def test_nor_after_a_cut_off(nc: Connection) -> None:
    """What came after a cut-off was answered with 503, wherever its reply subject aimed."""
    seen: list[str] = []
    async with bounded():
        await nc.add_subscription(">", lambda message: seen.append(message.subject))
        async with natsery.serve(nc, config(add)) as service:
            endpoint = service.endpoints[0]
            endpoint._queue.cut_off()
            await nc._send("add", b"1+1", reply="$SRV.PING.x")
            await nc._send("add", b"1+1", reply="answers")
            await nc.flush()
        await nc.flush()
    assert [subject for subject in seen if subject != "add"] == ["answers"]
    assert (endpoint.stats().malformed, endpoint.stats().failures) == (1, {"stopping": 1})


async def test_servers_are_answered_in_their_inboxes(nc: Connection) -> None:
    """A server waits there for its auth callout, and was never answered."""
    answers: list[bytes] = []
    asked = natsery.EndpointConfig("authorize", add, subject="$SYS.REQ.USER.AUTH")
    async with bounded(), natsery.serve(nc, config(asked)) as service:
        await nc.add_subscription("$SYS._INBOX.server.1", lambda message: answers.append(message.data))
        await nc._send("$SYS.REQ.USER.AUTH", b"1+1", reply="$SYS._INBOX.server.1")
        await nc.request("$SYS.REQ.USER.AUTH", b"1+1")
    assert answers == [b"2"]
    assert service.stats().endpoints[0].malformed == 0


async def test_declared_prefixes_are_answered_by_their_endpoint_alone(nc: Connection) -> None:
    seen: list[str] = []

    @natsery.endpoint(reply_prefixes=["$JS.ACK", "$KV.sums"])
    async def store(request: natsery.Request) -> bytes:
        return b"+ACK"

    async with bounded(), natsery.serve(nc, config(store, add)) as service:
        await nc.add_subscription("$JS.>", lambda message: seen.append(message.subject))
        await nc.add_subscription("$KV.>", lambda message: seen.append(message.subject))
        for subject in ("store", "add"):
            for reply in ("$JS.ACK.orders.1", "$KV.sums.two", "$KV.users.admin", "$JS.ACK", "$JS.ACKS.x", "$JS.ACK.*"):
                await nc._send(subject, b"1+1", reply=reply)
            await nc.request(subject, b"1+1")
    assert seen == ["$JS.ACK.orders.1", "$KV.sums.two"]
    assert [each.malformed for each in service.stats().endpoints] == [4, 6]
