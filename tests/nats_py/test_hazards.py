"""What nats-py does to the unwary, and that services over it are safe from it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable

import anyio
import nats
import nats.aio.client
import pytest
import trio

import natsery
from natsery._nats_py._private_names import PRIVATE_NAMES
from natsery.abc import Connection

from ..bounds import bounded
from ..calc_service import add, config, error_of
from ..conftest import open_connection
from ..raw_client import raw_client
from ..server import NatsServer
from .filling import stop_draining

pytestmark = pytest.mark.anyio


@pytest.fixture
def setting(request: pytest.FixtureRequest) -> object:
    return ("asyncio", {"debug": True}), "adapted"


async def test_a_cancelled_flush_leaves_a_connection_that_hears(nc: Connection) -> None:
    """H1: a cancelled ``Client.flush()`` makes the client deaf with the next PONG."""
    async with bounded(), natsery.serve(nc, config(add)):
        for _ in range(20):
            with anyio.CancelScope() as scope:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(nc.flush)
                    await anyio.lowlevel.checkpoint()
                    await anyio.lowlevel.checkpoint()
                    scope.cancel()
            await nc.flush()
        assert (await nc.request("add", b"1+1")).data == b"2"


async def publish_until_blocked(nc: Connection) -> None:
    """Publish until that has to wait, and give up."""

    async def publish() -> None:
        while True:
            await nc.publish("x", bytes(100_000))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(publish)
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()


async def test_cancelling_a_task_that_waits_in_publish_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """H13: nats-py swallows a cancellation while it waits for its buffer to be flushed, and the task went on publishing."""
    with NatsServer() as server:
        async with bounded(), open_connection("adapted", server.url) as nc:
            client = nc.client
            resume = stop_draining(client, monkeypatch)

            async def publish() -> None:
                while True:
                    await nc.publish("x", bytes(100_000))

            task = asyncio.ensure_future(publish())
            while client.pending_data_size <= client._max_pending_size:
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait((task,))
            resume()
            assert task.cancelled()
            await nc.flush()


async def test_a_subscription_that_is_cancelled_while_the_buffer_is_full_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """H13: nats-py swallows a cancellation there too, and has subscribed then."""
    with NatsServer() as server:
        async with bounded(), open_connection("adapted", server.url) as nc:
            client = nc.client
            heard: list[object] = []
            resume = stop_draining(client, monkeypatch)
            await publish_until_blocked(nc)
            with anyio.move_on_after(0.05) as scope:
                await nc.add_subscription("y", heard.append)
            assert scope.cancelled_caught
            resume()
            while client._subs or client.pending_data_size:
                await asyncio.sleep(0)
            await nc.publish("y")
            await nc.flush()
            assert not heard
            (connection,) = server.monitor("connz?subs=1")["connections"]
            assert not connection.get("subscriptions_list")


CALLS = ["publish", "add_subscription", "unsubscribe", "flush", "request", "respond"]


@pytest.mark.parametrize("call", CALLS)
async def test_every_call_can_be_cancelled_while_the_buffer_is_full(monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    """H13: by ``task.cancel()``, which knows nothing of anyio's scopes and which nats-py swallows in any of its writes."""
    release = anyio.Event()
    requests: list[natsery.Request] = []

    async def slow(request: natsery.Request) -> bytes:
        requests.append(request)
        await release.wait()
        return b""

    with NatsServer() as server:
        async with bounded(), open_connection("adapted", server.url) as nc:
            client = nc.client
            subscription = await nc.add_subscription("y", print)
            await nc.add_subscription("answers", print)
            async with natsery.serve(nc, config(slow)):
                await nc.publish("slow", reply="answers")
                while not requests:
                    await asyncio.sleep(0)
                resume = stop_draining(client, monkeypatch)
                for _ in range(3):
                    await publish_until_blocked(nc)
                calls: dict[str, Callable[[], Awaitable[object]]] = {
                    "publish": lambda: nc.publish("x", bytes(100_000)),
                    "add_subscription": lambda: nc.add_subscription("z", print),
                    "unsubscribe": subscription.unsubscribe,
                    "flush": nc.flush,
                    "request": lambda: nc.request("slow"),
                    "respond": lambda: requests[0].respond(bytes(100_000)),
                }
                task = asyncio.ensure_future(calls[call]())
                for _ in range(10):
                    await asyncio.sleep(0)
                assert not task.done()
                task.cancel()
                await asyncio.wait((task,))
                assert task.cancelled()
                resume()
                release.set()
                await nc.flush()
                assert (await nc.request("slow")).data == b""


