"""What waits to be sent, and leaves from two places without getting mixed up."""

from __future__ import annotations

import anyio
import pytest

from natsery._core import HeldAnswers
from natsery._native._connection_statistics import Counters
from natsery._native._write_buffer import HIGH_WATER_BYTES, LOW_WATER_BYTES, WriteBuffer

from ..bounds import HANG_SECONDS

pytestmark = pytest.mark.anyio


class Network:
    """Takes so many bytes at once, and no more."""

    def __init__(self) -> None:
        self.room = 1_000_000_000
        self.received = b""

    def send_nowait(self, data: bytes) -> int:
        taken = data[: self.room]
        self.room -= len(taken)
        self.received += taken
        return len(taken)


def answer(write_buffer: WriteBuffer, *frames: bytes) -> None:
    """What a connection does with answers."""
    for frame in frames:
        write_buffer.add(frame)


def frame_of(size: int) -> bytes:
    """A message that takes so many bytes."""
    payload = size - len(b"PUB a 0000000\r\n\r\n")
    return b"PUB a %07d\r\n%b\r\n" % (payload, bytes(payload))


@pytest.fixture
def network() -> Network:
    return Network()


@pytest.fixture
def counters() -> Counters:
    return Counters()


@pytest.fixture
async def write_buffer(network: Network, counters: Counters) -> WriteBuffer:
    write_buffer = WriteBuffer(counters, HeldAnswers())
    write_buffer.open([], network.send_nowait)
    return write_buffer


async def test_a_push_sends_all_that_waits(write_buffer: WriteBuffer, network: Network, counters: Counters) -> None:
    answer(write_buffer, b"PUB a 0\r\n\r\n", b"PUB b 0\r\n\r\n")
    write_buffer.push()
    assert network.received == b"PUB a 0\r\n\r\nPUB b 0\r\n\r\n"
    assert (write_buffer.count, write_buffer.size) == (0, 0)
    assert (counters.taken_frames, counters.out_bytes) == (2, len(network.received))


async def test_what_a_push_leaves_goes_first(write_buffer: WriteBuffer, network: Network) -> None:
    network.room = 5
    answer(write_buffer, b"PUB a 0\r\n\r\n")
    write_buffer.push()
    with anyio.fail_after(HANG_SECONDS):
        await write_buffer.wait_for_frames()
    answer(write_buffer, b"PUB b 0\r\n\r\n")
    network.received += write_buffer.take()
    write_buffer.sent()
    await write_buffer.wait_for_frames()
    network.received += write_buffer.take()
    write_buffer.sent()
    assert network.received == b"PUB a 0\r\n\r\nPUB b 0\r\n\r\n"


async def test_a_second_push_begins_where_the_first_one_stopped(write_buffer: WriteBuffer, network: Network) -> None:
    network.room = 5
    answer(write_buffer, b"PUB a 0\r\n\r\n")
    write_buffer.push()
    network.room = 100
    answer(write_buffer, b"PUB b 0\r\n\r\n")
    write_buffer.push()
    write_buffer.push()
    assert network.received == b"PUB a 0\r\n\r\nPUB b 0\r\n\r\n"


async def test_nothing_is_pushed_while_something_else_is_being_sent(
    write_buffer: WriteBuffer, network: Network
) -> None:
    answer(write_buffer, b"PUB a 0\r\n\r\n")
    first = write_buffer.take()
    answer(write_buffer, b"PUB b 0\r\n\r\n")
    write_buffer.push()
    assert network.received == b""
    network.received += first
    write_buffer.sent()
    write_buffer.push()
    assert network.received == b"PUB a 0\r\n\r\nPUB b 0\r\n\r\n"


async def test_half_a_message_does_not_go_to_the_next_server(write_buffer: WriteBuffer, network: Network) -> None:
    network.room = 5
    answer(write_buffer, b"PUB a 0\r\n\r\n")
    write_buffer.push()
    answer(write_buffer, b"PUB b 0\r\n\r\n")
    assert write_buffer.retire() == [b"PUB b 0\r\n\r\n"]
    assert network.received == b"PUB a"


async def test_frames_that_are_only_for_one_server_are_not_counted_once_it_is_gone(
    write_buffer: WriteBuffer, counters: Counters
) -> None:
    """One that is empty, with which TLS asks to be sent, included."""
    write_buffer.put(b"")
    answer(write_buffer, b"PUB a 0\r\n\r\n")
    write_buffer.put(b"PING\r\n")
    write_buffer.put(b"")
    assert (write_buffer.count, counters.control_frames) == (4, 3)
    assert write_buffer.retire() == [b"PUB a 0\r\n\r\n"]
    assert (write_buffer.count, counters.control_frames) == (0, 0)


async def test_senders_are_woken_when_the_buffer_is_half_empty(write_buffer: WriteBuffer, network: Network) -> None:
    answer(write_buffer, *[frame_of(10_000)] * (HIGH_WATER_BYTES // 10_000 + 1))
    assert write_buffer.size > write_buffer.limit
    woken_at: list[int] = []

    async def send() -> None:
        await write_buffer.wait_low_water()
        woken_at.append(write_buffer.size)

    with anyio.fail_after(HANG_SECONDS):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(send)
            await anyio.wait_all_tasks_blocked()
            while not woken_at:
                before = write_buffer.size
                write_buffer.push()
                await anyio.wait_all_tasks_blocked()
    assert woken_at[0] <= LOW_WATER_BYTES < before < HIGH_WATER_BYTES


async def test_senders_are_woken_when_the_server_is_away(write_buffer: WriteBuffer) -> None:
    answer(write_buffer, frame_of(HIGH_WATER_BYTES + 1))
    with anyio.fail_after(HANG_SECONDS):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(write_buffer.wait_low_water)
            await anyio.wait_all_tasks_blocked()
            write_buffer.retire()


async def test_senders_wait_for_nothing_while_the_buffer_is_not_full(write_buffer: WriteBuffer) -> None:
    answer(write_buffer, frame_of(HIGH_WATER_BYTES))
    with anyio.fail_after(HANG_SECONDS):
        await write_buffer.wait_low_water()


@pytest.mark.parametrize("count", [1, 2, 8])
async def test_answers_to_what_came_together_leave_together(write_buffer: WriteBuffer, count: int) -> None:
    write_buffer.expect_answers(count)
    seen: list[int] = []
    for number in range(1, count + 5):
        write_buffer.until_push -= 1
        if not write_buffer.until_push:
            seen.append(number)
            answer(write_buffer, b"PUB a 0\r\n\r\n")
            write_buffer.push()
    assert seen == [count]


async def test_answers_may_leave_before_the_others(write_buffer: WriteBuffer) -> None:
    sent: list[bytes] = []

    def send(data: bytes) -> int:
        sent.append(bytes(data))
        return len(data)

    write_buffer.retire()
    write_buffer.max_payload = 100
    write_buffer.open([], send)
    write_buffer.push_early()
    write_buffer.expect_answers(3)
    write_buffer.push_early()
    assert sent == []
    for number in (b"1", b"2", b"3", b"4"):
        assert write_buffer.answer("a", number)
        if number == b"1":
            write_buffer.push_early()
            assert sent == [b"PUB a 1\r\n1\r\n"]
    assert sent[1:] == [b"PUB a 1\r\n2\r\nPUB a 1\r\n3\r\n"]
    write_buffer.push_early()
    assert sent[2:] == [b"PUB a 1\r\n4\r\n"]
