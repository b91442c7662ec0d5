"""A service on a connection of the program's own, which has nothing but what `natsery.abc.Connection` asks for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

import natsery
from natsery import abc
from natsery.testing import MemoryBroker

from ..bounds import bounded
from ..calc_service import add, config, error_of
from .own_connection import Own

pytestmark = pytest.mark.anyio


async def test_it_serves(broker: MemoryBroker, nc: abc.Connection) -> None:
    begun, let_go = anyio.Event(), anyio.Event()

    @natsery.endpoint(pending_messages=1)
    async def full(request: natsery.Request) -> bytes:
        begun.set()
        await let_go.wait()
        return request.headers["Trace"].encode()

    async def counts(request: natsery.Request) -> AsyncIterator[bytes]:
        yield b"1"
        yield b"2"

    async with bounded(), broker.connect() as inner, nc.subscribe("replies") as replies:
        async with natsery.serve(Own(inner), config(add, full, counts)) as service:
            assert (await nc.request("add", b"1+2")).data == b"3"
            assert error_of(await nc.request("add", b"x")) == "400:expected 'a+b'"
            client = natsery.ServiceClient(nc)
            assert [each.id for each in await client.ping("calc", count=1)] == [service.id]
            async with client.stream("counts") as parts:
                assert [part.data async for part in parts] == [b"1", b"2"]
            await nc.publish("full", reply="replies", headers={"Trace": "a"})
            await begun.wait()
            for _ in range(2):
                await nc.publish("full", reply="replies", headers={"Trace": "b"})
            assert error_of(await replies.receive()) == "503:Service Overloaded"
            let_go.set()
        assert [(await replies.receive()).data for _ in range(2)] == [b"a", b"b"]
        assert not inner.is_closed
        with pytest.raises(natsery.NoRespondersError):
            await nc.request("add", b"1+2")
    assert [each.num_requests for each in service.stats().endpoints] == [2, 3, 1]


async def test_its_end_ends_the_service(broker: MemoryBroker) -> None:
    async with bounded(), broker.connect() as inner:
        with pytest.raises(natsery.ConnectionClosedError, match=r"without it$") as caught:
            async with natsery.serve(Own(inner), config(add)):
                await inner.aclose()
                await anyio.sleep_forever()
        assert caught.value.__cause__ is None


async def test_the_reason_for_its_end_is_told(broker: MemoryBroker) -> None:
    class Failing(Own):
        def add_listener(self, listener: natsery.Listener) -> Any:
            listeners.append(listener)
            return lambda: None

    listeners: list[natsery.Listener] = []
    reason = natsery.NatseryError("the bus has gone to sleep")
    async with bounded(), broker.connect() as inner:
        with pytest.raises(natsery.ConnectionClosedError, match=r"without it \(the bus has gone to sleep\)$") as caught:
            async with natsery.serve(Failing(inner), config(add)):
                for tell in listeners:
                    tell(natsery.ConnectionEvent(natsery.EventKind.CLOSED, reason))
                await inner.aclose()
                await anyio.sleep_forever()
        assert caught.value.__cause__ is reason


class Faulty(Own):
    """Refuses to subscribe to one subject, and keeps what a subscription reports its errors to."""

    def __init__(self, inner: abc.Connection) -> None:
        super().__init__(inner)
        self.on_error: dict[str, Any] = {}

    async def add_subscription(self, subject: str, *args: Any, **options: Any) -> abc.Subscription:
        if subject == "refused":
            raise natsery.OutboundBufferError
        self.on_error[subject] = options["on_error"]
        return await super().add_subscription(subject, *args, **options)


async def test_an_endpoint_that_it_does_not_subscribe_leaves_nothing_behind(
    broker: MemoryBroker, nc: abc.Connection
) -> None:
    async with bounded(), broker.connect() as inner, natsery.serve(Faulty(inner), config(add)) as service:
        with pytest.raises(natsery.OutboundBufferError):
            await service.add_endpoint(natsery.EndpointConfig("refused", add))
        await anyio.wait_all_tasks_blocked()
        assert [each.name for each in service.endpoints] == ["add"]
        assert not service._joining
        assert (await nc.request("add", b"1+2")).data == b"3"


async def test_a_subscription_that_it_loses_ends_the_service_with_its_error(broker: MemoryBroker) -> None:
    error = natsery.NatseryError("the bus has dropped it")
    told: list[tuple[Exception, str | None]] = []

    def tell(error: Exception, endpoint: natsery.Endpoint | None, request: natsery.Request | None) -> None:
        told.append((error, endpoint and endpoint.name))

    async with bounded(), broker.connect() as inner:
        own = Faulty(inner)
        with pytest.raises(natsery.NatseryError) as caught:
            async with natsery.serve(own, config(add, error_handler=tell)):
                own.on_error["add"](error)
                await anyio.sleep_forever()
        assert caught.value is error
    assert told == [(error, "add")]


async def test_an_endpoint_is_removed_while_the_server_is_away(broker: MemoryBroker, nc: abc.Connection) -> None:
    """There is nothing to wait for: the subscription is not made again."""
    async with bounded(), broker.connect() as inner, natsery.serve(inner, config()) as service:
        endpoint = await service.add_endpoint(add)
        broker.disconnect(inner)
        await endpoint.remove()
        assert service.endpoints == ()
        broker.reconnect(inner)
        await inner.flush()
        with pytest.raises(natsery.NoRespondersError):
            await nc.request("add", b"1+2")


async def test_its_end_during_a_drain_is_the_error_of_the_service(broker: MemoryBroker) -> None:
    class Closing(Own):
        async def flush(self) -> None:
            if service is not None:
                await self._inner.aclose()
            await self._inner.flush()

    service: natsery.Service | None = None
    async with bounded(), broker.connect() as inner:
        with pytest.raises(natsery.ConnectionClosedError):
            async with natsery.serve(Closing(inner), config(add)) as service:
                pass


async def test_an_endpoint_is_drained_for_all_who_wait_for_that(nc: abc.Connection, broker: MemoryBroker) -> None:
    """Its removal, and a service that stops meanwhile."""
    begun, let_go = anyio.Event(), anyio.Event()

    async def held(request: natsery.Request) -> bytes:
        begun.set()
        await let_go.wait()
        return b"held"

    async with bounded(), broker.connect() as inner, nc.subscribe("replies") as replies:
        async with natsery.serve(inner, config(held)) as service, anyio.create_task_group() as tasks:
            await nc.publish("held", reply="replies")
            await begun.wait()
            for _ in range(2):
                tasks.start_soon(service.endpoints[0].remove)
            await anyio.wait_all_tasks_blocked()
            let_go.set()
        assert (await replies.receive()).data == b"held"
        assert service.endpoints == ()


class Stuck(Own):
    """Cannot end its subscriptions to some subjects."""

    def __init__(self, inner: abc.Connection, *stuck: str) -> None:
        super().__init__(inner)
        self.errors = {subject: RuntimeError(f"the bus keeps {subject}") for subject in stuck}
        self.ended: list[str] = []

    async def add_subscription(self, subject: str, *args: Any, **options: Any) -> abc.Subscription:
        subscription = await super().add_subscription(subject, *args, **options)
        return StuckSubscription(self, subscription)


class StuckSubscription(abc.Subscription):
    def __init__(self, own: Stuck, inner: abc.Subscription) -> None:
        self.own = own
        self.inner = inner
        self.subject = inner.subject

    async def unsubscribe(self) -> None:
        if self.subject in self.own.errors:
            raise self.own.errors[self.subject]
        await self.inner.unsubscribe()
        self.own.ended.append(self.subject)


async def streamed(request: natsery.Request) -> AsyncIterator[bytes]:
    yield b"1"


async def test_what_it_raises_at_the_end_leaves_as_it_is_and_all_else_is_drained(
    broker: MemoryBroker, nc: abc.Connection
) -> None:
    """It came out in three groups, requests under way were cut off, and the other subscriptions stayed."""
    begun, let_go = anyio.Event(), anyio.Event()
    reported: list[tuple[Exception, str | None]] = []

    async def held(request: natsery.Request) -> bytes:
        begun.set()
        await let_go.wait()
        return b"held"

    async def let_go_later() -> None:
        await anyio.wait_all_tasks_blocked()  # the service drains
        let_go.set()

    served = config(
        add,
        held,
        streamed,
        error_handler=lambda error, endpoint, _: reported.append((error, endpoint and endpoint.name)),
    )
    async with (
        bounded(),
        broker.connect() as inner,
        nc.subscribe("replies") as replies,
        anyio.create_task_group() as tasks,
    ):
        own = Stuck(inner, "add", "$SRV.PING")
        with pytest.raises(RuntimeError) as caught:
            async with natsery.serve(own, served) as service:
                async with natsery.ServiceClient(nc).stream("streamed") as parts:
                    assert [part.data async for part in parts] == [b"1"]
                await nc.publish("held", reply="replies")
                await begun.wait()
                tasks.start_soon(let_go_later)
        assert caught.value is own.errors["add"]
        assert (await replies.receive()).data == b"held"
    assert reported == [(own.errors["add"], "add"), (own.errors["$SRV.PING"], None)]
    assert own.ended[:2] == ["held", "streamed"]
    assert len(own.ended) == 2 + 8 + 1  # the endpoints, the control subjects, the acknowledgements of streams
    assert service.stats().endpoints[1].num_errors == 0


async def test_what_it_raises_in_the_end_leaves_with_what_the_body_has_raised(broker: MemoryBroker) -> None:
    mistake = ValueError("mine")
    async with bounded(), broker.connect() as inner:
        own = Stuck(inner, "add")
        with pytest.raises(ExceptionGroup) as caught:
            async with natsery.serve(own, config(add)):
                raise mistake
        assert caught.value.exceptions == (mistake, own.errors["add"])


async def test_what_else_it_raises_ends_the_service_with_that_error(broker: MemoryBroker) -> None:
    """The error came out in groups, and that of the body was lost."""
    error = RuntimeError("the bus is odd")

    class Odd(Own):
        async def wait_closed(self) -> None:
            await must_fail.wait()
            raise error

    class Deaf(Own):
        async def flush(self) -> None:
            if must_fail.is_set():
                raise error
            await super().flush()

    for kind in (Odd, Deaf):
        must_fail = anyio.Event()
        async with bounded(), broker.connect() as inner:
            with pytest.raises(RuntimeError) as caught:
                async with natsery.serve(kind(inner), config(add)) as service:
                    must_fail.set()
                    if kind is Odd:
                        await anyio.sleep_forever()
            assert caught.value is error
            await service.wait_stopped()
            await inner.flush()
            with pytest.raises(natsery.NoRespondersError):
                await inner.request("add", b"1+2")


class Buffering(Own):
    """Sends nothing before it is flushed."""

    def __init__(self, inner: abc.Connection) -> None:
        super().__init__(inner)
        self.buffer: list[tuple[Any, Any]] = []

    async def publish(self, *args: Any, **options: Any) -> None:
        self.buffer.append((args, options))

    async def flush(self) -> None:
        for args, options in self.buffer:
            await self._inner.publish(*args, **options)
        self.buffer.clear()
        await self._inner.flush()


async def test_what_is_answered_within_the_grace_has_left_when_the_block_ends(
    broker: MemoryBroker, nc: abc.Connection
) -> None:
    begun = anyio.Event()

    async def held(request: natsery.Request) -> bytes:
        begun.set()
        await service._stopping.wait()
        await anyio.wait_all_tasks_blocked()  # the server has answered that it sends no more requests
        return b"held"

    async with bounded(), broker.connect() as inner, nc.subscribe("replies") as replies:
        async with natsery.serve(Buffering(inner), config(held)) as service:
            await nc.publish("held", reply="replies")
            await begun.wait()
        await nc.flush()
        assert replies._has_pending()
        assert (await replies.receive()).data == b"held"


async def test_a_ping_that_was_on_its_way_is_answered(broker: MemoryBroker, nc: abc.Connection) -> None:
    class Late(Buffering):
        """Whose server has sent a PING before it hears that nobody is subscribed to that any more."""

        deliver: abc.Deliver | None = None

        async def add_subscription(self, subject: str, deliver: abc.Deliver, **options: Any) -> abc.Subscription:
            if subject == "$SRV.PING":
                self.deliver = deliver
            return await super().add_subscription(subject, deliver, **options)

        async def flush(self) -> None:
            await super().flush()
            active = {each.subject for each in self._inner._active()}  # type: ignore[attr-defined]
            if self.deliver is not None and "$SRV.PING" not in active:
                deliver, self.deliver = self.deliver, None
                deliver(natsery.Message("$SRV.PING", reply="replies"))

    async with bounded(), broker.connect() as inner, nc.subscribe("replies") as replies:
        async with natsery.serve(Late(inner), config(add)) as service:
            pass
        await nc.flush()
        assert replies._has_pending()
        assert natsery.ServicePing.from_json((await replies.receive()).data).id == service.id


async def test_refusals_that_it_takes_slowly_have_left_when_the_block_ends(
    broker: MemoryBroker, nc: abc.Connection
) -> None:
    class Slow(Own):
        async def publish(self, *args: Any, **options: Any) -> None:
            for _ in range(5):
                await anyio.wait_all_tasks_blocked()
            await self._inner.publish(*args, **options)

    async def stuck(request: natsery.Request) -> None:
        await anyio.sleep_forever()

    async with bounded(), broker.connect() as inner, nc.subscribe("replies") as replies:
        async with natsery.serve(Slow(inner), config(stuck), grace=0):
            for _ in range(3):
                await nc.publish("stuck", reply="replies")
            await nc.flush()
        for _ in range(3):
            await nc.flush()
            assert replies._has_pending()
            assert error_of(await replies.receive()) == "503:Service Stopping"


async def test_an_endpoint_that_is_being_added_is_drained_too(broker: MemoryBroker, nc: abc.Connection) -> None:
    class Waiting(Own):
        may_flush = anyio.Event()

        async def flush(self) -> None:
            await self.may_flush.wait()
            await self._inner.flush()

    async def held(request: natsery.Request) -> bytes:
        begun.set()
        await service._stopping.wait()
        own.may_flush.set()
        await anyio.wait_all_tasks_blocked()
        return b"held"

    async def add_late() -> None:
        with pytest.raises(natsery.ServiceStoppedError):
            await service.add_endpoint(held)

    begun = anyio.Event()
    async with bounded(), broker.connect() as inner, nc.subscribe("replies") as replies:
        own = Waiting(inner)
        own.may_flush.set()
        async with anyio.create_task_group() as tasks:
            async with natsery.serve(own, config()) as service:
                own.may_flush = anyio.Event()
                tasks.start_soon(add_late)
                await anyio.wait_all_tasks_blocked()
                await nc.publish("held", reply="replies")
                await begun.wait()
                assert service.pending == 1
        assert (await replies.receive()).data == b"held"
        assert service.endpoints == ()


async def test_a_service_that_has_ended_hears_no_more_of_it(
    broker: MemoryBroker, caplog: pytest.LogCaptureFixture
) -> None:
    async with bounded(), broker.connect(publish=["$SRV.>"]) as inner:
        async with natsery.serve(Own(inner), config(add)):
            await inner.publish("elsewhere")
            await inner.flush()
            assert "service calc: " in caplog.text
            caplog.clear()
        await inner.publish("elsewhere")
        await inner.flush()
        assert caplog.text == ""
