"""What a handler does with its request: the exact replies, and what is counted of those that could not be sent."""

from __future__ import annotations

import math

import anyio
import pytest

import natsery
from natsery._core._limits import HOLD_NS
from natsery._protocol._messages import read_message
from natsery.abc import Connection
from natsery.testing import MemoryBroker, make_request

from ..bounds import bounded
from ..calc_service import config
from .full_buffer import fill

pytestmark = pytest.mark.anyio


async def test_a_reply_has_the_payload_and_headers_given_and_no_others() -> None:
    request, answers = make_request(reply="replies")
    await request.respond()
    await request.respond(b"1", headers={"A": "b"})
    await request.respond_json({"a": [1, "\u00e9"]}, headers={"A": "b"})
    await request.respond_error(404, "none")
    await request.respond_error("409", "taken", b"2", headers={"A": "b"})
    assert [(each.subject, each.reply) for each in answers] == [("replies", "")] * 5
    error = {"Nats-Service-Error": "none", "Nats-Service-Error-Code": "404"}
    taken = {"Nats-Service-Error": "taken", "Nats-Service-Error-Code": "409", "A": "b"}
    assert [(each.data, dict(each.headers)) for each in answers] == [
        (b"", {}),
        (b"1", {"A": "b"}),
        ('{"a":[1,"\u00e9"]}'.encode(), {"A": "b"}),
        (b"", error),
        (b"2", taken),
    ]


async def test_what_is_no_json_is_not_sent() -> None:
    request, answers = make_request()
    for value in (math.nan, math.inf, object()):
        with pytest.raises((TypeError, ValueError)):
            await request.respond_json(value)
    assert answers == []


async def test_one_that_came_without_headers_has_none_and_no_status() -> None:
    message = read_message((b"1", b"add", b"replies", b"", b"1+2"), natsery.Request)
    assert (message.subject, message.reply, message.data) == ("add", "replies", b"1+2")
    assert (dict(message.headers), message.status) == ({}, 0)


@pytest.mark.parametrize(
    ("reply", "size", "last_error"),
    [
        ("replies", 2_000_000, "500:Maximum Payload Exceeded"),
        ("", 1, "500:No Reply Subject"),
        ("replies", 1, f"500:{natsery.OutboundBufferError()}"),
    ],
    ids=["too large", "for nobody", "not taken"],
)
async def test_a_reply_that_could_not_be_sent_is_a_failure_also_if_the_handler_goes_on(
    broker: MemoryBroker, nc: Connection, reply: str, size: int, last_error: str
) -> None:
    let_go = anyio.Event()

    async def ignores(request: natsery.Request) -> None:
        await let_go.wait()
        with pytest.raises(natsery.NatseryError):
            await request.respond(b"x" * size)

    async with bounded(), broker.connect() as server, natsery.serve(server, config(ignores)) as service:
        await nc.publish("ignores", reply=reply)
        await nc.flush()
        broker.disconnect(server)
        await fill(server)
        let_go.set()
        await anyio.wait_all_tasks_blocked()
        (stats,) = service.stats().endpoints
    assert (stats.num_requests, stats.failures, stats.last_error) == (1, {"undeliverable": 1}, last_error)


async def test_replies_leave_together_until_the_first_has_waited_for_long(
    nc: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each alone would cost a system call; a handler may compute before it sends the next."""
    now = 1
    pushed: list[int] = []

    async def in_parts(request: natsery.Request) -> None:
        nonlocal now
        for moment in (1, 1 + HOLD_NS, 2 + HOLD_NS, 2 + 2 * HOLD_NS, 3 + 2 * HOLD_NS):
            now = moment
            await request.respond(b"part")
        pushed.append(0)  # what follows is the end of the request

    served = config(in_parts, clock=natsery.Clock(monotonic_ns=lambda: now))
    async with bounded(), natsery.serve(nc, served), nc.subscribe("replies") as replies:
        monkeypatch.setattr(nc, "_push_answers", lambda: pushed.append(now))
        await nc.publish("in_parts", reply="replies")
        for _ in range(5):
            assert (await replies.receive()).data == b"part"
    assert pushed[:3] == [2 + HOLD_NS, 3 + 2 * HOLD_NS, 0]
