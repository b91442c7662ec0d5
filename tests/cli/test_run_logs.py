"""``--log-level``, ``--log-config`` and ``--log-format`` of ``natsery run``, and the backend that a configuration names."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from natsery._cli._exit_codes import Exit
from natsery._cli._run._logs import JSONFormatter

from ..server import NatsServer
from .conftest import Result
from .programs import MODULE, asking, serving

Run = Callable[..., Result]

FAILING = (
    MODULE
    + """
import logging


async def broken(request):
    logging.getLogger("mine").info("asked", extra={"order": 7})
    raise LookupError("\\x1b[2J")


config = natsery.ServiceConfig("calc", "1.0.0", id="me", endpoints=[broken], instruments=[natsery.AccessLog()])
"""
)


@pytest.fixture(scope="module")
def server() -> Iterator[NatsServer]:
    """A server of this module's own, so that nobody else serves there."""
    with NatsServer() as server:
        yield server


@pytest.mark.parametrize("workers", [[], ["--workers", "1"]], ids=["alone", "workers"])
def test_each_line_is_a_json_object(server: NatsServer, tmp_path: Path, workers: list[str]) -> None:
    with serving(tmp_path, "--log-format", "json", *workers, url=server.url, text=FAILING) as program:
        program.wait_for(" ready at" if workers else '"ready at')
        with asking(server.url) as asker:
            asker.begin("broken").result(60)
            program.wait_for("calc/broken 500")
        program.terminate()
        assert program.wait() == 0, program.output
    entries = [json.loads(line) for line in program.output.splitlines() if line != "loading"]
    by_text = {entry["message"].split(":")[0]: entry for entry in entries}
    assert all({"time", "level", "logger", "message"} <= set(entry) for entry in entries)
    assert all(entry["time"].endswith("Z") for entry in entries)
    ready = next(entry for entry in entries if "ready at" in entry["message"])
    assert (ready["level"], ready["logger"]) == ("info", "natsery.run")
    worker = {"worker": "1"} if workers else {}
    assert by_text["asked"] | {"order": 7, "logger": "mine"} | worker == by_text["asked"]
    error = by_text["service calc, endpoint broken"]
    place = {"service": "calc", "instance": "me-1" if workers else "me", "endpoint": "broken", "subject": "broken"}
    assert error | place | {"level": "error"} == error
    assert error["exception"].endswith("LookupError: \x1b[2J")
    (access,) = [entry for entry in entries if entry["logger"] == "natsery.access"]
    assert access | place | {"code": 500, "cause": "exception"} == access
    assert any(
        entry["message"].startswith("stopped: ") or "ended with status 0" in entry["message"] for entry in entries
    )


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        ([], Exit.UNREACHABLE, "cannot connect to NATS"),
        (["nothing"], Exit.USAGE, "there is no module 'nothing'"),
        (["service:fail"], Exit.USAGE, "service has no attribute 'fail'"),
        (["service:both"], Exit.USAGE, "the service 'b' is for asyncio"),
    ],
)
def test_what_ends_it_is_a_json_object_too(tmp_path: Path, arguments: list[str], status: Exit, message: str) -> None:
    with serving(tmp_path, *arguments, "--log-format", "json", text=NAMED.replace("loading", "")) as program:
        assert program.wait() == status, program.output
    entries = [json.loads(line) for line in program.output.splitlines()]
    assert [entry["message"].startswith(message) for entry in entries] == [True], entries
    assert (entries[0]["level"], entries[0]["logger"]) == ("error", "natsery.run")


def test_ctrl_c_is_a_json_object_too(tmp_path: Path) -> None:
    text = "import os, time\nos.mkdir('begun')\ntime.sleep(60)\n"  # a file that is being closed would complain
    with serving(tmp_path, "--log-format", "json", text=text) as program:
        while not (tmp_path / "begun").exists():
            assert program._process.poll() is None
        program.interrupt()
        assert program.wait() == Exit.INTERRUPTED, program.output
    (entry,) = [json.loads(line) for line in program.output.splitlines()]
    assert (entry["message"], entry["level"]) == ("interrupted", "error")


def test_a_hung_event_loop_is_a_json_object_too(server: NatsServer, tmp_path: Path) -> None:
    text = FAILING.replace("    raise LookupError", "    import time; time.sleep(60)\n    raise LookupError")
    options = ("--watchdog", "1", "--log-format", "json")
    with serving(tmp_path, *options, url=server.url, text=text) as program:
        program.wait_for('"ready at')
        with asking(server.url) as asker:
            asker.begin("broken")
            assert program.wait() == Exit.FAILED, program.output
    *_, last = [json.loads(line) for line in program.output.splitlines() if line != "loading"]
    assert last["message"].startswith("the event loop has stood still for 1 s in endpoint 'broken' (broken):\n")
    assert last["logger"] == "natsery.run"


