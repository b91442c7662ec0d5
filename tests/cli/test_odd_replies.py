"""What the commands make of replies that are odd: none hides another, and none reaches the terminal as it is."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from typing import Any

import pytest

from natsery._cli import _output
from natsery._cli._discovery import _list_commands
from natsery._cli._format import printable

from ..dialects import CASES
from ..server import NatsServer
from .canned import PREFIX, canned
from .conftest import Result

Run = Callable[..., Result]

KINDS = {"ls": "INFO", "ping": "PING", "info": "INFO", "stats": "STATS"}
GOOD = {"name": "good", "id": "g", "version": "1.0.0", "started": "2026-09-24T11:02:55Z", "endpoints": []}
TOP = ("--prefix", PREFIX, "--once", "--interval", "0.1", "--level", "all")
CONTROLS = "\x9b31m\x07\x7f\u2028\u202e\U000e0001"


def case_of(name: str) -> bytes | tuple[dict[str, str], bytes]:
    case = CASES[name]
    return (case["headers"], case["payload"].encode()) if "headers" in case else case["payload"].encode()


@pytest.mark.parametrize("command", KINDS)
def test_every_dialect_stands_beside_the_others(run: Run, nats_server: NatsServer, command: str) -> None:
    cases = [
        name for name, case in CASES.items() if case["verb"] == KINDS[command] and case["payload"][:1] in ("", "{")
    ]
    cases = [name for name in cases if "peer" not in name]
    replies = [case_of(name) for name in cases]
    with canned(nats_server.url, *replies, json.dumps(GOOD).encode()) as options:
        result = run(command, *options, url=nats_server.url)
    assert result.status == 0
    assert "good" in result.out
    for name in cases:
        if CASES[name]["payload"]:
            assert json.loads(CASES[name]["payload"])["name"] in result.out
        else:
            line = "Warning: a reply was skipped: a service answered with the error 500: Maximum Payload Exceeded\n"
            assert result.err == line


@pytest.mark.parametrize("command", KINDS)
@pytest.mark.parametrize("as_json", [False, True])
def test_an_instance_that_answers_twice_is_shown_once(
    run: Run, nats_server: NatsServer, command: str, as_json: bool
) -> None:
    other = {**GOOD, "id": "h"}
    with canned(nats_server.url, json.dumps(GOOD).encode(), json.dumps(other).encode(), times=2) as options:
        result = run(command, *options, *(["--json"] if as_json else []), url=nats_server.url)
        assert result.err == "Warning: 2 instances answered more than once and count once\n"
        if as_json:
            assert [each["id"] for each in json.loads(result.out)] == ["g", "h"]
        elif command == "stats":
            assert "  2 instances, up " in result.out
        elif command == "ls":
            assert result.out.splitlines()[1].split() == ["good", "1.0.0", "2", "0"]
        else:
            assert result.out.count("good") == 2
    with canned(nats_server.url, json.dumps(GOOD).encode(), times=2) as options:
        line = "Warning: instance g of good answered more than once and counts once\n"
        assert run(command, *options, url=nats_server.url).err == line


def test_the_rate_of_an_instance_that_answers_twice_is_its_own(run: Run, nats_server: NatsServer) -> None:
    endpoint = {"name": "add", "subject": "add", "num_requests": 36_000, "num_errors": 0}
    value = {**GOOD, "started": "0001-01-01T00:00:00Z", "endpoints": [endpoint]}
    with canned(nats_server.url, json.dumps(value).encode(), times=2) as options:
        result = run("stats", *options, url=nats_server.url)
    assert "36,000 requests" in result.out


def test_without_a_start_there_is_no_rate(run: Run, nats_server: NatsServer) -> None:
    """It was the number of requests over two thousand years."""
    add, other = ({"name": name, "subject": name, "num_requests": 3_000, "num_errors": 0} for name in ("add", "other"))
    values = (
        {**GOOD, "name": "none", "started": None, "endpoints": [add]},
        {**GOOD, "name": "some", "id": "1", "started": None, "endpoints": [add, other]},
        {**GOOD, "name": "some", "id": "2", "started": "9999-01-01T00:00:00Z", "endpoints": [add]},
    )
    with canned(nats_server.url, *(json.dumps(each).encode() for each in values)) as options:
        lines = run("stats", *options, url=nats_server.url).out.splitlines()
    assert [line.split()[:5] for line in lines[1:3]] == [
        ["none", "1", "3,000", "0", "?"],
        ["some", "2", "9,000", "0", "3,000/s"],
    ]
    rates = [line.split()[4] for line in lines if line.startswith(("  add", "  other"))]
    assert rates == ["?", "3,000/s", "?"]


@pytest.mark.parametrize("command", KINDS)
def test_json_is_what_came(run: Run, nats_server: NatsServer, command: str) -> None:
    """Fields that natsery does not know were left out, others were added, and numbers were changed."""
    text = '{"new":{"a":[1.50,1e400,-0,%s]},"name":"calc","id":"x","id":"x","metadata":null,"descr\\u0069ption":7}' % (
        "9" * 900
    )
    with canned(nats_server.url, text.encode()) as options:
        result = run(command, "--json", *options, url=nats_server.url)
    assert result.err == ""
    shown = result.out.replace(": ", ":").replace(", ", ",")
    if command == "ping":
        shown, _, rest = shown.rpartition(',"rtt":')
        assert rest.strip("}]\n").isdigit()
        assert shown == f"[{text[:-1]}"
    else:
        assert shown == f"[{text}]\n"


@pytest.mark.parametrize("command", [*KINDS, "top"])
@pytest.mark.parametrize("as_json", [False, True])
def test_nothing_in_a_reply_controls_the_terminal(
    run: Run, nats_server: NatsServer, command: str, as_json: bool
) -> None:
    """C1 control characters passed through --json, and line feeds forged lines."""
    endpoint = dict.fromkeys(("name", "subject", "queue_group", "last_error", "metadata"), f"e{CONTROLS}\nforged")
    value = {
        **dict.fromkeys(("name", "id", "version", "description", "new"), f"a{CONTROLS}\nforged\ud800"),
        "started": GOOD["started"],
        "metadata": {f"k{CONTROLS}\n": f"v{CONTROLS}\n"},
        "endpoints": [endpoint],
    }
    raw = json.dumps(value, ensure_ascii=False).replace("\ud800", "\\ud800").encode()
    with canned(nats_server.url, raw) as options:
        result = run(
            command, *(TOP if command == "top" else options), *(["--json"] if as_json else []), url=nats_server.url
        )
    assert result.status == 0
    assert printable(result.out) == result.out
    assert not any(line.startswith("forged") for line in result.out.splitlines())
    if as_json:
        assert "forged" in json.dumps(json.loads(result.out))


def test_json_survives_a_terminal_that_is_not_utf_8(
    run: Run, nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it could not show became question marks."""
    monkeypatch.setattr(_output, "_encoding", lambda: "latin-1")
    with canned(
        nats_server.url, json.dumps({**GOOD, "description": "Köln 東京 😀"}, ensure_ascii=False).encode()
    ) as options:
        out = run("info", "--json", *options, url=nats_server.url).out
        assert '"Köln \\u6771\\u4eac \\ud83d\\ude00"' in out
        assert json.loads(out)[0]["description"] == "Köln 東京 😀"


