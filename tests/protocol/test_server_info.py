"""INFO, read."""

from __future__ import annotations

import dataclasses
import json
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natsery import ProtocolError
from natsery._protocol._server_info import ServerInfo, read_info

from .. import corpus
from .streams import recorded

RECORDED = recorded("INFO")

# As a server of version 2.11 sends it.
REAL = {
    "server_id": "NAKXWF3D2EJPSBLUPQ6CKZ6RV7QYQXTHE5TI5LRJ3MLHJZ7TNVYBQ3YS",
    "server_name": "n1",
    "version": "2.11.4",
    "proto": 1,
    "git_commit": "d78523b",
    "go": "go1.24.3",
    "host": "0.0.0.0",
    "port": 4222,
    "headers": True,
    "auth_required": True,
    "tls_required": True,
    "tls_available": True,
    "max_payload": 2_000_000,
    "jetstream": True,
    "client_id": 5,
    "client_ip": "127.0.0.1",
    "nonce": "k5ZMJXdRv6VzGxs",
    "cluster": "c1",
    "domain": "hub",
    "connect_urls": ["10.0.0.1:4222", "[fe80::1]:4222"],
    "ldm": True,
    "xkey": "XC",
}
WANTED = ServerInfo(
    server_id=REAL["server_id"],
    server_name="n1",
    version="2.11.4",
    cluster="c1",
    domain="hub",
    host="0.0.0.0",
    port=4222,
    client_id=5,
    client_ip="127.0.0.1",
    max_payload=2_000_000,
    headers=True,
    jetstream=True,
    auth_required=True,
    tls_required=True,
    tls_available=True,
    connect_urls=("10.0.0.1:4222", "[fe80::1]:4222"),
    lame_duck=True,
    nonce="k5ZMJXdRv6VzGxs",
)
KEYS = {"lame_duck": "ldm"}
FIELDS = [field.name for field in dataclasses.fields(ServerInfo)]


def read(fields):
    return read_info(json.dumps(fields).encode())


def test_every_field_of_a_real_server_is_read():
    assert read(REAL) == WANTED
    assert all(getattr(WANTED, name) != getattr(ServerInfo(), name) for name in FIELDS)


def test_what_is_left_out_has_a_default():
    assert read({}) == ServerInfo()


def test_the_nonce_is_not_shown():
    assert "k5ZMJXdRv6VzGxs" not in repr(WANTED)


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("value", [None, 1.5, {}, {"a": 1}, [[]], [None, 5], "wrong", 1, True, float("nan")])
def test_a_field_of_another_type_counts_as_left_out(name, value):
    default = getattr(ServerInfo(), name)
    info = read({KEYS.get(name, name): value})
    if type(value) is type(default):
        assert getattr(info, name) == value
    else:
        assert info == ServerInfo()


def test_only_texts_are_servers():
    assert read({"connect_urls": ["a:1", 5, None, "b:2", ["c:3"]]}).connect_urls == ("a:1", "b:2")


@pytest.mark.parametrize(("value", "limit"), [(0, 0), (-1, 0), (2**70, sys.maxsize)])
def test_max_payload_is_not_negative_and_no_more_than_a_machine_can_count(value, limit):
    assert read({"max_payload": value}).max_payload == limit


NOT_OBJECTS = [
    *(b"", b" ", b"{", b"{}x", b"{'a': 1}", b"nonsense", b"\xff", b'{"server_id": "\xff"}', b"{} {}"),
    *(b"[]", b"null", b"5", b'"INFO"', b"true", b"NaN"),
    *(b"[" * 100_000, b'{"a":' * 100_000, b'{"port":' + b"9" * 5000 + b"}"),
]


@pytest.mark.parametrize("text", NOT_OBJECTS, ids=range(len(NOT_OBJECTS)))
def test_what_is_no_json_object_is_no_protocol(text):
    with pytest.raises(ProtocolError, match="INFO is not"):
        read_info(text)


def test_unicode_is_kept():
    assert read_info('{"server_name": "é😀"}'.encode()).server_name == "é😀"
    assert read_info(b'{"server_name": "\\u00e9\\ud83d\\ude00"}').server_name == "é😀"


@pytest.mark.parametrize("name", ["server_name", "nonce"])
def test_half_a_character_is_a_question_mark(name):
    """A nonce of half a character raised UnicodeEncodeError out of the handshake when it was signed."""
    assert getattr(read_info(b'{"%b": "a\\ud800"}' % name.encode()), name) == "a?"
    assert getattr(read_info(b'{"%b": "a\xed\xa0\x80"}' % name.encode()), name) == "a?"
    assert read_info(b'{"connect_urls": ["\\ud800:1"]}').connect_urls == ("?:1",)


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text()),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner)),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from([*REAL, "other"]), json_values))
def test_any_values_are_read(fields):
    info = read(fields)
    for field in dataclasses.fields(ServerInfo):
        assert type(getattr(info, field.name)) is type(getattr(ServerInfo(), field.name))


@pytest.mark.parametrize("text", RECORDED, ids=range(len(RECORDED)))
def test_what_servers_have_sent_is_read(text):
    info = read_info(text)
    sent = json.loads(text)
    assert (info.server_id, info.version, info.max_payload) == (sent["server_id"], sent["version"], sent["max_payload"])
    assert info.nonce == sent.get("nonce", "")


@given(corpus.damaged(RECORDED, corpus.JSON_WORDS))
def test_damaged_recordings_are_info_or_a_protocol_error(text):
    try:
        info = read_info(text)
    except ProtocolError:
        return
    for field in dataclasses.fields(ServerInfo):
        assert type(getattr(info, field.name)) is type(getattr(ServerInfo(), field.name))


@given(st.binary())
def test_any_bytes_are_info_or_a_protocol_error(text):
    try:
        assert isinstance(read_info(text), ServerInfo)
    except ProtocolError:
        pass
