"""Groups, and the options that the endpoints inside inherit."""

from __future__ import annotations

import math

import pytest

import natsery
from natsery import EndpointConfig, group
from natsery.abc import Connection

from ..bounds import bounded
from ..calc_service import config

pytestmark = pytest.mark.anyio


def middleware(name: bytes):
    async def around(request: natsery.Request, call_next) -> bytes | None:
        return name + (await call_next(request) or b"")

    return around


async def answer(request: natsery.Request) -> bytes:
    return b"!"


def limits_of(*endpoints, **options):
    return [each.limits for each in config(*endpoints, **options).placed_endpoints()]


def test_the_innermost_that_says_it_counts() -> None:
    own, inner, outer = limits_of(
        group(
            "a",
            [
                group("b", [EndpointConfig("x", answer, timeout=3, concurrency=5), answer], timeout=2),
                EndpointConfig("y", answer),
            ],
            timeout=1,
            concurrency=4,
            pending_messages=7,
        ),
        pending_messages=8,
        pending_bytes=9,
    )
    assert (own.timeout, own.concurrency, own.pending_messages, own.pending_bytes) == (3, 5, 7, 9)
    assert (inner.timeout, inner.concurrency, inner.pending_messages) == (2, 4, 7)
    assert (outer.timeout, outer.concurrency, outer.pending_messages) == (1, 4, 7)


async def test_middlewares_run_from_the_outside_in(nc: Connection) -> None:
    inner = group(
        "b",
        [EndpointConfig("x", answer, middlewares=[middleware(b"5")])],
        middlewares=[middleware(b"3"), middleware(b"4")],
    )
    outer = group("a", [inner], middlewares=[middleware(b"2")])
    async with bounded(), natsery.serve(nc, config(outer, middlewares=[middleware(b"1")])):
        assert (await nc.request("a.b.x")).data == b"12345!"


async def test_groups_of_a_running_service(nc: Connection) -> None:
    async with bounded(), natsery.serve(nc, config(middlewares=[middleware(b"1")], queue_group="s")) as service:
        outer = service.add_group("a", middlewares=[middleware(b"2")], timeout=1, concurrency=2)
        inner = outer.add_group("b", middlewares=[middleware(b"3")], timeout=math.inf, queue_group="b")
        endpoint = await inner.add_endpoint(answer)
        assert (await nc.request("a.b.answer")).data == b"123!"
        assert (endpoint.subject, endpoint.queue_group) == ("a.b.answer", "b")
        limits = endpoint._placed.limits
        assert (limits.timeout, limits.concurrency) == (math.inf, 2)
        other = await outer.add_endpoint(EndpointConfig("other", answer))
        assert other.queue_group == "s"


async def test_a_time_out_of_a_group(nc: Connection) -> None:
    async def hang(request: natsery.Request) -> bytes:
        import anyio

        await anyio.sleep_forever()
        raise AssertionError

    async with bounded(), natsery.serve(nc, config(group("a", [hang], timeout=0.01))):
        with pytest.raises(natsery.ServiceError, match="504"):
            await natsery.ServiceClient(nc).request("a.hang")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("timeout", 0),
        ("timeout", "1"),
        ("concurrency", 0),
        ("pending_messages", -1),
        ("pending_bytes", 1.5),
        ("queue_group", "a b"),
        ("middlewares", [3]),
        ("middlewares", answer),
    ],
)
async def test_bad_options_are_named(nc: Connection, option: str, value: object) -> None:
    with pytest.raises(natsery.ConfigError, match=rf"group\('math'\)\.{option}"):
        group("math", **{option: value})
    async with bounded(), natsery.serve(nc, config()) as service:
        with pytest.raises(natsery.ConfigError, match=rf"group\('math'\)\.{option}"):
            service.add_group("math", **{option: value})


def test_unknown_options_are_named() -> None:
    with pytest.raises(TypeError, match="subject"):
        group("math", subject="x")


@pytest.mark.parametrize(
    ("option", "hint"),
    [
        ("queue", "write queue_group="),
        (
            "metadata",
            "it has concurrency, limiter, middlewares, pending_bytes, pending_messages, pending_seconds, queue_group, timeout",
        ),
        ("subject", "the prefix is its name"),
    ],
)
def test_options_that_groups_do_not_have(option: str, hint: str) -> None:
    with pytest.raises(TypeError, match=rf"^group\(\) has no option '{option}'[:;] {hint}"):
        group("math", [answer], **{option: "x"})  # type: ignore[misc]
