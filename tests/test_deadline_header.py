"""The header that says how much time is left, as text; and what bounds the waiting, as configuration."""

from __future__ import annotations

import math

import anyio
import pytest

import natsery
from natsery._deadline_header import TIMEOUT_HEADER, timeout_in, timeout_text
from natsery.testing import make_request

from .calc_service import add, config


def test_a_request_that_was_made_for_a_test_has_no_deadline() -> None:
    request, _ = make_request()
    assert request.deadline == math.inf


@pytest.mark.parametrize(
    ("seconds", "text"), [(1, "1000"), (0.0001, "1"), (1e-12, "1"), (1.0001, "1001"), (1e12, "9999999999")]
)
def test_the_header_has_whole_milliseconds(seconds: float, text: str) -> None:
    assert timeout_text(seconds) == text
    assert timeout_in(natsery.Headers({TIMEOUT_HEADER: text})) == pytest.approx(int(text) / 1000)


def test_headers_that_say_no_time_name_none() -> None:
    for headers in ({"A": "1000"}, {TIMEOUT_HEADER: "soon"}, {TIMEOUT_HEADER: "-1"}):
        assert timeout_in(natsery.Headers(headers)) == math.inf


@pytest.mark.parametrize("value", [3, "x", anyio.CapacityLimiter, anyio.Semaphore])
def test_what_is_no_limiter_is_refused(value: object) -> None:
    for make in (
        lambda: config(limiter=value),
        lambda: natsery.group("a", limiter=value),  # type: ignore[arg-type]
        lambda: natsery.EndpointConfig("a", add, limiter=value),  # type: ignore[arg-type]
    ):
        with pytest.raises(natsery.ConfigError, match=r"limiter: must be a limiter; write anyio.CapacityLimiter\(10\)"):
            make()
