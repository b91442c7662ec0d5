"""Every block of the guide pages runs, and does what the page says of it: docs/start.md, services.md, calling.md, production.md and security.md."""

from __future__ import annotations

import asyncio
import builtins
import configparser
import dataclasses
import importlib
import inspect
import math
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from types import ModuleType
from typing import Any

import anyio
import nats
import pytest
import yaml

import natsery
from natsery._cli._run._run_command import run
from natsery._service._error_reporting import CAUSED_BY_PEERS
from natsery._subjects import forbidden_reply_prefixes
from natsery.testing import MemoryBroker

from .bounds import bounded
from .calc_service import error_of
from .certificates import Certificates
from .pages import modules_in
from .plain_client import ask_json
from .processes import running
from .server import NatsServer
from .virtual_time import VIRTUAL_BACKENDS

pytestmark = pytest.mark.anyio

DOCS = Path(__file__).parent.parent / "docs"

NAMES = {
    "start": {
        "async def hello": "greeter",
        "async def test_hello": "test_greeter",
        "class Store": "notes",
        "async def test_notes": "test_notes",
        "stop_on_signals": "program",
    },
    "services": {
        "FAILED": "hooks",
        "grace=20": "serving",
        "rooms = ": "rooms",
        "async def find": "queue_groups",
        "async def report": "headers",
        "async def deliver": "detached",
    },
    "calling": {
        "calc = natsery": "services",
        'b"one"': "calling",
        "by_subject": "one_reply",
        "async def total": "many",
        "async def price_of": "repeating",
        "async def names": "streams",
        "async def in_stock": "several",
        "async def look_around": "finding",
    },
    "production": {"provider = ": "traced"},
    "security": {"async def new_order": "orders", "load_cert_chain": "secure"},
}
"""Of each page, what each block holds that no other does, and the name of the module that it becomes."""


def page(name: str) -> str:
    return (DOCS / f"{name}.md").read_text(encoding="utf-8")


def blocks(name: str, language: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", page(name), re.MULTILINE | re.DOTALL)
    return [block for of, block in found if of == language]


def table(text: str, header: str) -> list[list[str]]:
    """The cells of the rows of the table that begins with this header."""
    lines = text.partition(f"\n{header}\n")[2].splitlines()[1:]
    rows = lines[: next((index for index, line in enumerate(lines) if not line.startswith("|")), len(lines))]
    assert rows, header
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in rows]


