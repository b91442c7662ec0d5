"""Nothing is left behind: neither of messages and requests, whatever has become of them, nor of what handled them."""

from __future__ import annotations

import gc
import logging
import sys
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import pairwise

import anyio
import pytest

import natsery
from natsery import ServiceClient, ServiceError
from natsery._core._limits import RECENT_REPLIES
from natsery.abc import Connection
from natsery.testing import MemoryBroker

from ..bounds import bounded
from ..calc_service import config
from ..virtual_time import VIRTUAL_BACKENDS
from .forms import BOTH, request_type, subscription
from .peer import Peer

SINGLE = (None, True, False, b"", "", ())
"""Objects of which there is one, whose references a mistake in C would miscount."""

TIMES = 200
"""How often a thing is done in each of the rounds that are compared."""


class Rounds:
    """Counts what is there after each round of doing the same thing."""

    def __init__(self) -> None:
        self.counts: list[list[int]] = []

    def count(self) -> None:
        gc.collect()
        singles = [sys.getrefcount(each) for each in SINGLE]
        self.counts.append([len(gc.get_objects()), sys.getallocatedblocks(), *singles])

    def check(self) -> None:
        """Fail if there was more after every round, or fewer references to what is there once.

        What is kept or let go each time shows in each round; what Python's own caches gain or lose does not.
        """
        growths = [[now - then for then, now in zip(*pair, strict=True)] for pair in pairwise(self.counts)]
        assert len(growths) >= 3
        for name, growth in zip(("objects", "blocks", *map(repr, SINGLE)), zip(*growths, strict=True), strict=True):
            assert min(growth) < TIMES / 2, f"more {name} each time: {growth}"
            assert max(growth) > -TIMES / 2 or name in ("objects", "blocks"), f"fewer {name} each time: {growth}"


def assert_nothing_is_left(do: Callable[[], None]) -> None:
    rounds = Rounds()
    for _ in range(5):
        do()
        rounds.count()
    rounds.counts.pop(0)
    rounds.check()


async def settle() -> None:
    """Let everything end; and let the deadlines pass of scopes that have ended, which event loops keep until then."""
    await anyio.wait_all_tasks_blocked()
    await anyio.sleep(60)


@pytest.fixture(params=VIRTUAL_BACKENDS)
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, object]]:
    name, options = VIRTUAL_BACKENDS[request.param]()
    options.pop("debug", None)  # it makes minutes of so many requests
    return name, options


@pytest.fixture(autouse=True)
def aside() -> Iterator[None]:
    """Nothing is logged, which would be kept, and what was there before is not counted again and again."""
    logging.disable()
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()
    logging.disable(logging.NOTSET)


# The reader and the frame buffer

MESSAGES = {
    "plain": b"MSG a 1 5\r\nhello\r\n",
    "with a reply": b"MSG a 1 r 5\r\nhello\r\n",
    "on another subject": b"MSG a.b 1 r 5\r\nhello\r\n",
    "with headers": b"HMSG a 1 r 18 23\r\nNATS/1.0\r\nA: 1\r\n\r\nhello\r\n",
    "with a status": b"HMSG a 1 16 16\r\nNATS/1.0 503\r\n\r\n\r\n",
    "not UTF-8": b"MSG \xff 1 5\r\nhello\r\n",
    "with a reply that is not UTF-8": b"MSG a 1 \xff 5\r\nhello\r\n",
    "with malformed headers": b"HMSG a 1 5 10\r\nhelloworld\r\n",
    "for nobody": b"MSG a 9 r 5\r\nhello\r\n",
    "for one that raises": b"MSG a 2 r 5\r\nhello\r\n",
    "no message": b"PING\r\nINFO {}\r\n-ERR 'x'\r\n",
    "large": b"MSG a 1 r 100000\r\n" + b"x" * 100_000 + b"\r\n",
}
FAILURES = {
    "no protocol": b"nonsense\r\n",
    "a message that is too long": b"MSG a 1 5\r\nhello, world\r\n",
    "a wrong size": b"MSG a 1 x\r\n",
    "half a line": b"MSG a 1",
    "half a body": b"MSG a 1 100\r\nhello",
    "half an end": b"MSG a 1 5\r\nhello\r",
    "half a body that is large": b"MSG a 1 60000000\r\nhello",
    "half a body with headers": b"HMSG a 1 18 23\r\nNATS/1.0\r\nA: 1\r\n",
}


def new_reader(form: object) -> object:
    def fail(message: object) -> None:
        raise LookupError

    subscriptions = {
        b"1": subscription(form, "a", lambda message: None, request_type(form)),
        b"2": subscription(form, "a", fail),
    }
    return form.Reader(subscriptions, lambda event: None, lambda event: None)


