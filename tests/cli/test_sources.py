"""Options, environment and context, and what counts where they differ."""

from __future__ import annotations

from typing import Any

import pytest

import natsery
from natsery._cli._connection_options._sources import Source, context_source, environment_source, merge, options_source
from natsery._cli._exit_codes import CommandError, Exit

WHERE = "the context 'c.json'"


def sources(
    options: dict[str, Any] | None = None,
    environment: dict[str, str] | None = None,
    context: dict[str, Any] | None = None,
) -> list[Source]:
    return [
        options_source(options or {}),
        environment_source(environment or {}),
        context_source(context or {}, WHERE),
    ]


def merged(*given: dict[str, Any] | None) -> dict[str, Any]:
    return merge(sources(*given))


def refused(*given: dict[str, Any] | None) -> str:
    with pytest.raises(CommandError) as caught:
        merged(*given)
    assert caught.value.exit_code == Exit.USAGE
    assert "secret" not in caught.value.message
    return caught.value.message


def broken(*given: dict[str, Any] | None) -> str:
    with pytest.raises(natsery.ConfigError) as caught:
        merged(*given)
    return str(caught.value)


@pytest.mark.parametrize(
    ("key", "variable", "context", "value"),
    [
        ("servers", "NATS_URL", "url", "nats://{}"),
        ("tls_ca", "NATS_CA", "ca", "{}.pem"),
        ("inbox_prefix", "NATSERY_INBOX_PREFIX", "inbox_prefix", "_{}"),
        ("prefix", "NATSERY_PREFIX", "", "${}"),
        ("token", "NATS_TOKEN", "token", "{}"),
        ("credentials", "NATS_CREDS", "creds", "{}.creds"),
        ("nkey", "NATS_NKEY", "nkey", "{}.nk"),
        ("tls_cert", "NATS_CERT", "cert", "{}.pem"),
    ],
)
def test_options_go_before_the_environment_and_that_before_the_context(
    key: str, variable: str, context: str, value: str
) -> None:
    def expected(which: str) -> dict[str, Any]:
        text = value.format(which)
        return {key: (text,) if key == "servers" else text}

    option = {key: (value.format("o"),) if key == "servers" else value.format("o")}
    in_environment = {variable: value.format("e")}
    in_context = {context: value.format("c")} if context else {}
    assert merged(option, in_environment, in_context) == expected("o")
    assert merged(None, in_environment, in_context) == expected("e")
    if context:
        assert merged(None, None, in_context) == expected("c")
        # As scripts do that pass on a variable that nobody has set.
        assert merged({key: ""}, {variable: ""}, in_context) == expected("c")
    assert merged() == {}


def test_what_has_no_say_leaves_the_rest_alone() -> None:
    assert merged({"tls": False, "servers": (), "tls_first": False}, None, {"tls_first": True}) == {"tls_first": True}


def test_switches_and_numbers_in_the_environment() -> None:
    assert merged(None, {"NATSERY_TLS": "1", "NATSERY_TLS_FIRST": "True"}) == {"tls": True, "tls_first": True}
    assert merged(None, {"NATSERY_TLS": "0"}) == {}
    assert merged(None, {"NATSERY_CONNECT_TIMEOUT": "0.25"}) == {"connect_timeout": 0.25}
    assert broken(None, {"NATSERY_TLS": "maybe"}) == "NATSERY_TLS: must be 1 or 0; got 'maybe'"
    assert broken(None, {"NATSERY_CONNECT_TIMEOUT": "x"}) == "NATSERY_CONNECT_TIMEOUT: must be a number; got 'x'"


def test_several_servers() -> None:
    assert merged({"servers": ("nats://a, nats://b", "c:1,")}) == {"servers": ("nats://a", "nats://b", "c:1")}
    assert merged(None, {"NATS_URL": "nats://a,b"}) == {"servers": ("nats://a", "b")}
    assert merged({"servers": ("",)}, {"NATS_URL": "a"}) == {"servers": ("a",)}


def test_what_breaks_a_rule_is_named_as_it_was_given() -> None:
    assert broken({"prefix": "a.*"}) == "--prefix: must not contain a wildcard; got 'a.*'"
    assert broken({"inbox_prefix": "a..b"}).startswith("--inbox-prefix: must not contain an empty token")


# Logging in

USER = {"user": "u", "password": "p"}


@pytest.mark.parametrize("login", [{"token": "t"}, {"credentials": "c"}, {"nkey": "n"}, {"user": "v", "password": "w"}])
@pytest.mark.parametrize(
    "context", [USER, {"creds": "cc"}, {"nkey": "cn"}, {"token": "ct"}, {"nsc": "x"}, {"user_jwt": "x"}]
)
def test_another_way_to_log_in_replaces_that_of_the_context(login: dict[str, str], context: dict[str, str]) -> None:
    """The nats command would send both, or keep to the context's."""
    assert merged(login, None, context) == login


def test_a_server_keeps_the_login_of_the_context() -> None:
    context = {**USER, "url": "nats://c"}
    assert merged({"servers": ("a",)}, None, context) == {"servers": ("a",), **USER}