@pytest.mark.parametrize("command", ["stats", "top"])
@pytest.mark.parametrize("started", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "soon", None, 5])
@pytest.mark.parametrize("as_json", [False, True])
def test_odd_times_end_no_command(run: Run, nats_server: NatsServer, command: str, started: Any, as_json: bool) -> None:
    """It was a traceback (OverflowError)."""
    endpoint = {"name": "add", "subject": "add", "num_requests": 10**400, "data": [[]] * 3}
    value = {**GOOD, "name": "odd", "started": started, "endpoints": [endpoint]}
    with canned(nats_server.url, json.dumps(value).encode(), json.dumps(GOOD).encode()) as options:
        result = run(
            command, *(TOP if command == "top" else options), *(["--json"] if as_json else []), url=nats_server.url
        )
    assert (result.status, result.err) == (0, "")
    assert "odd" in result.out
    assert "good" in result.out


def test_a_deep_reply_is_cut_off_where_readers_have_their_limits(run: Run, nats_server: NatsServer) -> None:
    lists, objects = "[" * 990 + "]" * 990, '{"a":' * 990 + "1" + "}" * 990
    deep = f'{{"name":"deep","id":"d","new":{lists},"data":[{{"a":{objects}}}]}}'
    with canned(nats_server.url, deep.encode(), json.dumps(GOOD).encode()) as options:
        replies = json.loads(run("info", "--json", *options, url=nats_server.url).out)
    assert [each["name"] for each in replies] == ["deep", "good"]
    assert str(replies[0]["new"]).count("[") == 98
    assert str(replies[0]["new"]).count("None") == 1


