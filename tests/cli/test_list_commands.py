"""``natsery ls``, ``ping`` and ``info``, where they are piped."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import anyio
import pytest

import natsery
from natsery._cli._exit_codes import Exit

from ..server import NatsServer
from .conftest import OTHER_NAME, Result

Run = Callable[..., Result]


def test_services_are_listed(run: Run, services: str) -> None:
    result = run("ls", "--count", "3", url=services)
    assert result == Result(
        0,
        "Service                                              Version       Instances  Endpoints  Description\n"
        f"{OTHER_NAME}  2.0.0-beta.1          1          2  多くの文字\\x1b[31m\n"
        "calc                                                 1.0.0, 1.1.0          2          1  Arithmetic\n",
        "",
    )


def test_instances_of_a_service_are_listed(run: Run, services: str) -> None:
    result = run("ls", "calc", "--count", "2", url=services)
    assert result == Result(
        0,
        "Service  Version  Instance  Endpoints  Metadata\n"
        "calc     1.0.0    one               1  b=c, stadt=Köln\n"
        "calc     1.1.0    two               1\n",
        "",
    )


def test_an_instance_is_described(run: Run, services: str) -> None:
    result = run("info", "calc", "one", url=services)
    assert result == Result(
        0,
        "calc 1.0.0\n"
        "  Instance     one\n"
        "  Description  Arithmetic\n"
        "  Metadata     b=c, stadt=Köln\n"
        "  Endpoint  Subject   Queue group\n"
        "  add       math.add  q\n",
        "",
    )
    result = run("info", "calc", "two", url=services)
    assert "  add       math.add  none\n" in result.out
    result = run("info", OTHER_NAME, "x", url=services)
    assert "  Description  多くの文字\\x1b[31m\n" in result.out
    assert "  repeat    repeat   q            größe=klein\n" in result.out


def test_a_ping_shows_how_long_each_took(run: Run, services: str) -> None:
    result = run("ping", "calc", "--count", "2", url=services)
    assert (result.status, result.err) == (0, "")
    head, *lines = result.out.splitlines()
    assert head.split() == ["Service", "Version", "Instance", "Time"]
    assert {tuple(line.split()[:3]) for line in lines} == {("calc", "1.0.0", "one"), ("calc", "1.1.0", "two")}
    assert all(re.search(r" [\d.]+ (µs|ms|s)$", line) for line in lines)


@pytest.mark.parametrize(("verb", "kind"), [("ls", "info"), ("info", "info"), ("ping", "ping")])
def test_json_for_machines(run: Run, services: str, verb: str, kind: str) -> None:
    result = run(verb, "--json", "--count", "3", url=services)
    assert (result.status, result.err) == (0, "")
    replies = json.loads(result.out)
    assert {each["id"] for each in replies} == {"one", "two", "x"}
    assert {each["type"] for each in replies} == {f"io.nats.micro.v1.{kind}_response"}
    if verb == "ping":
        assert all(each["rtt"] > 0 for each in replies)


@pytest.mark.parametrize("verb", ["ls", "ping", "info"])
def test_nobody_there_has_a_status_of_its_own(run: Run, nats_server: NatsServer, services: str, verb: str) -> None:
    assert run(verb, "nobody", url=services) == Result(Exit.NOT_FOUND, "", "Error: no service nobody answered\n")
    assert run(verb, "calc", "three", url=services) == Result(
        Exit.NOT_FOUND, "", "Error: no instance three of calc answered\n"
    )
    assert run(verb, "--prefix", "$OTHER", url=services) == Result(Exit.NOT_FOUND, "", "Error: no service answered\n")
    assert run(verb, "--json", "nobody", url=services).out == "[]\n"


def test_replies_that_cannot_be_read_are_warned_of(run: Run, nats_server: NatsServer) -> None:
    good = natsery.ServiceInfo(name="calc", id="one", version="1.0.0").to_json()

    async def answer(nc: natsery.NativeConnection, message: natsery.Message) -> None:
        for data in (b"?", b"?", good, b"?", b"?", b"?"):
            await nc.publish(message.reply, data)

    async def serve(*, task_status: anyio.abc.TaskStatus[None]) -> None:
        async with natsery.connect(nats_server.url) as nc, nc.subscribe("$ODD.INFO") as messages:
            task_status.started()
            async for message in messages:
                await answer(nc, message)

    with anyio.from_thread.start_blocking_portal("trio") as portal:
        future, _ = portal.start_task(serve)
        result = run("ls", "--prefix", "$ODD", "--count", "6", url=nats_server.url)
        future.cancel()
    assert (result.status, result.out.splitlines()[1].split()) == (0, ["calc", "1.0.0", "1", "0"])
    lines = result.err.splitlines()
    assert len(lines) == 4
    assert all(line.startswith("Warning: a reply was skipped: not JSON: ") for line in lines[:3])
    assert lines[3] == "Warning: 2 more replies were skipped"


def test_names_that_cannot_be_are_refused(run: Run, services: str) -> None:
    result = run("info", "a.b", url=services)
    assert (result.status, result.out) == (Exit.USAGE, "")
    assert result.err == "Error: NAME: must be one or more of A-Z, a-z, 0-9, '-' and '_'; got 'a.b'\n"
    result = run("info", "calc", "a.b", url=services)
    assert (result.status, result.err) == (Exit.USAGE, "Error: ID: must be a single token, without dots; got 'a.b'\n")
