"""Where errors are told that no caller gets: what log records and the error handler are given, and how many of them."""

from __future__ import annotations

import anyio
import pytest

import natsery
from natsery._service import _error_reporting
from natsery._service._error_reporting import ERROR_HANDLER_SECONDS, MAX_REPORTS
from natsery.abc import Connection

from ..bounds import bounded
from ..calc_service import add, config
from ..virtual_time import IN_VIRTUAL_TIME

pytestmark = pytest.mark.anyio


class Told(list[tuple[str, str | None]]):
    """An error handler that notes each error, and whose endpoint it concerns."""

    def __call__(self, error: Exception, endpoint: natsery.Endpoint | None, request: natsery.Request | None) -> None:
        self.append((str(error), endpoint and endpoint.name))


async def broken(request: natsery.Request) -> bytes:
    raise LookupError


def records_of(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str, str, str, str]]:
    """The beginning of each record's text, and what it carries besides."""
    return [
        (each.getMessage().partition(":")[0], each.service, each.instance, each.endpoint, each.subject)  # type: ignore[attr-defined]
        for each in caplog.records
    ]


CALLED = natsery.EndpointConfig("called", broken, subject="a.*")


async def test_a_log_record_says_whose_error_it_is(nc: Connection, caplog: pytest.LogCaptureFixture) -> None:
    """Of an endpoint without a request, its subject; of a service, none."""
    broker = nc._broker  # type: ignore[attr-defined]
    async with bounded(), broker.connect() as server:
        with pytest.raises(natsery.SubscriptionDeniedError):
            async with natsery.serve(server, config(CALLED, id="one")):
                await nc.publish("$SRV.PING", reply="$SRV.PING")
                await nc.publish("a.1", reply="$SRV.PING")
                await nc.request("a.2")
                broker.permit(server, subscribe=["$SRV.>", "_INBOX.>"])
                await anyio.sleep_forever()
    assert records_of(caplog) == [
        ("service calc", "calc", "one", "", ""),
        ("service calc, endpoint called", "calc", "one", "called", "a.1"),
        ("service calc, endpoint called", "calc", "one", "called", "a.2"),
        ("service calc, endpoint called", "calc", "one", "called", "a.*"),
    ]


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
async def test_so_does_that_of_an_error_handler_that_raised(
    nc: Connection, is_async: bool, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise ValueError

    async def fail_later(*_: object) -> None:
        raise ValueError

    handler = fail_later if is_async else fail
    async with bounded(), natsery.serve(nc, config(CALLED, id="one", error_handler=handler)):
        await nc.request("a.1")
    assert caplog.messages[1:] == ["service calc, endpoint called: the error handler raised"]
    assert records_of(caplog)[1:] == [("service calc, endpoint called", "calc", "one", "called", "a.1")]
    assert caplog.records[1].exc_info is not None
    assert caplog.records[1].exc_info[0] is ValueError


async def test_what_a_requester_writes_into_a_subject_garbles_no_log_record(
    nc: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    async with bounded(), natsery.serve(nc, config(CALLED)):
        await nc._send("a.\x7f\u202e")  # type: ignore[attr-defined]  # as another connection may
        await nc.flush()
    assert [each.subject for each in caplog.records] == [r"a.\x7f\u202e"]  # type: ignore[attr-defined]


async def publish_malformed(nc: Connection, subject: str, count: int) -> None:
    for _ in range(count):
        await nc.publish(subject, reply="$SRV.PING")
    await nc.flush()


def more(count: int, kind: str = "MalformedRequestError") -> str:
    return f"{count} more reports of {kind} were left out"


async def test_so_many_are_told_of_each_endpoint_and_kind_and_then_a_sum(nc: Connection) -> None:
    """The sum when the second is over, when an endpoint is removed, and when the service ends."""
    told, now = Told(), 0
    other = natsery.EndpointConfig("other", broken)
    served = config(add, error_handler=told, clock=natsery.Clock(monotonic_ns=lambda: now))
    async with bounded(), natsery.serve(nc, served) as service:
        added = await service.add_endpoint(other)
        await publish_malformed(nc, "add", MAX_REPORTS)
        now = 1_000_000_000
        await publish_malformed(nc, "add", 3)
        await publish_malformed(nc, "other", MAX_REPORTS + 2)
        await publish_malformed(nc, "$SRV.PING", MAX_REPORTS + 1)
        for _ in range(MAX_REPORTS):
            await nc.publish("add", b"not a sum")  # of another kind
        await nc.flush()
        await anyio.wait_all_tasks_blocked()
        assert [told.count(each) for each in dict.fromkeys(told)] == [MAX_REPORTS] * 4
        told.clear()
        await added.remove()
        assert told == [(more(2), "other")]
        now = 1_000_000_001
        await publish_malformed(nc, "add", MAX_REPORTS + 4)
        assert told[1:3] == [(more(3), "add"), told[3]]
        assert len(told) == 2 + MAX_REPORTS
        told.clear()
    assert told == [(more(4), "add"), (more(1), None)]


@pytest.mark.parametrize(("limit", "value"), [("MAX_WAITING_REPORTS", 2), ("MAX_WAITING_BYTES", 7)])
async def test_an_async_error_handler_that_is_too_slow_is_told_how_many_it_has_missed(
    nc: Connection, monkeypatch: pytest.MonkeyPatch, limit: str, value: int
) -> None:
    """Those that wait are bounded in number, and in the bytes of the requests that they keep; the sum is told once."""
    monkeypatch.setattr(_error_reporting, limit, value)
    told: list[str] = []
    turns = [anyio.Event(), anyio.Event()]
    caught_up = [anyio.Event(), anyio.Event()]

    async def tell(error: Exception, endpoint: object, request: object) -> None:
        if isinstance(error, natsery.ReportsDroppedError):
            assert (endpoint, request) == (None, None)
            caught_up[told.count("missed")].set()
            told.append("missed")
        else:
            await turns[told.count("missed")].wait()
        told.append(str(error))

    async def refuse(request: natsery.Request) -> bytes:
        raise LookupError(request.data.decode())

    async with bounded(), natsery.serve(nc, config(refuse, error_handler=tell)):
        for turn, is_told in zip(turns, caught_up, strict=True):
            for data in (b"a", b"bcd", b"efg", b"hi", b"jk"):
                await nc.request("refuse", data)
            turn.set()
            await is_told.wait()
    assert told == ["a", "bcd", "efg", "missed", more(2, "errors")] * 2


@IN_VIRTUAL_TIME
async def test_an_async_error_handler_that_hangs_is_cancelled_and_the_next_is_called(
    nc: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[float] = []

    async def hang(*_: object) -> None:
        told.append(anyio.current_time())
        await anyio.sleep_forever()

    async with bounded(), natsery.serve(nc, config(broken, error_handler=hang)):
        begun = anyio.current_time()
        for _ in range(2):
            await nc.request("broken")
        await anyio.sleep(2 * ERROR_HANDLER_SECONDS + 1)
    assert [each - begun for each in told] == pytest.approx([0, ERROR_HANDLER_SECONDS])
    raised = [each for each in caplog.records if "the error handler raised" in each.getMessage()]
    assert [each.exc_info and each.exc_info[0] for each in raised] == [TimeoutError] * 2
