"""Services for the commands to find, and the command as a function."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import anyio.from_thread
import pytest

import natsery
from natsery.__main__ import main

from ..calc_service import add
from ..server import NatsServer

OTHER_NAME = "a-service-with-a-name-of-really-considerable-length"


@natsery.endpoint(metadata={"größe": "klein"})
async def repeat(request: natsery.Request) -> None:
    for _ in range(3):
        await request.respond(request.data, headers=request.headers)


async def refuse(request: natsery.Request) -> bytes:
    raise natsery.ServiceError(409, "not now", data=b"try again", headers={"Retry-After": "7"})


CALC = natsery.ServiceConfig(
    "calc",
    "1.0.0",
    id="one",
    description="Arithmetic",
    metadata={"stadt": "Köln", "b": "c"},
    endpoints=[natsery.group("math", [add])],
)
OTHER = natsery.ServiceConfig(
    OTHER_NAME, "2.0.0-beta.1", id="x", description="多くの文字\x1b[31m", endpoints=[repeat, refuse]
)


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """What the person who runs the tests has set up for NATS does not count."""
    for name in [name for name in os.environ if name.startswith(("NATS_", "NATSERY_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))


@pytest.fixture
def contexts() -> Path:
    """The folder of this test's contexts, with none in it."""
    folder = Path(os.environ["XDG_CONFIG_HOME"]) / "nats"
    (folder / "context").mkdir(parents=True)
    return folder


@pytest.fixture(scope="session")
def services() -> Iterator[str]:
    """The URL of a server of their own with two instances of ``calc`` and one other service."""
    second = natsery.ServiceConfig(
        "calc", "1.1.0", id="two", endpoints=[natsery.group("math", [add], queue_group=natsery.NO_QUEUE_GROUP)]
    )
    with NatsServer() as server, anyio.from_thread.start_blocking_portal("trio") as portal:
        with portal.wrap_async_context_manager(natsery.connect(server.url)) as nc:
            with (
                portal.wrap_async_context_manager(natsery.serve(nc, CALC)),
                portal.wrap_async_context_manager(natsery.serve(nc, second)),
                portal.wrap_async_context_manager(natsery.serve(nc, OTHER)),
            ):
                yield server.url


@dataclass(frozen=True)
class Result:
    """How a command ended, and what it wrote."""

    status: int
    out: str
    err: str


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Runs the command in this process."""
    monkeypatch.setenv("NATS_URL", "nats://127.0.0.1:1")

    def run(*arguments: str, url: str = "") -> Result:
        if url:
            monkeypatch.setenv("NATS_URL", url)
        status = main(arguments)
        out, err = capsys.readouterr()
        return Result(status, out, err)

    return run
