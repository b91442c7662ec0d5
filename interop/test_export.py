"""The services of several implementations in one exposition for Prometheus."""

from __future__ import annotations

import sys
from contextlib import AsyncExitStack
from typing import Any

import anyio
import pytest
from prometheus_client.parser import text_string_to_metric_families

import natsery
from natsery.abc import Connection
from natsery.testing import NatsServer

from .contract import Contract
from .peers import PEERS
from .processes import LIMIT, SECONDS, output, serving

pytestmark = pytest.mark.anyio

OTHERS = ("nats-go", "nats-js", "nats-py")


@pytest.fixture
def anyio_backend() -> str:
    return "trio"


def values(text: str, metric: str, *labels: str) -> dict[tuple[str, ...], float]:
    samples = [each for family in text_string_to_metric_families(text) for each in family.samples]
    found = [(tuple(each.labels[label] for label in labels), each.value) for each in samples if each.name == metric]
    assert len(dict(found)) == len(found)
    return dict(found)


async def test_one_scrape_has_the_services_of_all(nats_server: NatsServer, nc: Connection, got: Any) -> None:
    commands = {name: got.command(PEERS[name].title, PEERS[name].get) for name in OTHERS}
    contracts = {name: Contract(name) for name in (*OTHERS, "natsery")}
    errors = {name: PEERS[name].errors[1][0] for name in OTHERS} | {"natsery": 2}
    client = natsery.ServiceClient(nc)
    export = [sys.executable, "-m", "natsery", "export", "--once", "-s", nats_server.url]
    export += ["--count", str(len(contracts)), "--wait", str(SECONDS), "--stall", str(SECONDS)]
    with anyio.fail_after(2 * LIMIT):
        async with AsyncExitStack() as stack:
            ids = {}
            for name, command in commands.items():
                running = serving(command, nats_server.url, contracts[name].to_json())
                _, ids[name] = await stack.enter_async_context(running)
            ours = await stack.enter_async_context(natsery.serve(nc, contracts["natsery"].config()))
            ids["natsery"] = ours.id
            for contract in contracts.values():
                for _ in range(3):
                    await client.request(contract.echo)
                for payload in (b"expected", b"boom"):
                    with pytest.raises(natsery.ServiceError):
                        await client.request(contract.fail, payload)
            requests = {(name, f"{name}.echo"): 3.0 for name in contracts}
            requests |= {(name, f"{name}.fail"): 2.0 for name in contracts}
            # An implementation may count a request after it has answered it.
            while values(text := await output(export), "nats_service_requests_total", "service", "subject") != requests:
                pass
    assert values(text, "nats_service_up", "service", "version", "id") == {
        (name, contracts[name].version, id_): 1 for name, id_ in ids.items()
    }
    counted = values(text, "nats_service_errors_total", "service", "subject")
    assert counted == dict.fromkeys(requests, 0) | {(name, f"{name}.fail"): count for name, count in errors.items()}
    times = values(text, "nats_service_processing_seconds_total", "service", "subject")
    assert set(times) == set(requests)
    assert times["nats-go", "nats-go.echo"] > 0
    started = values(text, "nats_service_started_timestamp_seconds", "service")
    assert max(started.values()) - min(started.values()) < LIMIT
    assert values(text, "nats_service_scrape_malformed_replies_total") == {(): 0}
