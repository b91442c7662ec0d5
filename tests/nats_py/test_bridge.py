"""nats-py in a worker thread: what crosses, what is bounded, and how it ends."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import anyio
import anyio.lowlevel
import anyio.to_thread
import nats
import nats.errors
import pytest
import sniffio
import trio

import natsery
from natsery._nats_py import _bridge, _worker_thread

from ..bounds import HANG_SECONDS, bounded
from ..calc_service import add, config
from ..server import NatsServer

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["trio", "asyncio"])
def setting(request: pytest.FixtureRequest) -> object:
    return (request.param, {}), "bridged"


async def test_call_runs_nats_py_s_coroutines_over_there(nats_server: NatsServer) -> None:
    async with bounded(), natsery.bridge(nats_server.url) as nc:
        thread = await nc.call(lambda client: _thread_of(client))
        assert thread != threading.get_ident()
        with pytest.raises(nats.errors.NoRespondersError):
            await nc.call(lambda client: client.request("nobody"))


async def _thread_of(client: object) -> int:
    return threading.get_ident()


async def test_jetstream_and_key_value_work_through_call(tmp_path: Path) -> None:
    with NatsServer(f'jetstream {{ store_dir: "{tmp_path}" }}') as server:
        async with bounded(), natsery.bridge(server.url) as nc:

            async def put_and_get(client: nats.aio.client.Client, value: bytes) -> bytes:
                bucket = await client.jetstream().create_key_value(bucket="b")
                await bucket.put("key", value)
                return (await bucket.get("key")).value

            assert await nc.call(put_and_get, b"value") == b"value"


async def test_a_cancelled_call_has_ended_over_there_before_it_raises(nats_server: NatsServer) -> None:
    ended = False

    async def forever(client: object) -> None:
        nonlocal ended
        try:
            await asyncio.sleep(3600)
        finally:
            ended = True

    async def nothing(client: object) -> None:
        pass

    async with bounded(), natsery.bridge(nats_server.url) as nc:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(nc.call, forever)
            await anyio.wait_all_tasks_blocked()
            await nc.call(nothing)  # after this one, the other has begun
            tasks.cancel_scope.cancel()
        assert ended
        await nc.flush()


async def test_a_cancellation_over_there_does_not_cross(nats_server: NatsServer) -> None:
    async def cancelled(client: object) -> None:
        raise asyncio.CancelledError

    async with bounded(), natsery.bridge(nats_server.url) as nc:
        with pytest.raises(RuntimeError, match="cancelled in nats-py's event loop"):
            await nc.call(cancelled)


async def test_a_failed_connect_raises_what_nats_py_raises() -> None:
    before = threading.active_count()
    options = {"allow_reconnect": False, "max_reconnect_attempts": 1, "reconnect_time_wait": 0}
    async with bounded():
        with pytest.raises(nats.errors.NoServersError):
            async with natsery.bridge("nats://127.0.0.1:1", **options):
                pass
        with pytest.raises(TypeError, match="no_such_option"):
            async with natsery.bridge("nats://127.0.0.1:1", no_such_option=1):
                pass
    assert threading.active_count() <= before + 1  # the backend keeps an idle worker thread


async def test_the_queue_between_the_loops_is_bounded_and_says_so(
    nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_worker_thread, "MAX_CROSSING_BYTES", 10_000)
    heard: list[natsery.NatseryError] = []
    delivered: list[object] = []
    async with bounded(), natsery.bridge(nats_server.url) as nc:
        subscription = await nc.add_subscription("burst", delivered.append, on_error=heard.append)
        await nc.flush()
        client = await nats_connect_here(nc, nats_server.url)
        del client
        await nc.flush()
        await nc.flush()
        assert len(delivered) + subscription.dropped == 1_000
        assert subscription.dropped > 0
        assert isinstance(heard[-1], natsery.SlowConsumerError)
        assert heard[-1].dropped == subscription.dropped


async def nats_connect_here(nc: _bridge.BridgedConnection, url: str) -> None:
    """Send a burst while this event loop is held, so that nothing is taken meanwhile."""
    done = threading.Event()

    async def burst(client: nats.aio.client.Client) -> None:
        for _ in range(1_000):
            await client.publish("burst")
        await nc._thread.aio_fence()
        done.set()

    nc._outbound.put(lambda: burst(nc.client))
    nc._thread.wake()
    done.wait(HANG_SECONDS)


async def test_replies_that_are_dropped_between_the_loops_are_an_event(
    nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The request waited for ever, and nothing said why."""
    async with bounded(), natsery.connect(nats_server.url) as other, natsery.bridge(nats_server.url) as nc:
        async with natsery.serve(other, config(add)):
            await nc.request("add", b"1+1")
            monkeypatch.setattr(_worker_thread, "MAX_CROSSING_BYTES", 0)
            with nc.events() as events, anyio.CancelScope() as scope:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(nc.request, "add", b"1+1")
                    async for event in events:
                        if isinstance(event.error, natsery.SlowConsumerError):
                            scope.cancel()
                            break


