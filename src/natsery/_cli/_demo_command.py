"""``natsery demo``: serves the calc example on a nats-server that it starts, and shows each step."""

from __future__ import annotations

import logging

import anyio
import click

import natsery
from natsery.testing import open_server

from ._format import format_duration
from ._output import Column, print_line, show_table
from ._runner import run_async

REQUEST_SECONDS = 5.0
"""How long the demo waits for a reply before it gives up."""


@natsery.endpoint(concurrency=8)
async def add(request: natsery.Request) -> bytes:
    """Add two whole numbers, such as ``1+2``."""
    try:
        a, b = map(int, request.data.split(b"+"))
    except ValueError:
        raise natsery.ServiceError(400, "expected 'a+b'") from None
    return str(a + b).encode()


@natsery.endpoint
async def divide(request: natsery.Request) -> bytes:
    """Divide two whole numbers, such as ``6/2``, without a check for zero."""
    a, b = map(int, request.data.split(b"/"))
    return str(a // b).encode()


CONFIG = natsery.ServiceConfig(
    name="calc",
    version="1.0.0",
    description="Arithmetic on whole numbers",
    endpoints=[natsery.group("math", [add, divide])],
)


@click.command(short_help="Serve an example and show what happens.")
def demo() -> None:
    """Serve an example on a new nats-server, and show what happens.

    Starts a nats-server on this machine, serves the calc example on trio, sends it requests, shows what discovery says
    about it, and stops. Takes about a second; needs natsery[server].
    """
    # The demo provokes an exception, whose traceback in the log would hide the rest.
    logger = logging.getLogger("natsery")
    was_disabled, logger.disabled = logger.disabled, True
    try:
        run_async(_demo)
    finally:
        logger.disabled = was_disabled


async def _demo() -> None:
    async with open_server() as server:
        print_line(f"nats-server   {server.url}, started for this demo")
        async with natsery.connect(server.url) as nc:
            client = natsery.ServiceClient(nc)
            async with natsery.serve(nc, CONFIG, grace=5) as service:
                print_line(f"service       {service.name} {service.version} on trio, through natsery.connect")
                print_line()
                await _show_requests(client)
                await _show_discovery(client)
            stats = service.stats()
    requests = sum(each.num_requests for each in stats.endpoints)
    errors = sum(each.num_errors for each in stats.endpoints)
    print_line(f"Stopped: {requests} requests answered, {errors} of them with an error; the service")
    print_line("drained, and the connection and the server are closed.")
    print_line()
    print_line("Try next, with calc.py of the README:")
    print_line("  natsery server                 # in a terminal of its own")
    print_line("  natsery run calc               # in another one; or python calc.py")
    print_line("  natsery request add '[1, 2]'")
    print_line("  natsery ls                     # and natsery stats, natsery top")


async def _show_requests(client: natsery.ServiceClient) -> None:
    print_line("Requests")
    await _show_request(client, "math.add", b"1+2")
    await _show_request(client, "math.add", b"20+22")
    await _show_request(client, "math.divide", b"84/2")
    await _show_request(client, "math.add", b"one+two", "(ServiceError)")
    await _show_request(client, "math.divide", b"1/0", "(ZeroDivisionError)")
    print_line()


async def _show_request(client: natsery.ServiceClient, subject: str, data: bytes, remark: str = "") -> None:
    try:
        with anyio.fail_after(REQUEST_SECONDS):
            answer = (await client.request(subject, data)).data.decode()
    except natsery.ServiceError as error:
        answer = f"error {error.code} {error.description}"
    print_line(f"  {subject:<12} {data.decode():<7} -> {answer:<30} {remark}".rstrip())


async def _show_discovery(client: natsery.ServiceClient) -> None:
    (ping,) = await client.ping("calc", count=1)
    print_line("$SRV.PING.calc")
    print_line(f"  name      {ping.name} {ping.version}")
    print_line(f"  instance  {ping.id}")
    print_line()
    (info,) = await client.info("calc", count=1)
    print_line("$SRV.INFO.calc")
    print_line(f"  about     {info.description}")
    show_table(
        (Column("  endpoint", style="cyan"), Column("subject"), Column("queue group")),
        [(f"  {each.name}", each.subject, each.queue_group) for each in info.endpoints],
    )
    print_line()
    (stats,) = await client.stats("calc", count=1)
    print_line("$SRV.STATS.calc")
    print_line(f"  started   {stats.started:%Y-%m-%d %H:%M:%S} UTC")
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
    print_line()