@pytest.mark.parametrize("form", BOTH)
@pytest.mark.parametrize("piece", [1, 7, 1_000_000])
@pytest.mark.parametrize("name", MESSAGES)
def test_a_reader_keeps_nothing_of_messages(form: object, name: str, piece: int) -> None:
    stream = MESSAGES[name]
    if len(stream) > 1000:
        piece *= 1000
    pieces = [stream[at : at + piece] for at in range(0, len(stream), piece)]
    reader = new_reader(form)

    def feed() -> None:
        for _ in range(TIMES):
            for each in pieces:
                reader.feed(each)

    assert_nothing_is_left(feed)


@pytest.mark.parametrize("form", BOTH)
@pytest.mark.parametrize("piece", [1, 1_000_000])
@pytest.mark.parametrize("name", FAILURES)
def test_a_reader_that_ends_half_way_leaves_nothing(form: object, name: str, piece: int) -> None:
    stream = b"MSG a 1 1\r\nx\r\n" + FAILURES[name]

    def feed() -> None:
        for _ in range(TIMES):
            reader = new_reader(form)
            for at in range(0, len(stream), piece):
                reader.feed(stream[at : at + piece])

    assert_nothing_is_left(feed)


@pytest.mark.parametrize("form", BOTH)
def test_what_callbacks_raise_leaves_nothing(form: object) -> None:
    def fail(_: object) -> None:
        raise LookupError

    def feed() -> None:
        reader = form.Reader({b"1": subscription(form, "a", fail)}, fail, fail)
        for _ in range(TIMES):
            for stream in (b"PING\r\n", b"MSG \xff 1 0\r\n\r\n"):
                with pytest.raises(LookupError):
                    reader.feed(stream)
            reader.feed(b"MSG \xff 1 0\r\n")
            with pytest.raises(LookupError):
                reader.feed(b"\r\n")
            with pytest.raises(TypeError):
                reader.feed(None)

    assert_nothing_is_left(feed)


@pytest.mark.parametrize("form", BOTH)
@pytest.mark.parametrize("room", [0, 5, 1_000_000_000])
def test_a_frame_buffer_keeps_nothing_of_frames(form: object, room: int) -> None:
    peer = Peer(form, room)
    frame, large = b"PUB a 1\r\nx\r\n", b"PUB a 20000\r\n" + b"x" * 20_000 + b"\r\n"

    def use() -> None:
        for _ in range(TIMES):
            peer.room = room
            peer.add(frame)
            peer.add(large)
            peer.expect(4)
            for data in (b"", b"x", b"x" * 20_000, b"x" * 700_000):
                peer.answer("r", data)
            peer.push()
            with pytest.raises(UnicodeEncodeError):
                peer.answer("\ud800", b"")
            peer.drain()
            peer.add(large)
            peer.add(frame)
            peer.add_first([frame, large])
            assert len(peer.clear()) == 4
            peer.received = b""
            peer.calls.clear()

    assert_nothing_is_left(use)


# Requests


class Endpoints:
    """Handlers that end in every way."""

    def __init__(self) -> None:
        self.is_held = anyio.Event()
        self.tasks: anyio.abc.TaskGroup | None = None

    def all(self) -> list[object]:
        return [getattr(self, name) for name in ENDPOINTS]

    @natsery.endpoint
    async def good(self, request: natsery.Request) -> bytes:
        return request.data

    @natsery.endpoint
    async def silent(self, request: natsery.Request) -> None:
        return None

    @natsery.endpoint
    async def raises(self, request: natsery.Request) -> bytes:
        raise LookupError("x" * 10)

    @natsery.endpoint
    async def chains(self, request: natsery.Request) -> bytes:
        try:
            raise OSError
        except OSError as error:
            await anyio.lowlevel.checkpoint()
            raise LookupError from error

    @natsery.endpoint
    async def refuses(self, request: natsery.Request) -> bytes:
        raise ServiceError(404, "not here", headers={"A": "1"})

    @natsery.endpoint
    async def responds(self, request: natsery.Request) -> None:
        await request.respond(b"1", headers={"A": "1"})
        await request.respond_error(400, "no")

    @natsery.endpoint(timeout=0.0001)
    async def hangs(self, request: natsery.Request) -> bytes:
        await anyio.Event().wait()  # asyncio keeps a while the timer of a sleep without end

    @natsery.endpoint
    async def detaches(self, request: natsery.Request) -> None:
        self.tasks.start_soon(self._answer, request.detach())

    async def _answer(self, detached: natsery.DetachedRequest) -> None:
        async with detached as request:
            await request.respond(b"later")

    @natsery.endpoint
    async def streams(self, request: natsery.Request) -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b"x"

    @natsery.endpoint
    async def wrong(self, request: natsery.Request) -> bytes:
        return 5

    @natsery.endpoint(pending_messages=1)
    async def holds(self, request: natsery.Request) -> bytes:
        await self.is_held.wait()
        return b""

    @natsery.endpoint
    async def changes(self, request: natsery.Request) -> bytes:
        request.reply = request.headers = request.data = request.subject = None
        return b""


ENDPOINTS = [name for name in vars(Endpoints) if not name.startswith("_") and name != "all"]


