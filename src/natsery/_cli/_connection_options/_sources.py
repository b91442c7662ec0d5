"""The sources of connection settings (options, environment, context), and how they are merged."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, final

import natsery

from .._argument_checks import check_subject
from .._exit_codes import CommandError, Exit


@final
class Field(NamedTuple):
    """A setting, and its name in each source; ``""`` for a source that cannot have it."""

    key: str
    """Its name in `Settings`."""
    option: str = ""
    variable: str = ""
    context: str = ""


FIELDS: Final = (
    Field("servers", "--server", "NATS_URL", "url"),
    Field("user", "--user", "NATS_USER", "user"),
    Field("password", "--password", "NATS_PASSWORD", "password"),
    Field("token", "--token", "NATS_TOKEN", "token"),
    Field("credentials", "--creds", "NATS_CREDS", "creds"),
    Field("nkey", "--nkey", "NATS_NKEY", "nkey"),
    Field("jwt", "", "NATS_JWT", "user_jwt"),
    Field("nsc", "", "", "nsc"),
    Field("tls", "--tls", "NATSERY_TLS"),
    Field("tls_ca", "--tls-ca", "NATS_CA", "ca"),
    Field("tls_cert", "--tls-cert", "NATS_CERT", "cert"),
    Field("tls_key", "--tls-key", "NATS_KEY", "key"),
    Field("tls_first", "--tls-first", "NATSERY_TLS_FIRST", "tls_first"),
    Field("connect_timeout", "--connect-timeout", "NATSERY_CONNECT_TIMEOUT"),
    Field("inbox_prefix", "--inbox-prefix", "NATSERY_INBOX_PREFIX", "inbox_prefix"),
    Field("prefix", "--prefix", "NATSERY_PREFIX"),
    Field("socks_proxy", "", "NATS_SOCKS_PROXY", "socks_proxy"),
    Field("windows_cert_store", "", "", "windows_cert_store"),
)
"""All settings that natsery reads, with the variables of the ``nats`` command where it has one."""

_INDEPENDENT: Final = ("servers", "tls", "tls_ca", "tls_first", "connect_timeout", "inbox_prefix", "prefix")
_LOGIN_METHODS: Final = ("user", "credentials", "nsc", "nkey", "jwt", "token")
"""The order in which the ``nats`` command prefers them if a context has several."""

_UNSUPPORTED: Final = {
    "jwt": "a JWT on its own is not supported; a credentials file is",
    "nsc": "looking credentials up with nsc is not supported; a credentials file is",
    "socks_proxy": "connecting through a SOCKS proxy is not supported",
    "windows_cert_store": "certificates from Windows' store are not supported; files are",
}
_NO_PROXY: Final = ("none", "NONE", "-")
_TRUE: Final = ("1", "true", "yes", "on")
_FALSE: Final = ("0", "false", "no", "off")


@final
@dataclass(frozen=True)
class Source:
    """The settings from one source.

    Attributes:
        values: the settings that it has, by key.
        names: its name for each setting, for errors.
        is_strict: whether two login methods are an error; a context may have several.
    """

    values: Mapping[str, Any] = field(repr=False)
    names: Mapping[str, str]
    is_strict: bool = True

    @property
    def has_login_in_url(self) -> bool:
        """Whether a server's URL has a user or a token."""
        return any("@" in url for url in self.values.get("servers", ()))


def options_source(arguments: Mapping[str, Any]) -> Source:
    """Return the settings from the command line; ``None``, false and empty arguments are left out.

    Raises:
        ConfigError: a value breaks a rule; it names the option.
    """
    names = {each.key: each.option for each in FIELDS if each.option}
    return _source({key: arguments[key] for key in names if _is_given(arguments.get(key))}, names)


def environment_source(environment: Mapping[str, str]) -> Source:
    """Return the settings from environment variables; empty ones are left out.

    Raises:
        ConfigError: a value breaks a rule; it names the variable.
    """
    names = {each.key: each.variable for each in FIELDS if each.variable}
    given: dict[str, Any] = {key: environment[name] for key, name in names.items() if environment.get(name)}
    for key in ("tls", "tls_first"):
        if key in given:
            given[key] = _read_switch(names[key], given[key])
    if "connect_timeout" in given:
        given["connect_timeout"] = _read_number(names["connect_timeout"], given["connect_timeout"])
    return _source(given, names)


