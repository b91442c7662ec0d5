"""``natsery demo``: the calc example on trio, on a server of its own, told line by line."""

from __future__ import annotations

import logging

import anyio
import click

from .._client._service_client import ServiceClient
from .._config import ServiceConfig, endpoint, group
from .._errors import ServiceError
from .._native._connect import connect
from .._service._request import Request
from .._service._serve import serve
from ..testing import open_server
from ._format import format_duration
from ._output import Column, say, show_table
from ._runner import run_async

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


@click.command(short_help="Serve an example, and show what happens.")
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
        say(f"nats-server   {server.url}, started for this demo")
        async with connect(server.url) as nc:
            client = ServiceClient(nc)
            async with serve(nc, CONFIG, grace=5) as service:
                say(f"service       {service.name} {service.version} on trio, through natsery.connect")
                say()
                await _show_requests(client)
                await _show_discovery(client)
            stats = service.stats()
    requests = sum(each.num_requests for each in stats.endpoints)
    errors = sum(each.num_errors for each in stats.endpoints)
    say(f"Stopped: {requests} requests answered, {errors} of them with an error; the service drained, and the")
    say("connection and the server are closed.")


async def _show_requests(client: ServiceClient) -> None:
    say("Requests")
    await _show_request(client, "math.add", b"1+2")
    await _show_request(client, "math.add", b"20+22")
    await _show_request(client, "math.divide", b"84/2")
    await _show_request(client, "math.add", b"one+two", "the handler raised ServiceError(400, ...)")
    await _show_request(client, "math.divide", b"1/0", "it raised ZeroDivisionError; its text stays inside")
    say()


async def _show_request(client: ServiceClient, subject: str, data: bytes, remark: str = "") -> None:
    try:
        with anyio.fail_after(REQUEST_SECONDS):
            answer = (await client.request(subject, data)).data.decode()
    except ServiceError as error:
        answer = f"error {error.code} {error.description}"
    say(f"  {subject:<12} {data.decode():<8} ->  {answer:<34}{remark}".rstrip())


async def _show_discovery(client: ServiceClient) -> None:
    (ping,) = await client.ping("calc", count=1)
    say("$SRV.PING.calc")
    say(f"  name      {ping.name} {ping.version}")
    say(f"  instance  {ping.id}")
    say()
    (info,) = await client.info("calc", count=1)
    say("$SRV.INFO.calc")
    say(f"  about     {info.description}")
    show_table(
        (Column("  endpoint", style="cyan"), Column("subject"), Column("queue group")),
        [(f"  {each.name}", each.subject, each.queue_group) for each in info.endpoints],
    )
    say()
    (stats,) = await client.stats("calc", count=1)
    say("$SRV.STATS.calc")
    say(f"  started   {stats.started:%Y-%m-%d %H:%M:%S} UTC")
    show_table(
        (
            Column("  endpoint", style="cyan"),
            Column("requests", right=True),
            Column("errors", right=True),
            Column("average", right=True),
            Column("total", right=True),
            Column("last error"),
        ),
        [
            (
                f"  {each.name}",
                str(each.num_requests),
                str(each.num_errors),
                format_duration(each.average_processing_time),
                format_duration(each.processing_time),
                each.last_error or "none",
            )
            for each in stats.endpoints
        ],
    )
    say()
