"""Error replies: how one is written and read."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natsery import Headers, Message, ServiceError, error_headers
from natsery._service_error import MAX_ERROR_CODE


def error_in(data, headers):
    return ServiceError.from_message(Message("inbox", data, headers=headers))


@pytest.mark.parametrize("code", [0, 7, 404, 500, 999_999_999, 1_000_000_000, MAX_ERROR_CODE])
def test_errors_come_back_as_they_were_sent(code):
    error = error_in(b"data", error_headers(code, "not found!", {"X": ["1", "2"]}))
    assert isinstance(error, ServiceError)
    assert (error.code, error.description, error.data) == (code, "not found!", b"data")
    assert error.headers.get_all("x") == ["1", "2"]


def test_the_headers_of_an_error_are_headers_however_they_were_given():
    """Type checkers took them for what may be given, so that callers could not read one of a reply."""
    assert ServiceError(404, "gone").headers == Headers()
    error = ServiceError(404, "gone", headers=iter([("Retry", "no")]))
    assert [error.headers["retry"] for _ in range(2)] == ["no", "no"]
    assert pickle.loads(pickle.dumps(error)).headers == {"Retry": "no"}


def test_a_wrong_header_is_told_when_it_is_read():
    """The error itself is made, so that its code and text can be sent."""
    error = ServiceError(404, "gone", headers={"a b": "c"})
    with pytest.raises(ValueError, match="header name: must be printable ASCII"):
        _ = error.headers


def test_error_headers_are_exactly_two():
    assert error_headers(404, "gone").multi_items() == [
        ("Nats-Service-Error", "gone"),
        ("Nats-Service-Error-Code", "404"),
    ]


def test_error_headers_win_over_the_callers_and_leave_them_unchanged():
    mine = {"nats-service-error": "mine", "NATS-SERVICE-ERROR-CODE": "1", "X": "y"}
    headers = error_headers(500, "theirs", mine)
    assert headers.get_all("Nats-Service-Error") == ["theirs"]
    assert headers.get_all("Nats-Service-Error-Code") == ["500"]
    assert headers["X"] == "y"
    assert mine == {"nats-service-error": "mine", "NATS-SERVICE-ERROR-CODE": "1", "X": "y"}


@pytest.mark.parametrize(
    ("description", "sent"),
    [
        ("a\r\nNats-Service-Error-Code: 200", "a  Nats-Service-Error-Code: 200"),
        ("a\0b", "a b"),
        ("a\tb\x7f", "a b"),
        ("a\ud800b", r"a\ud800b"),
        ("café", r"caf\xe9"),
        (" a ", "a"),
        ("\0", "unknown error"),
    ],
)
def test_descriptions_are_made_fit_to_travel(description, sent):
    assert error_headers(500, description)["Nats-Service-Error"] == sent


@given(st.integers(0, MAX_ERROR_CODE), st.text(st.characters(exclude_categories=())).filter(str.strip))
def test_any_allowed_error_reaches_its_reader(code, description):
    headers = error_headers(code, description)
    assert headers.encode().count(b"\r\n") == 4
    error = error_in(b"", headers)
    assert error.code == code
    assert error.description


@pytest.mark.parametrize(
    ("code", "description"),
    [("5\r\n", "x"), (-1, "x"), ("x", "x"), (2**31, "x"), ("2147483648", "x"), (500, ""), (500, " ")],
)
def test_what_no_error_may_have_is_a_value_error(code, description):
    for make in (error_headers, ServiceError):
        with pytest.raises(ValueError, match=r"^(code|description): must "):
            make(code, description)


@pytest.mark.parametrize(("code", "description"), [(True, "x"), (4.0, "x"), (None, "x"), (500, None), (500, b"x")])
def test_what_no_error_may_be_is_a_type_error(code, description):
    for make in (error_headers, ServiceError):
        with pytest.raises(TypeError, match=r"^(code|description): must "):
            make(code, description)


def test_a_code_may_be_given_as_text():
    assert ServiceError("404", "gone").code == 404
    assert error_headers("404", "gone") == error_headers(404, "gone")


def test_a_good_reply_carries_no_error():
    assert error_in(b"", Headers()) is None
    assert error_in(b"", Headers({"X": "y"})) is None


@pytest.mark.parametrize(
    ("headers", "code", "description"),
    [
        ({"Nats-Service-Error": "bad"}, 500, "bad"),
        ({"Nats-Service-Error-Code": "404"}, 404, "unknown error"),
        ({"nats-service-error-code": " 404 ", "NATS-SERVICE-ERROR": "x"}, 404, "x"),
        ({"Nats-Service-Error-Code": "BAD_INPUT", "Nats-Service-Error": "x"}, 500, "BAD_INPUT: x"),
        ({"Nats-Service-Error-Code": "BAD_INPUT"}, 500, "BAD_INPUT"),
        ({"Nats-Service-Error-Code": "-1", "Nats-Service-Error": "x"}, 500, "-1: x"),
        ({"Nats-Service-Error-Code": "٣", "Nats-Service-Error": "x"}, 500, "٣: x"),
        ({"Nats-Service-Error-Code": "4.0", "Nats-Service-Error": ""}, 500, "4.0"),
        ({"Nats-Service-Error-Code": "9" * 10, "Nats-Service-Error": "x"}, 500, "9999999999: x"),
        ({"Nats-Service-Error-Code": "9" * 5000}, 500, "9" * 5000),
        ({"Nats-Service-Error-Code": "", "Nats-Service-Error": ""}, 500, "unknown error"),
    ],
)
def test_errors_of_others_are_read_leniently(headers, code, description):
    error = error_in(b"", Headers.from_wire(headers.items()))
    assert (error.code, error.description) == (code, description)


@given(st.text(), st.text())
def test_any_error_headers_can_be_read(code, description):
    headers = Headers.from_wire([("Nats-Service-Error-Code", code), ("Nats-Service-Error", description)])
    assert isinstance(error_in(b"", headers), ServiceError)
