"""``--metrics``: what Prometheus scrapes of the services that this process runs."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import replace
from http import HTTPStatus
from typing import Final

import natsery

from .._exit_codes import CommandError, Exit
from .._http import Response
from .._listening import LAST_PORT, Address

PATH: Final = "/metrics"
"""Where the metrics are."""


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


async def respond_to_scrapes(path: str) -> Response:
    """Answer a scrape of the default registry."""
    from prometheus_client import REGISTRY
    from prometheus_client.exposition import choose_encoder

    if path != PATH:
        return Response.of_text(HTTPStatus.NOT_FOUND, f"the metrics are at {PATH}")
    encode, content_type = choose_encoder("")
    return Response(HTTPStatus.OK, content_type, encode(REGISTRY))
