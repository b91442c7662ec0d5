"""Failures after a first reply, in exception groups, and with headers that cannot be sent: the requester is told."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import anyio
import pytest

import natsery
from natsery._core._limits import RECENT_REPLIES
from natsery._service import _endings
from natsery.abc import Connection
from natsery.testing import MemoryBroker

from ..bounds import bounded
from ..calc_service import add, config, error_of

pytestmark = pytest.mark.anyio


async def all_replies(nc: Connection, subject: str) -> list[str]:
    """The payloads and errors that come in answer to a request, up to the first error."""
    async with nc.subscribe("replies") as replies:
        await nc.publish(subject, reply="replies")
        found: list[str] = []
        async for reply in replies:
            error = error_of(reply)
            found.append(error or reply.data.decode())
            if error is not None:
                return found
    raise AssertionError


async def fails(request: natsery.Request) -> None:
    await request.respond(b"part")
    raise LookupError("a secret")


async def refuses(request: natsery.Request) -> None:
    await request.respond(b"part")
    raise natsery.ServiceError(404, "no more")


@natsery.endpoint(timeout=0.01)
async def hangs(request: natsery.Request) -> None:
    await request.respond(b"part")
    await anyio.sleep_forever()


@pytest.mark.parametrize(
    ("handler", "error"),
    [(fails, "500:Internal Server Error"), (refuses, "404:no more"), (hangs, "504:Deadline Exceeded")],
)
async def test_a_failure_after_a_first_reply_is_sent(nc: Connection, handler: natsery.Handler, error: str) -> None:
    """The requester heard nothing until its own deadline."""
    async with bounded(), natsery.serve(nc, config(handler)) as service:
        assert await all_replies(nc, handler.__name__) == ["part", error]
        assert service.stats().endpoints[0].last_error == error


async def test_a_cut_off_after_a_first_reply_is_sent(nc: Connection) -> None:
    async def stuck(request: natsery.Request) -> None:
        await request.respond(b"part")
        service.stop(grace=0)
        await anyio.sleep_forever()

    async with bounded(), nc.subscribe("replies") as replies:
        async with natsery.serve(nc, config(stuck)) as service:
            await nc.publish("stuck", reply="replies")
            await service.wait_stopped()
        assert (await replies.receive()).data == b"part"
        assert error_of(await replies.receive()) == "503:Service Stopping"


async def test_the_error_that_was_sent_is_the_one_that_is_counted(
    nc: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    """The requester got 400, and ``last_error`` said 500."""

    async def confused(request: natsery.Request) -> None:
        await request.respond_error(400, "bad input")
        raise LookupError("and then this")

    async with bounded(), nc.subscribe("replies") as replies:
        async with natsery.serve(nc, config(confused)) as service:
            await nc.publish("confused", reply="replies")
            assert error_of(await replies.receive()) == "400:bad input"
        assert service.stats().endpoints[0].last_error == "400:bad input"
        assert service.stats().endpoints[0].failures == {"service_error": 1}
        await nc.publish("replies", b"the next")
        assert (await replies.receive()).data == b"the next"
    assert "LookupError: and then this" in caplog.text  # with its traceback


async def test_a_service_error_after_an_error_that_was_sent_is_logged_without_a_traceback(
    nc: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    async def twice(request: natsery.Request) -> None:
        await request.respond_error(400, "bad input")
        raise natsery.ServiceError(404, "gone")

    async with bounded(), natsery.serve(nc, config(twice)):
        assert error_of(await nc.request("twice")) == "400:bad input"
    assert [(each.getMessage(), each.exc_info) for each in caplog.records if each.name == "natsery"] == [
        ("service calc, endpoint twice: 404:gone", None)
    ]


def grouped(*errors: Exception) -> natsery.Handler:
    async def group(request: natsery.Request) -> None:
        raise ExceptionGroup("a nursery", list(errors))

    return group


NOT_FOUND = natsery.ServiceError(404, "no such item")


@pytest.mark.parametrize(
    ("errors", "answer"),
    [
        ([NOT_FOUND], "404:no such item"),
        ([ExceptionGroup("inner", [NOT_FOUND])], "404:no such item"),
        ([NOT_FOUND, natsery.ServiceError(404, "no such item")], "404:no such item"),
        ([NOT_FOUND, natsery.ServiceError(400, "bad")], "500:Internal Server Error"),
        ([NOT_FOUND, LookupError("a secret")], "500:Internal Server Error"),
    ],
)
async def test_a_service_error_out_of_a_nursery(
    nc: Connection, errors: list[Exception], answer: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It was answered with 500."""
    async with bounded(), natsery.serve(nc, config(grouped(*errors))):
        assert error_of(await nc.request("group")) == answer
    assert ("a nursery" in caplog.text) is (answer[:3] == "500")


