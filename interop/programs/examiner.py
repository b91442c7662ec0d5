"""The official compatibility scenario for services: an examiner tells a program over NATS which service to offer, then tests it.

It is the ``service`` part of the suite by which NATS's own clients are compared. A program waits for steps on
``tests.service.core.>``: the first carries the service as JSON, the second has it stopped, and each is answered when it is done;
the last message says whether the examiner is content. The examiner here is built on a plain NATS client and on the official
schemas, and on nothing of natsery.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import jsonschema
import nats
from common import SECONDS
from nats.aio.client import Client
from nats.aio.msg import Msg

SERVICE: dict[str, Any] = {
    "name": "demo",
    "version": "1.0.0",
    "description": "demo service",
    "metadata": {"workload": "cpu"},
    "queue_group": "",
    "groups": [{"name": "g1", "queue_group": ""}, {"name": "g2", "queue_group": "group-queue"}],
    "endpoints": [
        {"name": "demo-default-queue", "subject": "demo.default", "metadata": {"key": "value"}},
        {"name": "demo-custom-queue", "subject": "demo.default", "queue_group": "endpoint-group"},
        {"name": "g1-parent-queue", "group": "g1", "subject": "parent.queue"},
        {"name": "g1-custom-queue", "group": "g1", "subject": "custom.queue", "queue_group": "endpoint-group"},
        {"name": "g2-parent-queue", "group": "g2", "subject": "parent.queue"},
        {"name": "g2-custom-queue", "group": "g2", "subject": "custom.queue", "queue_group": "endpoint-group"},
        {"name": "faulty", "subject": "faulty"},
    ],
}
"""The service: all endpoints echo but ``faulty``, which fails with 500 and ``handler error``.

The ``data`` in an endpoint's statistics is ``{"endpoint": <its name>}``. What is empty or missing is inherited.
"""

LISTED = (
    ("demo-default-queue", "demo.default", "q", {"key": "value"}),
    ("demo-custom-queue", "demo.default", "endpoint-group", {}),
    ("g1-parent-queue", "g1.parent.queue", "q", {}),
    ("g1-custom-queue", "g1.custom.queue", "endpoint-group", {}),
    ("g2-parent-queue", "g2.parent.queue", "group-queue", {}),
    ("g2-custom-queue", "g2.custom.queue", "endpoint-group", {}),
    ("faulty", "faulty", "q", {}),
)
"""Name, subject, queue group and metadata of each endpoint, as discovery is to show them."""

SCHEMAS = Path(__file__).parent.parent.parent / "tests" / "schemas"


async def examine(url: str) -> None:
    """Lead a program, which has subscribed already, through the scenario."""
    async with _client(url) as client:
        await _command(client, "configure", SERVICE)
        verdict = "fail"
        try:
            instance = await _check_discovery(client)
            await _check_endpoints(client)
            await _check_statistics(client, instance)
            await _command(client, "stop", None)
            await _check_that_it_is_gone(client, instance)
            verdict = "pass"
        finally:
            await client.publish(f"tests.service.core.{verdict}")
            await client.flush()


async def _command(client: Client, command: str, config: object) -> None:
    step = {"suite": "service", "test": "core", "command": command, "config": config}
    # The end of the service is told by an empty message, which the suite's programs look for.
    payload = b"" if config is None else json.dumps(step).encode()
    reply = await client.request("tests.service.core.command", payload, timeout=SECONDS)
    assert reply.data == b""


async def _check_discovery(client: Client) -> str:
    head = {"name": "demo", "version": "1.0.0", "metadata": {"workload": "cpu"}}
    ping = await _ask(client, "PING")
    instance = ping["id"]
    for target in (f"demo.{instance}", "demo", ""):
        assert await _ask(client, "PING", target) == {**head, "id": instance, "type": _type("ping")}
        info = await _ask(client, "INFO", target)
        endpoints = info.pop("endpoints")
        assert info == {**head, "id": instance, "type": _type("info"), "description": "demo service"}
        # nats.go writes an endpoint without metadata as null.
        shown = sorted(
            (each["name"], each["subject"], each["queue_group"], each["metadata"] or {}) for each in endpoints
        )
        assert shown == sorted(LISTED)
        stats = await _ask(client, "STATS", target)
        assert {key: stats[key] for key in ("id", *head)} == {"id": instance, **head}
        assert stats["type"] == _type("stats")
    return str(instance)


async def _check_endpoints(client: Client) -> None:
    for subject in dict.fromkeys(subject for _, subject, _, _ in LISTED):
        queue_groups = sum(each == subject for _, each, _, _ in LISTED)
        for reply in await _replies(client, subject, b"hello", queue_groups):
            if subject != "faulty":
                assert (reply.data, reply.headers) == (b"hello", None)
                continue
            assert reply.headers is not None
            assert reply.headers["Nats-Service-Error-Code"] == "500"
            assert reply.headers["Nats-Service-Error"] == "handler error"


async def _check_statistics(client: Client, instance: str) -> None:
    # A service may count a request after it has answered it.
    while True:
        stats = await _ask(client, "STATS", f"demo.{instance}")
        if all(each["num_requests"] for each in stats["endpoints"]):
            break
    by_name = {each["name"]: each for each in stats["endpoints"]}
    for name, subject, queue_group, _ in LISTED:
        found = by_name.pop(name)
        assert (found["subject"], found["queue_group"], found["num_requests"]) == (subject, queue_group, 1)
        assert found["data"] == {"endpoint": name}
        assert found["processing_time"] == found["average_processing_time"] > 0
        is_faulty = name == "faulty"
        assert found["num_errors"] == is_faulty
        assert found["last_error"] == ("500:handler error" if is_faulty else "")
    assert not by_name


async def _check_that_it_is_gone(client: Client, instance: str) -> None:
    """Nobody may be subscribed any more, to an endpoint or to a control subject."""
    control = [
        f"$SRV.{verb}{target}" for verb in ("PING", "INFO", "STATS") for target in ("", ".demo", f".demo.{instance}")
    ]
    for subject in (*(subject for _, subject, _, _ in LISTED), *control):
        try:
            await client.request(subject, timeout=SECONDS)
        except nats.errors.NoRespondersError:
            continue
        raise AssertionError(f"somebody still answers {subject}")


async def _ask(client: Client, verb: str, target: str = "") -> dict[str, Any]:
    """The only reply, as JSON that fits its schema, and that nothing else came with."""
    (reply,) = await _replies(client, f"$SRV.{verb}{target and '.' + target}", b"", 1)
    assert reply.headers is None
    answer: dict[str, Any] = json.loads(reply.data)
    schema = json.loads((SCHEMAS / f"{verb.lower()}_response.json").read_text())
    jsonschema.Draft7Validator({**schema, "additionalProperties": False}).validate(answer)
    return answer


async def _replies(client: Client, subject: str, data: bytes, count: int) -> list[Msg]:
    """The replies, of which there must be so many and no more."""
    inbox = client.new_inbox()
    subscription = await client.subscribe(inbox)
    await client.publish(subject, data, reply=inbox)
    replies = [await subscription.next_msg(timeout=SECONDS) for _ in range(count)]
    await client.flush()
    assert subscription.pending_msgs == 0, f"more than {count} replies from {subject}"
    await subscription.unsubscribe()
    return replies


def _type(verb: str) -> str:
    return f"io.nats.micro.v1.{verb}_response"


@asynccontextmanager
async def _client(url: str) -> AsyncIterator[Client]:
    client = await nats.connect(url, connect_timeout=SECONDS)
    try:
        yield client
    finally:
        await client.close()


asyncio.run(examine(sys.argv[1]))