def test_an_extra_does_not_take_the_place_of_what_each_line_has() -> None:
    record = logging.makeLogRecord({"msg": "text", "name": "mine", "levelname": "INFO", "time": 5, "level": "odd"})
    entry = json.loads(JSONFormatter("").format(record))
    assert (entry["level"], entry["logger"], entry["message"]) == ("info", "mine", "text")
    assert entry["time"].endswith("Z")


def test_a_level_hides_what_is_below(server: NatsServer, tmp_path: Path) -> None:
    for level, is_shown in (("info", True), ("warning", False)):
        with serving(
            tmp_path, "--log-level", level, url=server.url, text=FAILING.replace("raise", "return b''; raise")
        ) as program:
            program.wait_for("ready at")
            with asking(server.url) as asker:
                asker.begin("broken").result(60)
            program.terminate()
            assert program.wait() == 0, program.output
        assert ("calc/broken 200" in program.output) is is_shown


CONFIGS = {
    "log.json": json.dumps(
        {
            "version": 1,
            "formatters": {"own": {"format": "own %(name)s: %(message)s"}},
            "handlers": {"own": {"class": "logging.StreamHandler", "formatter": "own"}},
            "root": {"level": "INFO", "handlers": ["own"]},
        }
    ),
    "log.toml": """
version = 1
[formatters.own]
format = "own %(name)s: %(message)s"
[handlers.own]
class = "logging.StreamHandler"
formatter = "own"
[root]
level = "INFO"
handlers = ["own"]
""",
    "log.ini": """
[loggers]
keys = root
[handlers]
keys = own
[formatters]
keys = own
[logger_root]
level = INFO
handlers = own
[handler_own]
class = StreamHandler
formatter = own
[formatter_own]
format = own %(name)s: %(message)s
""",
}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_file_configures_all_of_it(server: NatsServer, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(CONFIGS[name])
    with serving(tmp_path, "--log-config", name, url=server.url, text=FAILING) as program:
        program.wait_for("own natsery.run: ready at")
        with asking(server.url) as asker:
            asker.begin("broken").result(60)
            program.wait_for("own natsery.access: calc/broken 500")
        program.terminate()
        assert program.wait() == 0, program.output
    assert "own mine: asked" in program.output


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("a.json", "{", "Expecting"),
        ("a.json", '{"version": 1, "root": {"handlers": ["x"]}}', "x"),
        ("a.toml", "= 1", "Invalid"),
        ("a.ini", "[loggers]\n", "formatters"),
        ("missing.ini", None, "missing.ini"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_line(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str | None, reason: str
) -> None:
    monkeypatch.chdir(tmp_path)
    if text is not None:
        (tmp_path / name).write_text(text)
    result = run("run", "x", "--log-config", name)
    assert result.status == Exit.USAGE
    assert result.err.startswith(f"Error: --log-config: {name} cannot be used: ")
    assert reason in result.err
    assert result.err.count("\n") == 1


def test_options_that_contradict_each_other(run: Run) -> None:
    for options in (("--log-level", "info"), ("--log-format", "json")):
        result = run("run", "x", "--log-config", "log.ini", *options)
        assert result.status == Exit.USAGE
        assert "--log-config says all about logs" in result.err


# The backend that a configuration names

NAMED = """
import natsery

trio = natsery.ServiceConfig("a", "1.0.0", backend="trio")
asyncio = natsery.ServiceConfig("b", "1.0.0", backend="asyncio")
both = [trio, asyncio]
config = trio


def later(nc):
    return asyncio
"""


@pytest.mark.parametrize("options", [[], ["--workers", "1"]], ids=["alone", "workers"])
def test_a_configuration_names_its_backend(server: NatsServer, tmp_path: Path, options: list[str]) -> None:
    for name in ("trio", "asyncio"):
        with serving(tmp_path, f"service:{name}", *options, url=server.url, text=NAMED) as program:
            program.wait_for(f"on {name}")
            program.terminate()
            assert program.wait() == 0, program.output


@pytest.mark.parametrize(
    ("arguments", "status", "line"),
    [
        (["service:both"], Exit.USAGE, "the service 'b' is for asyncio, as its ServiceConfig says, and not for trio"),
        (
            ["service:trio", "--uvloop"],
            Exit.USAGE,
            "the service 'a' is for trio, as its ServiceConfig says, and not for asyncio",
        ),
        (
            ["service:asyncio", "--backend", "trio"],
            Exit.USAGE,
            "the service 'b' is for asyncio, as its ServiceConfig says, and not for trio",
        ),
        (
            ["service:later"],
            Exit.FAILED,
            (
                "the service 'b' is for asyncio, and trio is running; write anyio.run(main, backend='asyncio'), "
                "or natsery run --backend asyncio"
            ),
        ),
    ],
)
def test_others_do_not_do(server: NatsServer, tmp_path: Path, arguments: list[str], status: Exit, line: str) -> None:
    with serving(tmp_path, *arguments, url=server.url, text=NAMED) as program:
        assert program.wait() == status, program.output
    assert program.output.splitlines()[-1] == f"Error: {line}"
