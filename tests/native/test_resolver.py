"""Host names: those with several addresses, and resolvers that hang."""

from __future__ import annotations

import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import anyio
import anyio.to_thread
import pytest
from anyio.abc import SocketStream

import natsery
from natsery import EventKind
from natsery._native import _greetings, _resolver

from ..bounds import bounded
from ..certificates import Certificates
from ..schedules import CancelledAt
from ..server import NatsServer
from .tools import QUICK, Events, running_tasks, settled

pytestmark = pytest.mark.anyio

look_up_for_real = socket.getaddrinfo


def answers(monkeypatch: pytest.MonkeyPatch, resolve: Callable[[str], list[str]]) -> None:
    """Have names below ``test`` resolved so, and all others as ever."""

    def getaddrinfo(host: Any, port: Any, *args: Any, **options: Any) -> Any:
        if not str(host).endswith(".test"):
            return look_up_for_real(host, port, *args, **options)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, 0)) for ip in resolve(host)]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


class Silent:
    """Where it listens, without a word, and how often somebody has come; perhaps it hangs up at once."""

    def __init__(self, ip: str, *, hangs_up: bool) -> None:
        self.ip = ip
        self.clients = 0
        self._hangs_up = hangs_up

    async def handle(self, stream: SocketStream) -> None:
        self.clients += 1
        async with stream:
            if not self._hangs_up:
                await anyio.sleep_forever()


@asynccontextmanager
async def silent_servers(port: int, count: int, *, hangs_up: bool = False) -> AsyncIterator[list[Silent]]:
    """Servers that accept connections and say nothing, all at one port of other addresses of this machine."""
    servers = [Silent(f"127.0.0.{number}", hangs_up=hangs_up) for number in range(2, 2 + count)]
    async with AsyncExitStack() as stack, anyio.create_task_group() as tasks:
        for server in servers:
            listener = await anyio.create_tcp_listener(local_host=server.ip, local_port=port)
            await stack.enter_async_context(listener)
            tasks.start_soon(listener.serve, server.handle)
        yield servers
        tasks.cancel_scope.cancel()


# Several addresses