async def test_a_blocked_loop_loses_nothing_that_fits(nats_server: NatsServer) -> None:
    async with bounded(), natsery.bridge(nats_server.url) as nc, nc.subscribe("burst") as messages:
        await nats_connect_here(nc, nats_server.url)
        for _ in range(1_000):
            await messages.receive()


async def test_a_second_bridge_and_a_service_on_each(nats_server: NatsServer) -> None:
    async with bounded(), natsery.bridge(nats_server.url) as one, natsery.bridge(nats_server.url) as two:
        async with natsery.serve(one, config(add)), natsery.serve(two, config(add)):
            for _ in range(10):
                assert (await one.request("add", b"1+1")).data == b"2"


async def test_an_error_in_a_callback_does_not_bring_the_loop_down(nats_server: NatsServer) -> None:
    def broken(message: object) -> None:
        raise ValueError("broken")

    async with bounded(), natsery.bridge(nats_server.url) as nc:
        await nc.add_subscription("x", broken)
        await nc.publish("x")
        await nc.flush()
        await nc.flush()


async def test_repeated_headers_keep_all_their_values(nats_server: NatsServer) -> None:
    async with bounded(), natsery.bridge(nats_server.url) as nc, nc.subscribe("x") as messages:
        await nc.publish("x", headers={"A": ["1", "2"]})
        assert (await messages.receive()).headers.get_all("a") == ["1", "2"]


async def test_a_message_that_cannot_be_read_is_dropped_and_reported(nats_server: NatsServer) -> None:
    """A subject that is not UTF-8 ends nats-py's own reader."""
    heard: list[natsery.ConnectionEvent] = []
    async with bounded(), natsery.bridge(nats_server.url) as nc, nc.subscribe("x.*") as messages:
        nc.add_listener(heard.append)
        stream = await anyio.connect_tcp("127.0.0.1", nats_server.port)
        async with stream:
            await stream.send(
                b'CONNECT {"headers":true}\r\nPUB x.\xff 0\r\n\r\n'
                b"HPUB x.1 12 12\r\nNATS/9.9\r\n\r\n\r\nPUB x.2 0\r\n\r\n"
            )
            assert (await messages.receive()).subject == "x.2"
        assert [type(event.error) for event in heard] == [natsery.MalformedMessageError] * 2
        await nc.flush()  # nats-py's thread counts what it has read after it has handed it on
        assert nc.client.stats["in_msgs"] == 3


async def test_the_client_s_own_subscriptions_work_beside(nats_server: NatsServer) -> None:
    async def ask(client: nats.aio.client.Client) -> object:
        subscription = await client.subscribe("own")
        await client.publish("own", b"data", headers={"A": "b"})
        message = await subscription.next_msg()
        return message.data, message.headers

    async with bounded(), natsery.bridge(nats_server.url) as nc:
        assert await nc.call(ask) == (b"data", {"A": "b"})
        assert nc.client.stats["in_msgs"] == nc.client.stats["out_msgs"] == 1
        assert nc.client.stats["in_bytes"] == nc.client.stats["out_bytes"] == 4


