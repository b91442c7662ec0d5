"""What a service sends, in which order."""

from __future__ import annotations

import pytest

import natsery

from .bounds import bounded
from .calc_service import add, config
from .conftest import open_connection
from .proxy import open_proxy
from .server import NatsServer

pytestmark = pytest.mark.anyio


async def test_endpoints_come_before_control_subjects_and_a_fence_follows_both(
    transport: str, nats_server: NatsServer
) -> None:
    async with bounded(), open_proxy(nats_server.port) as proxy, open_connection(transport, proxy.url) as nc:
        proxy.sent.clear()
        plain = natsery.EndpointConfig("plain", add, queue_group=natsery.NO_QUEUE_GROUP)
        async with natsery.serve(nc, config(add, plain)):
            entered = proxy.verbs()
        left = proxy.verbs()[len(entered) :]
    subscribed = [line.split() for line in entered if line.startswith("SUB")]
    assert [line[1:-1] for line in subscribed[:2]] == [["add", "q"], ["plain"]]
    assert len(subscribed) == 2 + 9
    assert all(line[1].startswith("$SRV.") and len(line) == 3 for line in subscribed[2:])
    assert entered[-1] == "PING"
    numbers = [line[-1] for line in subscribed]
    unsubscribed = [line.split()[1] for line in left if line.startswith("UNSUB")]
    assert unsubscribed == numbers
    # A fence between the endpoints and the control plane, and one after it.
    control = left.index(next(line for line in left if line.split()[-1] == numbers[2]))
    assert "PING" in left[left.index(f"UNSUB {numbers[1]} ") if f"UNSUB {numbers[1]} " in left else 2 : control]
    assert left[-1] == "PING"