def context_source(fields: Mapping[str, Any], where: str) -> Source:
    """Return the settings from a context's fields; errors call the context ``where``.

    Raises:
        ConfigError: a value breaks a rule; it names the field and the context.
    """
    names = {each.key: f"{each.context} of {where}" for each in FIELDS if each.context}
    found = {each.key: fields[each.context] for each in FIELDS if each.context and _is_given(fields.get(each.context))}
    for key, value in found.items():
        expected = bool if key == "tls_first" else str
        if not isinstance(value, expected):
            # The value may be a secret, so only its type is shown.
            raise natsery.ConfigError(names[key], type(value).__name__, f"must be a {expected.__name__}")
    return _source(found, names, is_strict=False)


def merge(sources: Sequence[Source]) -> dict[str, Any]:
    """Return fields of `Settings`, each from the first source that has it.

    A login is taken as a whole: a token from the command line replaces the user and password of a context. Only a password
    may come from another source than its user, such as the environment. A certificate and its key come from one source.

    Raises:
        CommandError: settings cannot be combined, or are not supported.
    """
    merged: dict[str, Any] = {}
    for source in reversed(sources):
        merged.update({key: source.values[key] for key in _INDEPENDENT if key in source.values})
    _refuse_unsupported(sources)
    return {**merged, **_login(sources), **_certificate(sources)}


def names_of(sources: Sequence[Source]) -> dict[str, str]:
    """Return the name of each setting in the first source that has it."""
    return {key: source.names[key] for source in reversed(sources) for key in _INDEPENDENT if key in source.values}


def _source(given: Mapping[str, Any], names: Mapping[str, str], *, is_strict: bool = True) -> Source:
    values = {**given}
    if "servers" in values:
        values["servers"] = _split_servers(values["servers"])
    for key in ("prefix", "inbox_prefix"):
        if key in values:
            check_subject(names[key], values[key])
    return Source({key: value for key, value in values.items() if _is_given(value)}, names, is_strict)


def _is_given(value: object) -> bool:
    return value is not None and value is not False and value not in ("", ())


def _split_servers(given: str | Iterable[str]) -> tuple[str, ...]:
    texts = [given] if isinstance(given, str) else given
    return tuple(url.strip() for text in texts for url in text.split(",") if url.strip())


def _read_switch(name: str, text: str) -> bool:
    if text.lower() not in (*_TRUE, *_FALSE):
        raise natsery.ConfigError(name, text, "must be 1 or 0")
    return text.lower() in _TRUE


def _read_number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise natsery.ConfigError(name, text, "must be a number") from None


def _refuse_unsupported(sources: Sequence[Source]) -> None:
    for key in ("socks_proxy", "windows_cert_store"):
        source = next((each for each in sources if key in each.values), None)
        if source is not None and source.values[key] not in _NO_PROXY:
            raise CommandError(f"{source.names[key]}: {_UNSUPPORTED[key]}", Exit.USAGE)


def _login(sources: Sequence[Source]) -> dict[str, Any]:
    for index, source in enumerate(sources):
        methods = [
            method
            for method in _LOGIN_METHODS
            if method in source.values or (method == "user" and "password" in source.values)
        ]
        if len(methods) > 1 and source.is_strict:
            first, second, *_ = (method if method in source.values else "password" for method in methods)
            raise CommandError(f"{source.names[first]} and {source.names[second]} cannot be given together", Exit.USAGE)
        for method in methods:
            if method in _UNSUPPORTED:
                raise CommandError(f"{source.names[method]}: {_UNSUPPORTED[method]}", Exit.USAGE)
            if method != "user":
                return {method: source.values[method]}
            login = _user_and_password(source, sources[index + 1 :])
            if login:
                return login
        if source.has_login_in_url:
            return {}
    return {}


def _user_and_password(source: Source, lower: Sequence[Source]) -> dict[str, Any]:
    """Return the user and password of a source that has at least one of them; nothing if no source has the user."""
    user, password = source.values.get("user"), source.values.get("password")
    if password is None:
        # A source that has a user has that user's password.
        others = (each.values for each in lower if "user" not in each.values)
        password = next((each["password"] for each in others if "password" in each), None)
    if user is None:
        user = next((each.values["user"] for each in lower if "user" in each.values), None)
    if user is not None and password is not None:
        return {"user": user, "password": password}
    if user is not None:
        if source.is_strict:  # as the ``nats`` command does
            return {"token": user}
        raise CommandError(f"{source.names['user']}: has no password beside it", Exit.USAGE)
    if source.names["password"].startswith("--"):
        raise CommandError("--password needs --user", Exit.USAGE)
    return {}


def _certificate(sources: Sequence[Source]) -> dict[str, Any]:
    for source in sources:
        found = {key: source.values[key] for key in ("tls_cert", "tls_key") if key in source.values}
        if found:
            if "tls_cert" not in found:
                raise CommandError(f"{source.names['tls_key']} needs {source.names['tls_cert']}", Exit.USAGE)
            return found
    return {}
