"""What waits to be sent, and leaves from two places without getting mixed up."""

from __future__ import annotations

import anyio
import pytest

from natsery._native._outbox import HIGH_WATER_BYTES, Outbox

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


def answer(outbox: Outbox, *frames: bytes) -> None:
    """What a connection does with answers."""
    for frame in frames:
        outbox.frames.append(frame)
        outbox.size += len(frame)


@pytest.fixture
def network() -> Network:
    return Network()


@pytest.fixture
async def outbox(network: Network) -> Outbox:
    outbox = Outbox()
    outbox.open([], network.send_nowait)
    return outbox


async def test_a_push_sends_all_that_waits(outbox: Outbox, network: Network) -> None:
    answer(outbox, b"PUB a 0\r\n\r\n", b"PUB b 0\r\n\r\n")
    outbox.push()
    assert network.received == b"PUB a 0\r\n\r\nPUB b 0\r\n\r\n"
    assert (outbox.frames, outbox.size) == ([], 0)
    assert outbox.messages == 2


async def test_what_a_push_leaves_goes_first(outbox: Outbox, network: Network) -> None:
    network.room = 5
    answer(outbox, b"PUB a 0\r\n\r\n")
    outbox.push()
    with anyio.fail_after(5):
        await outbox.wait_for_frames()
    answer(outbox, b"PUB b 0\r\n\r\n")
    network.received += outbox.take()
    outbox.sent()
    await outbox.wait_for_frames()
    network.received += outbox.take()
    outbox.sent()
    assert network.received == b"PUB a 0\r\n\r\nPUB b 0\r\n\r\n"


async def test_a_second_push_begins_where_the_first_one_stopped(outbox: Outbox, network: Network) -> None:
    network.room = 5
    answer(outbox, b"PUB a 0\r\n\r\n")
    outbox.push()
    network.room = 100
    answer(outbox, b"PUB b 0\r\n\r\n")
    outbox.push()
    outbox.push()
    assert network.received == b"PUB a 0\r\n\r\nPUB b 0\r\n\r\n"


async def test_nothing_is_pushed_while_something_else_is_being_sent(outbox: Outbox, network: Network) -> None:
    answer(outbox, b"PUB a 0\r\n\r\n")
    first = outbox.take()
    answer(outbox, b"PUB b 0\r\n\r\n")
    outbox.push()
    assert network.received == b""
    network.received += first
    outbox.sent()
    outbox.push()
    assert network.received == b"PUB a 0\r\n\r\nPUB b 0\r\n\r\n"


async def test_half_a_message_does_not_go_to_the_next_server(outbox: Outbox, network: Network) -> None:
    network.room = 5
    answer(outbox, b"PUB a 0\r\n\r\n")
    outbox.push()
    answer(outbox, b"PUB b 0\r\n\r\n")
    assert outbox.retire() == [b"PUB b 0\r\n\r\n"]
    assert network.received == b"PUB a"


async def test_a_push_lets_those_go_on_who_wait_for_room(outbox: Outbox, network: Network) -> None:
    answer(outbox, *[bytes(10_000)] * (HIGH_WATER_BYTES // 10_000 + 1))
    assert outbox.size > outbox.limit
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(outbox.wait_low_water)
        await anyio.wait_all_tasks_blocked()
        while outbox.frames:
            outbox.push()


@pytest.mark.parametrize(("count", "pushes"), [(1, [1]), (2, [1, 2]), (3, [2, 3]), (8, [4, 8])])
async def test_answers_leave_in_two_halves(outbox: Outbox, count: int, pushes: list[int]) -> None:
    outbox.expect_answers(count)
    seen: list[int] = []
    for number in range(1, count + 5):
        outbox.until_push -= 1
        if not outbox.until_push:
            seen.append(number)
            answer(outbox, b"PUB a 0\r\n\r\n")
            outbox.push()
    assert seen == pushes
