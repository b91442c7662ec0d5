"""A process of a worker, as its supervisor sees it."""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import Any

import pytest

from natsery._cli._run._worker_process import WorkerProcess

from ..bounds import HANG_SECONDS, bounded

pytestmark = pytest.mark.anyio

ENDS_WITH_3 = """
import os, socket
line = socket.socket(fileno=0)
line.sendall(b'{"ready": "here"}\\n')
line.recv(100)
os._exit(3)
"""
"""A worker that ends when it is told anything."""


@pytest.fixture(params=["trio", "asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return request.param


async def test_a_signal_to_one_that_has_ended_leaves_its_exit_status(monkeypatch: pytest.MonkeyPatch) -> None:
    waitpid, is_killed = os.waitpid, threading.Event()

    def wait_late(pid: int, options: int) -> tuple[int, int]:
        if threading.current_thread() is not threading.main_thread():  # asyncio's, which would take the status first
            is_killed.wait(HANG_SECONDS)
        return waitpid(pid, options)

    def end_and_kill(process: WorkerProcess, message: dict[str, Any]) -> None:
        process.cut_off(signal.SIGTERM)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        process.kill()
        is_killed.set()

    monkeypatch.setattr(os, "waitpid", wait_late)

    process = WorkerProcess(1)
    async with bounded():
        await process.run([sys.executable, "-S", "-c", ENDS_WITH_3], dict(os.environ), end_and_kill, patience=60)
    assert process.status == 3
