"""``natsery demo``: the calc example on trio, on a server of its own, told line by line."""

from __future__ import annotations

import logging

import anyio
import click

from .. import abc
from .._adr32 import control_subject, service_error
from .._config import ServiceConfig, endpoint, group
from .._errors import ServiceError
from .._native._connect import connect
from .._server import open_server
from .._service._request import Request
from .._service._scope import serve
from .._wire import ServiceInfo, ServicePing, ServiceStats
from ._readable import readable_duration
from ._running import run_async

REQUEST_SECONDS = 5.0
"""How long the demo waits for a reply before it gives up."""


@endpoint(concurrency=8)
async def add(request: Request) -> bytes:
    """Add two whole numbers, such as ``1+2``."""
    try:
        a, b = map(int, request.data.split(b"+"))
    except ValueError:
        raise ServiceError(400, "expected 'a+b'") from None
    return str(a + b).encode()


@endpoint
async def divide(request: Request) -> bytes:
    """Divide two whole numbers, such as ``6/2``; its author forgot about zero."""
    a, b = map(int, request.data.split(b"/"))
    return str(a // b).encode()


CONFIG = ServiceConfig(
    name="calc",
    version="1.0.0",
    description="Arithmetic on whole numbers",
    endpoints=[group("math", [add, divide])],
)


@click.command
def demo() -> None:
    """Serve an example on a server of its own, and show what happens.

    Starts a nats-server on this machine, serves the calc example on trio, sends it requests, shows what discovery says of
    it, and stops. Takes about a second; needs natsery[server].
    """
    # The exception that the demo provokes is part of the show; its traceback would hide the rest.
    logger = logging.getLogger("natsery")
    was_disabled, logger.disabled = logger.disabled, True
    try:
        run_async(_demo)
    finally:
        logger.disabled = was_disabled


async def _demo() -> None:
    async with open_server() as server:
        _say(f"nats-server   {server.url}, started for this demo")
        async with connect(server.url) as nc:
            async with serve(nc, CONFIG, grace=5) as service:
                _say(f"service       {service.name} {service.version} on trio, through natsery.connect")
                _say()
                await _show_requests(nc)
                await _show_discovery(nc)
            stats = service.stats()
    requests = sum(each.num_requests for each in stats.endpoints)
    errors = sum(each.num_errors for each in stats.endpoints)
    _say(f"Stopped: {requests} requests answered, {errors} of them with an error; the service drained, and the")
    _say("connection and the server are closed.")


async def _show_requests(nc: abc.Connection) -> None:
    _say("Requests")
    await _show_request(nc, "math.add", b"1+2")
    await _show_request(nc, "math.add", b"20+22")
    await _show_request(nc, "math.divide", b"84/2")
    await _show_request(nc, "math.add", b"one+two", "the handler raised ServiceError(400, ...)")
    await _show_request(nc, "math.divide", b"1/0", "it raised ZeroDivisionError; its text stays inside")
    _say()


async def _show_request(nc: abc.Connection, subject: str, data: bytes, remark: str = "") -> None:
    with anyio.fail_after(REQUEST_SECONDS):
        reply = await nc.request(subject, data)
    error = service_error(reply.data, reply.headers)
    answer = reply.data.decode() if error is None else f"error {error.code} {error.description}"
    _say(f"  {subject:<12} {data.decode():<8} ->  {answer:<34}{remark}".rstrip())


async def _show_discovery(nc: abc.Connection) -> None:
    with anyio.fail_after(REQUEST_SECONDS):
        ping = ServicePing.from_json((await nc.request(control_subject("PING", "calc"))).data)
        info = ServiceInfo.from_json((await nc.request(control_subject("INFO", "calc"))).data)
        stats = ServiceStats.from_json((await nc.request(control_subject("STATS", "calc"))).data)
    _say("$SRV.PING.calc")
    _say(f"  name      {ping.name} {ping.version}")
    _say(f"  instance  {ping.id}")
    _say()
    _say("$SRV.INFO.calc")
    _say(f"  about     {info.description}")
    _say_table(
        ("endpoint", "subject", "queue group"), [(each.name, each.subject, each.queue_group) for each in info.endpoints]
    )
    _say("$SRV.STATS.calc")
    _say(f"  started   {stats.started:%Y-%m-%d %H:%M:%S} UTC")
    _say_table(
        ("endpoint", "requests", "errors", "average", "total", "last error"),
        [
            (
                each.name,
                str(each.num_requests),
                str(each.num_errors),
                readable_duration(each.average_processing_time),
                readable_duration(each.processing_time),
                each.last_error or "none",
            )
            for each in stats.endpoints
        ],
    )


def _say_table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    for row in (head, *rows):
        _say(("  " + "   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))).rstrip())
    _say()


def _say(line: str = "") -> None:
    print(line, flush=True)  # a command's output