@pytest.mark.parametrize("command", KINDS)
def test_a_number_that_readers_refuse_hides_no_other_reply(run: Run, nats_server: NatsServer, command: str) -> None:
    """Python's json refused the whole array because of it."""
    odd = '{"name":"odd","id":"o","new":[%s,-%s,1.%s,"%s"]}' % (("9" * 5_000,) * 4)
    with canned(nats_server.url, odd.encode(), json.dumps(GOOD).encode()) as options:
        replies = json.loads(run(command, "--json", *options, url=nats_server.url).out)
    (new,) = (each["new"] for each in replies if each["name"] == "odd")
    assert new == [None, None, 2.0, "9" * 5_000]
    assert {each["name"] for each in replies} == {"odd", "good"}


@pytest.mark.parametrize("bound", [{"MAX_REPLIES": 2}, {"MAX_CHARACTERS": 300}], ids=str)
@pytest.mark.parametrize("as_json", [False, True])
def test_ping_keeps_no_more_than_a_list_does(
    run: Run, nats_server: NatsServer, bound: dict[str, int], as_json: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A peer that answered with many large replies could fill the memory."""
    for name, value in bound.items():
        monkeypatch.setattr(_list_commands, name, value)
    replies = [json.dumps({**GOOD, "id": f"g{number}", "metadata": {"a": "b" * 20}}).encode() for number in range(4)]
    assert 2 * len(replies[0]) <= 300 < 3 * len(replies[0])
    with canned(nats_server.url, *replies) as options:
        result = run("ping", *options, *(["--json"] if as_json else []), url=nats_server.url)
    assert result.err == "Warning: 2 replies dropped: too many, or too fast\n"
    assert [f"g{number}" in result.out for number in range(4)] == [True, True, False, False]


class Terminal(io.TextIOWrapper):
    """Stdout, as a terminal."""

    def __init__(self) -> None:
        super().__init__(io.BytesIO(), encoding="utf-8", errors="replace")

    def isatty(self) -> bool:
        return True

    def written(self) -> bytes:
        self.flush()
        assert isinstance(self.buffer, io.BytesIO)
        return self.buffer.getvalue()


@pytest.fixture
def terminal(run: Run, monkeypatch: pytest.MonkeyPatch) -> Callable[..., bytes]:
    """Runs the command on a terminal, and returns what it writes there."""

    def run_on_terminal(*arguments: str, url: str) -> bytes:
        # In the test itself, for pytest replaces it between fixtures and test.
        made = Terminal()
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", made)
            assert run(*arguments, url=url).status == 0
        return made.written()

    return run_on_terminal


def test_json_on_a_terminal_is_indented(terminal: Callable[..., bytes], nats_server: NatsServer) -> None:
    value = {**GOOD, "endpoints": [{"name": "a", "subject": "b"}], "new": {"x": [], "y": {}, "z": [1, None]}}
    with canned(nats_server.url, json.dumps(value).encode()) as options:
        written = terminal("info", "--json", *options, url=nats_server.url)
    assert written.decode() == json.dumps([value], indent=2) + "\n"


def test_a_reply_on_a_terminal_is_shown(terminal: Callable[..., bytes], services: str) -> None:
    """Whoever answers could have written on the terminal as he liked: the docs promised otherwise."""
    data = f"a\tb\n{CONTROLS}\udcff\r\x1b[31m"
    written = terminal("request", "repeat", data, "--replies", "1", url=services)
    assert written.decode() == f"a\tb\n{printable(CONTROLS)}\\xff\\r\\x1b[31m\n"
    written = terminal("request", "repeat", data, "--replies", "1", "--json", url=services)
    assert written.isascii()
    assert printable(written.decode()) == written.decode()


def test_raw_gives_the_bytes_to_a_terminal_as_well(terminal: Callable[..., bytes], services: str) -> None:
    assert terminal("request", "repeat", "\x1b[31m\udcff", "--raw", "--replies", "1", url=services) == b"\x1b[31m\xff"
