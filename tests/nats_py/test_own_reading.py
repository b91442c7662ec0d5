"""How a bridge's client reads: the same things in the same order, wherever the stream is cut and whoever gets the pieces."""

from __future__ import annotations

import asyncio
import random
from types import SimpleNamespace
from typing import cast

import anyio
import anyio.lowlevel
import pytest

from natsery import Message
from natsery._errors import MalformedMessageError
from natsery._nats_py._own_client import OwnClient
from natsery._nats_py._own_reading import Reading
from natsery._nats_py._safe_client import Intake, SafeClient

from ..test_serve import bounded

pytestmark = pytest.mark.anyio

OURS, THEIRS = 1, 2


@pytest.fixture
def setting() -> object:
    return ("asyncio", {"debug": True}), "bridged"


class Client:
    """What `Reading` uses of a client; writes down what reaches it."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        side = cast("SafeClient", SimpleNamespace(loop=asyncio.get_running_loop()))
        intake = Intake(lambda message: self.heard.append(f"ours {message.data!r}"), Message, side)
        self._subs = {OURS: SimpleNamespace(_future=intake), THEIRS: SimpleNamespace(_future=None)}
        self._counters = {"in_msgs": 0, "in_bytes": 0}

    async def _hear(self, what: str) -> None:
        self.heard.append(what)
        await anyio.lowlevel.checkpoint()  # as when a callback of the application's waits

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes | None) -> None:
        await self._hear(f"theirs {sid} {data!r}")

    async def _process_ping(self) -> None:
        await self._hear("ping")

    async def _process_pong(self) -> None:
        await self._hear("pong")

    async def _process_info(self, info: object) -> None:
        await self._hear(f"info {info}")

    async def _process_err(self, text: str) -> None:
        await self._hear(f"error {text}")

    async def _error_cb(self, error: Exception) -> None:
        assert type(error) is MalformedMessageError
        await self._hear("malformed")


def stream(rng: random.Random, length: int) -> tuple[bytes, list[str], dict[str, int]]:
    """A stream of so many things, what is to be heard, and nats-py's counters of it but for its own messages."""
    data, heard = bytearray(), []
    counters = {"in_msgs": 0, "in_bytes": 0}
    for number in range(length):
        payload = b"%d" % number
        kind = rng.choice(["ours"] * 5 + ["theirs", "unknown", "malformed", "PING", "PONG", "INFO", "-ERR"])
        if kind in ("ours", "theirs", "unknown"):
            sid = {"ours": OURS, "theirs": THEIRS, "unknown": 3}[kind]
            reply = rng.choice([b"", b" reply"])
            data += b"MSG subject %d%b %d\r\n%b\r\n" % (sid, reply, len(payload), payload)
            heard.append(f"ours {payload!r}" if kind == "ours" else f"theirs {sid} {payload!r}")
            if kind == "ours":
                counters["in_msgs"] += 1
                counters["in_bytes"] += len(payload)
        elif kind == "malformed":
            data += b"HMSG subject %d 12 %d\r\nNATS/9.9\r\n\r\n%b\r\n" % (OURS, 12 + len(payload), payload)
            heard.append("malformed")
            counters["in_msgs"] += 1
            counters["in_bytes"] += len(payload)
        elif kind == "INFO":
            data += b'INFO {"n":%d}\r\n' % number
            heard.append(f"info {{'n': {number}}}")
        elif kind == "-ERR":
            data += b"-ERR 'Oh No %d'\r\n" % number
            heard.append(f"error 'oh no {number}'")
        else:
            data += kind.encode() + b"\r\n"
            heard.append(kind.lower())
    return bytes(data), heard, counters


@pytest.mark.parametrize("seed", range(200))
async def test_any_cut_is_heard_the_same(seed: int) -> None:
    rng = random.Random(seed)
    data, heard, counters = stream(rng, 60)
    client = Client()
    reading = Reading(cast("OwnClient", client))
    unread = bytearray()
    has_come = anyio.Event()
    is_over = False

    async def read_as_nats_py_does() -> None:
        nonlocal has_come
        while unread or not is_over:
            if not unread:
                has_come = anyio.Event()
                await has_come.wait()
                continue
            piece = bytes(unread[: rng.choice([1, 7, 100_000])])
            del unread[: len(piece)]
            await reading.parse(piece)

    async with bounded(), anyio.create_task_group() as tasks:
        tasks.start_soon(read_as_nats_py_does)
        while data:
            piece, data = data[: (size := rng.choice([1, 5, 40, 400]))], data[size:]
            # As the transport does it.
            if unread or not reading.take(piece):
                unread += piece
                has_come.set()
            for _ in range(rng.choice([0, 0, 1, 3])):
                await anyio.lowlevel.checkpoint()
        is_over = True
        has_come.set()
    assert client.heard == heard
    assert client._counters == counters


async def test_a_new_stream_has_nothing_of_the_old_one() -> None:
    client = Client()
    reading = Reading(cast("OwnClient", client))
    assert reading.take(b"MSG subject 1 5\r\nhel")
    reading.reset()
    assert not reading.take(b"PING\r\nMSG subject 1 5\r\nhello\r\n")
    reading.reset()
    assert reading.take(b"MSG subject 1 3\r\nnew\r\n")
    await reading.parse(b"PONG\r\n")
    assert client.heard == ["ours b'new'", "pong"]


async def test_a_stream_that_ends_while_it_is_handled_says_nothing_more() -> None:
    """nats-py begins to reconnect in the middle of an error of the server's."""
    client = Client()
    reading = Reading(cast("OwnClient", client))

    async def end(text: str) -> None:
        client.heard.append(text)
        reading.reset()

    client._process_err = end  # type: ignore[method-assign]
    await reading.parse(b"-ERR 'Stale Connection'\r\nMSG subject 1 3\r\nold\r\n")
    assert reading.take(b"MSG subject 1 3\r\nnew\r\n")
    assert client.heard == ["'stale connection'", "ours b'new'"]


async def test_the_end_of_the_old_stream_does_not_let_the_new_one_be_overtaken() -> None:
    client = Client()
    reading = Reading(cast("OwnClient", client))
    gates = [anyio.Event(), anyio.Event()]
    waiting = iter(gates)

    async def wait() -> None:
        await next(waiting).wait()

    client._process_ping = wait  # type: ignore[method-assign]
    async with bounded(), anyio.create_task_group() as tasks:
        tasks.start_soon(reading.parse, b"PING\r\n")
        await anyio.lowlevel.checkpoint()
        reading.reset()
        tasks.start_soon(reading.parse, b"PING\r\nMSG subject 1 5\r\nfirst\r\n")
        await anyio.lowlevel.checkpoint()
        gates[0].set()
        await anyio.lowlevel.checkpoint()
        assert not reading.take(b"MSG subject 1 6\r\nsecond\r\n")
        gates[1].set()
    assert client.heard == ["ours b'first'"]
