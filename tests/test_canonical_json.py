"""JSON in its canonical form."""

from __future__ import annotations

import pytest

from natsery._canonical_json import canonical_json


@pytest.mark.parametrize(
    ("value", "written"),
    [
        # The examples of RFC 8785, section 3.2.2 and appendix B.
        (333333333.33333329, "333333333.3333333"),
        (1e30, "1e+30"),
        (4.50, "4.5"),
        (2e-3, "0.002"),
        (0.000000000000000000000000001, "1e-27"),
        (-0.0, "0"),
        (5e-324, "5e-324"),
        (-1.7976931348623157e308, "-1.7976931348623157e+308"),
        (9007199254740992, "9007199254740992"),
        (295147905179352825856, "295147905179352830000"),
        (9.999999999999997e22, "9.999999999999997e+22"),
        (1e21, "1e+21"),
        (999999999999999900000.0, "999999999999999900000"),
        (1e-7, "1e-7"),
        (0.000001, "0.000001"),
        (333333333.3333332, "333333333.3333332"),
        # Others.
        (100.0, "100"),
        (12.5, "12.5"),
        (-0.001, "-0.001"),
        (True, "true"),
        (None, "null"),
        ([1, [], {}], "[1,[],{}]"),
        ("\u20ac$\u000f\n'\"\\/", '"\u20ac$\\u000f\\n\'\\"\\\\/"'),
    ],
)
def test_values(value: object, written: str) -> None:
    assert canonical_json(value) == written.encode()


def test_keys_are_sorted_as_utf_16() -> None:
    value = {"\u20ac": 1, "\r": 2, "\ufb33": 3, "1": 4, "\U0001f600": 5, "\x80": 6, "\u00f6": 7}
    assert canonical_json(value).decode() == (
        '{"\\r":2,"1":4,"\x80":6,"\u00f6":7,"\u20ac":1,"\U0001f600":5,"\ufb33":3}'
    )


@pytest.mark.parametrize("value", [float("inf"), float("nan"), 10**400, object(), "\ud800", {1: 2}])
def test_what_is_no_json_is_refused(value: object) -> None:
    with pytest.raises((TypeError, ValueError, OverflowError)):
        canonical_json(value)
