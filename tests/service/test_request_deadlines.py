"""Deadlines that travel: from the caller's scope to the handler, and on to what that calls. To the moment."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator

import anyio
import pytest

import natsery
from natsery._deadline_header import TIMEOUT_HEADER
from natsery.abc import Connection
from natsery.testing import MemoryBroker

from ..bounds import HANG_SECONDS, bounded
from ..calc_service import config
from ..virtual_time import IN_VIRTUAL_TIME

pytestmark = [pytest.mark.anyio, IN_VIRTUAL_TIME]


async def stuck(request: natsery.Request) -> None:
    await anyio.sleep_forever()


async def left(request: natsery.Request) -> bytes:
    """Answers with the seconds that it has."""
    assert request.deadline == anyio.current_effective_deadline()
    return f"{request.deadline - anyio.current_time():.3f}".encode()


async def test_all_along_a_chain_are_free_at_the_first_caller_s_deadline(nc: Connection) -> None:
    ended: list[tuple[str, float]] = []

    async def first(request: natsery.Request) -> bytes:
        try:
            return (await natsery.ServiceClient(nc).request("second")).data
        finally:
            ended.append(("first", anyio.current_time() - begun))

    async def second(request: natsery.Request) -> bytes:
        try:
            return (await natsery.ServiceClient(nc).request("third")).data
        finally:
            ended.append(("second", anyio.current_time() - begun))

    async def third(request: natsery.Request) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            ended.append(("third", anyio.current_time() - begun))

    async with bounded(), natsery.serve(nc, config(first, second, third)) as service:
        begun = anyio.current_time()
        with pytest.raises(TimeoutError), anyio.fail_after(1):
            await natsery.ServiceClient(nc).request("first")
        await anyio.sleep(0.001)
        assert service.pending == 0
        # Those who only have the header, whoever called them, are answered.
        begun = anyio.current_time()
        reply = await nc.request("first", headers={TIMEOUT_HEADER: "1000"})
        assert str(natsery.ServiceError.from_message(reply)) == "504:Deadline Exceeded"
        assert anyio.current_time() - begun == pytest.approx(1)
    assert sorted(ended) == sorted([(name, pytest.approx(1, abs=0.01)) for name in ("first", "second", "third")] * 2)


async def test_what_expired_in_the_queue_is_not_handled(nc: Connection) -> None:
    handled: list[bytes] = []

    @natsery.endpoint(concurrency=1)
    async def work(request: natsery.Request) -> bytes:
        handled.append(request.data)
        await anyio.sleep(0.05)
        return request.data

    async def call(client: natsery.ServiceClient) -> None:
        with anyio.move_on_after(1):
            await client.request("work", b"old")

    async with bounded(), natsery.serve(nc, config(work)) as service:
        client = natsery.ServiceClient(nc)
        async with anyio.create_task_group() as tasks:
            for _ in range(200):
                tasks.start_soon(call, client)
        begun = anyio.current_time()
        assert (await client.request("work", b"new")).data == b"new"
        assert anyio.current_time() - begun <= 0.1 + 1e-6
    assert handled.count(b"old") in (20, 21)
    (stats,) = service.stats().endpoints
    assert stats.failures["expired"] + stats.failures.get("timeout", 0) >= 179
    assert stats.num_requests == 201


@pytest.mark.parametrize(
    ("timeout", "given", "expected"),
    [(None, "1500", "1.500"), (2.0, "1500", "1.500"), (1.0, "1500", "1.000"), (math.inf, "9999999999", "9999999.999")],
)
async def test_the_shorter_one_counts(nc: Connection, timeout: float | None, given: str, expected: str) -> None:
    endpoint = natsery.EndpointConfig("left", left, timeout=timeout)
    async with bounded(), natsery.serve(nc, config(endpoint)):
        assert (await nc.request("left", headers={TIMEOUT_HEADER.lower(): given})).data == expected.encode()


@pytest.mark.parametrize("given", ["", "x", "-1", "1.5", "99999999999", "1 2"])
async def test_what_is_no_time_is_no_limit(nc: Connection, given: str) -> None:
    async with bounded(), natsery.serve(nc, config(left)):
        assert (await nc.request("left", headers=natsery.Headers.from_wire([(TIMEOUT_HEADER, given)]))).data == b"inf"
        assert (await nc.request("left")).data == b"inf"


async def test_no_time_is_too_late(nc: Connection) -> None:
    async with bounded(), natsery.serve(nc, config(left)) as service:
        reply = await nc.request("left", headers={TIMEOUT_HEADER: "0"})
    assert str(natsery.ServiceError.from_message(reply)) == "504:Deadline Exceeded"
    assert service.stats().endpoints[0].failures == {"expired": 1}


async def test_the_time_out_may_count_from_arrival(nc: Connection) -> None:
    arrivals: list[tuple[bytes, float, str]] = []

    @natsery.endpoint(timeout=1, timeout_from_arrival=True)
    async def work(request: natsery.Request) -> bytes:
        await anyio.sleep(0.7)
        return request.data

    async def call(data: bytes) -> None:
        begun = anyio.current_time()
        reply = await nc.request("work", data)
        error = natsery.ServiceError.from_message(reply)
        arrivals.append((data, pytest.approx(anyio.current_time() - begun), "" if error is None else str(error.code)))

    async with bounded(), natsery.serve(nc, config(work)) as service, anyio.create_task_group() as tasks:
        for number in range(3):
            tasks.start_soon(call, b"%d" % number)
            await anyio.sleep(0)
    assert [(each[1], each[2]) for each in sorted(arrivals)] == [(0.7, ""), (1.0, "504"), (1.0, "504")]
    assert service.stats().endpoints[0].failures == {"timeout": 1, "expired": 1}


async def test_a_request_waits_for_so_long_at_most(nc: Connection) -> None:
    @natsery.endpoint(concurrency=1)
    async def work(request: natsery.Request) -> bytes:
        await anyio.sleep(0.6)
        return request.data

    codes: list[int] = []

    async def call() -> None:
        error = natsery.ServiceError.from_message(await nc.request("work"))
        codes.append(200 if error is None else error.code)

    # Once accepted, it has the whole of its own time.
    async with bounded(), natsery.serve(nc, config(natsery.group("", [work]), pending_seconds=1)):
        async with anyio.create_task_group() as tasks:
            for _ in range(4):
                tasks.start_soon(call)
    assert sorted(codes) == [200, 200, 504, 504]


@pytest.mark.parametrize("how", ["request", "call", "by name", "typed"])
async def test_a_client_says_how_much_time_is_left(nc: Connection, how: str) -> None:
    async with bounded(), natsery.serve(nc, config(left)):
        client = natsery.ServiceClient(nc)

        async def call() -> bytes:
            match how:
                case "request":
                    return (await client.request("left")).data
                case "call":
                    return await client.call(left)
                case "by name":
                    return (await client.call("calc", "left")).data
                case _:
                    return str(await client.request("left", returns=float)).encode()

        with anyio.move_on_after(2.5):
            assert float(await call()) == 2.5
        assert float(await call()) == pytest.approx(HANG_SECONDS, abs=0.1)


async def test_a_header_of_the_caller_s_own_counts(nc: Connection) -> None:
    async with bounded(), natsery.serve(nc, config(left)):
        client = natsery.ServiceClient(nc)
        assert (await client.request("left", headers={"request-timeout-ms": "500"})).data == b"0.500"


async def test_without_a_scope_there_is_no_header(broker: MemoryBroker, nc: Connection) -> None:
    heard: list[natsery.Headers] = []

    async def hear(request: natsery.Request) -> bytes:
        heard.append(request.headers)
        return b""

    async with natsery.serve(nc, config(hear)):
        await natsery.ServiceClient(nc).request("hear")
        with anyio.fail_after(1):
            await natsery.ServiceClient(nc).request("hear", headers={"A": "b"})
            # It would be too large with it.
            await natsery.ServiceClient(nc).request("hear", bytes(nc.max_payload))
            await natsery.ServiceClient(nc).request("hear", bytes(nc.max_payload - 30), headers=iter([("A", "b")]))
    assert [dict(each) for each in heard] == [{}, {"A": "b", TIMEOUT_HEADER: "1000"}, {}, {"A": "b"}]


async def test_a_stream_ends_with_504(nc: Connection) -> None:
    async def numbers(request: natsery.Request) -> AsyncIterator[bytes]:
        number = 0
        while True:
            yield b"%d" % number
            await anyio.sleep(0.4)
            number += 1

    async with bounded(), natsery.serve(nc, config(numbers)):
        client = natsery.ServiceClient(nc)
        got: list[bytes] = []
        with pytest.raises(natsery.ServiceError, match="504"):
            async with client.stream("numbers", headers={TIMEOUT_HEADER: "1000"}) as replies:
                async for reply in replies:
                    got.append(reply.data)  # noqa: PERF401  # the loop raises
    assert got == [b"0", b"1", b"2"]


@pytest.mark.parametrize("place", ["service", "group", "endpoints"])
async def test_endpoints_may_share_a_limit(nc: Connection, place: str) -> None:
    limiter = anyio.CapacityLimiter(2)
    running = most = 0

    async def work(request: natsery.Request) -> bytes:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await anyio.sleep(1)
        running -= 1
        if request.data == b"bad":
            raise ValueError
        return request.data

    own = {"limiter": limiter} if place == "endpoints" else {}
    endpoints = [natsery.EndpointConfig(name, work, concurrency=5, **own) for name in ("a", "b")]
    items = [natsery.group("g", endpoints, limiter=limiter)] if place == "group" else endpoints
    options = {"limiter": limiter} if place == "service" else {}
    clock = natsery.Clock(monotonic_ns=lambda: round(anyio.current_time() * 1e9))
    async with bounded(), natsery.serve(nc, config(*items, clock=clock, **options)) as service:
        begun = anyio.current_time()
        async with anyio.create_task_group() as tasks:
            for each in service.endpoints:
                for data in (b"good", b"bad", b"good"):
                    tasks.start_soon(nc.request, each.subject, data)
        assert anyio.current_time() - begun == pytest.approx(3)
    assert most == 2
    assert limiter.borrowed_tokens == 0
    # The wait is not in the processing time.
    assert [each.processing_time for each in service.stats().endpoints] == [3_000_000_000] * 2
    assert [each.num_errors for each in service.stats().endpoints] == [1, 1]


class Ticket:
    """A limiter of a program's own: one request at a time, and none while it is broken."""

    def __init__(self) -> None:
        self._lock = anyio.Lock()
        self.is_broken = False
        self.released: list[object] = []

    async def acquire_on_behalf_of(self, borrower: object) -> None:
        if self.is_broken:
            raise LookupError("no tickets")
        await self._lock.acquire()

    def release_on_behalf_of(self, borrower: object) -> None:
        self._lock.release()
        assert isinstance(borrower, natsery.Request)
        self.released.append(borrower.data)