async def test_every_address_of_a_name_is_a_server_to_try(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the first one that accepted a connection was tried, although it said nothing, and again in each round."""
    monkeypatch.setattr(_greetings, "HEAD_START_SECONDS", 60)
    with NatsServer() as server:
        async with bounded(), silent_servers(server.port, 9, hangs_up=True) as silent:
            answers(monkeypatch, lambda _: [*(each.ip for each in silent), "127.0.0.1"])
            url = f"nats://ten.test:{server.port}"
            async with natsery.connect(url, shuffle=False, connect_timeout=60, **QUICK) as nc:
                assert nc.servers == (url,)
                assert [each.clients for each in silent] == [1] * 9
                events = Events(nc)
                server.restart()
                await events.wait(EventKind.RECONNECTED)
                await nc.flush()
                # One that answered is tried first again; while it was down, all others had their turn once.
                assert max(each.clients for each in silent) <= 2


async def test_dead_addresses_do_not_keep_a_client_from_those_that_live(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each was waited for in turn: eighteen seconds for nine of ten."""
    monkeypatch.setattr(_greetings, "HEAD_START_SECONDS", 0.01)
    with NatsServer() as server:
        async with bounded(), silent_servers(server.port, 9) as silent:
            answers(monkeypatch, lambda _: [*(each.ip for each in silent), "127.0.0.1"])
            url = f"nats://ten.test:{server.port}"
            async with natsery.connect(url, shuffle=False, connect_timeout=60, **QUICK) as nc:
                assert [each.clients for each in silent] == [1] * 9
                await nc.flush()
                # The one that has answered is the first one next time, and has as long as it needs.
                monkeypatch.setattr(_greetings, "HEAD_START_SECONDS", 60)
                with nc.events() as events:
                    nc._session.end()
                    async for event in events:
                        if event.kind is EventKind.RECONNECTED:
                            break
                await nc.flush()
                assert [each.clients for each in silent] == [1] * 9


async def test_an_address_that_answers_second_is_used_if_the_first_one_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_greetings, "HEAD_START_SECONDS", 0.01)
    second_came, second_went = anyio.Event(), anyio.Event()

    async def fail(stream: SocketStream) -> None:
        async with stream:
            await second_came.wait()
            await stream.send(b"INFO {}\r\n")
            await second_went.wait()

    with NatsServer() as server:

        async def copy(source: SocketStream, target: SocketStream) -> None:
            with suppress(anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
                while True:
                    await target.send(await source.receive())
            await anyio.aclose_forcefully(source)
            await anyio.aclose_forcefully(target)

        async def pass_on(stream: SocketStream) -> None:
            second_came.set()
            to_server = await anyio.connect_tcp("127.0.0.1", server.port)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(copy, stream, to_server)
                tasks.start_soon(copy, to_server, stream)
            second_went.set()

        answers(monkeypatch, lambda _: ["127.0.0.2", "127.0.0.3"])
        async with (
            bounded(),
            await anyio.create_tcp_listener(local_host="127.0.0.2", local_port=server.port) as first,
            await anyio.create_tcp_listener(local_host="127.0.0.3", local_port=server.port) as second,
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(first.serve, fail)
            tasks.start_soon(second.serve, pass_on)
            async with natsery.connect(f"nats://two.test:{server.port}", shuffle=False) as nc:
                await nc.flush()
            tasks.cancel_scope.cancel()


async def test_cancelling_a_connect_to_several_addresses_at_any_point(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_greetings, "HEAD_START_SECONDS", 0)

    async def connect() -> None:
        nonlocal connected
        async with natsery.connect(f"nats://three.test:{server.port}", shuffle=False):
            connected = True

    connected = False
    with NatsServer() as server:
        async with bounded(), silent_servers(server.port, 2) as silent:
            answers(monkeypatch, lambda _: [*(each.ip for each in silent), "127.0.0.1"])
            await settled()  # the silent servers have begun
            tasks = running_tasks()
            for n in range(1, 1_000):
                with anyio.CancelScope() as scope:
                    await CancelledAt(connect(), n, scope)
                if connected:
                    break
            await settled()
            # The silent servers' own tasks stay.
            assert {name for name in running_tasks() - tasks if "handle" not in name} == set()
            await anyio.to_thread.run_sync(
                lambda: server.wait_until(
                    lambda: server.monitor("connz")["num_connections"] == 0, "a connection was left"
                )
            )


async def test_addresses_are_tried_in_random_order(nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    ips = ["127.0.0.1", "127.0.0.2"]
    answers(monkeypatch, lambda _: ips)
    first: list[str] = []
    connect_tcp = anyio.connect_tcp

    async def connect(ip: str, port: int) -> SocketStream:
        first.append(ip)
        return await connect_tcp("127.0.0.1", port)

    monkeypatch.setattr(anyio, "connect_tcp", connect)
    async with bounded():
        while len(set(first)) < 2:
            async with natsery.connect(f"nats://two.test:{nats_server.port}"):
                pass


async def test_what_went_wrong_at_each_address_is_said(
    nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers(monkeypatch, lambda _: ["127.0.0.2", "127.0.0.3", "127.0.0.2"])
    url = f"nats://two.test:{nats_server.port}"
    async with bounded():
        with pytest.raises(natsery.ConnectError) as caught:
            async with natsery.connect([url, f"nats://127.0.0.3:{nats_server.port}"], shuffle=False):
                pytest.fail("it connected")
    # The second URL is one of the addresses that have been tried.
    assert str(caught.value) == (
        f"cannot connect to NATS ({url} (127.0.0.2): Connection refused; {url} (127.0.0.3): Connection refused)"
    )


async def test_certificates_name_the_host_and_not_its_addresses(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = certificates.client_context()
    with NatsServer(certificates.server_config(certificates.misnamed)) as server:

        def getaddrinfo(host: Any, port: Any, *args: Any, **options: Any) -> Any:
            ips = ["127.0.0.2", "127.0.0.1"] if str(host).endswith("example.com") else [host]
            return [found for ip in ips for found in look_up_for_real(ip, port, *args, **options)]

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
        async with bounded():
            async with natsery.connect(f"tls://elsewhere.example.com:{server.port}", tls=context, shuffle=False) as nc:
                await nc.flush()
            with pytest.raises(natsery.SecureConnectionError, match=r"not valid for 'other\.example\.com'"):
                async with natsery.connect(f"tls://other.example.com:{server.port}", tls=context):
                    pytest.fail("it connected")


# Resolvers that hang


@pytest.fixture
def hanging(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Names that have been asked for and not been answered, until the end of the test."""
    asked: list[str] = []
    end = threading.Event()

    def resolve(host: str) -> list[str]:
        asked.append(host)
        end.wait()
        raise socket.gaierror(socket.EAI_AGAIN, "the test is over")

    answers(monkeypatch, resolve)
    yield asked
    end.set()
    for thread in threads():
        thread.join()


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "natsery resolver"]


async def test_a_name_is_looked_up_once_at_a_time(hanging: list[str]) -> None:
    """Each attempt took another thread of the event loop's, until no task of the program had one."""

    async def fail() -> None:
        with pytest.raises(
            natsery.ConnectError, match=r"gave up after 0\.05 s \(connect_timeout\), waiting for the resolver"
        ):
            async with natsery.connect("nats://hangs.test", connect_timeout=0.05):
                pytest.fail("it connected")

    async with bounded():
        async with anyio.create_task_group() as tasks:
            for _ in range(50):
                tasks.start_soon(fail)
        await fail()
    assert hanging == ["hangs.test"]
    assert len(threads()) == 1


async def test_names_that_hang_take_a_few_threads(hanging: list[str], nats_server: NatsServer) -> None:
    names = [f"nats://hangs-{number}.test" for number in range(30)]
    async with bounded():
        with pytest.raises(natsery.ConnectError):
            async with natsery.connect(names, connect_timeout=0.01):
                pytest.fail("it connected")
        assert len(threads()) == len(hanging) == _resolver.MAX_THREADS
        # Whatever else needs threads has them, and addresses need no resolver.
        await anyio.to_thread.run_sync(print)
        async with natsery.connect(nats_server.url) as nc:
            await nc.flush()


async def test_a_look_up_has_its_turn_when_another_one_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_resolver, "MAX_THREADS", 1)
    may_go_on = threading.Event()

    def resolve(host: str) -> list[str]:
        if host == "slow.test":
            may_go_on.wait()
        return [f"10.0.0.{len(host)}"]

    answers(monkeypatch, resolve)
    found: dict[str, list[str]] = {}

    async def look_up(host: str) -> None:
        found[host] = await _resolver.look_up(host)

    async with bounded(), anyio.create_task_group() as tasks:
        tasks.start_soon(look_up, "slow.test")
        await anyio.wait_all_tasks_blocked()
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as others:
                others.start_soon(look_up, "never.asked.test")
                await anyio.wait_all_tasks_blocked()
                scope.cancel()
        for host in ("a.test", "bc.test", "a.test"):
            tasks.start_soon(look_up, host)
        await anyio.wait_all_tasks_blocked()
        may_go_on.set()
    assert found == {"slow.test": ["10.0.0.9"], "a.test": ["10.0.0.6"], "bc.test": ["10.0.0.7"]}


async def test_what_the_resolver_says_is_raised_to_each(monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(host: str) -> list[str]:
        if host == "odd.test":
            raise UnicodeError("label too long")
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    answers(monkeypatch, resolve)
    errors: list[Exception] = []

    async def fail() -> None:
        with pytest.raises(socket.gaierror, match="not known") as caught:
            await _resolver.look_up("unknown.test")
        errors.append(caught.value)

    async with bounded():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(fail)
            tasks.start_soon(fail)
        with pytest.raises(OSError, match="UnicodeError: label too long"):
            await _resolver.look_up("odd.test")
    assert errors[0] is not errors[1]


async def test_a_name_that_the_resolver_does_not_know(monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(host: str) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    answers(monkeypatch, resolve)
    async with bounded():
        with pytest.raises(natsery.ConnectError, match=r"nats://unknown\.test:4222: Name or service not known"):
            async with natsery.connect("nats://unknown.test"):
                pytest.fail("it connected")


async def test_a_look_up_for_which_there_is_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor for what has begun to wait for its end meanwhile, in another event loop."""
    monkeypatch.setattr(_resolver, "MAX_THREADS", 1)
    answers(monkeypatch, lambda _: ["127.0.0.1"])
    start = threading.Thread.start
    errors: list[OSError] = []

    def look_up_elsewhere() -> None:
        with pytest.raises(OSError, match="can't start new thread") as caught:
            anyio.run(_resolver.look_up, "other.test")
        errors.append(caught.value)

    other = threading.Thread(target=look_up_elsewhere)

    def cannot_start(thread: threading.Thread) -> None:
        if thread.name != "natsery resolver":
            start(thread)
            return
        start(other)
        while not _resolver._look_ups._waiting:
            pass
        raise RuntimeError("can't start new thread")

    async with bounded():
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", cannot_start)
            with pytest.raises(OSError, match="can't start new thread"):
                await _resolver.look_up("some.test")
            await anyio.to_thread.run_sync(other.join)
        assert len(errors) == 1
        for host in ("some.test", "other.test"):
            assert await _resolver.look_up(host) == ["127.0.0.1"]


@pytest.mark.parametrize("error", [None, natsery.ServerError("no")])
async def test_a_connect_that_is_cancelled_as_a_server_answers_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, error: Exception | None
) -> None:
    greet = _greetings.greet

    async def greet_and_cancel(*args: Any) -> Any:
        greeting = await greet(*args)
        if error is not None:
            await greeting.close()
        scope.cancel()
        if error is not None:
            raise error
        return greeting

    monkeypatch.setattr(_greetings, "greet", greet_and_cancel)
    with NatsServer() as server:
        async with bounded():
            with anyio.CancelScope() as scope:
                async with natsery.connect(server.url):
                    pytest.fail("it connected")
            assert scope.cancelled_caught
            await anyio.to_thread.run_sync(
                lambda: server.wait_until(
                    lambda: server.monitor("connz")["num_connections"] == 0, "a connection was left"
                )
            )


EXIT = """
    import socket, threading
    import anyio, natsery

    def getaddrinfo(*args, **options):
        threading.Event().wait()

    socket.getaddrinfo = getaddrinfo

    async def main():
        try:
            async with natsery.connect("nats://hangs.example.com", connect_timeout=0.05):
                pass
        except natsery.ConnectError as error:
            print(error)

    anyio.run(main, backend={backend!r}, backend_options={options!r})
"""


async def test_a_program_ends_although_a_resolver_hangs(anyio_backend: tuple[str, dict[str, Any]]) -> None:
    """It did not end before the resolver did, which may take half a minute."""
    backend, options = anyio_backend
    options = {"use_uvloop": True} if "loop_factory" in options and "uvloop" in str(options) else {}
    program = textwrap.dedent(EXIT.format(backend=backend, options=options))
    async with bounded():
        result = await anyio.run_process([sys.executable, "-c", program], stderr=subprocess.STDOUT, check=False)
    assert (result.returncode, b"waiting for the resolver" in result.stdout) == (0, True), result.stdout
