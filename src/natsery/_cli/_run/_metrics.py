"""``--metrics``: what Prometheus scrapes of the services that this process runs."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Sequence
from dataclasses import replace
from http import HTTPStatus
from typing import Final

import anyio
import anyio.to_thread

import natsery

from .._exit_codes import CommandError, Exit
from .._http import Respond, Response
from .._listening import LAST_PORT, Address, listening

PATH: Final = "/metrics"
"""Where the metrics are."""

SCRAPE_SECONDS: Final = 10.0
"""How long collecting them may take, collectors of the program included."""

logger = logging.getLogger("natsery")


def of_worker(address: Address, number: int) -> Address:
    """Return where a worker listens: this is the first one's port, and the others' follow. Port 0 is a free one."""
    return address._replace(port=address.port + number - 1) if address.port and number else address


def check_metrics(address: Address, workers: int) -> None:
    """Check that there is a port for each worker, and that prometheus_client is installed.

    Raises:
        CommandError: there is not.
    """
    if of_worker(address, workers).port > LAST_PORT:
        raise CommandError(
            f"--metrics: {workers} workers need as many ports, from {address.port} on; there is none beyond {LAST_PORT}",
            Exit.USAGE,
        )
    if importlib.util.find_spec("prometheus_client") is None:
        raise CommandError("--metrics needs prometheus-client; run: pip install 'natsery[prometheus]'")


async def check_ports(address: Address, workers: int) -> None:
    """Check that each worker will have its port, while none has taken a request yet.

    Here and not by the workers alone, who can listen where another program's workers do, and would share its scrapes.

    Raises:
        CommandError: something listens at one of them.
    """
    for number in range(1, workers + 1):
        option = "--metrics" if workers == 1 else f"--metrics, worker {number}"
        async with listening(option, of_worker(address, number), _respond_before_there_are_any):
            pass


async def _respond_before_there_are_any(_: str) -> Response:
    return Response.of_text(HTTPStatus.SERVICE_UNAVAILABLE, "the workers have not begun")


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


def respond_to_scrapes() -> Respond:
    """Return what answers scrapes of the default registry."""
    limiter = anyio.CapacityLimiter(1)  # a collector that hangs keeps one thread, not one for each scrape

    async def respond(path: str) -> Response:
        if path != PATH:
            return Response.of_text(HTTPStatus.NOT_FOUND, f"the metrics are at {PATH}")
        try:
            with anyio.fail_after(SCRAPE_SECONDS):
                # In a thread, for there may be many, and collectors of the program may do anything.
                written = await anyio.to_thread.run_sync(_write, abandon_on_cancel=True, limiter=limiter)
        except TimeoutError:
            text = f"the metrics were not collected within {SCRAPE_SECONDS:g} s"
            return Response.of_text(HTTPStatus.SERVICE_UNAVAILABLE, text)
        except Exception:
            logger.exception("a collector of metrics raised")
            return Response.of_text(HTTPStatus.INTERNAL_SERVER_ERROR, "a collector raised; the log has the traceback")
        return Response(HTTPStatus.OK, *written)

    return respond


def _write() -> tuple[str, bytes]:
    from prometheus_client import REGISTRY
    from prometheus_client.exposition import choose_encoder

    encode, content_type = choose_encoder("")
    return content_type, encode(REGISTRY)
