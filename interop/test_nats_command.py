"""The `nats` command and our service; the service that it brings and our client."""

from __future__ import annotations

import json

import anyio
import pytest

import natsery
from natsery.abc import Connection

from .contract import Contract
from .processes import LIMIT, SECONDS, output, running
from .replies import as_sent, plain

pytestmark = pytest.mark.anyio


def rows(table: str) -> list[list[str]]:
    """The cells of a table that it drew, its heading left out."""
    lines = [line.split("│")[1:-1] for line in table.splitlines() if line.startswith("│")]
    return [[cell.strip() for cell in line] for line in lines[2:]]


async def test_list(nats_cli: list[str], contract: Contract, nc: Connection) -> None:
    with anyio.fail_after(LIMIT):
        async with natsery.serve(nc, contract.config()) as service:
            for name in ([], [contract.name]):
                (row,) = rows(await output([*nats_cli, "service", "list", *name]))
                assert row == [contract.name, contract.version, service.id, contract.description]
                (info,) = json.loads(await output([*nats_cli, "service", "list", *name, "--json"]))
                assert info == service.info().to_dict()
            printed = await output([*nats_cli, "service", "list", "nobody"], status=1)
            assert "no service instances found" in printed


async def test_info(nats_cli: list[str], contract: Contract, nc: Connection) -> None:
    with anyio.fail_after(LIMIT):
        async with natsery.serve(nc, contract.config(data=False)) as service:
            printed = await output([*nats_cli, "service", "info", contract.name])
            assert f"Service: {contract.name} ({service.id})" in printed
            assert f"Description: {contract.description}" in printed
            assert f"Version: {contract.version}" in printed
            for text in ("größe: klein", "言語: 日本語", "schéma: écho 🪞", contract.echo, contract.fail):
                assert text in printed
            for instance in ([], [service.id]):
                found = json.loads(await output([*nats_cli, "service", "info", contract.name, *instance, "--json"]))
                assert found["info"] == service.info().to_dict()
                assert plain(found["stats"]) == plain(as_sent(service))


async def test_ping(nats_cli: list[str], contract: Contract, nc: Connection) -> None:
    with anyio.fail_after(LIMIT):
        async with natsery.serve(nc, contract.config()) as one, natsery.serve(nc, contract.config()) as other:
            everybody = sorted([contract.name, each.id] for each in (one, other))
            for seconds in (1, 4, 20):  # it waits for all of its time-out
                printed = await output([*nats_cli, "service", "ping", contract.name, "--timeout", f"{seconds}s"])
                found = sorted(line.split(" rtt=")[0].split() for line in printed.splitlines() if "rtt=" in line)
                if found == everybody:
                    break
            assert found == everybody


async def test_stats(nats_cli: list[str], contract: Contract, nc: Connection) -> None:
    with anyio.fail_after(LIMIT):
        async with natsery.serve(nc, contract.config()) as service:
            command = [*nats_cli, "service", "stats", contract.name]

            async def numbers() -> list[list[str]]:
                return [row[:5] for row in rows(await output(command))]

            # It divides by the number of requests as soon as there is any time.
            zeros = [[service.id, "echo", "0", "q", "0"], ["", "fail", "0", "failing", "0"], ["", "", "0", "", "0"]]
            assert await numbers() == zeros
            for _ in range(3):
                await nc.request(contract.echo, b"1")
            await nc.request(contract.fail, b"expected")
            await nc.request(contract.fail, b"boom")
            assert await numbers() == [
                [service.id, "echo", "3", "q", "0"],
                ["", "fail", "2", "failing", "2"],
                ["", "", "5", "", "2"],
            ]
            (found,) = json.loads(await output([*command, service.id, "--json"]))
            assert plain(found) == plain(as_sent(service))
            service.reset()
            assert await numbers() == zeros


async def test_request(nats_cli: list[str], contract: Contract, nc: Connection) -> None:
    with anyio.fail_after(LIMIT):
        async with natsery.serve(nc, contract.config()):
            printed = await output([*nats_cli, "request", contract.echo, "größe 計算", "--raw"])
            assert printed.strip() == "größe 計算"
            # It prints headers to standard error.
            reply = await output([*nats_cli, "request", contract.echo, "1", "-H", "Trace:a-1"], errors=True)
            assert "Traced: a-1" in reply
            reply = await output([*nats_cli, "request", contract.fail, "expected"], errors=True)
            assert contract.data in reply
            assert "Nats-Service-Error-Code: 400" in reply
            assert f"Nats-Service-Error: {contract.text}" in reply
            reply = await output([*nats_cli, "service", "request", contract.name, "fail", "boom"], errors=True)
            assert "Nats-Service-Error-Code: 500" in reply
            assert "Nats-Service-Error: Internal Server Error" in reply


async def test_the_service_that_it_brings(nats_cli: list[str], nc: Connection) -> None:
    client = natsery.ServiceClient(nc)
    with anyio.fail_after(LIMIT):
        async with running([*nats_cli, "service", "serve", "demo"]) as program:
            await program.wait_for("NATS CLI Service demo")
            # It says so before the server knows.
            while not (infos := await client.info("demo", count=1, wait=SECONDS)) or not infos[0].endpoints:
                await anyio.lowlevel.checkpoint()
            (info,) = infos
            assert (info.name, info.version) == ("demo", "1.0.0")
            assert info.description == "NATS CLI Demo Service (demo)"
            assert info.metadata["_nats.client.created.library"] == "natscli"
            assert info.endpoints == (natsery.EndpointInfo(name="echo", subject="demo.echo", queue_group="q"),)
            reply = await client.request("demo.echo", "größe".encode(), headers={"Trace": "a-1"})
            assert reply.data.decode() == "größe"
            assert reply.headers["Trace"] == "a-1"
            (stats,) = await client.stats("demo", info.id, wait=SECONDS)
            assert stats.endpoints[0].data == {"total_payload": len("größe".encode())}
