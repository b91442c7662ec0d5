"""The options of a native connection."""

from __future__ import annotations

import math
import ssl
from pathlib import Path

import pytest

from natsery import ConfigError
from natsery._native._options import Options
from natsery._protocol._addresses import Address

SECRET = "SUAIO3FHUX5PNV2LQIIP7TZ3N4L7TX3W53MQGEIVYFIGA635OZCKEYHFLM"
NKEY = "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4"


def make(**options):
    return Options(addresses=(Address("h"),), **options)


def give():
    return SECRET


def sign(nonce):
    return nonce


def refused(field, **options):
    with pytest.raises(ConfigError) as caught:
        make(**options)
    assert caught.value.field == field
    assert SECRET not in str(caught.value) + repr(caught.value)
    return caught.value


def test_the_defaults_are_good():
    options = make()
    assert (options.tls, options.reconnect, options.ping_interval) == (False, True, 30.0)


@pytest.mark.parametrize(
    "options",
    [
        {"name": "a b é"},
        {"user": "me", "password": SECRET},
        {"user": give, "password": give},
        {"token": SECRET},
        {"token": give},
        {"credentials": "x.creds"},
        {"credentials": Path("x.creds")},
        {"credentials": give},
        {"nkey_seed": SECRET},
        {"nkey_seed": Path("x.nk")},
        {"nkey": NKEY, "sign": sign},
        {"jwt": "eyJ", "sign": sign},
        {"nkey": NKEY, "jwt": give, "sign": sign},
        {"tls": True},
        {"tls": ssl.create_default_context(), "tls_hostname": "h", "tls_first": True},
        {"inbox_prefix": "_INBOX.me"},
        {"connect_timeout": math.inf, "ping_interval": math.inf, "credentials_grace": math.inf},
        {"connect_timeout": 1, "credentials_grace": 0, "reconnect_wait": 0.001, "max_reconnect_wait": 1},
        {"max_reconnect_rounds": 1, "max_outstanding_pings": 1, "max_pending_bytes": 1, "max_control_line": 1},
    ],
    ids=lambda options: "-".join(options),
)
def test_good_options_are_taken(options):
    made = make(**options)
    for name, value in options.items():
        assert getattr(made, name) is value


@pytest.mark.parametrize("field", ["name", "tls_hostname"])
@pytest.mark.parametrize("value", ["", 5, b"a", ["a"], True])
def test_texts(field, value):
    assert refused(field, **{field: value}).value == value


SECRETS = {
    "user": {"password": "x"},
    "password": {"user": "x"},
    "token": {},
    "jwt": {"sign": sign},
    "credentials": {},
    "nkey_seed": {},
}


@pytest.mark.parametrize("field", SECRETS)
@pytest.mark.parametrize("value", ["", SECRET.encode(), [SECRET], {SECRET: 1}, 5, True, 0])
def test_secrets_of_a_wrong_kind_are_not_shown(field, value):
    error = refused(field, **{**SECRETS[field], field: value})
    assert error.value == ("an empty str" if value == "" else type(value).__name__)


@pytest.mark.parametrize("field", ["user", "password", "token", "jwt"])
def test_only_files_are_paths(field):
    assert refused(field, **{**SECRETS[field], field: Path(SECRET)}).value == type(Path()).__name__


@pytest.mark.parametrize("value", [SECRET, SECRET.encode(), 5, [sign]])
def test_what_cannot_sign_is_not_shown(value):
    """A seed given as ``sign`` by mistake was shown in the error."""
    assert refused("sign", nkey=NKEY, sign=value).value == type(value).__name__


def test_what_belongs_together_is_given_together():
    assert "user" in refused("password", user="me").reason
    assert "password" in refused("user", password=SECRET).reason
    assert "nkey" in refused("sign", nkey=NKEY).reason
    assert "jwt" in refused("sign", jwt=SECRET).reason
    assert "jwt" in refused("sign", sign=sign).reason


WAYS = {
    "user": {"user": "me", "password": SECRET},
    "token": {"token": SECRET},
    "credentials": {"credentials": SECRET},
    "nkey_seed": {"nkey_seed": SECRET},
    "sign": {"nkey": NKEY, "sign": sign},
}


@pytest.mark.parametrize("one", WAYS)
@pytest.mark.parametrize("other", WAYS)
def test_there_is_one_way_to_authenticate(one, other):
    if one == other:
        make(**WAYS[one])
        return
    first, second = sorted((one, other), key=list(WAYS).index)
    assert first in refused(second, **WAYS[one], **WAYS[other]).reason


@pytest.mark.parametrize("value", [SECRET, "", "x", 5, NKEY.lower(), NKEY.encode()])
def test_a_public_key_begins_with_u(value):
    error = refused("nkey", nkey=value, sign=sign)
    assert error.value == "…"
    assert ("nkey_seed" in error.reason) is (value == SECRET)


@pytest.mark.parametrize("value", [None, 0, 1, "true", "cert.pem", ssl.SSLContext, int])
def test_tls_is_a_context_or_a_bool(value):
    assert refused("tls", tls=value).value is value


@pytest.mark.parametrize("value", ["", ".", "a.", "a..b", "a b", "*", "a.>", "a\n", 5, None])
def test_an_inbox_prefix_is_a_subject_without_wildcards(value):
    assert refused("inbox_prefix", inbox_prefix=value).value is value


SWITCHES = ["tls_first", "echo", "verbose", "pedantic", "shuffle", "retry_first_connect", "reconnect"]


@pytest.mark.parametrize("field", SWITCHES)
@pytest.mark.parametrize("value", [None, 0, 1, "yes"])
def test_switches(field, value):
    assert refused(field, **{field: value}).value is value


SECONDS = ["connect_timeout", "ping_interval", "reconnect_wait", "max_reconnect_wait"]


@pytest.mark.parametrize("field", SECONDS)
@pytest.mark.parametrize("value", [None, 0, 0.0, -1, -0.1, math.nan, -math.inf, "1", True, 1j])
def test_seconds(field, value):
    assert refused(field, **{field: value}).value is value


@pytest.mark.parametrize("field", ["reconnect_wait", "max_reconnect_wait"])
def test_pauses_are_finite(field):
    refused(field, **{field: math.inf})


@pytest.mark.parametrize(
    "field", ["max_outstanding_pings", "max_pending_bytes", "max_control_line", "max_reconnect_rounds"]
)
@pytest.mark.parametrize("value", [0, -1, 1.0, "1", True, math.inf, math.nan])
def test_counts(field, value):
    assert refused(field, **{field: value}).value is value


@pytest.mark.parametrize("field", ["max_outstanding_pings", "max_pending_bytes", "max_control_line"])
def test_counts_that_are_needed(field):
    refused(field, **{field: None})


def test_secrets_are_not_shown():
    for options in WAYS.values():
        assert SECRET not in repr(make(**options))
    assert SECRET not in repr(make(jwt=SECRET, sign=sign))
    assert "give" not in repr(make(token=give))
