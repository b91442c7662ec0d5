"""``natsery run`` as a program beside the test, and a service for it to serve."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

import anyio.from_thread

import natsery
from natsery import Message

from ..bounds import HANG_SECONDS
from ..processes import Program, running

# Prints each line in one write: a line's end that is written apart could come after the output of another worker.
MODULE = """
import os
import anyio
import natsery

print("loading\\n", end="", flush=True)


async def echo(request):
    return request.data


@natsery.endpoint(concurrency=8)
async def hold(request):
    print("holding\\n", end="", flush=True)
    while not os.path.exists("go"):
        await anyio.sleep(0.01)
    return b"held"


async def leave(request):
    os._exit(7)


async def fail(request):
    raise SystemExit(9)


config = natsery.ServiceConfig("calc", "1.0.0", id="me", endpoints=[natsery.group("math", [echo, hold]), leave, fail])
more = [config, natsery.ServiceConfig("more", "2.0.0", endpoints=[hold])]
"""
"""Serves echoes, and requests that are held until there is a file named ``go``."""


@contextmanager
def serving(
    folder: Path,
    *arguments: str,
    url: str = "",
    text: str = MODULE,
    warnings: str = "error",
    environment: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[Program]:
    """Run ``natsery run service`` as a daemon, in a folder that has the module; warnings are errors there too."""
    (folder / "service.py").write_text(text)
    environment = {
        "NATS_URL": url or "nats://127.0.0.1:1",
        "PYTHONWARNINGS": warnings,
        "PYTHONDONTWRITEBYTECODE": "1",
        **environment,
    }
    if not arguments or arguments[0].startswith("-"):
        arguments = ("service", *arguments)
    with running("-m", "natsery", "run", *arguments, cwd=folder, environment=environment, is_daemon=True) as program:
        yield program


class Asker:
    """Makes requests from synchronous tests."""

    def __init__(self, portal: anyio.from_thread.BlockingPortal, nc: natsery.NativeConnection) -> None:
        self._portal = portal
        self._nc = nc

    def begin(self, subject: str, data: bytes = b"") -> Future[Message]:
        return self._portal.start_task_soon(self._nc.request, subject, data)

    def ask(self, subject: str, data: bytes = b"") -> str:
        return answer(self.begin(subject, data))


def answer(reply: Future[Message]) -> str:
    """What the reply says, or the error that it is."""
    message = reply.result(HANG_SECONDS)
    error = natsery.ServiceError.from_message(message)
    return message.data.decode() if error is None else str(error)


@contextmanager
def asking(url: str) -> Iterator[Asker]:
    with anyio.from_thread.start_blocking_portal("trio") as portal:
        with portal.wrap_async_context_manager(natsery.connect(url)) as nc:
            yield Asker(portal, nc)