async def test_all_ways_out_keep_the_order(nats_server: NatsServer) -> None:
    """A publish of the program's, one of nats-py's own in its loop, and an answer."""

    async def progress(request: natsery.Request) -> bytes:
        await nc.publish(request.reply, b"0")
        await nc.call(lambda client: client.publish(request.reply, b"1"))
        await nc.publish(request.reply, b"2")
        await nc.publish(request.reply, b"3")
        await nc.call(lambda client: client.publish(request.reply, b"4"))
        return b"5"

    async with bounded(), natsery.bridge(nats_server.url) as nc, natsery.serve(nc, config(progress)):
        async with natsery.connect(nats_server.url) as caller, caller.subscribe("answers") as answers:
            for _ in range(50):
                await caller.publish("progress", reply="answers")
                assert [(await answers.receive()).data for _ in range(6)] == [b"%d" % number for number in range(6)]


async def test_what_a_frozen_server_does_not_take_comes_whole_and_in_order() -> None:
    count, size = 400, 100_000
    with NatsServer() as server:
        async with bounded(), natsery.bridge(server.url) as nc, natsery.connect(server.url) as reader:
            async with reader.subscribe("x") as messages:
                await reader.flush()
                server.freeze()
                async with anyio.create_task_group() as tasks:

                    async def publish() -> None:
                        for number in range(count):
                            await nc.publish("x", b"%0*d" % (size, number))

                    tasks.start_soon(publish)
                    while not nc._is_full:
                        await anyio.lowlevel.checkpoint()
                    server.thaw()
                    for number in range(count):
                        assert (await messages.receive()).data == b"%0*d" % (size, number)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts open files where the system tells them")
async def test_nothing_is_left_open(nats_server: NatsServer) -> None:
    async def open_one() -> None:
        async with natsery.bridge(nats_server.url) as nc, natsery.serve(nc, config(add)):
            assert (await nc.request("add", b"1+1")).data == b"2"

    async with bounded():
        await open_one()
        before = len(list(Path("/proc/self/fd").iterdir()))
        for _ in range(5):
            await open_one()
        assert len(list(Path("/proc/self/fd").iterdir())) <= before


@pytest.mark.parametrize("subject", ["", "a b", "a\r\nPUB b 0", "\ud800"])
async def test_a_subject_that_breaks_the_protocol_is_refused(nats_server: NatsServer, subject: str) -> None:
    async with bounded(), natsery.bridge(nats_server.url) as nc:
        with pytest.raises(ValueError, match=r"subject|reply"):
            await nc.publish(subject)
        with pytest.raises(ValueError, match=r"subject|reply"):
            await nc.publish("a", reply=subject or " ")


async def test_ctrl_c_does_not_strike_in_what_is_delivered(nats_server: NatsServer) -> None:
    """Raised in the intake it ended the bridge's only way to hear of anything, and every flush waited in vain."""
    protected: list[bool] = []

    def deliver(message: object) -> None:
        protected.append(trio.lowlevel.currently_ki_protected())

    async with bounded(), natsery.bridge(nats_server.url) as nc:
        if sniffio.current_async_library() != "trio":
            return
        await nc.add_subscription("x", deliver)
        await nc.publish("x")
        await nc.flush()
    assert protected == [True]


PROGRAM = """
import sys
import time
import trio
import natsery

clients = []

async def hello(request):
    return b"hello"

async def main():
    async with natsery.bridge(sys.argv[1]) as nc:
        clients.append(nc.client)
        config = natsery.ServiceConfig("hello", "1.0.0", endpoints=[hello])
        async with natsery.serve(nc, config) as service:
            print("ready", flush=True)
            if sys.argv[2] == "crash":
                trio.lowlevel.current_trio_token().run_sync_soon(crash)
            if sys.argv[2] == "die":
                trio.lowlevel.spawn_system_task(die)
            await service.wait_stopped()

def crash(*args):
    raise RuntimeError("trio itself dies of this")

async def die():
    with trio.CancelScope() as scope:
        scope.cancel()
        await trio.lowlevel.wait_task_rescheduled(crash)

try:
    trio.run(main)
except KeyboardInterrupt:
    print("interrupted")
    sys.exit(130)
except trio.TrioInternalError:
    if sys.argv[2] != "die":
        raise
    print("dead", flush=True)
    while not clients[0].is_closed:
        time.sleep(0.01)
    print("gone", flush=True)
"""