async def ask(nc: Connection, subject: str, **options: object) -> None:
    await nc.request(subject, b"x" * 10, **options)


async def ask_for_nothing(nc: Connection, subject: str) -> None:
    await nc.publish(subject, b"x")
    await nc.request("good")


async def ask_in_vain(nc: Connection, subject: str) -> None:
    await nc.publish(subject, b"x" * 10, reply="nobody")
    await nc.request("good")


async def ask_forging(nc: Connection, subject: str) -> None:
    for reply in ("$SYS.x", "$JS.API.x"):
        await nc.publish(subject, b"x", reply=reply)
    await nc.request("good")


async def ask_for_all(nc: Connection, subject: str) -> None:
    async with ServiceClient(nc).stream(subject) as replies:
        assert [reply.data async for reply in replies] == [b"x"] * 3


async def overload(nc: Connection, subject: str) -> None:
    await nc.request(subject)


WAYS: dict[str, tuple[str, Callable[..., object]]] = {
    "good": ("good", ask),
    "with headers": ("good", lambda nc, subject: ask(nc, subject, headers={"A": "1"})),
    "with time": ("good", lambda nc, subject: ask(nc, subject, headers={"Request-Timeout-Ms": "5000"})),
    "out of time": ("good", lambda nc, subject: ask(nc, subject, headers={"Request-Timeout-Ms": "0"})),
    "silent": ("silent", ask_in_vain),
    "without a reply subject": ("good", ask_for_nothing),
    "raising": ("raises", ask),
    "raising a chain": ("chains", ask),
    "a service error": ("refuses", ask),
    "responding": ("responds", ask),
    "cut off by its deadline": ("hangs", ask),
    "detached": ("detaches", ask),
    "a stream": ("streams", ask_for_all),
    "a wrong type": ("wrong", ask),
    "refused": ("holds", overload),
    "with a reply subject that may not be answered": ("good", ask_forging),
    "changed": ("changes", ask),
}


@pytest.mark.anyio
@pytest.mark.parametrize("way", WAYS)
async def test_a_request_leaves_nothing_behind(way: str) -> None:
    subject, send = WAYS[way]
    endpoints = Endpoints()
    async with bounded(3600), MemoryBroker() as broker, broker.connect() as nc, anyio.create_task_group() as tasks:
        endpoints.tasks = tasks
        async with natsery.serve(nc, config(*endpoints.all())):
            if way == "refused":
                for _ in range(2):  # one in hand, one that waits
                    await nc.publish(subject, reply="nobody")
                await anyio.wait_all_tasks_blocked()

            async def send_all() -> None:
                for _ in range(TIMES):
                    await send(nc, subject)

            for _ in range(RECENT_REPLIES // TIMES + 1):  # as many good replies are remembered
                await send_all()
            rounds = Rounds()
            for _ in range(4):
                await send_all()
                await settle()
                rounds.count()
            endpoints.is_held.set()
    rounds.check()


@pytest.mark.anyio
async def test_a_service_that_ends_leaves_nothing_behind() -> None:
    """With requests that are handled, that wait, and that are detached."""
    async with bounded(3600), MemoryBroker() as broker, broker.connect() as nc:

        async def serve() -> None:
            kept: list[natsery.DetachedRequest] = []

            @natsery.endpoint
            async def hangs(request: natsery.Request) -> bytes:
                await anyio.Event().wait()

            @natsery.endpoint
            async def keeps(request: natsery.Request) -> None:
                kept.append(request.detach())

            @natsery.endpoint
            async def stubborn(request: natsery.Request) -> bytes:
                try:
                    await anyio.Event().wait()
                finally:
                    raise LookupError

            async with natsery.serve(nc, config(hangs, keeps, stubborn), grace=0) as service:
                for subject in ("hangs", "hangs", "keeps", "stubborn"):
                    await nc.publish(subject, b"x", reply="nobody")
                while [each.in_flight for each in service.endpoints] != [1, 1, 1]:
                    await anyio.lowlevel.checkpoint()

        rounds = Rounds()
        for _ in range(5):
            await settle()
            rounds.count()
            for _ in range(TIMES):
                await serve()
    rounds.counts.pop(0)
    rounds.check()


def test_memory_does_not_grow() -> None:
    """What no count of objects shows: the bytes that C code has asked Python for."""
    sizes: list[int] = []

    async def main() -> None:
        async with MemoryBroker() as broker, broker.connect() as nc:
            endpoints = Endpoints()
            async with natsery.serve(nc, config(*endpoints.all())):
                for _ in range(3):
                    for _ in range(RECENT_REPLIES):
                        await nc.request("good", b"x" * 10)
                        await nc.request("raises", b"x" * 10)
                    gc.collect()
                    sizes.append(tracemalloc.get_traced_memory()[0])

    tracemalloc.start()
    try:
        anyio.run(main, backend="trio")
    finally:
        tracemalloc.stop()
    assert abs(sizes[-1] - sizes[-2]) < 20_000