async def test_a_limiter_may_be_the_programs_own(nc: Connection) -> None:
    ticket: natsery.Limiter = (own := Ticket())

    @natsery.endpoint(concurrency=3, limiter=ticket)
    async def work(request: natsery.Request) -> bytes:
        await anyio.sleep(1)
        return b""

    async with bounded(60), natsery.serve(nc, config(work)):
        begun = anyio.current_time()
        async with anyio.create_task_group() as tasks:
            for data in (b"1", b"2", b"3"):
                tasks.start_soon(nc.request, "work", data)
        assert anyio.current_time() - begun == pytest.approx(3)
        own.is_broken = True
        assert (await nc.request("work")).headers["Nats-Service-Error-Code"] == "500"
    assert sorted(own.released) == [b"1", b"2", b"3"]


async def test_a_deadline_passes_while_a_limiter_is_waited_for(nc: Connection) -> None:
    limiter = anyio.CapacityLimiter(1)
    async with bounded(), natsery.serve(nc, config(left, limiter=limiter), grace=0) as service:
        await limiter.acquire_on_behalf_of("another")
        reply = await nc.request("left", headers={TIMEOUT_HEADER: "1000"})
        assert str(natsery.ServiceError.from_message(reply)) == "504:Deadline Exceeded"
        headers = natsery.Headers.from_block(b"NATS/1.0\r\nTrace: 1\r\n\r\n")  # which say no time
        nc._broker._route(nc, natsery.Message("left", b"", "r", headers))  # type: ignore[attr-defined]
        await anyio.sleep(1)
        assert service.pending == 1
    assert service.stats().endpoints[0].failures == {"expired": 1, "stopping": 1}
    assert limiter.statistics().borrowers == ("another",)


