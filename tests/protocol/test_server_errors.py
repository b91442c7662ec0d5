"""What a server's complaints mean."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natsery import AuthorizationError, NatseryError, PublishDeniedError, ServerError
from natsery._protocol._server_errors import (
    DeniedSubscription,
    denied_subscription,
    is_too_many_subscriptions,
    server_error,
)

DENIED = "Permissions Violation for Subscription to "


@pytest.mark.parametrize(
    ("text", "denied"),
    [
        ('"a.b"', ("a.b", "", b"")),
        ('"a.>" using queue "q"', ("a.>", "q", b"")),
        ('"a" (sid "7")', ("a", "", b"7")),
        ('"a" using queue "q" (sid "12")', ("a", "q", b"12")),
        ('"a" (sid 7)', ("a", "", b"7")),  # before 2.0.0
        ('"a.b.c.d", too many tokens', ("a.b.c.d", "", b"")),
        ('"é.😀"', ("é.😀", "", b"")),
        # As Go's %q writes them
        (r'"a\"b"', ('a"b', "", b"")),
        (r'"a\"b" using queue "q\"\\" (sid "3")', ('a"b', 'q"\\', b"3")),
        (r'"a\\"', ("a\\", "", b"")),
        (r'"a\\n"', ("a\\n", "", b"")),
        (r'"\u200b\U000e0001\x01"', ("\u200b\U000e0001\x01", "", b"")),
        (r'"\a\b\f\n\r\t\v"', ("\a\b\f\n\r\t\v", "", b"")),
        (r'"\" using queue \"x"', ('" using queue "x', "", b"")),
        # Not as Go writes anything
        (r'"\q\ud800\U99999999"', (r"\q\ud800\U99999999", "", b"")),
    ],
)
def test_denied_subscriptions(text, denied):
    """A subject with a quote or a backslash in it was not recognized, so its subscription waited in vain."""
    assert denied_subscription(DENIED + text) == DeniedSubscription(*denied)
    assert denied_subscription((DENIED + text).replace(DENIED, DENIED.lower())) == DeniedSubscription(*denied)


@pytest.mark.parametrize("text", ["", DENIED, DENIED + "a", DENIED + '"a', 'Permissions Violation for Publish to "a"'])
def test_what_is_about_no_subscription(text):
    assert denied_subscription(text) is None


@pytest.mark.parametrize(
    ("text", "subject"),
    [
        ('Permissions Violation for Publish to "a.b"', "a.b"),
        ('permissions violation for publish to "a"', "a"),
        ('Permissions Violation for Publish with Reply of "_INBOX.x"', "_INBOX.x"),
        (r'Permissions Violation for Publish to "a\"\\"', 'a"\\'),
        ('Permissions Violation for Publish to "authorization violation"', "authorization violation"),
    ],
)
def test_denied_publishing(text, subject):
    error = server_error(text)
    assert isinstance(error, PublishDeniedError)
    assert error.subject == subject


@pytest.mark.parametrize(
    "text",
    [
        "Authorization Violation",
        "User Authentication Expired",
        "User Authentication Revoked",
        "Account Authentication Expired",
        "Authentication Expired",
        "authorization violation",
    ],
)
def test_refused_credentials(text):
    error = server_error(text)
    assert isinstance(error, AuthorizationError)
    assert error.text == text


@pytest.mark.parametrize(
    "text",
    [
        *("", "Unknown Protocol Operation", "Attempted To Connect To Route Port", "Secure Connection - TLS Required"),
        *(
            "Maximum Connections Exceeded",
            "maximum connections exceeded",
            "maximum account active connections exceeded",
        ),
        *(
            "Stale Connection",
            "Slow Consumer",
            "Maximum Payload Violation",
            "maximum control line exceeded",
            "Parser Error",
        ),
        *("Invalid Subject", "Invalid Publish Subject", "Invalid Client Protocol", "Message Headers Not Supported"),
        *(
            "No Responders Requires Headers Support",
            # CONNECT came too late; the credentials were not looked at, and may be good the next time.
            "Authentication Timeout",
            "Authorization Timeout",
            "Attempted To Connect To Leaf Node Port",
            "Connection Throttling Is Active",
        ),
    ],
)
def test_other_complaints(text):
    error = server_error(text)
    assert isinstance(error, ServerError)
    assert error.text == text
    assert not is_too_many_subscriptions(text)
    assert denied_subscription(text) is None


def test_too_many_subscriptions():
    assert is_too_many_subscriptions("maximum subscriptions exceeded")
    assert is_too_many_subscriptions("Maximum Subscriptions Exceeded")


@given(st.text(), st.sampled_from(["", DENIED, DENIED + '"', 'Permissions Violation for Publish to "']))
def test_any_text_has_a_meaning(text, start):
    assert isinstance(server_error(start + text), NatseryError)
    denied_subscription(start + text)


@given(st.text().map(lambda text: text.replace("\r", "").replace("\n", "")))
def test_quoted_subjects_are_read_again(subject):
    quoted = subject.replace("\\", "\\\\").replace('"', '\\"')
    assert denied_subscription(f'{DENIED}"{quoted}" (sid "5")') == (subject, "", b"5")


def test_endless_texts_are_looked_through_at_once():
    for text in [DENIED * 2000, DENIED + '"' + "\\" * 60_001, DENIED + '"' + 'a" using queue "' * 4000]:
        denied_subscription(text)
        server_error(text)
