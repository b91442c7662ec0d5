"""The lifetimes: how a service is entered and left, for whatever reason; how long that takes is in service/test_deadlines.py."""

from __future__ import annotations

import asyncio

import anyio
import pytest

import natsery
from natsery.abc import Connection

from .bounds import bounded
from .calc_service import add, ask, config, error_of
from .conftest import open_connection
from .server import CREDENTIALS, NatsServer, allowing, nothing_left

pytestmark = pytest.mark.anyio


async def test_a_handler_that_never_returns_is_cut_off_at_the_grace(nc: Connection) -> None:
    replies = []

    async def stuck(request: natsery.Request) -> None:
        started.set()
        await anyio.sleep_forever()

    started = anyio.Event()
    async with bounded(), anyio.create_task_group() as tasks:
        async with natsery.serve(nc, config(stuck), grace=0.05) as service:
            tasks.start_soon(ask, nc, "stuck", replies)
            await started.wait()
    assert replies == ["503:Service Stopping"]
    assert service.stats().endpoints[0].failures == {"stopping": 1}


async def test_a_cancelled_body_is_left_at_once_and_accepted_requests_are_answered(nc: Connection) -> None:
    replies = []
    order = []
    live, started, body_left = anyio.Event(), anyio.Event(), anyio.Event()

    async def slow(request: natsery.Request) -> bytes:
        started.set()
        await body_left.wait()
        order.append("handled")
        return b"done"

    async def run(scope: anyio.CancelScope) -> None:
        with scope:
            async with natsery.serve(nc, config(slow), grace=5):
                live.set()
                try:
                    await anyio.sleep_forever()
                finally:
                    order.append("body left")
                    body_left.set()

    async with bounded(), anyio.create_task_group() as tasks:
        scope = anyio.CancelScope()
        tasks.start_soon(run, scope)
        await live.wait()
        tasks.start_soon(ask, nc, "slow", replies)
        await started.wait()
        scope.cancel()
    assert order == ["body left", "handled"]
    assert replies == [b"done"]


async def test_the_body_s_exception_leaves_as_the_object_that_it_is(nc: Connection) -> None:
    cause, context = KeyError("cause"), LookupError("context")
    error = ValueError("mine")
    caught = None
    async with bounded():
        try:
            async with natsery.serve(nc, config(add)):
                try:
                    raise context
                except LookupError:
                    raise error from cause
        except ValueError as raised:
            caught = raised
    assert caught is error
    assert caught.__cause__ is cause
    assert caught.__context__ is context


async def test_stop_ends_the_scope_with_the_error_given(nc: Connection) -> None:
    error = RuntimeError("stopped")

    async def stop(request: natsery.Request) -> bytes:
        service.stop(error)
        service.stop(RuntimeError("later"))
        return b"stopping"

    replies = []

    async with bounded(), anyio.create_task_group() as tasks:
        with pytest.raises(RuntimeError) as caught:
            async with natsery.serve(nc, config(stop)) as service:
                tasks.start_soon(ask, nc, "stop", replies)
                await service.wait_stopped()
        assert caught.value is error
        assert caught.value.__context__ is None
    assert replies == [b"stopping"]


async def test_stop_without_an_error_ends_the_scope_quietly(nc: Connection) -> None:
    async with bounded(), natsery.serve(nc, config(add)) as service:
        service.stop()
        await service.wait_stopped()
    await service.wait_stopped()


async def test_two_errors_leave_as_a_group(nc: Connection) -> None:
    mine, stop = ValueError("mine"), RuntimeError("stop")
    async with bounded():
        with pytest.raises(BaseExceptionGroup) as caught:
            async with natsery.serve(nc, config(add)) as service:
                service.stop(stop)
                raise mine
    assert caught.value.exceptions == (mine, stop)


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
async def test_a_wish_to_exit_in_a_handler_ends_the_service(nc: Connection, kind: type[BaseException]) -> None:
    error = kind("bye")

    async def leave(request: natsery.Request) -> bytes:
        raise error

    replies = []

    async with bounded(), anyio.create_task_group() as tasks:
        with pytest.raises(kind) as caught:
            async with natsery.serve(nc, config(leave)) as service:
                tasks.start_soon(ask, nc, "leave", replies)
                await service.wait_stopped()
        assert caught.value is error
    assert replies == ["500:Internal Server Error"]


async def test_a_stray_cancellation_is_a_failed_request(nc: Connection) -> None:
    async def stray(request: natsery.Request) -> bytes:
        raise asyncio.CancelledError

    async with bounded(), natsery.serve(nc, config(stray)):
        for _ in range(3):
            assert error_of(await nc.request("stray")) == "500:Internal Server Error"


