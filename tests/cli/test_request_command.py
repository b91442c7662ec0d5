"""``natsery request``, where it is piped."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from pathlib import Path

import anyio
import anyio.from_thread
import pytest

import natsery
from natsery._cli._discovery import _request_command
from natsery._cli._exit_codes import Exit

from ..server import NatsServer
from .canned import canned
from .conftest import Result

Run = Callable[..., Result]


class _Stdin(io.TextIOWrapper):
    def __init__(self, data: bytes, *, is_terminal: bool = False) -> None:
        super().__init__(io.BytesIO(data), encoding="utf-8")
        self._is_terminal = is_terminal

    def isatty(self) -> bool:
        return self._is_terminal

    def read_from(self, descriptor: int) -> _Stdin:
        self.fileno = lambda: descriptor  # type: ignore[method-assign]
        return self


@pytest.fixture(autouse=True)
def stdin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", _Stdin(b"", is_terminal=True))


def test_a_reply_is_printed(run: Run, services: str) -> None:
    assert run("request", "math.add", "1+2", url=services) == Result(0, "3\n", "")
    assert run("request", "math.add", "1+2", "--raw", url=services) == Result(0, "3", "")
    assert run("request", "repeat", "a\n", url=services) == Result(0, "a\n", "")


def test_an_endpoint_is_called_by_name(run: Run, services: str) -> None:
    assert run("request", "--service", "calc", "--endpoint", "add", "1+2", url=services) == Result(0, "3\n", "")
    assert run("request", "--service", "calc", "--endpoint", "math.add", "1+2", url=services) == Result(0, "3\n", "")


def test_an_endpoint_whose_subject_is_one_of_servers_is_not_called(run: Run, nats_server: NatsServer) -> None:
    """A service says in INFO what its subject is, and a request goes there with this user's permissions."""
    info = natsery.ServiceInfo(
        name="calc",
        id="x",
        version="1.0.0",
        endpoints=(natsery.EndpointInfo(name="add", subject="$JS.API.STREAM.DELETE.orders"),),
    )
    with canned(nats_server.url, info.to_json()) as (*prefix, _, _):
        result = run("request", "--service", "calc", "--endpoint", "add", "1", *prefix, url=nats_server.url)
    assert (result.status, result.out) == (Exit.NOT_FOUND, "")
    assert "'$JS.API.STREAM.DELETE.orders' is one of servers" in result.err


@pytest.mark.parametrize(
    ("arguments", "status", "error"),
    [
        (
            ("--service", "calc", "--endpoint", "nothing", "1"),
            Exit.NOT_FOUND,
            "there is none of that name; it has 'add'",
        ),
        (("--service", "nobody", "--endpoint", "add", "1"), Exit.NOT_FOUND, "no service nobody answered"),
        (("--service", "calc", "1"), Exit.USAGE, "--service and --endpoint are given together."),
        (("--endpoint", "add", "1"), Exit.USAGE, "--service and --endpoint are given together."),
        (
            ("--service", "calc", "--endpoint", "add", "math.add", "1"),
            Exit.USAGE,
            "SUBJECT and --service cannot be given",
        ),
        (("--service", "a b", "--endpoint", "add", "1"), Exit.USAGE, "--service"),
        ((), Exit.USAGE, "Give a SUBJECT, or --service and --endpoint."),
    ],
)
def test_what_is_wrong_with_names(
    run: Run, services: str, arguments: tuple[str, ...], status: Exit, error: str
) -> None:
    result = run("request", *arguments, url=services)
    assert (result.status, result.out) == (status, "")
    assert error in result.err
    assert result.err.count("\n") == 1


def test_an_error_goes_to_stderr_with_its_code(run: Run, services: str) -> None:
    assert run("request", "refuse", url=services) == Result(1, "", "Error: 409: not now\ntry again\n")
    result = run("request", "refuse", "--json", url=services)
    assert (result.status, result.err) == (1, "Error: 409: not now\n")
    reply = json.loads(result.out)
    assert reply["error"] == {"code": 409, "description": "not now"}
    assert reply["data"] == "try again"
    assert ["Retry-After", "7"] in reply["headers"]
    assert "Retry-After: 7\n" in run("request", "refuse", "-v", url=services).err


