"""``--metrics``: what Prometheus scrapes of the services that this process runs."""

from __future__ import annotations

import importlib.util
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import NamedTuple, final

import anyio
import anyio.to_thread
import click

import natsery

from .._exit_codes import CommandError, Exit
from .._output import print_status

DEFAULT_HOST = "127.0.0.1"
"""Where it listens unless the command line says."""

LAST_PORT = 65_535

STOP_SECONDS = 2.0
"""How long a scrape under way may hold the end up."""


@final
class Address(NamedTuple):
    """Where to listen."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def of_worker(self, number: int) -> Address:
        """Return the address of a worker: this is the first one's, and the others' ports follow. Port 0 is a free one."""
        return self._replace(port=self.port + number - 1) if self.port and number else self


def read_address(text: str) -> Address:
    """Read ``PORT`` or ``HOST:PORT``; the type of an option."""
    host, colon, port = text.rpartition(":")
    if not (port.isascii() and port.isdigit() and int(port) <= LAST_PORT) or (colon and not host):
        raise click.BadParameter(f"{text!r} is not PORT or HOST:PORT, such as 9090 or 0.0.0.0:9090.")
    return Address(host.removeprefix("[").removesuffix("]") or DEFAULT_HOST, int(port))


def check_metrics(address: Address, workers: int) -> None:
    """Check that there is a port for each worker, and that prometheus_client is installed.

    Raises:
        CommandError: there is not.
    """
    if address.of_worker(workers).port > LAST_PORT:
        raise CommandError(
            f"--metrics: {workers} workers need as many ports, from {address.port} on; there is none beyond {LAST_PORT}",
            Exit.USAGE,
        )
    if importlib.util.find_spec("prometheus_client") is None:
        raise CommandError("--metrics needs prometheus-client; run: pip install 'natsery[prometheus]'")


def with_metrics(configs: Sequence[natsery.ServiceConfig]) -> list[natsery.ServiceConfig]:
    """Return the configurations with metrics in the default registry, where the program's own are as well.

    Raises:
        CommandError: the program has them there already, and not for all of its services.
    """
    from natsery.prometheus import Metrics

    try:
        metrics = Metrics()
    except ValueError:  # the registry has them
        for config in configs:
            if not any(isinstance(each, Metrics) for each in config.instruments):
                raise CommandError(
                    f"--metrics: the program has made natsery.prometheus.Metrics itself; give it to the service {config.name!r} "
                    "as well: ServiceConfig(instruments=[metrics])",
                    Exit.USAGE,
                ) from None
        return list(configs)
    return [replace(config, instruments=(*config.instruments, metrics)) for config in configs]


@asynccontextmanager
async def serve_metrics(address: Address, label: str) -> AsyncIterator[None]:
    """Answer scrapes of the default registry for the length of a block, in a thread of prometheus_client's server.

    Raises:
        CommandError: it cannot listen there.
    """
    from prometheus_client import start_http_server

    try:
        server, _ = start_http_server(address.port, address.host)
    except OSError as error:
        raise CommandError(f"--metrics: cannot listen at {address}: {error.strerror or error}") from error
    try:
        print_status(f"{label}metrics at http://{address._replace(port=server.server_port)}/metrics")
        yield
    finally:
        # Protects the end of the thread, within a bound; it looks twice a second whether it is to end.
        with anyio.move_on_after(STOP_SECONDS, shield=True):
            await anyio.to_thread.run_sync(server.shutdown, abandon_on_cancel=True)
        server.server_close()