async def test_nothing_is_kept_of_what_said_its_time(nc: Connection) -> None:
    @natsery.endpoint(pending_messages=1)
    async def slow(request: natsery.Request) -> None:
        await anyio.sleep(0.5)

    async with bounded(), natsery.serve(nc, config(slow), grace=0) as service:
        for _ in range(4):  # one is handled, one waits, two are refused
            await nc.publish("slow", reply="r", headers={TIMEOUT_HEADER: "1000"})
            await anyio.sleep(0.1)
        queue = service.endpoints[0]._queue
        assert len(queue._with_time) == 1
    assert service.stats().endpoints[0].failures == {"overloaded": 2, "stopping": 2}
    assert queue._with_time == set()


async def test_what_was_cut_off_while_it_waited_for_a_limiter_is_not_handled(nc: Connection) -> None:
    """It may get its token in the moment in which the service ends."""
    free = anyio.Event()
    handled: list[bytes] = []

    class Stubborn:
        tokens = 0

        async def acquire_on_behalf_of(self, borrower: object) -> None:
            with anyio.CancelScope(shield=True):
                await free.wait()
            self.tokens += 1

        def release_on_behalf_of(self, borrower: object) -> None:
            self.tokens -= 1

    async def handle(request: natsery.Request) -> bytes:
        handled.append(request.data)
        return b""

    async def set_free() -> None:
        await anyio.sleep(1)
        free.set()

    limiter = Stubborn()
    async with bounded(), anyio.create_task_group() as tasks:
        async with natsery.serve(nc, config(handle, limiter=limiter), grace=0) as service:
            await nc.publish("handle", b"1", reply="r")
            tasks.start_soon(set_free)
            await anyio.sleep(0.5)
    assert handled == []
    assert limiter.tokens == 0
    assert service.stats().endpoints[0].failures == {"stopping": 1}


