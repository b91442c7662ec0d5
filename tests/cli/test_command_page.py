"""The commands of the documents have the options that they show, and those of docs/command.md answer what it shows."""

from __future__ import annotations

import io
import json
import re
import shlex
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import anyio.from_thread
import click
import pytest

import natsery
from natsery._cli._app import COMMANDS, cli

from ..calc_service import add
from ..pages import PAGES, ROOT
from ..processes import running
from ..server import NatsServer
from .conftest import Result

SHOWN = re.compile(r"(?:`|^ *(?:\$ )?|[ /])natsery (?P<name>[a-z]+)(?P<options>(?: (?! )[^`\n|>)]*)?)", re.MULTILINE)
PAGE = (ROOT / "docs" / "command.md").read_text(encoding="utf-8")
COMMANDS_OF_PAGES = sorted(
    {
        (match["name"], match["options"].strip())
        for page in PAGES
        for match in SHOWN.finditer(page.read_text(encoding="utf-8"))
        if match["name"] in COMMANDS
    }
)


@pytest.mark.parametrize(("name", "options"), COMMANDS_OF_PAGES)
def test_a_command_has_the_options_that_a_page_shows(name: str, options: str) -> None:
    context = click.Context(cli)
    command = cli.get_command(context, name)
    assert command is not None
    with suppress(click.MissingParameter, click.BadOptionUsage):  # a text says `natsery run --health` of an option
        command.make_context(name, shlex.split(options, comments=True), parent=context)


@natsery.endpoint
async def divide(request: natsery.Request) -> bytes:
    return b""


@natsery.endpoint
async def count(body: int) -> AsyncIterator[int]:
    for number in range(1, body + 1):
        yield number


@pytest.fixture(scope="module")
def calc() -> Iterator[str]:
    """The URL of a server with the services of the page."""
    math = natsery.group("math", [add, divide])
    description = "Arithmetic on whole numbers"
    configs = [
        natsery.ServiceConfig("calc", version, description=description, metadata={"region": "eu"}, endpoints=[math])
        for version in ("1.0.0", "1.1.0")
    ]
    numbers = natsery.ServiceConfig("numbers", "1.0.0", endpoints=[count], prefix="ELSEWHERE")  # `ls` does not see it
    with NatsServer() as server, anyio.from_thread.start_blocking_portal("trio") as portal, ExitStack() as stack:
        nc = stack.enter_context(portal.wrap_async_context_manager(natsery.connect(server.url)))
        for config in (*configs, numbers):
            stack.enter_context(portal.wrap_async_context_manager(natsery.serve(nc, config)))
        yield server.url


def shape(text: str) -> list[str]:
    """The lines of an output in any order, without what is another each time, and the sums that only a terminal gets."""
    text = re.sub(r"^ *\d+ (?:service|instance).*\n", "", text, flags=re.MULTILINE)
    text = re.sub(r"\b\w{22}\b", "ID", text)
    text = re.sub(r"\d[\d.]* (?:ms|µs)", "TIME", text)
    return sorted(" ".join(line.split()) for line in text.splitlines() if line.strip())


SHELL = re.compile(r"^    \$ (.*)\n((?:    (?!\$ ).*\n)*)", re.MULTILINE)
ANSWERED = [each for each in SHELL.findall(PAGE) if re.search(r"natsery (ls|ping|info|request)\b", each[0])]


def test_most_commands_of_the_page_are_run() -> None:
    assert len(ANSWERED) == 8


@pytest.mark.parametrize(("line", "shown"), ANSWERED)
def test_the_answer_is_the_one_that_the_page_shows(
    line: str, shown: str, calc: str, run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    piped, _, command = line.rpartition(" | ")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(piped.removeprefix("echo ").encode())))
    _, *arguments = shlex.split(command)
    if arguments[0] == "info":
        replies = json.loads(run("ping", "calc", "--json", url=calc).out)
        (arguments[-1],) = [reply["id"] for reply in replies if reply["version"] == "1.0.0"]
    result = run(*arguments, url=calc)
    assert shape(result.err + result.out) == shape(shown)


def test_stats_shows_what_the_page_shows(calc: str, run: Callable[..., Result]) -> None:
    """But for the figures, and the error that was the last one."""
    run("request", "math.add", "x", url=calc)
    found = run("stats", "calc", url=calc).out
    shown = dict(SHELL.findall(PAGE))["natsery stats"].replace("500:Internal Server Error", "400:expected 'a+b'")
    assert set(re.findall(r"[a-z.]{3,}", shown, re.IGNORECASE)) == set(re.findall(r"[a-z.]{3,}", found, re.IGNORECASE))


CALC = """
import natsery

async def add(body: int) -> int: return body
async def divide(body: int) -> int: return body

config = natsery.ServiceConfig("calc", "1.0.0", endpoints=[natsery.group("math", [add, divide])])
"""


def test_run_shows_what_its_page_shows(nats_server: NatsServer, tmp_path: Path) -> None:
    (tmp_path / "calc.py").write_text(CALC)
    environment = {"NATS_URL": nats_server.url}
    with running("-m", "natsery", "run", "calc", cwd=tmp_path, environment=environment) as program:
        program.wait_for("ready")
        program.interrupt()
        assert program.wait() == 0
    text = (ROOT / "docs" / "run.md").read_text(encoding="utf-8")
    ((_, shown),) = (each for each in SHELL.findall(text) if each[0] == "natsery run calc")
    numbers = re.compile(r"\b\d[\d,]*\b")
    assert shape(numbers.sub("N", program.output)) == shape(numbers.sub("N", shown.replace("^C", "")))