@pytest.mark.parametrize("round_", range(3))
def test_ctrl_c_ends_a_trio_program_cleanly(nats_server: NatsServer, round_: int) -> None:
    process = _start(nats_server, "interrupt")
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=HANG_SECONDS)
    assert (process.returncode, out, err) == (130, "interrupted\n", "")


def test_a_trio_loop_that_dies_does_not_hang_on_the_thread(nats_server: NatsServer) -> None:
    process = _start(nats_server, "crash")
    out, err = process.communicate(timeout=HANG_SECONDS)
    assert process.returncode == 1
    assert "TrioInternalError" in err


async def test_the_client_goes_when_the_trio_loop_has_died(nats_server: NatsServer) -> None:
    """The service is dead: another member of its queue group must get the requests."""
    async with bounded(), natsery.connect(nats_server.url) as nc:
        with _start(nats_server, "die") as process:
            assert process.stdout is not None
            next_line = partial(anyio.to_thread.run_sync, process.stdout.readline, abandon_on_cancel=True)
            try:
                assert await next_line() == "ready\n"
                assert await next_line() == "dead\n"
                await nc.publish("hello")
                assert await next_line() == "gone\n"
                assert await anyio.to_thread.run_sync(process.wait, abandon_on_cancel=True) == 0
            finally:
                process.kill()


def _start(server: NatsServer, how: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, server.url, how], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


async def test_what_goes_wrong_in_the_other_loop_is_an_event_and_ends_nothing(nats_server: NatsServer) -> None:
    async def fail() -> None:
        raise error

    error = LookupError("over there")
    async with bounded(), natsery.bridge(nats_server.url) as nc:
        with nc.events() as events:
            nc._outbound.put(fail)
            async for event in events:
                if event.kind is natsery.EventKind.ERROR:
                    assert event.error is error
                    break
        await nc.flush()


async def test_nothing_is_heard_of_a_connection_that_is_closed(nats_server: NatsServer) -> None:
    """The messages that nats-py did not take any more were an event after the last one, and the loop did not end."""
    async with bounded(), natsery.bridge(nats_server.url) as nc:
        heard: list[natsery.EventKind] = []
        nc.add_listener(lambda event: heard.append(event.kind))
        with nc.events() as events:
            nc._outbound.put(nc.client.close)
            await nc.publish("x", b"lost")
            assert [event.kind async for event in events][-1] is natsery.EventKind.CLOSED
    assert heard == [natsery.EventKind.CLOSED]


async def test_what_ends_the_other_loop_ends_the_block(nats_server: NatsServer) -> None:
    class Stop(BaseException):
        pass

    async def stop() -> None:
        raise error

    error = Stop()
    async with bounded():
        with pytest.raises(Stop) as caught:
            async with natsery.bridge(nats_server.url) as nc:
                nc._outbound.put(stop)
                await anyio.sleep_forever()
    assert caught.value is error


async def test_drops_that_have_been_told_are_not_told_again(nats_server: NatsServer) -> None:
    heard: list[natsery.NatseryError] = []
    async with bounded(), natsery.bridge(nats_server.url) as nc:
        subscription = await nc.add_subscription("burst", print, on_error=heard.append)
        await nc.flush()
        subscription._far.dropped = 3
        subscription.take_dropped()
        subscription.take_dropped()  # it has been called for once more before the first call
        assert [(error.subject, error.dropped) for error in heard] == [("burst", 3)]


async def test_nothing_more_is_refused_at_once_while_too_much_waits(
    nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bounded(), natsery.bridge(nats_server.url) as nc:
        headers = natsery.Headers({"A": "b"})
        assert nc._refuse_nowait("answers", headers)
        monkeypatch.setattr(_bridge, "HIGH_WATER_BYTES", -1)
        put = nc._outbound.put_bytes
        assert not nc._refuse_nowait("answers", headers)
        assert nc._outbound.put_bytes == put