@pytest.mark.parametrize("headers", [{"X": "a\nb"}, {"a b": "c"}, {"X": 5}, [("X",)], "X: y", {"X": "é"}])
async def test_an_error_arrives_without_the_headers_that_cannot_be_sent(
    nc: Connection, headers: object, caplog: pytest.LogCaptureFixture
) -> None:
    """The requester got nothing at all."""

    async def refuse(request: natsery.Request) -> None:
        raise natsery.ServiceError(404, "gone", data=b"x", headers=headers)  # type: ignore[arg-type]

    async def respond(request: natsery.Request) -> None:
        await request.respond_error(404, "gone", b"x", headers=headers)  # type: ignore[arg-type]

    async with bounded(), natsery.serve(nc, config(refuse, respond)) as service:
        for subject in ("refuse", "respond"):
            reply = await nc.request(subject)
            assert (error_of(reply), reply.data) == ("404:gone", b"x")
        assert [each.last_error for each in service.stats().endpoints] == ["404:gone", "404:gone"]
    assert caplog.text.count("header") >= 2


async def test_a_description_travels_as_ascii(nc: Connection) -> None:
    async def refuse(request: natsery.Request) -> None:
        raise natsery.ServiceError(404, "café 😀 \ud800")

    async with bounded(), natsery.serve(nc, config(refuse)) as service:
        reply = await nc.request("refuse")
        assert reply.headers["Nats-Service-Error"] == r"caf\xe9 \U0001f600 \ud800"
        assert service.stats().endpoints[0].last_error == "404:café 😀 ?"


async def test_what_cannot_be_sent_of_an_error_is_reported_with_its_request(nc: Connection) -> None:
    heard: list[tuple[str | None, bytes | None]] = []

    def hear(error: Exception, endpoint: natsery.Endpoint | None, request: natsery.Request | None) -> None:
        heard.append((endpoint and endpoint.name, request and request.data))

    async def refuse(request: natsery.Request) -> None:
        await request.respond_error(404, "gone", headers={"X": "é"})

    async with bounded(), natsery.serve(nc, config(refuse, error_handler=hear)):
        assert error_of(await nc.request("refuse", b"1")) == "404:gone"
    assert heard == [("refuse", b"1")]


async def test_an_error_that_could_not_be_sent_does_not_replace_the_one_that_was(nc: Connection) -> None:
    async def refuse(request: natsery.Request) -> None:
        await request.respond_error(404, "gone")
        with pytest.raises(natsery.MaxPayloadError):
            await request.respond_error(409, "taken", data=b"x" * (nc.max_payload + 1))

    async with bounded(), natsery.serve(nc, config(refuse)) as service:
        assert error_of(await nc.request("refuse")) == "404:gone"
    assert service.stats().endpoints[0].last_error == "404:gone"


async def test_a_failure_after_a_reply_that_was_too_large_is_sent(nc: Connection) -> None:
    """The requester got nothing, although the connection takes a small reply."""

    async def report(request: natsery.Request) -> None:
        try:
            await request.respond(bytes(nc.max_payload + 1))
        except natsery.MaxPayloadError as error:
            raise LookupError("too big") from error

    async with bounded(), natsery.serve(nc, config(report)):
        assert error_of(await nc.request("report")) == "500:Internal Server Error"


async def test_an_answer_after_one_that_was_too_large_is_good(nc: Connection) -> None:
    async def shortens(request: natsery.Request) -> bytes:
        with pytest.raises(natsery.MaxPayloadError):
            await request.respond(bytes(nc.max_payload + 1))
        return b"short"

    async with bounded(), natsery.serve(nc, config(shortens)) as service:
        assert (await nc.request("shortens")).data == b"short"
    stats = service.stats().endpoints[0]
    assert (stats.num_requests, stats.failures) == (1, {})


async def test_an_error_that_was_sent_stays_the_request_s(nc: Connection) -> None:
    """A second error followed, or the request counted as good."""

    async def caught(request: natsery.Request) -> None:
        await request.respond_error(400, "bad")
        with pytest.raises(natsery.MaxPayloadError):
            await request.respond(bytes(nc.max_payload + 1))
        await request.respond(b"ok")

    async def uncaught(request: natsery.Request) -> None:
        await request.respond_error(400, "bad")
        await request.respond(bytes(nc.max_payload + 1))

    async with bounded(), nc.subscribe("replies") as replies:
        async with natsery.serve(nc, config(caught, uncaught)) as service:
            await nc.publish("caught", reply="replies")
            assert [error_of(await replies.receive()) for _ in range(2)] == ["400:bad", None]
            await nc.publish("uncaught", reply="replies")
            assert error_of(await replies.receive()) == "400:bad"
        await nc.publish("replies", b"the next")
        assert (await replies.receive()).data == b"the next"
        assert [each.last_error for each in service.stats().endpoints] == ["400:bad"] * 2


async def test_a_group_of_a_cancellation_and_an_error_is_an_error(nc: Connection) -> None:
    """It ended the service."""

    async def both(request: natsery.Request) -> None:
        raise BaseExceptionGroup("both", [asyncio.CancelledError(), LookupError()])

    async with bounded(), natsery.serve(nc, config(both)):
        for _ in range(2):
            assert error_of(await nc.request("both")) == "500:Internal Server Error"


