"""What type checkers say of the client; checked by mypy and pyright, never run."""

from __future__ import annotations

from typing import assert_type

import natsery
from natsery import EndReason, Replies, ReplyStream, ServiceClient, ServiceInfo, ServicePing, ServiceStats, Verb


async def lists(client: ServiceClient) -> None:
    assert_type(await client.ping(), Replies[ServicePing])
    assert_type(await client.info("calc"), Replies[ServiceInfo])
    stats = await client.stats("calc", "id", wait=1, stall=None, count=1)
    assert_type(stats, Replies[ServiceStats])
    assert_type(stats[0], ServiceStats)
    assert_type(stats.ended, EndReason)


async def streams(client: ServiceClient) -> None:
    async with client.discover("PING") as pings:
        assert_type(pings, ReplyStream[ServicePing])
        async for ping in pings:
            assert_type(ping, ServicePing)
    async with client.discover(Verb.INFO, "calc") as infos:
        assert_type(infos, ReplyStream[ServiceInfo])
    async with client.discover("STATS", "calc", "id") as stats:
        assert_type(stats, ReplyStream[ServiceStats])
        assert_type(stats.ended, EndReason | None)
    async with client.request_many("subject", sentinel=b"") as replies:
        assert_type(replies, ReplyStream[natsery.Message])


async def requests(client: ServiceClient, nc: natsery.NativeConnection, any_nc: natsery.abc.Connection) -> None:
    assert_type(await client.request("subject", b"", headers={}), natsery.Message)
    assert_type(await nc.request("subject", b"", headers={}), natsery.Message)
    # Options that are explained when they are given are still none.
    await client.request("subject", timeout=1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await nc.request("subject", timeout=1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await any_nc.request("subject", timeout=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
