"""Which replies are never sent, because of where they would go."""

from __future__ import annotations

import pytest

import natsery
from natsery.abc import Connection

from ..test_serve import add, bounded, config

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("reply", ["$SRV.PING", "$SYS.x", "$JS.x", "a.*", "a.>"])
async def test_replies_that_aim_are_not_answered(nc: Connection, reply: str) -> None:
    called = False

    async def touch(request: natsery.Request) -> None:
        nonlocal called
        called = True

    async with bounded(), natsery.serve(nc, config(touch, add)) as service:
        await nc.send("touch", reply=reply)
        await nc.send("$SRV.PING", reply=reply)
        await nc.request("add", b"1+1")
    assert not called
    stats = service.stats().endpoints[0]
    assert (stats.num_requests, stats.malformed) == (0, 1)
