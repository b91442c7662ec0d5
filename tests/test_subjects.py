"""Subjects and queue groups: what may be one, what a pattern matches, which reply subjects are answered."""

from __future__ import annotations

import pytest

from natsery._checks import WrongType
from natsery._subjects import (
    SERVER_INBOXES,
    forbidden_reply_prefixes,
    is_answerable,
    literal_subject_rule,
    prefix_rule,
    queue_group_rule,
    subject_rule,
    tokens_of_wildcards,
)

NO_TEXT = [None, 5, b"a", ["a"]]


def refused(rule, value):
    """Whether a rule refuses a value, and says so as an error of type for what is not text."""
    wrong = rule(value)
    return bool(wrong) and isinstance(wrong, WrongType) == (not isinstance(value, str))


@pytest.mark.parametrize(
    "subject", ["a", "a.b", "*", ">", "a.*", "a.*.b", "a.>", "*.*.>", "$x", "é.ü", "😀", "a-b_c/d", "٣"]
)
def test_good_subjects_are_taken(subject):
    assert subject_rule(subject) is None


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
    assert refused(subject_rule, subject)
    assert refused(literal_subject_rule, subject)


@pytest.mark.parametrize("subject", ["*", ">", "a.*", "a.>", "a*"])
def test_wildcards_are_refused_where_none_may_be(subject):
    assert literal_subject_rule(subject) == "must not contain a wildcard"


@pytest.mark.parametrize("name", ["", "a", "a.b", "*", "a.*.b", "é"])
def test_good_group_names_are_taken(name):
    assert prefix_rule(name) is None


@pytest.mark.parametrize("name", [">", "a.>", "a>", *BAD_SUBJECTS[1:]])
def test_bad_group_names_are_refused(name):
    assert refused(prefix_rule, name)


@pytest.mark.parametrize("name", ["q", "a.b", "é", "😀", "a-b"])
def test_good_queue_groups_are_taken(name):
    assert queue_group_rule(name) is None


@pytest.mark.parametrize("name", ["", " ", "a b", "q\n", "q\t", "q\0", "q\u2003", "\ud800", *NO_TEXT[1:]])
def test_bad_queue_groups_are_refused(name):
    assert refused(queue_group_rule, name)


FORBIDDEN = forbidden_reply_prefixes("my.srv")


@pytest.mark.parametrize(
    "reply", ["a", "_INBOX.x.1", "$SRV", "$SRVX.a", "my.srvx", "$KVX.a", "my.other", "x" * 4056, "é" * 2028]
)
def test_plain_subjects_are_answerable(reply):
    assert is_answerable(reply, FORBIDDEN, 4056)


@pytest.mark.parametrize(
    "reply",
    [
        "$SRV.PING",
        "$SRV.",
        "$SYS.REQ",
        "$SYS._INBOX.x",
        "$JS.API.x",
        "$KV.users.admin",
        "$O.files.M.x",
        "$MQTT.sess.x",
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
        "x" * 4057,
        "é" * 2029,
    ],
)
def test_reserved_subjects_and_broken_subjects_are_not_answerable(reply):
    assert not is_answerable(reply, FORBIDDEN, 4056)


def test_exceptions_are_answerable_unless_they_are_broken():
    excepted = (SERVER_INBOXES, "$JS.ACK.")
    for reply in ("$SYS._INBOX.x.1", "$JS.ACK.orders.1"):
        assert is_answerable(reply, FORBIDDEN, 4056, excepted)
    for reply in (
        "$SYS._INBOXES.x",
        "$SYS.REQ.x",
        "$JS.ACK",
        "$JS.ACKS.x",
        "$JS.ACK.*",
        "$JS.ACK.",
        "$JS.ACK." + "x" * 4056,
    ):
        assert not is_answerable(reply, FORBIDDEN, 4056, excepted)


@pytest.mark.parametrize(
    ("pattern", "subject", "tokens"),
    [("a.b", "a.b", ()), ("a.*", "a.1", ("1",)), ("*.b.>", "1.b.2.3", ("1", "2", "3")), (">", "a.b", ("a", "b"))],
)
def test_the_tokens_that_wildcards_stand_for(pattern, subject, tokens):
    assert tokens_of_wildcards(pattern, subject) == tokens
