"""What ``natsery top`` prints where nobody looks on, in memory and in virtual time; and the command where it is piped."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import anyio
import pytest

from natsery import Message, ServiceStats
from natsery._cli._exit_codes import Exit
from natsery._cli._runner import run_async
from natsery._cli._top import _snapshots
from natsery._cli._top._polling import WatchOptions
from natsery._cli._top._snapshots import print_snapshots
from natsery._cli._top._view import Level, View
from natsery.testing import MemoryBroker

from ..virtual_time import in_virtual_time
from .conftest import Result
from .figures import STARTED, endpoint, stats

Run = Callable[..., Result]


@pytest.fixture(autouse=True)
def _fixed_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_snapshots, "now", lambda: STARTED + timedelta(hours=3))


def answers(number: int) -> Sequence[ServiceStats]:
    """What is answered to the so-manieth question."""
    return (
        stats(endpoint(100 * number, number, 100 * number * 2_000, "400:a 'b'"), metadata={"stadt": "Köln"}),
        stats(endpoint(number), instance="two"),
        stats(name="idle", instance="i"),
    )


def printed(
    give: Callable[[int], Sequence[ServiceStats]], *, as_json: bool = False, fails_at: float = 0, **options: Any
) -> tuple[Exit, float]:
    """Print; the exit status, and the seconds that it took."""
    watch = WatchOptions(**{"name": None, "prefix": "$SRV", "interval": 1.0, "count": 1, "view": View(), **options})
    statuses: list[Exit] = []

    async def main() -> None:
        async with MemoryBroker() as broker, broker.connect() as nc, broker.connect() as other:
            async with anyio.create_task_group() as tasks:
                asked = 0

                def deliver(message: Message) -> None:
                    nonlocal asked
                    for each in give(asked):
                        tasks.start_soon(other.publish, message.reply, each.to_json())
                    asked += 1

                async def fail() -> None:
                    await anyio.sleep(fails_at)
                    broker.disconnect(nc)
                    await anyio.sleep(2)
                    broker.reconnect(nc)

                if fails_at:
                    tasks.start_soon(fail)
                await other.add_subscription("$SRV.STATS", deliver)
                statuses.append(await print_snapshots(nc, watch, as_json=as_json))

    async def bounded() -> None:
        with anyio.fail_after(3600):
            await main()

    seconds = in_virtual_time(bounded)
    return statuses[0], seconds


def test_a_table_after_an_interval(capsys: pytest.CaptureFixture[str]) -> None:
    status, seconds = printed(answers)
    assert (status, seconds) == (Exit.OK, pytest.approx(1.3))
    out, err = capsys.readouterr()
    assert err == ""
    assert out == (
        "Name  Inst  Version    Up  Req/s  Err/s  Err%     Mean  Requests  Errors  Last error\n"
        "calc     2  1.0.0    3h0m    101   1.00  1.0%  1.98 µs       101       1  400:a 'b'\n"
        "idle     1  1.0.0    3h0m      –      –     –        –         0       0  –\n"
    )


def test_several_tables_with_everything(capsys: pytest.CaptureFixture[str]) -> None:
    status, seconds = printed(answers, count=2, view=View(level=Level.ALL))
    assert (status, seconds) == (Exit.OK, pytest.approx(2.3))
    first, second = capsys.readouterr().out.split("\n\n")
    assert [line.split()[0] for line in first.splitlines()] == ["Name", "calc", "one", "add", "two", "add", "idle", "i"]
    assert "stadt=Köln" in first
    assert second.splitlines()[1].split()[-6:] == ["202", "2", "–", "400:a", "'b'", "–"]


def test_json_is_a_line_for_each_interval(capsys: pytest.CaptureFixture[str]) -> None:
    status, seconds = printed(answers, as_json=True, count=2, interval=2.0)
    assert (status, seconds) == (Exit.OK, pytest.approx(4.3))
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    add = {
        "name": "add",
        "subject": "math.add",
        "queue_group": "q",
        "requests_per_second": 50.0,
        "errors_per_second": 0.5,
        "error_share": 0.01,
        "mean_processing_time": 2000.0,
        "num_requests": 100,
        "num_errors": 1,
        "last_error": "400:a 'b'",
    }
    assert list(first) == ["time", "interval", "malformed", "services"]
    assert (first["time"], first["interval"], first["malformed"]) == ("2026-09-24T14:00:00.000000Z", 2.0, 0)
    calc, idle = first["services"]
    assert calc["instances"][0] == {
        "id": "one",
        "version": "1.0.0",
        "metadata": {"stadt": "Köln"},
        "started": "2026-09-24T11:00:00.000000Z",
        "stale": False,
        **{key: add[key] for key in list(add)[3:]},
        "endpoints": [add],
    }
    assert list(calc)[:3] == ["name", "versions", "started"]
    assert calc["requests_per_second"] == calc["endpoints"][0]["requests_per_second"] == 50.5
    assert idle["requests_per_second"] is None
    assert second["services"][0]["num_requests"] == 202


def test_nobody_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(lambda number: ())[0] == Exit.NOT_FOUND
    assert capsys.readouterr() == ("", "Error: no service answers\n")
    assert printed(lambda number: (), name="calc")[0] == Exit.NOT_FOUND
    assert capsys.readouterr() == ("", "Error: no service calc answers\n")
    assert printed(lambda number: (), as_json=True)[0] == Exit.NOT_FOUND
    assert json.loads(capsys.readouterr().out)["services"] == []


def test_it_goes_on_when_the_server_is_back(capsys: pytest.CaptureFixture[str]) -> None:
    status, seconds = printed(answers, fails_at=0.7)
    assert (status, seconds) == (Exit.OK, pytest.approx(4.0))
    out, err = capsys.readouterr()
    assert out.startswith("Name")
    assert err == "Disconnected from the server, these are the last figures: the broker ended the connection\n"


def test_the_command_where_it_is_piped(run: Run, services: str) -> None:
    result = run("top", "calc", "--interval", "0.1", "--level", "instances", "--sort", "name", url=services)
    assert (result.status, result.err) == (0, "")
    assert [line.split()[0] for line in result.out.splitlines()] == ["Name", "calc", "one", "two"]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["a b"], "NAME"),
        (["--interval", "0.05"], "--interval"),
        (["--interval", "nan"], "--interval"),
        (["--interval", "inf"], "--interval"),
        (["--sort", "colour"], "--sort"),
        (["--count", "0"], "--count"),
    ],
)
def test_wrong_usage(run: Run, arguments: list[str], complaint: str) -> None:
    result = run("top", *arguments)
    assert (result.status, result.out) == (Exit.USAGE, "")
    assert complaint in result.err


def test_no_server(run: Run) -> None:
    result = run("top")
    assert (result.status, result.out) == (Exit.UNREACHABLE, "")
    assert result.err.count("\n") == 1
    assert "cannot connect to NATS" in result.err


def test_nobody_is_told_that_nobody_reads_any_more() -> None:
    async def write() -> None:
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        run_async(write)
