"""The matrix: every backend, every transport that runs on it, and a real server for all."""

from __future__ import annotations

import asyncio
import inspect
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import anyio
import nats
import prometheus_client
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.internal.conjecture import providers
from nats.aio.client import Client
from prometheus_client.registry import Collector

import natsery
from natsery.abc import Connection

from .certificates import Certificates
from .server import NatsServer
from .slow import QUICK_SETTINGS, is_file_of_backends, is_slow_file

try:
    import uvloop
except ImportError:  # it does not run on Windows
    uvloop = None

# The same examples each time, however long they take: what comes out is not to depend on luck or on the machine.
settings.register_profile(
    "natsery", derandomize=True, database=None, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
# Nor on what other tests have imported: hypothesis takes examples from the constants of all modules of ours that it finds.
if hasattr(providers, "_get_local_constants"):
    providers._get_local_constants = lambda: providers._local_constants
settings.register_profile("quick", settings.get_profile("natsery"), max_examples=10)
settings.load_profile("natsery")
# For `nox -s soak`, which repeats them until its time is over: others each time, and in state machines longer ways.
settings.register_profile(
    "soak", max_examples=50, stateful_step_count=100, database=None, deadline=None, print_blob=True
)

# A shell has its background jobs ignore Ctrl-C, and they hand that down to the programs under test.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# The same goes for the end of a terminal under nohup.
if sys.platform != "win32" and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def _eager_loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    loop.set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined]  # Python 3.12 and newer
    return loop


BACKENDS: dict[str, tuple[str, dict[str, object]]] = {
    "trio": ("trio", {}),
    "asyncio": ("asyncio", {"debug": True}),
}
if uvloop is not None:
    BACKENDS["uvloop"] = ("asyncio", {"loop_factory": uvloop.new_event_loop})
if sys.version_info >= (3, 12):
    BACKENDS["eager"] = ("asyncio", {"loop_factory": _eager_loop})

QUICK_BACKENDS = [pytest.param(backend, id=name) for name, backend in {**BACKENDS, "asyncio": ("asyncio", {})}.items()]
"""For tests that repeat something a thousand times, of which asyncio's debug mode makes minutes."""

SETTINGS = {
    f"{name}-{transport}": (backend, transport)
    for name, backend in BACKENDS.items()
    for transport in ("native", "adapted", "bridged")
    if (name, transport) != ("trio", "adapted")  # a nats-py client lives in asyncio
}

MATRIX = [
    pytest.param(setting, id=name, marks=() if name in QUICK_SETTINGS else pytest.mark.slow)
    for name, setting in SETTINGS.items()
]

NATIVE = pytest.mark.parametrize("setting", [case for case in MATRIX if case.values[0][1] == "native"])  # type: ignore[index]
"""For tests that make their own connections: once on every backend."""


CONNECT_SECONDS = 20


def pytest_configure(config: pytest.Config) -> None:
    if _is_quick(config):
        settings.load_profile("quick")


def _is_quick(config: pytest.Config) -> bool:
    return config.option.markexpr == "not slow"


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Save the quick run importing what it leaves out."""
    return True if _is_quick(config) and is_slow_file(collection_path) else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if is_slow_file(item.path) or (_is_elsewhere(item) and not is_file_of_backends(item.path)):
            item.add_marker("slow")


def _is_elsewhere(item: pytest.Item) -> bool:
    """Whether it runs on several backends, and this time not on trio."""
    parameters = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
    backend = parameters.get("anyio_backend", "trio")
    return "trio" not in (backend, backend[0])


@pytest.fixture(params=MATRIX)
def setting(request: pytest.FixtureRequest) -> object:
    return request.param


@pytest.fixture
def anyio_backend(setting: tuple[object, str]) -> object:
    return setting[0]


@pytest.fixture
def transport(setting: tuple[object, str]) -> str:
    return setting[1]


@pytest.fixture(scope="session")
def nats_server() -> Iterator[NatsServer]:
    with NatsServer() as server:
        yield server


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@asynccontextmanager
async def open_connection(transport: str, url: str, **options: object) -> AsyncIterator[Connection]:
    """A connection of a kind; ``"adapted"`` needs asyncio."""
    if transport == "native":
        async with natsery.connect(url, **options) as nc:
            yield nc
        return
    if transport == "bridged":
        async with natsery.bridge(url, **options) as nc:
            yield nc
        return
    client = await nats.connect(url, **options)
    try:
        async with natsery.adapt(client) as nc:
            yield nc
    finally:
        # Protects the client from being left open by a cancelled test. It raises if its server has died.
        with anyio.move_on_after(5, shield=True), suppress(Exception):
            await client.close()


@pytest.fixture(autouse=True, scope="session")
def patient_clients() -> Iterator[None]:
    """A busy machine may take longer than the two seconds that clients have for connecting."""
    parameters = inspect.signature(Client.connect).parameters.values()
    defaults = {each.name: each.default for each in parameters if each.default is not each.empty}
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setitem(inspect.unwrap(natsery.connect).__kwdefaults__, "connect_timeout", CONNECT_SECONDS)
        defaults["connect_timeout"] = CONNECT_SECONDS
        monkeypatch.setattr(Client.connect, "__defaults__", tuple(defaults.values()))
        yield


@pytest.fixture
async def nc(transport: str, nats_server: NatsServer) -> AsyncIterator[Connection]:
    async with open_connection(transport, nats_server.url) as connection:
        yield connection


@pytest.fixture
def own_metrics(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Takes back what is registered in prometheus_client's own registry, which takes each name once."""
    registered: list[Collector] = []
    register = prometheus_client.REGISTRY.register

    def register_for_now(collector: Collector) -> None:
        register(collector)
        registered.append(collector)

    monkeypatch.setattr(prometheus_client.REGISTRY, "register", register_for_now)
    yield
    for collector in registered:
        prometheus_client.REGISTRY.unregister(collector)
