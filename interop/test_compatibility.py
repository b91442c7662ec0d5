"""natsery in the official compatibility scenario, and nats.go, by which the examiner itself is examined."""

from __future__ import annotations

import json
import sys
from typing import Any

import anyio
import anyio.abc
import pytest

import natsery
from natsery.abc import Connection
from natsery.testing import NatsServer

from .peers import PEERS, PROGRAMS
from .processes import LIMIT, output, running

pytestmark = pytest.mark.anyio

EXAMINER = [sys.executable, str(PROGRAMS / "examiner.py")]


def config_of(wanted: dict[str, Any]) -> natsery.ServiceConfig:
    """The service that the examiner describes."""

    async def echo(request: natsery.Request) -> bytes:
        return request.data

    async def faulty(request: natsery.Request) -> None:
        raise natsery.ServiceError(500, "handler error")

    def endpoint(each: dict[str, Any]) -> natsery.EndpointConfig:
        return natsery.EndpointConfig(
            each["name"],
            faulty if each["name"] == "faulty" else echo,
            subject=each["subject"],
            metadata=each.get("metadata"),
            **_queue_group(each),
        )

    grouped = [
        natsery.group(
            group["name"],
            [endpoint(each) for each in wanted["endpoints"] if each.get("group") == group["name"]],
            **_queue_group(group),
        )
        for group in wanted["groups"]
    ]
    return natsery.ServiceConfig(
        wanted["name"],
        wanted["version"],
        description=wanted["description"],
        metadata=wanted["metadata"],
        endpoints=[*(endpoint(each) for each in wanted["endpoints"] if "group" not in each), *grouped],
        stats_handler=lambda stats: {"endpoint": stats.name},
        **_queue_group(wanted),
    )


def _queue_group(part: dict[str, Any]) -> dict[str, str]:
    """As an option; what is empty or missing is inherited."""
    return {"queue_group": part["queue_group"]} if part.get("queue_group") else {}


async def take_part(nc: Connection, *, task_status: anyio.abc.TaskStatus[None]) -> None:
    """Do what the examiner says, to its verdict."""
    async with nc.subscribe("tests.service.core.>") as steps:
        await nc.flush()
        task_status.started()
        first = await steps.receive()
        async with natsery.serve(nc, config_of(json.loads(first.data)["config"])):
            await nc.publish(first.reply, b"")
            last = await steps.receive()
        await nc.publish(last.reply, b"")
        assert (await steps.receive()).subject == "tests.service.core.pass"


async def test_natsery_passes(nats_server: NatsServer, nc: Connection) -> None:
    with anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as tasks:
            await tasks.start(take_part, nc)
            await output([*EXAMINER, nats_server.url])


async def test_the_reference_passes(nats_server: NatsServer, got: Any) -> None:
    peer = PEERS["nats-go"]
    command = got.command(peer.title, peer.get)
    with anyio.fail_after(LIMIT):
        async with running([*command, "take-part", nats_server.url]) as program:
            await program.wait_for("ready")
            await output([*EXAMINER, nats_server.url])
            await program.wait_for("pass")
