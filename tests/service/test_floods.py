"""Floods of what is refused: every requester gets an answer, reports are bounded, and others are served meanwhile."""

from __future__ import annotations

import logging

import anyio
import pytest

import natsery
from natsery._service import _error_reporting
from natsery.abc import Connection

from ..bounds import bounded
from ..calc_service import add, config, error_of
from ..virtual_time import IN_VIRTUAL_TIME

pytestmark = [pytest.mark.anyio, IN_VIRTUAL_TIME]  # a busy machine would take longer than a stop waits

FLOOD = 20_000


async def errors_of(replies: natsery.Messages, count: int) -> dict[str | None, int]:
    found: dict[str | None, int] = {}
    for _ in range(count):
        error = error_of(await replies.receive())
        found[error] = found.get(error, 0) + 1
    return found


async def test_a_burst_beyond_the_limit_is_all_answered(nc: Connection) -> None:
    """Two thirds of a burst were neither answered nor run."""
    release = anyio.Event()

    @natsery.endpoint(pending_messages=100)
    async def slow(request: natsery.Request) -> bytes:
        await release.wait()
        return b""

    async with bounded(), nc.subscribe("replies", max_pending=2 * FLOOD) as replies:
        async with natsery.serve(nc, config(slow)) as service:
            for _ in range(FLOOD):
                nc._broker._route(nc, natsery.Message("slow", reply="replies"))  # type: ignore[attr-defined]  # at once
            await nc.flush()
            release.set()
            found = await errors_of(replies, FLOOD)
        assert found == {"503:Service Overloaded": FLOOD - 101, None: 101}
        stats = service.stats().endpoints[0]
        assert (stats.num_requests, stats.failures) == (FLOOD, {"overloaded": FLOOD - 101})


async def test_a_cut_off_answers_all_that_was_accepted(nc: Connection) -> None:
    """Of 60,000 requests, 5,000 to 14,000 got their 503, and the others nothing."""

    async def stuck(request: natsery.Request) -> None:
        await anyio.sleep_forever()

    async with bounded(), nc.subscribe("replies", max_pending=2 * FLOOD) as replies:
        async with natsery.serve(nc, config(stuck), grace=0) as service:
            for _ in range(FLOOD):
                nc._broker._route(nc, natsery.Message("stuck", reply="replies"))  # type: ignore[attr-defined]  # at once
            await nc.flush()
        assert await errors_of(replies, FLOOD) == {"503:Service Stopping": FLOOD}
        assert service.stats().endpoints[0].failures == {"stopping": FLOOD}


async def test_messages_that_may_not_be_answered_are_reported_in_sum(
    nc: Connection, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each cost a log record and a task of the error handler, and kept good requests waiting."""
    told: list[Exception] = []

    async def tell(error: Exception, endpoint: natsery.Endpoint | None, request: natsery.Request | None) -> None:
        told.append(error)

    caplog.set_level(logging.WARNING, "natsery")
    # However long the flood takes, it is one interval's.
    clock = natsery.Clock(monotonic_ns=lambda: 0)
    async with bounded(), natsery.serve(nc, config(add, error_handler=tell, clock=clock)) as service:
        for _ in range(FLOOD):
            nc._broker._route(nc, natsery.Message("add", reply="$SRV.PING"))  # type: ignore[attr-defined]  # at once
        await nc.flush()
        assert (await nc.request("add", b"1+2")).data == b"3"
        assert service.stats().endpoints[0].malformed == FLOOD
    assert len(caplog.records) == _error_reporting.MAX_REPORTS + 1
    assert f"{FLOOD - _error_reporting.MAX_REPORTS} more reports of MalformedRequestError" in caplog.text
    assert len(told) == _error_reporting.MAX_REPORTS + 1
    assert isinstance(told[-1], natsery.ReportsDroppedError)
    assert told[-1].count == FLOOD - _error_reporting.MAX_REPORTS


async def test_an_error_handler_that_is_too_slow_gets_a_sum(
    nc: Connection, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_error_reporting, "MAX_WAITING_REPORTS", 3)
    told: list[Exception] = []
    release = anyio.Event()

    async def tell(error: Exception, endpoint: natsery.Endpoint | None, request: natsery.Request | None) -> None:
        await release.wait()
        told.append(error)

    async def broken(request: natsery.Request) -> bytes:
        raise LookupError(request.data)

    async with bounded(), natsery.serve(nc, config(broken, error_handler=tell)):
        for number in range(10):
            await nc.request("broken", b"%d" % number)
        release.set()
    # One was being handled and three were waiting.
    assert [str(error) for error in told[:-1]] == ["b'0'", "b'1'", "b'2'", "b'3'"]
    assert isinstance(told[-1], natsery.ReportsDroppedError)
    assert told[-1].count == 6
    assert caplog.text.count("LookupError: b'") == 10  # the log has all of them