async def test_closing_can_be_cancelled_while_the_buffer_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client stayed open, with its socket, for as long as the server took nothing."""
    with NatsServer() as server:
        async with bounded(), open_connection("adapted", server.url) as nc:
            stop_draining(nc.client, monkeypatch)
            await nc._safe_client.client._send_command(b"PUB x 1\r\n1\r\n")
            task = asyncio.ensure_future(nc.aclose())
            for _ in range(10):
                await asyncio.sleep(0)
            assert not task.done()
            task.cancel()
            await asyncio.wait((task,))
            assert task.cancelled()
            assert nc.is_closed
            assert nc.client._transport._io_writer.transport.is_closing()


async def test_what_nats_py_raises_while_it_closes_stays_there(nc: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """H14: ``Client.close`` raises ``ConnectionResetError``, with its socket still open, when the server has died."""

    async def close() -> None:
        raise ConnectionResetError

    client = nc.client
    async with bounded():
        with monkeypatch.context() as patch:
            patch.setattr(client, "close", close)
            await nc.aclose()
        assert nc.is_closed
        assert client._transport._io_writer.transport.is_closing()


async def test_a_client_made_deaf_by_its_owner_reconnects(nats_server: NatsServer) -> None:
    """H1, done by the application to its own client: the service hears again without anybody's help."""
    client = await nats.connect(nats_server.url, reconnect_time_wait=0.01)
    async with bounded(), natsery.adapt(client) as nc, natsery.serve(nc, config(add)):
        back = anyio.Event()
        nc.add_listener(lambda event: event.kind == "reconnected" and back.set())
        flush = asyncio.ensure_future(client.flush())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        flush.cancel()
        await back.wait()
        assert (await nc.request("add", b"1+1")).data == b"2"
    await client.close()


@pytest.mark.parametrize("setting", [(("asyncio", {}), "adapted")], ids=["quick"])
async def test_messages_sent_before_the_server_saw_the_unsub_are_answered(nats_server: NatsServer) -> None:
    """H2 and H3: a flush that overtakes the UNSUB, and a queue that is thrown away, lose requests."""
    async with bounded(), open_connection("adapted", nats_server.url) as requester:
        for _ in range(100):
            async with open_connection("adapted", nats_server.url) as nc, requester.subscribe("inbox") as replies:
                async with natsery.serve(nc, config(add)):
                    for _ in range(20):
                        await requester.publish("add", b"1+1", reply="inbox")
                    await requester.flush()
                assert [(await replies.receive()).data for _ in range(20)] == [b"2"] * 20


async def test_a_handler_s_cancelled_error_does_not_end_the_endpoint(nc: Connection) -> None:
    """H4: a callback that ends in ``CancelledError`` ends nats-py's subscription without a word."""

    async def inner_cancelled(request: natsery.Request) -> bytes:
        task = asyncio.ensure_future(asyncio.sleep(3600))
        task.cancel()
        await task
        return b""

    async with bounded(), natsery.serve(nc, config(inner_cancelled)):
        for _ in range(3):
            assert error_of(await nc.request("inner_cancelled")) == "500:Internal Server Error"


async def test_an_endpoint_can_be_removed_from_its_own_handler(nc: Connection) -> None:
    """H5: ``drain`` awaited in its own callback never returns; here the handler may stop the service."""

    async def stop(request: natsery.Request) -> bytes:
        service.stop()
        return b"bye"

    async with bounded(), natsery.serve(nc, config(stop)) as service:
        assert (await nc.request("stop")).data == b"bye"


async def test_the_client_stays_open_and_its_own(nats_server: NatsServer) -> None:
    """H6 and H11: ``serve`` closes nothing, calls the application's callbacks, and puts them back."""
    calls: list[str] = []

    async def on_error(error: Exception) -> None:
        calls.append("error")

    async def on_closed() -> None:
        calls.append("closed")

    client = await nats.connect(nats_server.url, error_cb=on_error, closed_cb=on_closed)
    slots = {name: getattr(client, name) for name in PRIVATE_NAMES["Client"] if name.endswith("_cb")}
    async with bounded():
        async with anyio.create_task_group() as tasks:
            first = await tasks.start(natsery.serve_forever, client, config(add))
            second = await tasks.start(natsery.serve_forever, client, config(add))
            await client._error_cb(ValueError())
            first.stop()  # not the order in which they came
            await first.wait_stopped()
            second.stop()
    assert calls == ["error"]
    assert {name: getattr(client, name) for name in slots} == slots
    assert client.is_connected
    await client.close()
    assert calls == ["error", "closed"]


async def test_replies_carry_no_headers_of_the_request(nc: Connection) -> None:
    """H7: nats-py's ``respond`` sends the request's headers back."""
    async with bounded(), natsery.serve(nc, config(add)):
        assert not len((await nc.request("add", b"1+1", headers={"X": "y"})).headers)


async def test_a_burst_is_refused_and_never_dropped(nc: Connection) -> None:
    """H8: nats-py drops what its queue cannot hold."""
    release = anyio.Event()

    @natsery.endpoint(pending_messages=100)
    async def slow(request: natsery.Request) -> bytes:
        await release.wait()
        return b""

    async with bounded(), natsery.serve(nc, config(slow)) as service, nc.subscribe("burst") as replies:
        for _ in range(1_000):
            await nc.publish("slow", reply="burst")
        await nc.flush()
        release.set()
        for _ in range(1_000):
            await replies.receive()
        assert service.stats().endpoints[0].num_requests == 1_000