async def test_serve_forever_starts_when_it_is_live(nc: Connection) -> None:
    async with bounded(), anyio.create_task_group() as tasks:
        service = await tasks.start(natsery.serve_forever, nc, config(add))
        assert (await nc.request("add", b"1+1")).data == b"2"
        service.stop()


async def test_a_closed_connection_ends_the_service(transport: str, nats_server: NatsServer) -> None:
    async with bounded():
        async with open_connection(transport, nats_server.url) as nc:
            with pytest.raises(natsery.ConnectionClosedError):
                async with natsery.serve(nc, config(add)) as service:
                    await nc.aclose()
                    await service.wait_stopped()
            with pytest.raises(natsery.ConnectionClosedError):
                async with natsery.serve(nc, config(add)):
                    pass


async def test_a_denied_subscription_is_named_and_leaves_nothing(transport: str) -> None:
    with NatsServer(allowing(subscribe="_INBOX.> $SRV.> add")) as server:
        async with bounded(), open_connection(transport, server.url, **CREDENTIALS) as nc:
            with pytest.raises(natsery.SubscriptionDeniedError, match=r"endpoint 'Other'.*'Forbidden.Subject'"):
                async with natsery.serve(
                    nc, config(add, natsery.EndpointConfig("Other", add, subject="Forbidden.Subject"))
                ):
                    pytest.fail("entered")
            assert await nothing_left(nc, server)
            async with natsery.serve(nc, config(add)) as service:
                with pytest.raises(natsery.SubscriptionDeniedError, match="late"):
                    await service.add_endpoint(natsery.EndpointConfig("late", add))
                assert (await nc.request("add", b"1+1")).data == b"2"
                assert [each.name for each in service.endpoints] == ["add"]
            assert await nothing_left(nc, server)


async def test_a_subscription_denied_later_ends_the_service(transport: str) -> None:
    heard = []
    with NatsServer(allowing(subscribe="_INBOX.> $SRV.> add")) as server:
        async with bounded(), open_connection(transport, server.url, **CREDENTIALS) as nc:
            with pytest.raises(natsery.SubscriptionDeniedError, match="endpoint 'add'"):
                async with natsery.serve(
                    nc, config(add, error_handler=lambda error, endpoint, request: heard.append(error))
                ) as service:
                    server.reload(allowing(subscribe="_INBOX.> $SRV.>"))
                    await service.wait_stopped()
    assert any(isinstance(error, natsery.SubscriptionDeniedError) for error in heard)


