"""``natsery stats``, where it is piped."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import anyio
import anyio.from_thread
import pytest

import natsery
from natsery import EndpointStats, ServiceStats
from natsery._cli._discovery import _stats_command
from natsery._cli._exit_codes import Exit

from ..server import NatsServer
from .conftest import Result

Run = Callable[..., Result]

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


def stats_of(
    instance: str, requests: int, errors: int, time: int, last_error: str, *, data: object = None, **started: float
) -> ServiceStats:
    add = EndpointStats(
        name="add",
        subject="math.add",
        queue_group="q",
        num_requests=requests,
        num_errors=errors,
        processing_time=time,
        average_processing_time=time // requests if requests else 0,
        last_error=last_error,
        data=data,
    )
    idle = EndpointStats(name="idle", subject="idle", queue_group="q")
    return ServiceStats(
        name="calc", id=instance, version="1.0.0", started=NOW - timedelta(**started), endpoints=(add, idle)
    )


DETAILS = {"natsery": {"failures": {"requester_gone": 2, "exception": 6, "timeout": 0, "\x1b[31m": 1}, "malformed": 1}}

REPLIES = [
    stats_of("one", 36_000, 3, 36_000 * 2_000, "400:expected 'a+b'", hours=1),
    stats_of("two", 12_000, 9, 12_000 * 6_000, "500:Internal Server Error", data=DETAILS, minutes=1, seconds=40),
    ServiceStats(name="empty", id="three", version="2.0.0", started=NOW - timedelta(days=2, hours=3)),
]


@pytest.fixture
def canned(nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of a server where services have done what `REPLIES` say."""
    monkeypatch.setattr(_stats_command, "now", lambda: NOW)

    async def serve(*, task_status: anyio.abc.TaskStatus[None]) -> None:
        async with natsery.connect(nats_server.url) as nc, nc.subscribe("$CAN.STATS.>") as messages:
            async with nc.subscribe("$CAN.STATS") as all_messages, anyio.create_task_group() as tasks:
                task_status.started()
                for each in (messages, all_messages):
                    tasks.start_soon(answer, nc, each)

    async def answer(nc: natsery.NativeConnection, messages: natsery.Messages) -> None:
        async for message in messages:
            for each in REPLIES:
                wanted = message.subject.split(".")[2:]
                if wanted == [each.name, each.id][: len(wanted)]:
                    await nc.publish(message.reply, each.to_json())

    with anyio.from_thread.start_blocking_portal("trio") as portal:
        future, _ = portal.start_task(serve)
        yield nats_server.url
        future.cancel()


def test_services_are_summed_over_their_instances(run: Run, canned: str) -> None:
    assert run("stats", "--prefix", "$CAN", "--count", "3", url=canned) == Result(
        0,
        "Service  Instances  Requests  Errors   Rate  Average\n"
        "calc             2    48,000      12  130/s     3 µs\n"
        "empty            1         0       0    0/s\n"
        "\n"
        "calc 1.0.0\n"
        "  2 instances, up 1h0m\n"
        "  48,000 requests, 12 errors (6 exception, 2 requester gone), 130/s, 3 µs on average\n"
        "  Endpoint  Subject   Requests  Errors   Rate  Average  Last error\n"
        "  add       math.add    48,000      12  130/s     3 µs  500:Internal Server Error\n"
        "  idle      idle             0       0    0/s\n"
        "\n"
        "empty 2.0.0\n"
        "  instance three, up 2d3h\n"
        "  0 requests, 0 errors\n",
        "",
    )


def test_each_instance_by_itself(run: Run, canned: str) -> None:
    result = run("stats", "calc", "--each", "--prefix", "$CAN", "--count", "2", url=canned)
    assert (result.status, result.err) == (0, "")
    assert re.findall("^  instance .*\n.*$", result.out, re.MULTILINE) == [
        "  instance one, up 1h0m\n  36,000 requests, 3 errors, 10/s, 2 µs on average",
        "  instance two, up 1m40s\n  12,000 requests, 9 errors (6 exception, 2 requester gone), 120/s, 6 µs on average",
    ]
    assert run("stats", "calc", "two", "--prefix", "$CAN", url=canned).out.count("instance two") == 1


def test_json_for_machines(run: Run, canned: str) -> None:
    result = run("stats", "--json", "--prefix", "$CAN", "--count", "3", url=canned)
    assert result == Result(0, json.dumps([each.to_dict() for each in REPLIES], ensure_ascii=False) + "\n", "")


def test_nobody_there(run: Run, canned: str) -> None:
    assert run("stats", "--prefix", "$OTHER", url=canned) == Result(Exit.NOT_FOUND, "", "Error: no service answered\n")
