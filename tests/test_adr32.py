"""ADR-32's names, versions, metadata and control subjects."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natsery import ConfigError, Verb, control_subject
from natsery import _adr32 as adr32
from natsery._checks import WrongType


def refused(rule, value):
    """Whether a rule refuses a value, and says so as an error of type for what is not text."""
    wrong = rule(value)
    return bool(wrong) and isinstance(wrong, WrongType) == (not isinstance(value, str))


NO_TEXT = [None, 5, b"a", ["a"]]


@pytest.mark.parametrize("name", ["a", "Z", "0", "-", "_", "a-b_C9", "x" * 500])
def test_good_names_are_taken(name):
    assert adr32.name_rule(name) is None


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
    assert refused(adr32.name_rule, name)


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
    assert adr32.version_rule(version) is None


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
    assert refused(adr32.version_rule, version)


@pytest.mark.parametrize("identity", ["a.b", "*", ">", "", "a b", "a\n", None])
def test_bad_instance_ids_are_refused(identity):
    assert refused(adr32.instance_id_rule, identity)


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
    with pytest.raises(ConfigError, match=r"^f: must be a mapping"):
        adr32.check_metadata("f", metadata)


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


@given(st.text())
def test_accepted_names_are_plain_ascii_tokens(text):
    if adr32.name_rule(text) is None:
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
    with pytest.raises(ValueError, match=f"^{field}: "):
        control_subject(*arguments, **options)


def test_control_subjects_are_made_of_text():
    with pytest.raises(TypeError, match=r"^name: "):
        control_subject("PING", 5)