def test_data_comes_from_a_file_or_from_stdin(
    run: Run, services: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "data"
    path.write_bytes(b"20+22")
    assert run("request", "math.add", "-f", str(path), url=services).out == "42\n"
    monkeypatch.setattr(sys, "stdin", _Stdin(b"1+1"))
    assert run("request", "math.add", url=services).out == "2\n"
    monkeypatch.setattr(sys, "stdin", _Stdin(b"2+2", is_terminal=True))
    assert run("request", "math.add", "-f", "-", url=services).out == "4\n"
    assert run("request", "math.add", url=services).err == "Error: 400: expected 'a+b'\n"
    assert run("request", "repeat", "\udcff", "--json", url=services).out.count('"data_base64": "/w=="') == 1


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        with suppress(OSError):
            os.close(end)


def test_a_silent_stdin_is_not_waited_for(
    run: Run, services: str, monkeypatch: pytest.MonkeyPatch, pipe: tuple[int, int]
) -> None:
    """As in a job of cron, or over ssh: it waited for ever, before --timeout counted."""
    monkeypatch.setattr(sys, "stdin", _Stdin(b"").read_from(pipe[0]))
    error = "Error: no data on stdin within 0.01 s; give DATA or --file, or '' for none\n"
    assert run("request", "repeat", "--timeout", "0.01", url=services) == Result(Exit.TIMEOUT, "", error)
    monkeypatch.setattr(_request_command, "PATIENCE", 0.001)
    told = "waiting for data on stdin; for none, add '' or < /dev/null\n"
    assert run("request", "repeat", "--timeout", "0.01", url=services) == Result(Exit.TIMEOUT, "", told + error)
    os.write(pipe[1], b"1+")
    assert run("request", "repeat", "--timeout", "0.01", url=services).status == Exit.TIMEOUT
    assert run("request", "repeat", "", "--replies", "1", url=services) == Result(0, "\n", "")


def test_of_a_slow_stdin_the_user_is_told_once(
    run: Run, services: str, monkeypatch: pytest.MonkeyPatch, pipe: tuple[int, int]
) -> None:
    """It was said again after each pause."""
    said: list[str] = []

    def say(text: str) -> None:
        said.append(text)
        os.write(pipe[1], b"a")

    monkeypatch.setattr(sys, "stdin", _Stdin(b"").read_from(pipe[0]))
    monkeypatch.setattr(_request_command, "PATIENCE", 0.001)
    monkeypatch.setattr(_request_command, "print_error", say)
    assert run("request", "repeat", "--timeout", "0.01", url=services).status == Exit.TIMEOUT
    assert len(said) == 1


def test_all_of_stdin_is_read(
    run: Run, services: str, monkeypatch: pytest.MonkeyPatch, pipe: tuple[int, int], tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "stdin", _Stdin(b"").read_from(pipe[0]))
    os.write(pipe[1], b"1+2")
    os.close(pipe[1])
    assert run("request", "math.add", url=services) == Result(0, "3\n", "")
    path = tmp_path / "file"
    path.write_bytes(b"20+" + b"0" * 100_000 + b"22")
    with path.open("rb") as file:
        monkeypatch.setattr(sys, "stdin", _Stdin(b"").read_from(file.fileno()))
        assert len(run("request", "repeat", "--replies", "1", url=services).out) == 100_006


def test_a_terminal_that_is_to_be_read_is_told_so(
    run: Run, services: str, monkeypatch: pytest.MonkeyPatch, pipe: tuple[int, int]
) -> None:
    os.write(pipe[1], b"1+2")
    os.close(pipe[1])
    monkeypatch.setattr(sys, "stdin", _Stdin(b"", is_terminal=True).read_from(pipe[0]))
    note = "reading the data from the terminal; end it with Ctrl-D\n"
    assert run("request", "math.add", "-f", "-", url=services) == Result(0, "3\n", note)


def test_headers_and_times(run: Run, services: str) -> None:
    result = run("request", "repeat", "x", "-H", "Trace: 7", "-H", "trace:8", "-v", url=services)
    assert (result.status, result.out) == (0, "x\n")
    first, *headers = result.err.splitlines()
    assert first.startswith("1 byte in ")
    assert headers == ["Trace: 7", "trace: 8"]


@natsery.endpoint
async def count(body: int) -> AsyncIterator[int]:
    for number in range(body):
        yield number


@pytest.fixture
def streams(services: str) -> Iterator[str]:
    """The URL of the same server, with a service that streams and that only those who know its prefix find."""
    config = natsery.ServiceConfig("streams", "1.0.0", prefix="$STREAMS", endpoints=[count])
    with anyio.from_thread.start_blocking_portal("trio") as portal:
        with portal.wrap_async_context_manager(natsery.connect(services)) as nc:
            with portal.wrap_async_context_manager(natsery.serve(nc, config)):
                yield services


def test_a_stream_is_read_to_its_end(run: Run, streams: str) -> None:
    """With --replies, the end was an empty line, and the command waited until its time was over."""
    assert run("request", "count", "300", "--stream", url=streams).out.split() == [str(each) for each in range(300)]
    assert run("request", "count", "0", "--stream", url=streams) == Result(0, "", "")


def test_what_goes_wrong_with_a_stream(run: Run, services: str) -> None:
    assert run("request", "refuse", "--stream", url=services) == Result(1, "", "Error: 409: not now\ntry again\n")
    missing = "Error: no responders: there is no subscription to 'nobody'\n"
    assert run("request", "nobody", "--stream", url=services) == Result(Exit.NOT_FOUND, "", missing)
    endless = "Error: 'repeat' sent neither a reply nor the end of a stream within 0.1 s\n"
    assert run("request", "repeat", "x", "--stream", "--timeout", "0.1", url=services) == Result(
        Exit.TIMEOUT, "x\nx\nx\n", endless
    )
    result = run("request", "repeat", "x", "--stream", "--replies", "3", url=services)
    assert (result.status, result.out) == (Exit.USAGE, "")
    assert "--stream and --replies cannot be given together." in result.err


def test_several_replies_and_several_requests(run: Run, services: str) -> None:
    assert run("request", "repeat", "x", "--replies", "3", url=services) == Result(0, "x\nx\nx\n", "")
    result = run("request", "math.add", "1+2", "--count", "5", url=services)
    assert (result.status, result.out) == (0, "3\n" * 5)
    assert result.err.startswith("5 requests, 0 failed; shortest ")
    result = run("request", "nobody", "--count", "2", url=services)
    assert result.status == Exit.NOT_FOUND
    assert result.err.startswith(
        "Error: no responders: there is no subscription to 'nobody'\n" * 2 + "2 requests, 2 failed; "
    )


def test_nobody_and_no_reply_in_time(run: Run, services: str) -> None:
    assert run("request", "nobody", url=services) == Result(
        Exit.NOT_FOUND, "", "Error: no responders: there is no subscription to 'nobody'\n"
    )

    async def listen(*, task_status: anyio.abc.TaskStatus[None]) -> None:
        async with natsery.connect(services) as nc, nc.subscribe("silent"):
            task_status.started()
            await anyio.sleep_forever()

    with anyio.from_thread.start_blocking_portal("trio") as portal:
        future, _ = portal.start_task(listen)
        result = run("request", "silent", "--timeout", "0.01", url=services)
        future.cancel()
    assert result == Result(Exit.TIMEOUT, "", "Error: no reply from 'silent' within 0.01 s\n")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("a..b",), "SUBJECT: must not contain an empty token"),
        (("a.*",), "SUBJECT: must not contain a wildcard"),
        (("a", "-H", "Name"), "'Name' is not of the form 'NAME: VALUE'"),
        (("a", "-H", "Na me: x"), "header name: must be printable ASCII"),
        (("a", "b", "-f", __file__), "DATA and --file cannot be given together"),
        (("a", "-f", "/no/such/file"), "File '/no/such/file' does not exist"),
        (("a", "--timeout", "0"), "0.0 is not in the range x>0"),
    ],
)
def test_wrong_usage_sends_nothing(run: Run, arguments: tuple[str, ...], text: str) -> None:
    result = run("request", *arguments)
    assert (result.status, result.out) == (Exit.USAGE, "")
    assert text in result.err


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(run: Run, shell: str) -> None:
    result = run("completion", shell)
    assert result.status == 0
    assert f"_NATSERY_COMPLETE={shell}_complete" in result.out


@pytest.mark.parametrize("command", ["request", "run", "export", "completion"])
def test_help_keeps_examples_line_by_line(run: Run, command: str) -> None:
    result = run(command, "--help")
    assert "\\b" not in result.out
    assert (
        sum(line.strip().split()[:1] == ["natsery"] for line in result.out.splitlines()) >= 2 or command == "completion"
    )
