"""The event loop that an object belongs to."""

from __future__ import annotations

import asyncio

import pytest
import trio

from natsery._home import Home
from natsery.testing import make_request


def test_a_home_is_one_run_of_an_event_loop() -> None:
    async def make() -> Home:
        home = Home()
        home.check()
        return home

    async def check(home: Home) -> None:
        home.check()

    for home in (asyncio.run(make()), trio.run(make)):
        with pytest.raises(RuntimeError, match="belongs to another event loop"):
            asyncio.run(check(home))
        with pytest.raises(RuntimeError, match="belongs to another event loop"):
            trio.run(check, home)
        with pytest.raises(RuntimeError, match="belongs to another event loop"):
            home.check()


def test_requests_for_tests_are_at_home_in_every_loop() -> None:
    request, answers = make_request()
    for _ in range(2):
        asyncio.run(request.respond(b"1"))
        trio.run(request.respond, b"2")
    assert [answer.data for answer in answers] == [b"1", b"2"] * 2
