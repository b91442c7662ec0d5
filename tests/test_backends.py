"""What natsery has of its own for each event loop."""

from __future__ import annotations

import os
import socket
import threading

import anyio
import pytest

from natsery._backends import caller_into_this_loop
from natsery._backends._asyncio import quick_checkpoint_if_cancelled
from natsery._backends._sockets import ConnectedSocket

from .bounds import bounded


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_calls_from_other_threads_reach_a_loop_until_it_has_ended(backend: str) -> None:
    calls: list[threading.Thread] = []
    here = threading.current_thread()

    async def main():
        called = anyio.Event()

        def function() -> None:
            calls.append(threading.current_thread())
            called.set()

        call = caller_into_this_loop(function)
        async with bounded():
            assert await anyio.to_thread.run_sync(call)
            await called.wait()
        return call

    call = anyio.run(main, backend=backend)
    assert call() is False
    assert calls == [here]


def test_a_checkpoint_that_is_not_as_anyios_is_used_as_it_is() -> None:
    """Another version of anyio may keep its tasks elsewhere; its own checkpoint knows where."""

    async def checkpoint() -> None:
        pass

    assert quick_checkpoint_if_cancelled(checkpoint) is checkpoint


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["trio", "asyncio"])
async def test_the_number_of_a_socket_that_is_another_files_by_now_is_left_alone(anyio_backend: str) -> None:
    """A program may close the files that it was started with, or all of them."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        stream = await anyio.connect_tcp(*server.getsockname())
        connected = ConnectedSocket(stream)
        number = stream.extra(anyio.abc.SocketAttribute.raw_socket).fileno()
        kept, (reading, writing) = os.dup(number), os.pipe()
        os.dup2(writing, number)
        try:
            connected.shut_down()
            assert os.write(number, b"still open") == 10
        finally:
            os.dup2(kept, number)
            for each in (kept, reading, writing):
                os.close(each)
        await stream.aclose()
