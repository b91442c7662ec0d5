"""``natsery export`` on a real server."""

from __future__ import annotations

import importlib.util
import json
import re
import signal
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_strictly
from prometheus_client.parser import text_string_to_metric_families

from natsery._cli._exit_codes import Exit

from ..bounds import HANG_SECONDS
from ..dialects import CASES
from ..processes import Program, running
from ..server import NatsServer
from .canned import canned
from .conftest import OTHER_NAME, Result

Run = Callable[..., Result]

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def parse(text: str) -> Samples:
    """The samples, each once. The parser of OpenMetrics is strict about the order and the names of types, too."""
    found: Samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = sample.name, tuple(sorted(sample.labels.items()))
            assert key not in found
            found[key] = sample.value
    strict = re.sub(r"^(# (?:HELP|TYPE) \w+?)_total ", r"\1 ", text, flags=re.MULTILINE)
    assert sum(len(family.samples) for family in parse_strictly(f"{strict}# EOF\n")) == len(found)
    return found


def values(samples: Samples, name: str, *labels: str) -> dict[tuple[str, ...], float]:
    """The values of a metric, by some of its labels."""
    return {
        tuple(dict(found)[label] for label in labels): value
        for (sample, found), value in samples.items()
        if sample == name
    }


def get(url: str) -> tuple[int, str, str]:
    """The status, the content type and the body."""
    try:
        with urllib.request.urlopen(url, timeout=HANG_SECONDS) as response:
            return response.status, response.headers["Content-Type"], response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers["Content-Type"], error.read().decode()


WITHOUT_GRACE = """
import functools, sys
import natsery
from natsery.__main__ import main

natsery.connect = functools.partial(natsery.connect, credentials_grace=0)
sys.exit(main())
"""
"""The command, with connections that are closed at once when a server refuses their credentials."""


@contextmanager
def exporting(url: str, *options: str, command: tuple[str, str] = ("-m", "natsery")) -> Iterator[tuple[Program, str]]:
    """The command, and where its metrics are."""
    arguments = ("export", "--listen", "127.0.0.1:0", "--stall", "0.2", *options)
    with running(*command, *arguments, environment={"NATS_URL": url, "PYTHONWARNINGS": "error"}) as program:
        yield program, program.wait_for("http://127.0.0.1:").strip()


def test_once_prints_the_metrics_of_all_services(run: Run, services: str) -> None:
    result = run("export", "--once", "--count", "3", url=services)
    assert (result.status, result.err) == (Exit.OK, "")
    samples = parse(result.out)
    assert values(samples, "nats_service_up", "service", "version", "id") == {
        (OTHER_NAME, "2.0.0-beta.1", "x"): 1,
        ("calc", "1.0.0", "one"): 1,
        ("calc", "1.1.0", "two"): 1,
    }
    requests = values(samples, "nats_service_requests_total", "id", "endpoint", "subject", "queue_group")
    assert set(requests) == {
        ("one", "add", "math.add", "q"),
        ("two", "add", "math.add", ""),
        ("x", "repeat", "repeat", "q"),
        ("x", "refuse", "refuse", "q"),
    }


def test_of_one_service(run: Run, services: str) -> None:
    result = run("export", "calc", "two", "--once", url=services)
    assert set(values(parse(result.out), "nats_service_up", "id")) == {("two",)}


def test_without_services(run: Run, nats_server: NatsServer) -> None:
    result = run("export", "nobody", "--once", url=nats_server.url)
    assert (result.status, result.err) == (Exit.NOT_FOUND, "Error: no service nobody answered\n")
    assert values(parse(result.out), "nats_service_scrape_malformed_replies_total") == {(): 0}


def test_every_dialect_stands_beside_the_others(run: Run, nats_server: NatsServer) -> None:
    cases = [case["payload"] for case in CASES.values() if case["verb"] == "STATS" and case["payload"][:1] == "{"]
    with canned(nats_server.url, *(case.encode() for case in cases)) as options:
        result = run("export", "--once", *options, url=nats_server.url)
    assert result.status == Exit.OK
    found = {service for (service,) in values(parse(result.out), "nats_service_up", "service")}
    assert found == {json.loads(case)["name"] for case in cases}


def test_it_serves_until_a_signal(services: str) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        with exporting(services, "--count", "3") as (program, url):
            status, content_type, text = get(url)
            assert (status, content_type) == (200, "text/plain; version=0.0.4; charset=utf-8")
            assert len(values(parse(text), "nats_service_up", "id")) == 3
            assert get(url.removesuffix("/metrics")) == (
                404,
                "text/plain; charset=utf-8",
                "the metrics are at /metrics\n",
            )
            program.send(number)
            assert program.wait() == Exit.OK
        assert program.output == f"{url}\n"


def test_it_says_that_the_server_is_away_and_finds_it_again() -> None:
    with NatsServer() as server, exporting(server.url) as (program, url):
        assert get(url)[0] == 200
        server.kill()
        while (answer := get(url))[0] == 200:
            pass
        assert answer == (503, "text/plain; charset=utf-8", "the connection to the server is lost\n")
        server.restart()
        while get(url)[0] == 503:
            pass
        assert get(url)[0] == 200
        program.terminate()
        assert program.wait() == Exit.OK


def test_it_may_not_ask() -> None:
    users = 'authorization { users: [ { user: u, password: p, permissions: { publish: { deny: ["$SRV.>"] } } } ] }'
    with NatsServer(users) as server, exporting(server.url, "--user", "u", "--password", "p") as (_, url):
        status, _, text = get(url)
    assert status == 503
    assert "$SRV.STATS" in text


def test_a_connection_that_is_closed_for_good_ends_it() -> None:
    users = "authorization { users: [ { user: u, password: %s } ] }"
    options = ("--user", "u", "--password", "p")
    with (
        NatsServer(users % "p") as server,
        exporting(server.url, *options, command=("-c", WITHOUT_GRACE)) as (program, _),
    ):
        server.restart(users % "other")
        assert program.wait() == Exit.UNREACHABLE
    assert program.output.count("Error: ") == 1
    assert "Traceback" not in program.output


def test_a_port_that_is_taken(run: Run, services: str) -> None:
    with exporting(services) as (_, url):
        address = url.removeprefix("http://").removesuffix("/metrics")
        result = run("export", "--listen", address, url=services)
    assert result == Result(
        Exit.FAILED,
        "",
        f"Error: --listen: cannot listen at {address}: Address already in use; write another port, or 0 for a free one\n",
    )


def test_without_prometheus_client(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "prometheus_client" else find(name))
    result = run("export", "--once")
    text = "natsery export needs prometheus-client; run: pip install 'natsery[prometheus]'"
    assert result == Result(Exit.FAILED, "", f"Error: {text}\n")
    assert run("export", "--help").status == Exit.OK