async def test_denials_are_matched_without_regard_to_case() -> None:
    """H9: nats-py hands permission violations on in lower case."""
    permissions = "authorization { users = [{ user: u, password: p, permissions: { subscribe: { deny: Upper } } }] }"
    with NatsServer(permissions) as server:
        async with bounded(), open_connection("adapted", server.url, user="u", password="p") as nc:
            with pytest.raises(natsery.SubscriptionDeniedError, match="'Upper'"):
                async with nc.subscribe("Upper"):
                    pass


@pytest.mark.parametrize("value", [1, b"x", "a\r\nb", "\ud800"])
async def test_header_values_are_checked_before_anything_is_sent(nc: Connection, value: object) -> None:
    """H10: a value that is no ``str`` raises in the middle of nats-py's publish."""
    async with bounded():
        with pytest.raises(ValueError if isinstance(value, str) else TypeError, match="header A"):
            await nc.publish("x", headers={"A": value})
        await nc.flush()


async def test_repeated_headers_keep_all_their_values(nc: Connection) -> None:
    """H12: nats-py's own headers are a ``dict``."""
    async with bounded(), nc.subscribe("x") as messages:
        await nc.publish("x", headers={"A": ["1", "2"]})
        assert (await messages.receive()).headers.get_all("A") == ["1", "2"]


async def test_a_client_of_another_loop_is_refused_with_what_to_write(nats_server: NatsServer) -> None:
    ready, done = threading.Event(), threading.Event()
    clients = []

    async def elsewhere() -> None:
        client = await nats.connect(nats_server.url)
        clients.append(client)
        ready.set()
        await asyncio.to_thread(done.wait)
        await client.close()

    thread = threading.Thread(target=asyncio.run, args=(elsewhere(),))
    thread.start()
    try:
        await asyncio.to_thread(ready.wait, 10)
        with pytest.raises(natsery.BackendMismatchError, match=r"natsery\.bridge"):
            async with natsery.serve(clients[0], config(add)):
                pass
    finally:
        done.set()
        thread.join()


async def test_an_unconnected_client_is_refused() -> None:
    with pytest.raises(natsery.ConnectionClosedError, match=r"nats\.connect"):
        async with natsery.serve(nats.aio.client.Client(), config(add)):
            pass
    with pytest.raises(natsery.BackendMismatchError, match="not int"):
        async with natsery.serve(1, config(add)):
            pass


def test_a_client_in_a_trio_program_is_refused_with_what_to_write() -> None:
    async def main() -> None:
        with pytest.raises(natsery.BackendMismatchError, match=r"natsery\.bridge"):
            async with natsery.serve(nats.aio.client.Client(), config(add)):
                pass

    trio.run(main)


async def test_a_lone_answer_leaves_at_once_and_others_together(nc: Connection, nats_server: NatsServer) -> None:
    """nats-py's own flusher is woken for each, a turn of the loop later."""
    client = nc.client
    flushes = 0
    flush = client._flush_pending

    async def count_flush(force_flush: bool = False) -> object:
        nonlocal flushes
        flushes += 1
        return await flush(force_flush)

    client._flush_pending = count_flush
    async with bounded(), natsery.serve(nc, config(add)), natsery.connect(nats_server.url) as caller:
        await nc.flush()
        async with caller.subscribe("answers") as answers:
            flushes, before = 0, client.stats["out_msgs"]
            for number in range(10):
                await caller.publish("add", b"%d+1" % number, reply="answers")
                assert (await answers.receive()).data == b"%d" % (number + 1)
            assert flushes == 0
            for number in range(100):
                await caller.publish("add", b"%d+1" % number, reply="answers")
            assert sorted([int((await answers.receive()).data) for _ in range(100)]) == list(range(1, 101))
            assert 0 < flushes < 100
            assert client.stats["out_msgs"] == before + 110


HEADERS = [
    f"Status: {'9' * 5000}",
    "Status: 503",
    "Status: \u0663",
    "Nats-Service-Error-Code: " + "9" * 5000,
    "Description: x",
    ": nameless",
    "no colon",
]


@pytest.mark.parametrize("header", HEADERS, ids=[header[:12] for header in HEADERS])
@pytest.mark.parametrize("transport", ["adapted", "bridged"])
async def test_no_header_takes_the_connection_down(nats_server: NatsServer, transport: str, header: str) -> None:
    """A status of 5,000 digits raised in natsery's reading of it, which ended nats-py's reader."""
    async with bounded(), open_connection(transport, nats_server.url) as nc, natsery.serve(nc, config(add)):
        with nc.events() as events, raw_client(nats_server.port) as client:
            client.log_in(headers=True)
            block = f"NATS/1.0\r\n{header}\r\n\r\n"
            size = len(block.encode())
            client.send(f"HPUB add x {size} {size}\r\n{block}\r\nPING\r\n")
            await anyio.to_thread.run_sync(client.read_until, "PONG")
            assert (await nc.request("add", b"1+2")).data == b"3"
            kinds = {event.kind for event in events._pending}
            assert kinds <= {natsery.EventKind.CONNECTED, natsery.EventKind.ERROR}