@pytest.mark.parametrize("how", ["plain", "instrument", "limiter", "header"])
async def test_the_deadline_is_for_the_handler_and_not_for_the_sending_of_its_reply(
    nc: Connection, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """The reply is on its way already while the connection has no room; 504 as well would be a second answer."""

    @natsery.endpoint(timeout=1)
    async def quick(request: natsery.Request) -> bytearray:
        return bytearray(b"reply")

    send = nc._send  # type: ignore[attr-defined]

    async def send_slowly(subject: str, data: bytes = b"", **options: object) -> None:
        await send(subject, data, **options)
        if subject == "replies":
            await anyio.sleep(2)

    monkeypatch.setattr(nc, "_send", send_slowly)
    options: dict[str, object] = {}
    if how == "instrument":
        options["instruments"] = [natsery.Instrument()]
    if how == "limiter":
        options["limiter"] = anyio.CapacityLimiter(1)
    async with bounded(), nc.subscribe("replies") as replies:
        async with natsery.serve(nc, config(quick, **options)) as service:
            headers = {TIMEOUT_HEADER: "1000"} if how == "header" else None
            await nc.publish("quick", reply="replies", headers=headers)
            await anyio.sleep(5)
        assert (await replies.receive()).data == b"reply"
        with anyio.move_on_after(1):
            raise AssertionError(await replies.receive())
    assert service.stats().endpoints[0].failures == {}
