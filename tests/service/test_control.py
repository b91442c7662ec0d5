"""Control requests that cannot be answered, or not as they should be: each is reported, and the service goes on."""

from __future__ import annotations

import json

import anyio
import pytest

import natsery
from natsery._service import _control
from natsery.abc import Connection
from natsery.testing import MemoryBroker

from ..bounds import bounded
from ..calc_service import add, config, error_of
from .full_buffer import go_on_without_room

pytestmark = pytest.mark.anyio


class Heard(list[str]):
    """An error handler that notes what it is told."""

    def __call__(self, error: Exception, endpoint: natsery.Endpoint | None, request: natsery.Request | None) -> None:
        self.append(f"{type(error).__name__}: {error}")


async def test_one_without_a_reply_subject_is_reported_and_answered_to_nobody(nc: Connection) -> None:
    heard, seen = Heard(), []
    async with bounded(), natsery.serve(nc, config(add, error_handler=heard)):
        await nc.add_subscription(">", lambda message: seen.append(message.subject))
        await nc.publish("$SRV.INFO.calc")
        await nc.request("add", b"1+1")
    assert [subject for subject in seen if not subject.startswith("_INBOX.")] == ["$SRV.INFO.calc", "add"]
    assert heard == ["MalformedRequestError: message on '$SRV.INFO.calc' ignored: it has no reply subject"]


async def test_those_that_are_too_many_are_dropped(nc: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_control, "MAX_WAITING", 3)
    heard, let_go = Heard(), anyio.Event()

    async def slow(stats: natsery.EndpointStats) -> None:
        await let_go.wait()

    async with (
        bounded(),
        nc.subscribe("replies") as replies,
        natsery.serve(nc, config(add, stats_handler=slow, error_handler=heard)),
    ):
        await nc.publish("$SRV.STATS", reply="replies")
        await nc.flush()
        await anyio.wait_all_tasks_blocked()  # it is in hand
        for _ in range(5):
            await nc.publish("$SRV.STATS", reply="replies")
        assert (await nc.request("$SRV.PING")).data  # is not behind them
        let_go.set()
        for _ in range(4):
            assert (await replies.receive()).data
        await nc.request("$SRV.STATS")
        assert not replies._has_pending()
    assert heard == ["MalformedRequestError: message on '$SRV.STATS' ignored: 3 others are waiting"] * 2


async def test_an_answer_that_is_too_large_becomes_an_error() -> None:
    heard = Heard()
    async with bounded(), MemoryBroker(max_payload=400) as broker, broker.connect() as nc:
        service = config(add, metadata={"long": "x" * 200}, description="x" * 200, error_handler=heard)
        async with natsery.serve(nc, service):
            reply = await nc.request("$SRV.INFO")
            assert (error_of(reply), reply.data) == ("500:Maximum Payload Exceeded", b"")
            assert (await nc.request("$SRV.PING")).data
    assert [each.partition(":")[0] for each in heard] == ["MaxPayloadError"]


async def test_an_answer_that_cannot_be_written_becomes_an_error(
    nc: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    shared: dict[str, object] = {}

    def changing(stats: natsery.EndpointStats) -> object:
        """Changes what it has given for another endpoint."""
        if stats.name == "other":
            shared["a"] = object()
        return shared if stats.name == "add" else None

    async def other(request: natsery.Request) -> bytes:
        return b""

    async with bounded(), natsery.serve(nc, config(add, other, stats_handler=changing)):
        reply = await nc.request("$SRV.STATS")
        assert (error_of(reply), reply.data) == ("500:Internal Server Error", b"")
        assert (await nc.request("$SRV.PING")).data
    assert "the answer to STATS raised" in caplog.text


async def test_an_answer_that_the_connection_does_not_take_is_reported(broker: MemoryBroker, nc: Connection) -> None:
    heard, let_go = Heard(), anyio.Event()

    async def slow(stats: natsery.EndpointStats) -> None:
        await let_go.wait()

    async with bounded(), broker.connect() as server:
        async with natsery.serve(server, config(add, stats_handler=slow, error_handler=heard)):
            await nc.publish("$SRV.STATS", reply="replies")
            await nc.flush()
            await go_on_without_room(broker, server, let_go)
            assert (await nc.request("$SRV.PING")).data
    assert [each.partition(":")[0] for each in heard] == ["OutboundBufferError"]


async def test_control_subjects_must_be_allowed(broker: MemoryBroker) -> None:
    async with bounded(), broker.connect(subscribe=["add"]) as server:
        with pytest.raises(natsery.SubscriptionDeniedError, match=r"\$SRV\."):
            async with natsery.serve(server, config(add)):
                raise AssertionError


async def test_a_control_subject_that_is_denied_later_ends_the_service(broker: MemoryBroker) -> None:
    heard = Heard()
    async with bounded(), broker.connect() as server:
        with pytest.raises(natsery.SubscriptionDeniedError, match=r"\$SRV\.") as caught:
            async with natsery.serve(server, config(add, error_handler=heard)):
                broker.permit(server, subscribe=["add"])
                await anyio.sleep_forever()
    assert f"SubscriptionDeniedError: {caught.value}" in heard


async def test_a_stats_handler_does_not_keep_the_service_from_ending(nc: Connection) -> None:
    async def endless(stats: natsery.EndpointStats) -> None:
        await anyio.sleep_forever()

    async with bounded(), nc.subscribe("replies") as replies:
        async with natsery.serve(nc, config(add, stats_handler=endless)) as service:
            await nc.publish("$SRV.STATS", reply="replies")
            await nc.flush()
            await anyio.wait_all_tasks_blocked()
            service.stop(grace=0)
        await nc.flush()
        assert not replies._has_pending()


async def test_each_of_many_services_answers_below_its_own_prefix(nc: Connection) -> None:
    async with bounded():
        async with natsery.serve(nc, config(id="a", prefix="$OWN")), natsery.serve(nc, config(id="b", prefix="$OWN")):
            client = natsery.ServiceClient(nc, prefix="$OWN")
            for target in ((), ("calc",)):
                assert {each.id for each in await client.ping(*target, count=2)} == {"a", "b"}
            assert [each.id for each in await client.ping("calc", "b", count=1)] == ["b"]
            with pytest.raises(natsery.NoRespondersError):
                await nc.request("$SRV.PING")


async def test_all_three_verbs_say_the_same_of_a_service(nc: Connection) -> None:
    adding = natsery.EndpointConfig("add", add, queue_group="workers")
    service = config(adding, description="adds", metadata={"zone": "a"}, id="one")
    async with bounded(), natsery.serve(nc, service) as running:
        replies = [json.loads((await nc.request(f"$SRV.{verb}.calc.one")).data) for verb in ("PING", "INFO", "STATS")]
        heads = [{key: each[key] for key in ("name", "id", "version", "metadata")} for each in replies]
        assert heads == [{"name": "calc", "id": "one", "version": "1.0.0", "metadata": {"zone": "a"}}] * 3
        assert [each.get("description") for each in replies] == [None, "adds", None]
        endpoints = [endpoint for each in replies[1:] for endpoint in each["endpoints"]]
        assert [(each["name"], each["queue_group"]) for each in endpoints] == [("add", "workers")] * 2
        assert [each.to_json() for each in (running.ping(), running.info())] == [
            json.dumps(each, separators=(",", ":")).encode() for each in replies[:2]
        ]
