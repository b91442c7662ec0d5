"""`AccessLog`: a line for each request."""

from __future__ import annotations

import logging

import anyio
import pytest

import natsery
from natsery.abc import Connection

from ..bounds import bounded
from ..calc_service import config
from ..virtual_time import IN_VIRTUAL_TIME

pytestmark = [pytest.mark.anyio, IN_VIRTUAL_TIME]


@natsery.endpoint(pending_messages=1)
async def work(request: natsery.Request) -> bytes:
    await anyio.sleep(0.25)
    if request.data == b"bad":
        raise natsery.ServiceError(404, "none\x1b[2J")
    if request.data == b"broken":
        raise ValueError
    return b""


def lines_of(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    return [(each.levelname, each.getMessage()) for each in caplog.records if each.name == "natsery.access"]


CLOCK = natsery.Clock(monotonic_ns=lambda: round(anyio.current_time() * 1e9))


async def test_each_request_has_a_line(nc: Connection, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with (
        bounded(),
        natsery.serve(nc, config(work, clock=CLOCK, instruments=[natsery.AccessLog()])) as service,
    ):
        await nc.publish("work", b"good", reply="r", headers={"A": "b"})
        for data in (b"bad", b"broken"):
            await nc.request("work", data)
        await nc.publish("work", b"x", reply="$SYS.x")
    assert lines_of(caplog) == [
        ("INFO", "calc/work 200 250.0 ms, waited 0.0 ms"),
        ("INFO", "calc/work 404 250.0 ms, waited 250.0 ms: none\\x1b[2J"),
        ("WARNING", "calc/work 500 250.0 ms, waited 0.0 ms: Internal Server Error"),
        ("INFO", "calc/work 400 0.0 ms, waited 0.0 ms: Bad Reply Subject"),
    ]
    first, second, *_ = [each.__dict__ for each in caplog.records if each.name == "natsery.access"]
    expected = {"service": "calc", "instance": service.id, "endpoint": "work", "subject": "work", "code": 200}
    assert first | expected | {"cause": "", "request_size": 4 + len(b"NATS/1.0\r\nA: b\r\n\r\n")} == first
    assert (first["duration"], second["waited"], second["cause"]) == (
        pytest.approx(0.25),
        pytest.approx(0.25),
        "service_error",
    )
    caplog.clear()


async def test_a_flood_of_refusals_is_summed_up(
    nc: Connection, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = 1
    monkeypatch.setattr("natsery._access_log.time.monotonic", lambda: second)
    async with bounded(), natsery.serve(nc, config(work, instruments=[natsery.AccessLog()])):
        for _ in range(1000):
            await nc.publish("work", reply="r")
        await anyio.sleep(1)
        second = 2
        for _ in range(10):
            await nc.publish("work", reply="r")
    lines = lines_of(caplog)
    refused = [each for each in lines if each == ("WARNING", "calc/work 503 0.0 ms, waited 0.0 ms: Service Overloaded")]
    assert 20 < len(refused) < 40
    (total,) = [each for each in lines if "more requests" in each[1]]
    assert 960 < int(total[1].split()[0]) < 1000
    caplog.clear()


async def test_it_logs_where_it_is_told(nc: Connection, caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("mine")
    logger.setLevel(logging.INFO)
    async with bounded(), natsery.serve(nc, config(work, instruments=[natsery.AccessLog(logger)])):
        await nc.request("work")
    assert [each.name for each in caplog.records if "work 200" in each.getMessage()] == ["mine"]
