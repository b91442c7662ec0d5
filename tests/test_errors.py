"""The errors: what they hold, how they read, and that they can be copied."""

from __future__ import annotations

import copy
import pickle

import pytest

import natsery

ERRORS = [
    natsery.ConfigError("ServiceConfig.name", "a b", "must be good"),
    natsery.ServiceError(404, "not found", data=b"x", headers={"A": "1"}),
    natsery.ConnectionClosedError(),
    natsery.SubscriptionDeniedError("a.b", "q", endpoint="add"),
    natsery.PublishDeniedError("a.b"),
    natsery.MaxPayloadError(10, 5),
    natsery.OutboundBufferError(),
    natsery.NoReplySubjectError("a.b"),
    natsery.NoRespondersError("a.b"),
    natsery.SlowConsumerError("a.b", 3),
    natsery.MalformedRequestError("a.b", "why"),
    natsery.MalformedReplyError("why"),
    natsery.EndpointOverloadedError("add", "full"),
    natsery.DecodeError("$.a[2]", "must be an int, got 'x'"),
    natsery.ServiceStoppedError(),
    natsery.BackendMismatchError("why"),
]
IDS = [type(error).__name__ for error in ERRORS]


@pytest.mark.parametrize("error", ERRORS, ids=IDS)
def test_every_error_is_a_natsery_error_with_a_text(error):
    assert isinstance(error, natsery.NatseryError)
    assert str(error)


@pytest.mark.parametrize(
    "duplicate", [copy.copy, lambda error: pickle.loads(pickle.dumps(error))], ids=["copy", "pickle"]
)
@pytest.mark.parametrize("error", ERRORS, ids=IDS)
def test_every_error_survives_being_copied(error, duplicate):
    twin = duplicate(error)
    assert type(twin) is type(error)
    assert str(twin) == str(error)
    assert vars(twin) == vars(error)


def test_a_config_error_names_field_and_value():
    error = natsery.ConfigError("ServiceConfig.name", "a b", "must be good")
    assert isinstance(error, ValueError)
    assert (error.field, error.value, error.reason) == ("ServiceConfig.name", "a b", "must be good")
    assert str(error) == "ServiceConfig.name: must be good; got 'a b'"


def test_a_config_error_shortens_a_long_value():
    text = str(natsery.ConfigError("f", "x" * 10_000, "bad"))
    assert len(text) < 300
    assert "10002 characters" in text


@pytest.mark.parametrize("data", ["text", None, bytearray(b"x")])
def test_error_data_must_be_bytes(data):
    with pytest.raises(TypeError, match=r"^data: must be bytes"):
        natsery.ServiceError(500, "text", data=data)


def test_a_service_error_reads_as_code_and_description():
    assert str(natsery.ServiceError(404, "not found")) == "404:not found"


def test_a_denied_subscription_names_what_it_concerns():
    text = str(natsery.SubscriptionDeniedError("a.b", "workers", endpoint="add"))
    assert "'a.b'" in text
    assert "'workers'" in text
    assert "'add'" in text
    assert "queue group" not in str(natsery.SubscriptionDeniedError("a.b"))


def test_a_denied_inbox_says_how_to_have_another_one() -> None:
    """The error named a subject that nobody had written, and not the option that chooses it."""
    hint = "check this user's permissions, or connect with an inbox_prefix (--inbox-prefix) that they allow"
    assert (
        str(natsery.SubscriptionDeniedError("_INBOX.a.*")) == f"the server denies subscribing to '_INBOX.a.*'; {hint}"
    )
    for error in (
        natsery.SubscriptionDeniedError("_INBOX_web.a.*"),
        natsery.SubscriptionDeniedError("_INBOX.a", endpoint="add"),
    ):
        assert str(error).endswith("check this user's permissions")


def test_a_failure_to_connect_names_each_server_once():
    """The URL was there twice if the reason named it, too."""
    server = "nats://127.0.0.1:4222"
    failures = [
        (server, ConnectionRefusedError(111, "refused")),
        ("tls://b", natsery.SecureConnectionError("TLS with tls://b failed")),
    ]
    text = str(natsery.ConnectError(failures))
    assert text == "cannot connect to NATS (nats://127.0.0.1:4222: refused; TLS with tls://b failed)"
    assert str(natsery.ConnectError([(server, TimeoutError())])) == f"cannot connect to NATS ({server}: TimeoutError)"


def test_refused_credentials_say_where_if_it_is_known():
    assert str(natsery.AuthorizationError("No", "nats://a:1")) == "nats://a:1 refuses the credentials: No"
    assert str(natsery.AuthorizationError("No")) == "the server refuses the credentials: No"


def test_publish_errors_share_a_base():
    for kind in (natsery.MaxPayloadError, natsery.OutboundBufferError, natsery.NoReplySubjectError):
        assert issubclass(kind, natsery.PublishError)


def test_denials_share_a_base():
    for kind in (natsery.PublishDeniedError, natsery.SubscriptionDeniedError):
        assert issubclass(kind, natsery.PermissionDeniedError)


@pytest.mark.parametrize(
    "error",
    [
        natsery.ServiceError(404, "no\nWARNING forged \x1b[2J\u2028é"),
        natsery.ServerError("no\nWARNING forged \x1b[2J\u2028é"),
        natsery.AuthorizationError("no\nWARNING forged \x1b[2J\u2028é"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_received_text_cannot_forge_or_garble_a_log(error):
    assert str(error).endswith(r"no\nWARNING forged \x1b[2J\u2028é")
