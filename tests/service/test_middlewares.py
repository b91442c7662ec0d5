"""What stands around handlers."""

from __future__ import annotations

import pytest

import natsery
from natsery.abc import Connection

from ..bounds import bounded
from ..calc_service import add, config

pytestmark = pytest.mark.anyio


async def test_a_middleware_stands_around_handlers(nc: Connection) -> None:
    async def outer(request: natsery.Request, call_next) -> bytes | None:
        return b"<" + (await call_next(request) or b"") + b">"

    async with bounded(), natsery.serve(nc, config(add, middlewares=[outer])):
        assert (await nc.request("add", b"1+1")).data == b"<2>"


async def test_a_middleware_may_answer_in_place_of_the_handler_with_headers(nc: Connection) -> None:
    async def around(request: natsery.Request, handler) -> None:
        await request.respond(await handler(request), headers={"Took": "3"})

    async with bounded(), natsery.serve(nc, config(add, middlewares=[around])) as service:
        reply = await nc.request("add", b"1+1")
        assert (reply.data, reply.headers["Took"]) == (b"2", "3")
        assert service.endpoints[0].stats().num_errors == 0