async def test_headers_that_raise_end_no_more_than_the_request(nc: Connection) -> None:
    """They ended the service, with its subscriptions left at the server."""

    def headers() -> Iterator[tuple[str, str]]:
        yield "A", "b"
        raise RuntimeError

    async def bad(request: natsery.Request) -> None:
        raise natsery.ServiceError(400, "bad", headers=headers())

    async with bounded(), natsery.serve(nc, config(bad)):
        for _ in range(2):
            assert error_of(await nc.request("bad")) == "400:bad"


async def test_what_a_handler_may_not_publish_is_no_failure_of_a_request(broker: MemoryBroker) -> None:
    heard: list[str | None] = []
    denied = anyio.Event()

    def hear(error: Exception, endpoint: natsery.Endpoint | None, request: natsery.Request | None) -> None:
        heard.append(endpoint and endpoint.name)
        denied.set()

    async def tells(request: natsery.Request) -> None:
        await request.respond(b"told")
        await request.connection.publish("elsewhere", b"1")
        await denied.wait()

    async with bounded(), broker.connect(publish=["_INBOX.>", "tells", "$SRV.>"]) as nc:
        async with natsery.serve(nc, config(tells, error_handler=hear)) as service:
            for _ in range(2):
                assert (await nc.request("tells")).data == b"told"
                await denied.wait()
        assert heard == [None, None]
        assert service.stats().endpoints[0].failures == {}


async def test_a_denied_reply_is_counted_once_and_further_ones_name_the_endpoint(broker: MemoryBroker) -> None:
    heard: list[str | None] = []

    def hear(error: Exception, endpoint: natsery.Endpoint | None, request: natsery.Request | None) -> None:
        heard.append(endpoint and endpoint.name)

    async with bounded(), broker.connect(publish=["add", "allowed", "$SRV.>"]) as nc:
        async with natsery.serve(nc, config(add, error_handler=hear)) as service:
            for reply in ("allowed", "elsewhere"):
                await nc.publish("add", b"1+1", reply=reply)
            await nc.flush()
            await anyio.wait_all_tasks_blocked()
            await nc.publish("elsewhere", b"as a second reply")
            await nc.flush()
        assert heard == ["add", "add"]
        stats = service.stats().endpoints[0]
        assert (stats.num_requests, stats.failures) == (2, {"undeliverable": 1})


async def test_so_many_replies_to_failures_are_remembered(
    broker: MemoryBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_endings, "RECENT_REPLIES", 2)
    heard: list[str | None] = []

    def hear(error: Exception, endpoint: natsery.Endpoint | None, request: natsery.Request | None) -> None:
        heard.append(endpoint and endpoint.name)

    async with bounded(), broker.connect() as nc:
        async with natsery.serve(nc, config(add, error_handler=hear)):
            for reply in ("first", "second", "third"):
                await nc.publish("add", b"not a sum", reply=reply)
            await nc.flush()
            await anyio.wait_all_tasks_blocked()
            broker.permit(nc, publish=["$SRV.>"])
            for reply in ("first", "second", "third"):
                await nc.publish(reply, b"as another reply")
            await nc.flush()
        assert heard == [None, "add", "add"]


async def test_an_error_that_waits_to_be_sent_has_ended_its_request(
    broker: MemoryBroker, nc: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the stop, which cuts the sending off, would end it once more."""
    sending = anyio.Event()

    async def send(*args: object, **options: object) -> None:
        sending.set()
        await anyio.sleep_forever()

    async with bounded(), broker.connect() as server, natsery.serve(server, config(add)) as service:
        monkeypatch.setattr(server, "_send", send)
        await nc.publish("add", b"not a sum", reply="replies")
        await sending.wait()
        service.stop(grace=0)
        await service.wait_stopped()
    stats = service.stats().endpoints[0]
    assert (stats.num_requests, stats.failures) == (1, {"service_error": 1})


async def test_an_error_stays_the_request_s_when_it_is_denied(broker: MemoryBroker) -> None:
    denied = anyio.Event()

    async def refuses(request: natsery.Request) -> None:
        await request.respond_error(404, "gone")
        await denied.wait()

    async with bounded(), broker.connect(publish=["refuses", "$SRV.>"]) as nc:
        served = config(refuses, error_handler=lambda *_: denied.set())
        async with natsery.serve(nc, served) as service:
            await nc.publish("refuses", reply="elsewhere")
            await denied.wait()
        assert service.stats().endpoints[0].last_error == "404:gone"


async def test_only_so_many_replies_are_remembered_for_denials(nc: Connection) -> None:
    async with bounded(), natsery.serve(nc, config(add)) as service:
        for _ in range(RECENT_REPLIES + 1):
            await nc.publish("add", b"1+1", reply="replies")
        await nc.request("add", b"1+1")
        assert len(service.endpoints[0]._queue._recent_replies) == RECENT_REPLIES