async def test_a_frozen_server_does_not_hold_the_scope(transport: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("natsery._service._service.FENCE_SECONDS", 0.1)
    with NatsServer() as server:
        async with bounded(), open_connection(transport, server.url, ping_interval=3600) as nc:
            async with natsery.serve(nc, config(add)):
                server.freeze()
            server.thaw()


async def test_it_survives_a_killed_server(transport: str) -> None:
    with NatsServer() as server:
        options: dict[str, object] = {"reconnect_time_wait": 0.01, "max_reconnect_attempts": -1}
        if transport == "native":
            options = {"reconnect_wait": 0.01, "max_reconnect_wait": 0.01}
        async with bounded(), open_connection(transport, server.url, **options) as nc:
            back = anyio.Event()
            nc.add_listener(lambda event: event.kind == "reconnected" and back.set())
            async with natsery.serve(nc, config(add)):
                server.restart()
                await back.wait()
                assert (await nc.request("add", b"1+1")).data == b"2"
            assert await nothing_left(nc, server)


async def test_a_drain_that_begins_while_the_server_is_away_answers_when_it_is_back(transport: str) -> None:
    going = 0
    all_going, may_go_on = anyio.Event(), anyio.Event()
    replies: list[object] = []

    @natsery.endpoint(concurrency=3)
    async def slow(request: natsery.Request) -> bytes:
        nonlocal going
        going += 1
        if going == 3:
            all_going.set()
        await may_go_on.wait()
        return b"done"

    async def bring_back() -> None:
        await anyio.to_thread.run_sync(server.restart)
        await back["service"].wait()
        await back["requester"].wait()
        await requester.flush()  # its subscription to replies is there again
        may_go_on.set()

    wait: dict[str, object] = {"reconnect_time_wait": 0.01, "max_reconnect_attempts": -1}
    if transport == "native":
        wait = {"reconnect_wait": 0.01, "max_reconnect_wait": 0.01}
    with NatsServer() as server:
        async with (
            bounded(30),
            natsery.connect(server.url, reconnect_wait=0.01, max_reconnect_wait=0.01) as requester,
            anyio.create_task_group() as tasks,
            open_connection(transport, server.url, **wait) as nc,
        ):
            away = anyio.Event()
            back = {"service": anyio.Event(), "requester": anyio.Event()}
            for name, connection in (("service", nc), ("requester", requester)):
                connection.add_listener(
                    lambda event, it=back[name]: event.kind is natsery.EventKind.RECONNECTED and it.set()
                )
            nc.add_listener(lambda event: event.kind is natsery.EventKind.DISCONNECTED and away.set())
            async with natsery.serve(nc, config(slow), grace=20) as service:
                for _ in range(3):
                    tasks.start_soon(ask, requester, "slow", replies)
                await all_going.wait()
                server.kill()
                await away.wait()
                tasks.start_soon(bring_back)
    assert replies == [b"done"] * 3
    (stats,) = service.stats().endpoints
    assert (stats.num_requests, stats.num_errors) == (3, 0)


async def test_a_server_without_headers(transport: str) -> None:
    """A message with headers, and so each error reply, ended the connection; without a trace context it was refused, too."""
    heard: list[Exception] = []

    async def fail(request: natsery.Request) -> bytes:
        raise natsery.ServiceError(400, "no")

    @natsery.endpoint(pending_messages=1)
    async def wait(request: natsery.Request) -> bytes:
        await anyio.sleep_forever()
        return b""

    options = {"grace": 0}
    with NatsServer("no_header_support: true") as server:
        async with bounded(), open_connection(transport, server.url) as nc, nc.subscribe("x") as messages:
            lost: list[natsery.ConnectionEvent] = []
            remove = nc.add_listener(lost.append)
            served = config(add, fail, wait, error_handler=lambda error, *_: heard.append(error))
            async with natsery.serve(nc, served, **options) as service:
                for send in (nc.publish("x", b"", headers={"A": "b"}), nc.request("add", b"1+1", headers={"A": "b"})):
                    with pytest.raises(
                        natsery.PublishError, match=r"headers: the server takes none .*; send the message without"
                    ):
                        await send
                await nc.publish("x", b"1", headers=[])  # `headers_with_context()` where there is no context
                assert (await messages.receive()).data == b"1"
                assert await natsery.ServiceClient(nc).request("add", b"1+1", returns=bytes) == b"2"
                await nc.publish("fail", reply="x")
                for _ in range(3):
                    await nc.publish("wait", reply="x")
                await nc.flush()
                while not service.stats().endpoints[1].num_requests:
                    await anyio.lowlevel.checkpoint()
            assert [event for event in lost if event.kind is not natsery.EventKind.ERROR] == []
            remove()
    assert [type(error) for error in heard if "headers: the server takes none" in str(error)] == [natsery.PublishError]
    assert any("3 refused requests got no answer" in str(error) for error in heard)
    assert service.stats().endpoints[1].failures == {"undeliverable": 1}


async def test_a_denied_reply_is_reported_and_counted_as_failed(transport: str) -> None:
    """Replies that the server did not let through were counted as good."""
    heard: list[tuple[str, str | None]] = []
    early_denied = anyio.Event()

    def hear(error: Exception, endpoint: natsery.Endpoint | None, request: natsery.Request | None) -> None:
        if not isinstance(error, natsery.PublishDeniedError):
            return
        heard.append((error.subject.lower(), endpoint and endpoint.name))
        if error.subject.lower() == "denied.early":
            early_denied.set()

    async def early(request: natsery.Request) -> None:
        await request.respond()
        await early_denied.wait()

    with NatsServer(allowing(publish="add early allowed.>")) as server:
        async with bounded(), open_connection(transport, server.url, **CREDENTIALS) as nc:
            async with natsery.serve(nc, config(add, early, error_handler=hear)) as service:
                for reply in ("Denied.1", "allowed.1", "Denied.2", ""):
                    await nc.publish("add", b"1+1", reply=reply)
                await nc.publish("add", b"not a sum", reply="Denied.3")
                await nc.publish("early", reply="Denied.Early")
                await early_denied.wait()
    added, responded = service.stats().endpoints
    assert ("denied.1", "add") in heard
    assert ("denied.2", "add") in heard
    assert ("denied.3", "add") in heard
    assert ("denied.early", "early") in heard
    assert (added.num_requests, added.num_errors) == (5, 4)
    assert added.failures == {"undeliverable": 3, "service_error": 1}
    assert (responded.num_requests, responded.failures) == (1, {"undeliverable": 1})
    assert "denies publishing" in responded.last_error