def test_a_login_in_a_url_replaces_one_of_less_weight() -> None:
    url = ("nats://v:w@a",)
    assert merged({"servers": url}, {"NATS_TOKEN": "t"}, USER) == {"servers": url}
    assert merged({"servers": ("nats://t@a",)}, None, {"creds": "c"}) == {"servers": ("nats://t@a",)}
    assert merged({"token": "t"}, {"NATS_URL": url[0]}) == {"servers": url, "token": "t"}
    assert merged({"token": "t", "servers": url}) == {"servers": url, "token": "t"}


def test_a_password_may_come_from_elsewhere() -> None:
    assert merged({"user": "u"}, {"NATS_PASSWORD": "p"}) == USER
    assert merged({"user": "u"}, {"NATS_PASSWORD": "p"}, {"user": "v", "password": "w"}) == USER
    assert merged({"user": "u"}, None, {"password": "p"}) == USER
    assert merged({"password": "p"}, {"NATS_USER": "u"}) == USER
    assert merged({"password": "p"}, None, {"user": "u", "password": "w"}) == USER
    assert merged(None, {"NATS_PASSWORD": "p"}, {"user": "u"}) == USER


def test_a_password_of_another_user_is_not_taken() -> None:
    assert merged({"user": "u"}, {"NATS_USER": "v", "NATS_PASSWORD": "w"}) == {"token": "u"}
    assert merged({"user": "u"}, None, {"user": "v", "password": "w"}) == {"token": "u"}


def test_a_user_alone_is_a_token_as_for_the_nats_command() -> None:
    assert merged({"user": "t"}) == {"token": "t"}
    assert merged(None, {"NATS_USER": "t"}) == {"token": "t"}
    assert refused(None, None, {"user": "u"}) == f"user of {WHERE}: has no password beside it"


def test_a_password_for_nobody() -> None:
    assert refused({"password": "secret"}) == "--password needs --user"
    assert refused({"password": "secret"}, None, {"creds": "c"}) == "--password needs --user"
    assert merged(None, {"NATS_PASSWORD": "p"}) == {}
    assert merged(None, {"NATS_PASSWORD": "p"}, {"creds": "c"}) == {"credentials": "c"}


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({**USER, "token": "secret"}, "--user and --token cannot be given together"),
        ({"user": "secret", "token": "secret"}, "--user and --token cannot be given together"),
        ({"password": "secret", "token": "secret"}, "--password and --token cannot be given together"),
        ({"credentials": "c", "nkey": "n"}, "--creds and --nkey cannot be given together"),
        ({"credentials": "c", "token": "secret"}, "--creds and --token cannot be given together"),
    ],
)
def test_two_ways_to_log_in(options: dict[str, str], text: str) -> None:
    assert refused(options) == text


def test_two_ways_to_log_in_by_the_environment() -> None:
    environment = {"NATS_NKEY": "n", "NATS_TOKEN": "secret"}
    assert refused(None, environment) == "NATS_NKEY and NATS_TOKEN cannot be given together"
    assert merged({"token": "t"}, environment) == {"token": "t"}


@pytest.mark.parametrize(
    ("context", "login"),
    [
        ({**USER, "creds": "c", "token": "t"}, USER),
        ({"creds": "c", "nkey": "n", "token": "t", "user_jwt": "j"}, {"credentials": "c"}),
        ({"nkey": "n", "token": "t", "user_jwt": "j"}, {"nkey": "n"}),
        ({"password": "p", "token": "t"}, {"token": "t"}),
    ],
)
def test_a_context_with_several_ways_means_the_one_that_the_nats_command_takes(
    context: dict[str, str], login: dict[str, str]
) -> None:
    assert merged(None, None, context) == login


# What is not supported


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("nsc", "looking credentials up with nsc is not supported; a credentials file is"),
        ("user_jwt", "a JWT on its own is not supported; a credentials file is"),
        ("socks_proxy", "connecting through a SOCKS proxy is not supported"),
        ("windows_cert_store", "certificates from Windows' store are not supported; files are"),
    ],
)
def test_what_is_not_supported_is_named(field: str, text: str) -> None:
    assert refused(None, None, {field: "secret"}) == f"{field} of {WHERE}: {text}"


def test_variables_of_the_nats_command_that_are_not_supported() -> None:
    assert refused(None, {"NATS_JWT": "secret"}).startswith("NATS_JWT: a JWT on its own")
    assert refused(None, {"NATS_SOCKS_PROXY": "secret"}) == (
        "NATS_SOCKS_PROXY: connecting through a SOCKS proxy is not supported"
    )


def test_a_proxy_of_the_context_can_be_taken_back() -> None:
    for none in ("none", "NONE", "-"):
        assert merged(None, {"NATS_SOCKS_PROXY": none}, {"socks_proxy": "socks5://p"}) == {}


# Certificates


def test_a_certificate_and_its_key_come_together() -> None:
    context = {"cert": "c.pem", "key": "k.pem"}
    assert merged(None, None, context) == {"tls_cert": "c.pem", "tls_key": "k.pem"}
    assert merged({"tls_cert": "o.pem"}, None, context) == {"tls_cert": "o.pem"}
    assert refused({"tls_key": "o.pem"}, None, context) == "--tls-key needs --tls-cert"
    assert refused(None, {"NATS_KEY": "k"}) == "NATS_KEY needs NATS_CERT"


def test_secrets_are_not_in_the_repr() -> None:
    assert "secret" not in repr(
        sources({"password": "secret", "user": "u"}, {"NATS_TOKEN": "secret"}, {"url": "secret@a"})
    )
