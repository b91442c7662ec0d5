"""ADR-32's names, control subjects and error headers."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from natsery import ConfigError, ServiceError, Verb, control_subject, error_headers, service_error
from natsery import _adr32 as adr32
from natsery._errors import MAX_ERROR_CODE
from natsery._message import Headers


def refused(check, value, **options):
    with pytest.raises(ConfigError) as caught:
        check("the.field", value, **options)
    assert caught.value.field == "the.field"
    assert caught.value.value is value
    assert "the.field" in str(caught.value)


NO_TEXT = [None, 5, b"a", ["a"]]


@pytest.mark.parametrize("name", ["a", "Z", "0", "-", "_", "a-b_C9", "x" * 500])
def test_good_names_are_taken(name):
    assert adr32.check_name("f", name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        "a b",
        "a.b",
        ".a",
        "a.",
        "a\n",
        "\na",
        "a\r",
        "a\0",
        "é",
        "٣",
        "𝟙",
        "😀",
        "\ud800",
        "*",
        ">",
        "$",
        *NO_TEXT,
    ],
)
def test_bad_names_are_refused(name):
    refused(adr32.check_name, name)


@pytest.mark.parametrize(
    "version",
    [
        "0.0.0",
        "1.0.0",
        "10.20.30",
        "1.0.0-alpha",
        "1.0.0-alpha.1",
        "1.0.0-0A.is.legal",
        "1.0.0+b.001",
        "2.1.3-a.1+b.5",
        "1.0.0--",
    ],
)
def test_good_versions_are_taken(version):
    assert adr32.check_version("f", version) == version


@pytest.mark.parametrize(
    "version",
    [
        "",
        "1",
        "1.0",
        "v1.0.0",
        "1.0.0.0",
        "01.0.0",
        "1.00.0",
        "1.0.0-",
        "1.0.0+",
        "1.0.0-01",
        "1.0.0-a..b",
        "1.0.0-é",
        "-1.0.0",
    ]
    + ["1.0.0\n", " 1.0.0", "1.0.٣", "1.0.0+😀", "1.0.0-\ud800", *NO_TEXT],
)
def test_bad_versions_are_refused(version):
    refused(adr32.check_version, version)


@pytest.mark.parametrize(
    "subject", ["a", "a.b", "*", ">", "a.*", "a.*.b", "a.>", "*.*.>", "$x", "é.ü", "😀", "a-b_c/d", "٣"]
)
def test_good_subjects_are_taken(subject):
    assert adr32.check_subject("f", subject) == subject


BAD_SUBJECTS = [
    "",
    ".",
    ".a",
    "a.",
    "a..b",
    " ",
    "a b",
    "a\n",
    "a\t",
    "a\r",
    "a\0b",
    "a\x7f",
    "a\x85",
    "a\u00a0",
    "a\u2003b",
]
BAD_SUBJECTS += ["a*", "*a.b", "**", ">.a", "a.>.b", "a>", ">>", "*>", "\ud800", *NO_TEXT]


@pytest.mark.parametrize("subject", BAD_SUBJECTS)
def test_bad_subjects_are_refused(subject):
    refused(adr32.check_subject, subject)


@pytest.mark.parametrize("subject", ["*", ">", "a.*", "a.>", "a*"])
def test_wildcards_are_refused_where_none_may_be(subject):
    refused(adr32.check_subject, subject, wildcards=False)


@pytest.mark.parametrize("name", ["", "a", "a.b", "*", "a.*.b", "é"])
def test_good_group_names_are_taken(name):
    assert adr32.check_group("f", name) == name


@pytest.mark.parametrize("name", [">", "a.>", "a>", *BAD_SUBJECTS[1:]])
def test_bad_group_names_are_refused(name):
    refused(adr32.check_group, name)


@pytest.mark.parametrize("name", ["q", "a.b", "é", "😀", "a-b"])
def test_good_queue_groups_are_taken(name):
    assert adr32.check_queue_group("f", name) == name


@pytest.mark.parametrize("name", ["", " ", "a b", "q\n", "q\t", "q\0", "q\u2003", "\ud800", *NO_TEXT[1:]])
def test_bad_queue_groups_are_refused(name):
    refused(adr32.check_queue_group, name)


@pytest.mark.parametrize("identity", ["a.b", "*", ">", "", "a b", "a\n", None])
def test_bad_instance_ids_are_refused(identity):
    refused(adr32.check_instance_id, identity)


def test_metadata_is_copied_and_read_only():
    source = {"a": "1", "": "😀"}
    metadata = adr32.check_metadata("f", source)
    source["a"] = "2"
    assert metadata == {"a": "1", "": "😀"}
    with pytest.raises(TypeError):
        metadata["a"] = "3"
    assert adr32.check_metadata("f", None) == {}


@pytest.mark.parametrize("metadata", [[("a", "b")], "ab", 5])
def test_metadata_must_be_a_mapping(metadata):
    refused(adr32.check_metadata, metadata)


@pytest.mark.parametrize(
    ("metadata", "field", "value"),
    [
        ({"a": 1}, "f['a']", 1),
        ({1: "a"}, "f key", 1),
        ({"a": None}, "f['a']", None),
        ({"a": "\ud800"}, "f['a']", "\ud800"),
    ],
)
def test_metadata_errors_name_the_key_and_the_value(metadata, field, value):
    with pytest.raises(ConfigError) as caught:
        adr32.check_metadata("f", metadata)
    assert (caught.value.field, caught.value.value) == (field, value)


def test_descriptions_may_be_empty_but_not_unwritable():
    assert adr32.check_description("f", "") == ""
    refused(adr32.check_description, "\ud800")
    refused(adr32.check_description, None)


@settings(derandomize=True, database=None, deadline=None)
@given(st.text())
def test_accepted_names_are_plain_ascii_tokens(text):
    try:
        adr32.check_name("f", text)
    except ConfigError:
        return
    assert text
    assert set(text) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


@pytest.mark.parametrize("verb", list(Verb))
def test_control_subjects_have_three_forms(verb):
    assert control_subject(verb) == f"$SRV.{verb.value}"
    assert control_subject(verb, "Calc") == f"$SRV.{verb.value}.Calc"
    assert control_subject(verb, "Calc", "iD") == f"$SRV.{verb.value}.Calc.iD"
    assert control_subject(verb, "Calc", prefix="my.srv") == f"my.srv.{verb.value}.Calc"


@pytest.mark.parametrize(
    ("arguments", "options", "field"),
    [
        (("ping",), {}, "verb"),
        (("",), {}, "verb"),
        (("PING", ""), {}, "name"),
        (("PING", "a.b"), {}, "name"),
        (("PING", "*"), {}, "name"),
        (("PING", None, "x"), {}, "id"),
        (("PING", "a", "x.y"), {}, "id"),
        (("PING", "a", ">"), {}, "id"),
        (("PING", "a", ""), {}, "id"),
        (("PING",), {"prefix": ""}, "prefix"),
        (("PING",), {"prefix": "a."}, "prefix"),
        (("PING",), {"prefix": "*"}, "prefix"),
    ],
)
def test_bad_control_subjects_are_refused(arguments, options, field):
    with pytest.raises(ConfigError) as caught:
        control_subject(*arguments, **options)
    assert caught.value.field == field


def test_fresh_ids_have_the_form_of_a_nuid_and_differ():
    ids = {adr32.new_id() for _ in range(50)}
    assert len(ids) == 50
    assert all(re.fullmatch("[0-9A-Za-z]{22}", each) for each in ids)


@pytest.mark.parametrize("code", [0, 7, 404, 500, 999_999_999, 1_000_000_000, MAX_ERROR_CODE])
def test_errors_come_back_as_they_were_sent(code):
    error = service_error(b"data", error_headers(code, "not found ✓", {"X": ["1", "2"]}))
    assert isinstance(error, ServiceError)
    assert (error.code, error.description, error.data) == (code, "not found ✓", b"data")
    assert error.headers.get_all("x") == ["1", "2"]


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
        ("a\ud800b", "a?b"),
        (" a ", "a"),
        ("\0", "unknown error"),
    ],
)
def test_descriptions_are_made_fit_to_travel(description, sent):
    assert error_headers(500, description)["Nats-Service-Error"] == sent


@settings(derandomize=True, database=None, deadline=None)
@given(st.integers(0, MAX_ERROR_CODE), st.text(st.characters(exclude_categories=())).filter(str.strip))
def test_any_allowed_error_reaches_its_reader(code, description):
    headers = error_headers(code, description)
    assert headers.encode().count(b"\r\n") == 4
    error = service_error(b"", headers)
    assert error.code == code
    assert error.description


@pytest.mark.parametrize(("code", "description"), [("5\r\n", "x"), (-1, "x"), (True, "x"), (500, ""), (500, None)])
def test_error_headers_refuse_what_no_error_may_have(code, description):
    with pytest.raises(ConfigError):
        error_headers(code, description)


def test_a_good_reply_carries_no_error():
    assert service_error(b"", Headers()) is None
    assert service_error(b"", Headers({"X": "y"})) is None


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
    error = service_error(b"", Headers.from_wire(headers.items()))
    assert (error.code, error.description) == (code, description)


@settings(derandomize=True, database=None, deadline=None)
@given(st.text(), st.text())
def test_any_error_headers_can_be_read(code, description):
    headers = Headers.from_wire([("Nats-Service-Error-Code", code), ("Nats-Service-Error", description)])
    assert isinstance(service_error(b"", headers), ServiceError)


FORBIDDEN = adr32.forbidden_reply_prefixes("my.srv")


@pytest.mark.parametrize("reply", ["a", "_INBOX.x.1", "$SRV", "$SRVX.a", "my.srvx", "$KV.a", "my.other"])
def test_plain_subjects_are_answerable(reply):
    assert adr32.is_answerable(reply, FORBIDDEN)


@pytest.mark.parametrize(
    "reply",
    [
        "$SRV.PING",
        "$SRV.",
        "$SYS.REQ",
        "$JS.API.x",
        "my.srv.PING",
        "*",
        ">",
        "a.*",
        "a.>",
        "a*",
        ".a",
        "a.",
        ".",
        "a..b",
    ],
)
def test_control_subjects_and_broken_subjects_are_not_answerable(reply):
    assert not adr32.is_answerable(reply, FORBIDDEN)
