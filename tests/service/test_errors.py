"""What goes wrong in a handler: who hears of it, and who does not."""

from __future__ import annotations

import pytest

import natsery
from natsery.abc import Connection

from ..bounds import bounded
from ..calc_service import add, config, error_of

pytestmark = pytest.mark.anyio


async def test_an_unexpected_exception_stays_inside(nc: Connection, caplog: pytest.LogCaptureFixture) -> None:
    heard: list[tuple[Exception, str]] = []

    async def broken(request: natsery.Request) -> bytes:
        raise LookupError("a secret")

    async def hear(error: Exception, endpoint: natsery.Endpoint | None, request: natsery.Request | None) -> None:
        assert endpoint is not None
        heard.append((error, endpoint.name))

    async with bounded(), natsery.serve(nc, config(broken, add, error_handler=hear)):
        reply = await nc.request("broken")
        assert error_of(reply) == "500:Internal Server Error"
        assert reply.data == b""
        assert (await nc.request("add", b"1+1")).data == b"2"
    assert [(str(error), name) for error, name in heard] == [("a secret", "broken")]
    assert "a secret" in caplog.text
