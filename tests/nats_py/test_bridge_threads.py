"""Which functions of a bridge run in which thread, and how often one thread wakes the other."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from types import FrameType

import anyio
import anyio.lowlevel
import pytest
from nats.aio.client import Client

import natsery
from natsery._nats_py import _bridge, _worker_thread

from ..bounds import bounded
from ..calc_service import add, config
from ..server import NatsServer

pytestmark = pytest.mark.anyio

FILES = {str(Path(module.__file__)) for module in (_bridge, _worker_thread)}


@pytest.fixture(params=["trio", "asyncio"])
def setting(request: pytest.FixtureRequest) -> object:
    return (request.param, {}), "bridged"


async def test_functions_of_nats_py_s_thread_have_its_prefix(nats_server: NatsServer) -> None:
    here: set[str] = set()
    there: set[str] = set()

    def note_here(frame: FrameType, event: str, arg: object) -> None:
        if event == "call" and frame.f_code.co_filename in FILES:
            here.add(frame.f_code.co_name)

    def note_there(frame: FrameType, event: str, arg: object) -> None:
        if event == "call" and frame.f_code.co_filename in FILES:
            there.add(frame.f_code.co_name)

    async def watch(client: Client) -> None:
        sys.setprofile(note_there)

    async def unwatch(client: Client) -> None:
        sys.setprofile(None)

    async with bounded(), natsery.bridge(nats_server.url) as nc:
        await nc.call(watch)
        sys.setprofile(note_here)
        try:
            async with natsery.serve(nc, config(add)):
                assert (await nc.request("add", b"1+1")).data == b"2"
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(nc.call, lambda client: asyncio.sleep(3600))
                await nc.flush()
                tasks.cancel_scope.cancel()
        finally:
            sys.setprofile(None)
            await nc.call(unwatch)
    assert {"aio_take", "aio_publish", "aio_subscribe", "aio_cancel_call"} <= there
    assert not {name for name in there if not name.startswith(("aio_", "<"))}
    assert {"_receive", "_answer_nowait", "wake"} <= here
    assert not {name for name in here if name.startswith("aio_")}


async def test_what_is_sent_at_once_wakes_nats_py_s_thread_once(
    nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Woken for each message, the threads took the interpreter from each other at every one."""
    wakes = 0
    async with bounded(), natsery.bridge(nats_server.url) as nc:
        wake = nc._thread.wake

        def count() -> None:
            nonlocal wakes
            wakes += 1
            wake()

        await nc.flush()
        monkeypatch.setattr(nc._thread, "wake", count)
        for _ in range(50):
            await nc.publish("x")
        assert wakes == 0
        for _ in range(3):
            await anyio.lowlevel.checkpoint()
        assert wakes == 1


async def test_messages_that_come_together_wake_the_caller_once(
    nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    wakes: list[int] = []
    messages: list[object] = []
    async with bounded(), natsery.bridge(nats_server.url) as nc:
        await nc.add_subscription("x", messages.append)
        await nc.flush()
        thread = nc._thread
        wake = thread._wake_caller

        def count() -> bool:
            wakes.append(len(thread.inbound._items))
            return wake()

        monkeypatch.setattr(thread, "_wake_caller", count)

        async def receive(client: Client) -> None:
            await client._ps.parse(b"MSG x %d 0\r\n\r\n" % next(iter(client._subs)) * 50)

        await nc.call(receive)
    assert len(messages) == 50
    assert max(wakes) >= 50
