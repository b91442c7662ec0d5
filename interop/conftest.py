"""Gets the other implementations, and says which could not be got."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import nats
import pytest
from benchmarks.installations import UnavailableError

import natsery
from natsery.abc import Connection
from natsery.testing import NatsServer

from . import processes
from .contract import Contract
from .peers import NATS_COMMAND, PEERS, Peer, nats_command

FOLDER = "NATSERY_PEERS"
"""The environment variable that names the folder for installations; they are thrown away without it."""

_reasons: dict[str, str] = {}


class _Got:
    """Commands that were made, each once in a session."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._commands: dict[str, list[str]] = {}

    def command(self, title: str, get: Callable[[Path], list[str]]) -> list[str]:
        if title not in self._commands and title not in _reasons:
            try:
                self._commands[title] = get(self._folder)
            except UnavailableError as error:
                _reasons[title] = str(error)
        if title in _reasons:
            pytest.skip(f"could not get {title}: {_reasons[title]}")
        return self._commands[title]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for text in sorted(processes.versions):
        terminalreporter.write_line(f"interop: services of {text}")
    for title, reason in _reasons.items():
        terminalreporter.write_line(f"interop: could not get {title}: {reason}")


@pytest.fixture(scope="session")
def got(tmp_path_factory: pytest.TempPathFactory) -> _Got:
    named = os.environ.get(FOLDER)
    folder = Path(named).absolute() if named else tmp_path_factory.mktemp("peers")
    folder.mkdir(parents=True, exist_ok=True)
    return _Got(folder)


@pytest.fixture(params=PEERS)
def peer(request: pytest.FixtureRequest) -> Peer:
    return PEERS[request.param]


@pytest.fixture
def command(peer: Peer, got: _Got) -> list[str]:
    """The command of the peer; what to do and the URL come behind it."""
    return got.command(peer.title, peer.get)


@pytest.fixture
def nats_cli(got: _Got, nats_server: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ``nats`` command, with no configuration of this machine's."""
    command = got.command(f"nats ({NATS_COMMAND})", nats_command)  # before Go, too, would take HOME for its caches
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("NATS_TIMEOUT", f"{processes.SECONDS}s")
    return [*command, "--no-context", "--server", nats_server.url]


@pytest.fixture(params=["native", "adapted"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    # A nats-py client lives in asyncio.
    return "trio" if request.param == "native" else "asyncio"


@pytest.fixture
async def nc(anyio_backend: str, nats_server: NatsServer) -> AsyncIterator[Connection]:
    if anyio_backend == "trio":
        async with natsery.connect(nats_server.url) as nc:
            yield nc
        return
    client = await nats.connect(nats_server.url)
    try:
        async with natsery.adapt(client) as nc:
            yield nc
    finally:
        await client.close()


@pytest.fixture
def contract() -> Contract:
    return Contract("interop")