@pytest.fixture(params=["trio", "asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> object:
    """In virtual time, but with a server, which no virtual clock can see."""
    return request.param if "nats_server" in request.fixturenames else VIRTUAL_BACKENDS[request.param]()


@pytest.fixture(autouse=True)
def modules(tmp_path: Path) -> Iterator[None]:
    """The blocks as modules."""
    texts: dict[str, str] = {}
    for name, names in NAMES.items():
        for text, module in names.items():
            (texts[module],) = [block for block in blocks(name, "python") if text in block]
    with modules_in(tmp_path, texts):
        yield


def module(name: str) -> ModuleType:
    return importlib.import_module(name)


@pytest.mark.parametrize("name", NAMES)
def test_every_block_is_tested(name: str) -> None:
    assert len(blocks(name, "python")) == len(NAMES[name])


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_somewhere(name: str) -> None:
    for target, anchor in re.findall(r"\]\(([\w./-]*?)(?:#([\w-]+))?\)", page(name)):
        text = (DOCS / target).read_text(encoding="utf-8") if target else page(name)
        titles = [title.lower() for title in re.findall(r"^#+ (.*)$", text, re.MULTILINE)]
        anchors = [re.sub(r"[^\w\- ]", "", title).replace(" ", "-") for title in titles]
        assert not anchor or anchor in anchors, f"{target}#{anchor}"


# Start


def test_the_services_of_start_answer_as_it_says(nats_server: NatsServer, tmp_path: Path) -> None:
    environment = {"NATS_URL": nats_server.url, "NATS_CONTEXT": "", "PYTHONWARNINGS": "error"}
    greeting, notes = re.split(r"^## Types.*$", page("start"), flags=re.MULTILINE)
    for name, text in (("greeter", greeting), ("notes", notes)):
        shown = re.findall(r"^    \$ natsery (.*)\n((?:    [^$\n].*\n)+)", text, re.MULTILINE)
        commands = {shlex.join(shlex.split(command)): textwrap.dedent(output) for command, output in shown}
        with running("-m", "natsery", "run", name, cwd=tmp_path, environment=environment) as program:
            program.wait_for("ready")
            if f"run {name}" in commands:
                said = commands.pop(f"run {name}").replace("nats://127.0.0.1:4222", nats_server.url)
                assert program.output == re.sub(r"instance \w+", re.findall(r"instance \w+", program.output)[0], said)
            for command, output in commands.items():
                if not command.startswith("server"):
                    arguments = ("-m", "natsery", *shlex.split(command))
                    with running(*arguments, cwd=tmp_path, environment=environment) as asking:
                        asking.wait()
                    lines = [line.rstrip() for line in asking.output.splitlines()]
                    assert lines  # and on a terminal, where there are sums, one more
                    assert lines == output.splitlines()[: len(lines)]
            program.terminate()
            assert program.wait() == 0, program.output
        assert len(commands) >= 4


def test_the_tests_of_start_pass(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    command = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "test_greeter.py", "test_notes.py")
    with running(*command, cwd=tmp_path) as program:
        assert program.wait() == 0, program.output
    assert "4 passed" in program.output


@pytest.mark.parametrize("end", ["interrupt", "terminate"])
def test_the_program_of_start_serves_until_a_signal(end: str, nats_server: NatsServer, tmp_path: Path) -> None:
    source = (tmp_path / "program.py").read_text().replace("nats://127.0.0.1:4222", nats_server.url)
    (tmp_path / "program.py").write_text(source)

    async def wait_live() -> None:
        async with bounded(), natsery.connect(nats_server.url) as nc:
            while not await natsery.ServiceClient(nc).ping("notes", count=1, wait=0.1):
                pass

    with running("program.py", cwd=tmp_path, environment={"PYTHONWARNINGS": "error"}) as program:
        anyio.run(wait_live)
        getattr(program, end)()
        assert program.wait() == 0, program.output
    assert program.output == ""


# Writing a service


SERVICES = "| option | default | what it is, and when you want it |"


def options_of(cls: type) -> dict[str, Any]:
    return {each.name: each for each in dataclasses.fields(cls) if not each.name.startswith("_")}


@pytest.mark.parametrize(
    ("heading", "cls"),
    [("ServiceConfig", natsery.ServiceConfig), ("EndpointConfig", natsery.EndpointConfig)],
)
def test_every_option_is_there_with_its_default(heading: str, cls: type) -> None:
    rows = table(page("services").partition(f"\n## {heading}\n")[2], SERVICES)
    fields = options_of(cls)
    shown = {re.fullmatch(r"`(\w+)`( \*)?", name)[1]: default for name, default, _ in rows}  # type: ignore[index]
    assert sorted(shown) == sorted(fields)
    for name, text in shown.items():
        field = fields[name]
        if text == "required":
            assert field.default is field.default_factory is dataclasses.MISSING
        elif field.default is not dataclasses.MISSING:
            assert eval(text.strip("`")) == field.default, name
        else:
            given = eval(text.strip("`"), vars(natsery))
            assert type(given) is type(field.default_factory()), name


def test_the_options_with_a_star_are_those_of_groups() -> None:
    rows = table(page("services").partition("\n## EndpointConfig\n")[2], SERVICES)
    starred = {name.strip("`* ") for name, *_ in rows if name.endswith("*")}
    assert starred == set(options_of(natsery.GroupConfig)) - {"name", "endpoints"}


def test_the_options_of_serve_are_there() -> None:
    rows = table(page("services"), "| option of `serve` and `serve_forever` | default | |")
    parameters = inspect.signature(natsery.serve).parameters.values()
    expected = {each.name: each.default for each in parameters if each.kind is each.KEYWORD_ONLY}
    assert {name.strip("`"): eval(default.strip("`")) for name, default, _ in rows} == expected


def test_the_hooks_have_the_signatures_that_are_shown() -> None:
    rows = {name.strip("`"): signature for name, signature, _ in table(page("services"), "| hook | signature | |")}
    assert set(rows) <= set(options_of(natsery.ServiceConfig))
    for name, cls in (("instruments", natsery.Instrument), ("codec", natsery.Codec)):
        shown = re.findall(r"`(\w+)\((.*?)\)`", rows[name])
        methods = {each: getattr(cls, each) for each in vars(cls) if not each.startswith(("_", "call_"))}
        assert dict(shown) == {
            each: ", ".join(
                parameter.strip("_") for parameter in inspect.signature(method).parameters if parameter != "self"
            )
            for each, method in methods.items()
        }


async def test_the_hooks_are_called() -> None:
    hooks = module("hooks")
    async with bounded(), MemoryBroker() as broker, broker.connect() as nc, natsery.serve(nc, hooks.config):
        member = {"Member": "yes"}
        assert (await nc.request("shop.price", b'"tea"', headers=member)).data == b"350"
        assert error_of(await nc.request("shop.price", b'"gold"', headers=member)) == "404:there is no such item"
        assert error_of(await nc.request("shop.price", b'"tea"')) == "403:members only"
        (stats,) = await natsery.ServiceClient(nc).stats("shop", count=1)
        assert stats.started.year == 2026
        assert stats.endpoints[0].data == {"failed": 2 / 3}
        await nc.publish("shop.price", reply="$SYS.x", headers=member)
        while not hooks.FAILED:
            await anyio.lowlevel.checkpoint()
    assert hooks.FAILED == {"MalformedRequestError": 1}


@pytest.mark.parametrize("anyio_backend", ["trio"], indirect=True)
async def test_it_is_served_as_a_block_and_as_a_task(capsys: pytest.CaptureFixture[str]) -> None:
    @natsery.endpoint
    async def stop(request: natsery.Request) -> None:
        request.service.stop()

    config = natsery.ServiceConfig("stopping", "1.0.0", endpoints=[stop])
    async with bounded(), MemoryBroker() as broker, broker.connect() as nc, anyio.create_task_group() as tasks:
        tasks.start_soon(module("serving").main, nc, config)
        await anyio.wait_all_tasks_blocked()
        await nc.publish("stop", reply=nc.new_inbox())
    assert capsys.readouterr().out.count("subject='stop'") == 1


async def test_endpoints_come_and_go(capsys: pytest.CaptureFixture[str]) -> None:
    async with bounded(), MemoryBroker() as broker, broker.connect() as nc:
        await module("rooms").main(nc)
    assert capsys.readouterr().out == "hello ada\n()\n"


async def test_queue_groups() -> None:
    config = module("queue_groups").config
    assert [(each.subject, each.queue_group) for each in config.placed_endpoints()] == [
        ("find", "q"),
        ("admin.index", "indexers"),
        ("admin.forget", ""),
    ]
    changed = natsery.ServiceConfig("search", "1.0.0", endpoints=config.endpoints, queue_group="other")
    async with bounded(), MemoryBroker() as broker, broker.connect() as nc:
        async with natsery.serve(nc, config) as one, natsery.serve(nc, config) as other:
            client = natsery.ServiceClient(nc)
            async with client.request_many("admin.forget", count=2) as replies:
                assert [reply.data async for reply in replies] == [b"forgotten"] * 2
            await nc.request("find")
            assert sum(service.stats().endpoints[0].num_requests for service in (one, other)) == 1
            async with natsery.serve(nc, changed), client.request_many("find", count=2) as replies:
                assert [reply.data async for reply in replies] == [b"found"] * 2  # once for each group


async def test_headers() -> None:
    async with bounded(), MemoryBroker() as broker, broker.connect() as nc:
        async with natsery.serve(nc, module("headers").config):
            reply = await nc.request("report", headers={"Accept-Language": "de", "Via": ["a", "b"]})
            assert reply.headers.multi_items() == [("Content-Language", "de"), ("Seen", "a"), ("Seen", "b")]
            with pytest.raises(ValueError, match="Language"):
                await nc.request("report", headers={"Language": "de\r\nNats-Service-Error: x"})


async def test_a_reply_that_is_too_large() -> None:
    async def large(request: natsery.Request) -> bytes:
        return bytes(request.connection.max_payload + 1)

    async with bounded(), MemoryBroker() as broker, broker.connect() as nc:
        async with natsery.serve(nc, natsery.ServiceConfig("large", "1.0.0", endpoints=[large])):
            assert error_of(await nc.request("large")) == "500:Maximum Payload Exceeded"


async def test_a_detached_request_is_answered() -> None:
    async with bounded(), MemoryBroker() as broker, broker.connect() as nc, anyio.create_task_group() as tasks:
        tasks.start_soon(module("detached").main, nc)
        while not await natsery.ServiceClient(nc).ping("shop", count=1, wait=0.01):
            pass
        assert (await nc.request("order", b"7")).data == b"delivered 7"
        tasks.cancel_scope.cancel()


def test_the_errors_are_those_that_are_sent() -> None:
    sent = {
        f"{code} {text}"
        for code, text in [
            natsery_error
            for name, natsery_error in vars(importlib.import_module("natsery._adr32")).items()
            if isinstance(natsery_error, tuple) and name != "REQUESTER_SILENT"
        ]
    }
    rows = table(page("services"), "| what happened | code | text |")
    assert {f"{code} {re.findall('`(.*?)`', text)[0]}" for _, code, text in rows if code.isdecimal()} == sent | {
        "400 Invalid Body: …"
    }


# Calling services


async def test_a_call_returns_or_raises(capsys: pytest.CaptureFixture[str]) -> None:
    async with bounded(), MemoryBroker() as broker, broker.connect() as nc:
        async with natsery.serve(nc, module("services").calc):
            await module("calling").main(nc)
            assert await module("many").total(nc, [b"1+2", b"3+4"]) == 10
    assert capsys.readouterr().out == "b'3'\n400 expected 'a+b'\n"


async def test_every_way_to_call_has_the_same_reply() -> None:
    shop = module("services").shop
    async with bounded(), MemoryBroker() as broker, broker.connect() as nc, natsery.serve(nc, shop):
        assert await module("one_reply").prices(nc) == [350] * 4


async def test_a_call_is_repeated_until_somebody_is_there() -> None:
    price_of = module("repeating").price_of
    asked = []

    @natsery.endpoint("price")
    async def answer(body: str) -> int:
        asked.append(body)
        if len(asked) < 3:
            raise natsery.ServiceError(503, "Service Overloaded")
        if body == "gold":
            raise natsery.ServiceError(404, "there is none")
        return 350

    async with bounded(), MemoryBroker() as broker, broker.connect() as nc, anyio.create_task_group() as tasks:
        client = natsery.ServiceClient(nc)
        replies = []

        async def ask() -> None:
            replies.append(await price_of(client, "tea"))

        tasks.start_soon(ask)
        await anyio.sleep(1)
        assert asked == replies == []
        async with natsery.serve(nc, natsery.ServiceConfig("shop", "1.0.0", endpoints=[answer])):
            while not replies:
                await anyio.sleep(1)
            assert (asked, replies) == (["tea"] * 3, [350])
            with pytest.raises(natsery.ServiceError, match="404"):
                await price_of(client, "gold")
        begun = anyio.current_time()
        with pytest.raises(TimeoutError):
            await price_of(client, "tea")
        assert anyio.current_time() == begun + 10


async def test_streams_and_several_replies() -> None:
    services = module("services")

    @natsery.endpoint(queue_group=natsery.NO_QUEUE_GROUP)
    async def find(request: natsery.Request) -> None:
        raise natsery.ServiceError(404, "sold out")

    rome = natsery.ServiceConfig("rome", "1.0.0", endpoints=[natsery.group("stock", [find])])
    async with bounded(), MemoryBroker() as broker, broker.connect() as nc, natsery.serve(nc, services.shop):
        assert await module("streams").names(nc) == ["tea", "cocoa"]
        async with natsery.serve(nc, services.oslo), natsery.serve(nc, rome), natsery.serve(nc, services.kyiv):
            assert await module("several").in_stock(nc) == {"Oslo": b"3", "Kyiv": b"3"}


async def test_services_are_found(capsys: pytest.CaptureFixture[str]) -> None:
    async with bounded(), MemoryBroker() as broker, broker.connect() as nc, natsery.serve(nc, module("services").calc):
        await module("finding").look_around(nc)
    assert capsys.readouterr().out == "calc 1.0.0 ['math.add']\n0 requests\nstall []\nTrue count\n"


def defaults_of(function: Any) -> dict[str, Any]:
    parameters = inspect.signature(inspect.unwrap(function)).parameters.values()
    return {each.name: each.default for each in parameters if each.name not in ("self", "unknown")}


def test_the_options_of_the_client_are_there() -> None:
    rows = table(page("calling"), "| option of `ServiceClient` | default | |")
    given = {name.strip("`"): default.strip("`") for name, default, _ in rows}
    assert given.pop("nc") == "required"
    expected = defaults_of(natsery.ServiceClient.__init__)
    del expected["nc"]
    assert {name: eval(default) for name, default in given.items()} == expected


def test_the_options_of_streams_are_there() -> None:
    rows = table(page("calling").partition("## Streams")[2], "| option | default | |")
    given = {
        name: eval(default, {**vars(natsery), "math": math})
        for names, defaults, _ in rows
        for name, default in zip(re.findall(r"`(\w+)`", names), re.findall(r"`(.*?)`", defaults), strict=True)
    }
    expected = defaults_of(natsery.ServiceClient.stream)
    assert given == {name: expected[name] for name in expected if name not in ("target", "body")}


def test_the_ends_of_collections_are_there() -> None:
    header = "| option | default of `request_many` | of `ping`, `info`, `stats`, `discover` | `ended` says |"
    rows = table(page("calling"), header)
    many, discover = (defaults_of(f) for f in (natsery.ServiceClient.request_many, natsery.ServiceClient.discover))
    for name, of_many, of_discover, _ in rows[:-1]:
        option = re.findall(r"`(\w+)`", name)[0]
        assert eval(re.findall(r"`(.*?)`", of_many)[0]) == many[option]
        if of_discover:
            assert eval(re.findall(r"`(.*?)`", of_discover)[0]) == discover[option]
    assert [row[-1].strip('`"') for row in rows] == [str(reason) for reason in natsery.EndReason]


def test_the_errors_that_are_reported_are_errors() -> None:
    rows = table(page("services"), "| error | what has happened |")
    names = {name for errors, _ in rows for name in re.findall(r"`(\w+)`", errors)}
    assert all(issubclass(getattr(natsery, name), natsery.NatseryError) for name in names)
    assert {each.__name__ for each in (*CAUSED_BY_PEERS, natsery.ReportsDroppedError)} <= names


def test_the_errors_of_calls_are_errors() -> None:
    rows = table(page("calling"), "| error | what has become of the request | what to do |")
    names = [name for error, *_ in rows for name in re.findall(r"`(\w+)`", error)]
    known = {**vars(builtins), **vars(natsery)}
    assert all(issubclass(known[name], Exception) for name in names)
    raised = set(re.findall(r"\b[A-Z]\w+Error\b", str(inspect.getdoc(natsery.ServiceClient.call))))
    raised |= set(re.findall(r"\b[A-Z]\w+Error\b", str(inspect.getdoc(natsery.ServiceClient.request))))
    raised |= set(re.findall(r"\b[A-Z]\w+Error\b", str(inspect.getdoc(natsery.ServiceClient.stream))))
    assert raised <= set(names)


# Running in production


def click_options(arguments: list[str]) -> dict[str, Any]:
    """What ``natsery run`` reads from its arguments."""
    assert arguments[:2] == ["natsery", "run"]
    return run.make_context("run", arguments[2:]).params


def test_the_unit_is_right(tmp_path: Path) -> None:
    (text,) = blocks("production", "ini")
    unit = configparser.RawConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string(text)
    service = unit["Service"]
    options = click_options(["natsery", *service["ExecStart"].split()[1:]])
    assert int(service["TimeoutStopSec"]) >= options["grace"] + 20
    assert int(service["WatchdogSec"]) > options["watchdog"]
    assert options["workers"] > 1
    if verify := shutil.which("systemd-analyze"):
        path = tmp_path / "calc.service"
        path.write_text(re.sub(r"^ExecStart=\S+", f"ExecStart={sys.executable} -m natsery", text, flags=re.MULTILINE))
        verified = subprocess.run([verify, "verify", str(path)], capture_output=True, text=True, check=False)
        assert [line for line in verified.stderr.splitlines() if "calc.service" in line] == []


def test_the_deployment_is_right() -> None:
    (deployment,) = [each for each in map(yaml.safe_load, blocks("production", "yaml")) if "kind" in each]
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    options = click_options(container["command"] + container["args"])
    sleep = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod["terminationGracePeriodSeconds"] > sleep + options["grace"] + 10
    ports = {each["name"]: each["containerPort"] for each in container["ports"]}
    assert {"health": options["health"].port, "metrics": options["metrics"].port} == ports
    for probe, path in (("startupProbe", "/ready"), ("readinessProbe", "/ready"), ("livenessProbe", "/live")):
        assert container[probe]["httpGet"] == {"path": path, "port": "health"}
    assert deployment["spec"]["selector"]["matchLabels"] == deployment["spec"]["template"]["metadata"]["labels"]
    assert {each["name"] for each in container["volumeMounts"]} == {each["name"] for each in pod["volumes"]}


def test_the_alerts_ask_for_metrics_that_are_there() -> None:
    (alerts,) = [each for each in map(yaml.safe_load, blocks("production", "yaml")) if "groups" in each]
    known = set(re.findall(r"^\| `(natsery_\w+)`", page("metrics"), re.MULTILINE))
    for rule in alerts["groups"][0]["rules"]:
        names = re.findall(r"natsery_\w+", rule["expr"])
        assert names
        assert {name.removesuffix("_bucket") for name in names} <= known


def test_traces_are_sent_before_the_end(nats_server: NatsServer, tmp_path: Path) -> None:
    environment = {"NATS_URL": nats_server.url, "PYTHONWARNINGS": "error"}
    with running("-m", "natsery", "run", "traced", cwd=tmp_path, environment=environment) as program:
        program.wait_for("ready")
        assert ask_json(nats_server.url, ("add", "1+2")) == [3]
        program.terminate()
        assert program.wait() == 0, program.output
    assert '"name": "calc/add"' in program.output
    assert '"service.name": "calc"' in program.output


# Security


def test_the_permissions_are_enough_and_no_more() -> None:
    (config,) = blocks("security", "")
    logins = dict(re.findall(r'user: (\w+), password: "(.*?)"', config))

    def connect(server: NatsServer, user: str) -> AbstractAsyncContextManager[natsery.NativeConnection]:
        prefix = f"_INBOX_{user}"
        return natsery.connect(server.url, user=user, password=logins[user], inbox_prefix=prefix)

    async def main(server: NatsServer) -> None:
        async with (
            bounded(),
            connect(server, "orders") as service,
            connect(server, "web") as web,
            connect(server, "watch") as watch,
            natsery.serve(service, module("orders").config) as running_service,
        ):
            client, watcher = natsery.ServiceClient(web), natsery.ServiceClient(watch)
            assert (await client.request("orders.web.new")).data == b"ordered for web"
            with pytest.raises(natsery.UnknownEndpointError, match=r"orders\.\*\.new"):
                await client.call("orders", "new")  # found, and its subject has wildcards
            for nc, subject in (
                (web, "orders.watch.new"),  # in the name of another one
                (watch, "orders.watch.new"),
                (web, "$SRV.STATS.orders"),
            ):
                with pytest.raises(natsery.PublishDeniedError):
                    await nc.request(subject)
            for nc, subject, group in (
                (web, "orders.>", "q"),
                (watch, "orders.>", ""),
                (web, "_INBOX.>", ""),
                (watch, "_INBOX_web.>", ""),
                (service, "orders.>", ""),  # a stolen password hears nothing
                (service, "orders.>", "other"),
            ):
                with pytest.raises(natsery.SubscriptionDeniedError):
                    async with nc.subscribe(subject, queue_group=group):
                        pass
            for ask in (watcher.ping, watcher.info, watcher.stats):
                assert [each.id for each in await ask("orders", count=1)] == [running_service.id]  # type: ignore[operator]
            # A reply that aims elsewhere goes nowhere, and the service goes on.
            await web.publish("orders.web.new", reply="orders.web.new")
            assert (await client.request("orders.web.new")).data == b"ordered for web"
            (endpoint,) = (await watcher.stats("orders", count=1))[0].endpoints
            assert endpoint.last_error.startswith("500:the server denies publishing")

    with NatsServer(config) as server:
        anyio.run(main, server, backend="trio")


def test_allowed_responses_may_go_anywhere_once() -> None:
    (config,) = blocks("security", "")
    listed = 'publish: { allow: ["_INBOX_web.>", "_INBOX_watch.>"] }'
    assert listed in config
    open_users = "{ user: asker, password: asker }"
    config = config.replace(listed, "allow_responses: true").replace("users: [", f"users: [ {open_users}")

    async def main(server: NatsServer) -> None:
        async with (
            bounded(),
            natsery.connect(server.url, user="orders", password="change me") as service,
            natsery.connect(server.url, user="asker", password="asker") as asker,
            natsery.serve(service, module("orders").config),
            asker.subscribe("elsewhere") as elsewhere,
        ):
            assert (await asker.request("orders.web.new")).data == b"ordered for web"
            await asker.publish("orders.web.new", reply="elsewhere")
            assert (await elsewhere.receive()).data == b"ordered for web"

    with NatsServer(config) as server:
        anyio.run(main, server)


def test_the_commands_with_the_permissions_work(tmp_path: Path) -> None:
    (config,) = blocks("security", "")
    logins = dict(re.findall(r'user: (\w+), password: "(.*?)"', config))
    with NatsServer(config) as server:
        environment = {"NATS_URL": server.url, "NATS_PASSWORD": logins["orders"], "PYTHONWARNINGS": "error"}
        command = ("-m", "natsery", "run", "orders", "--user", "orders")
        with running(*command, cwd=tmp_path, environment=environment) as program:
            program.wait_for("ready")
            for shown in re.findall(r"^    natsery (.*)$", page("security"), re.MULTILINE):
                user = re.findall(r"--user (\w+)", shown)[0]
                as_user = {**environment, "NATS_PASSWORD": logins[user]}
                with running("-m", "natsery", *shown.split(), environment=as_user) as asking:
                    assert asking.wait() == 0, asking.output
                assert "orders" in asking.output or "ordered for web" in asking.output
            program.terminate()
            assert program.wait() == 0, program.output


def test_the_prefixes_that_are_never_answered_are_there() -> None:
    row = next(
        row for row in table(page("security"), "| a requester chooses | so natsery |") if "reply subject" in row[0]
    )
    prefixes = {prefix.removesuffix(".") for prefix in forbidden_reply_prefixes("$SRV")}
    assert prefixes == set(re.findall(r"`(\$\w+)`", row[1]))


async def test_bodies_that_mean_no_good_are_answered() -> None:
    @natsery.endpoint
    async def total(body: list[int]) -> int:
        return sum(body)

    config = natsery.ServiceConfig("sums", "1.0.0", endpoints=[total])
    async with bounded(), MemoryBroker() as broker, broker.connect() as nc, natsery.serve(nc, config):
        for body in (b"[" * 100_000, b"[" + b"9" * 100_000 + b"]", b"\xff", b"[1e999]", b'["' + b"x" * 1000 + b'"]'):
            error = error_of(await nc.request("total", body))
            assert error is not None
            assert error.startswith("400:Invalid Body: $")
            assert len(error) < 320


def test_nats_py_sends_in_clear_where_natsery_does_not(tmp_path: Path) -> None:
    certificates = Certificates(tmp_path)

    def versions(server: NatsServer) -> list[str | None]:
        return [each.get("tls_version") for each in server.monitor("connz")["connections"]]

    async def use_nats_py(server: NatsServer) -> list[str | None]:
        client = await nats.connect(server.tls_url, tls=certificates.client_context(), tls_hostname="localhost")
        try:
            return versions(server)
        finally:
            await client.close()  # noqa: ASYNC102

    async def use_natsery(server: NatsServer) -> list[str | None]:
        async with bounded(), natsery.connect(server.url, tls=certificates.client_context()):
            return versions(server)

    with NatsServer(certificates.server_config() + "allow_non_tls: true\n") as server:
        assert asyncio.run(use_nats_py(server)) == [None]
        assert anyio.run(use_natsery, server) == ["1.3"]
    with NatsServer() as server:
        assert asyncio.run(use_nats_py(server)) == [None]
        with pytest.raises(natsery.SecureConnectionError):
            anyio.run(use_natsery, server)


def test_clients_show_certificates(tmp_path: Path) -> None:
    certificates = Certificates(tmp_path)
    client, authority = certificates.client, certificates.authority

    async def main(url: str) -> None:
        secure = module("secure").connect(url, str(authority), str(client.chain), str(client.key))
        async with bounded(), secure as nc:
            await nc.flush()

    with NatsServer(certificates.server_config(options="verify: true")) as server:
        anyio.run(main, server.url)
