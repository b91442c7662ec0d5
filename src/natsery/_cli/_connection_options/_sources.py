"""What options, environment and context say of a connection, and what counts where they differ."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, final

from ..._checks import check_config, seconds_rule
from ..._errors import ConfigError
from ..._protocol._addresses import read_address
from ..._subjects import literal_subject_rule
from .._exit_codes import CommandError, Exit


@final
class Field(NamedTuple):
    """One thing that can be said, and what it is called in each source; empty where it cannot be said there."""

    key: str
    """As `Settings` has it."""
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
"""All that natsery reads. Variables are those of the ``nats`` command where it has one."""

_SINGLE: Final = ("servers", "tls", "tls_ca", "tls_first", "connect_timeout", "inbox_prefix", "prefix")
_WAYS: Final = ("user", "credentials", "nsc", "nkey", "jwt", "token")
"""Ways to log in, in the order in which the ``nats`` command prefers them if a context has several."""

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
    """What one source says.

    Attributes:
        values: what it says, by field; what it does not name is left out.
        names: what it calls each field, for errors.
        is_strict: whether two ways to log in are a mistake here; a context may well have several.
    """

    values: Mapping[str, Any] = field(repr=False)
    names: Mapping[str, str]
    is_strict: bool = True

    @property
    def has_login_in_url(self) -> bool:
        """Whether a server's URL says who connects."""
        addresses = map(read_address, self.values.get("servers", ()))
        return any(address.user is not None or address.token is not None for address in addresses)


def options_source(arguments: Mapping[str, Any]) -> Source:
    """What the command line says: fields as click has them, ``None``, false and empty ones being left out.

    Raises:
        ConfigError: a value breaks a rule; it names the option.
    """
    names = {each.key: each.option for each in FIELDS if each.option}
    return _source({key: arguments[key] for key in names if _is_given(arguments.get(key))}, names)


def environment_source(environment: Mapping[str, str]) -> Source:
    """What environment variables say; one that is empty counts as one that is not there.

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


def context_source(given: Mapping[str, Any], where: str) -> Source:
    """What a context says; ``given`` has its own names for things, and ``where`` is what errors call it.

    Raises:
        ConfigError: a value breaks a rule; it names the field and the context.
    """
    names = {each.key: f"{each.context} of {where}" for each in FIELDS if each.context}
    found = {each.key: given[each.context] for each in FIELDS if each.context and _is_given(given.get(each.context))}
    for key, value in found.items():
        expected = bool if key == "tls_first" else str
        if not isinstance(value, expected):
            # What is wrong with a secret may be a secret itself, so only its type is shown.
            raise ConfigError(names[key], type(value).__name__, f"must be a {expected.__name__}")
    return _source(found, names, is_strict=False)


def merge(sources: Sequence[Source]) -> dict[str, Any]:
    """The fields of `Settings` that sources say, each from the first source that says it.

    How to log in is taken as a whole: a token from the command line replaces the user and password of a context. A
    password may be given apart from its user, such as by the environment. A certificate and its key come together.

    Raises:
        CommandError: what is said cannot be combined, or is not supported.
    """
    merged: dict[str, Any] = {}
    for source in reversed(sources):
        merged.update({key: source.values[key] for key in _SINGLE if key in source.values})
    _refuse_unsupported(sources)
    return {**merged, **_login(sources), **_certificate(sources)}


def _source(given: Mapping[str, Any], names: Mapping[str, str], *, is_strict: bool = True) -> Source:
    values = {**given}
    if "servers" in values:
        values["servers"] = _read_servers(names["servers"], values["servers"])
    for key in ("prefix", "inbox_prefix"):
        if key in values:
            check_config(names[key], values[key], literal_subject_rule)
    if "connect_timeout" in values:
        check_config(names["connect_timeout"], values["connect_timeout"], seconds_rule(infinite=True))
    return Source({key: value for key, value in values.items() if _is_given(value)}, names, is_strict)


def _is_given(value: object) -> bool:
    return value is not None and value is not False and value not in ("", ())


def _read_servers(name: str, given: str | Iterable[str]) -> tuple[str, ...]:
    texts = [given] if isinstance(given, str) else given
    servers = tuple(url.strip() for text in texts for url in text.split(",") if url.strip())
    for url in servers:
        try:
            read_address(url)
        except ConfigError as error:
            raise ConfigError(name, error.value, error.reason) from None
    return servers


def _read_switch(name: str, text: str) -> bool:
    if text.lower() not in (*_TRUE, *_FALSE):
        raise ConfigError(name, text, "must be 1 or 0")
    return text.lower() in _TRUE


def _read_number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ConfigError(name, text, "must be a number") from None


def _refuse_unsupported(sources: Sequence[Source]) -> None:
    for key in ("socks_proxy", "windows_cert_store"):
        source = next((each for each in sources if key in each.values), None)
        if source is not None and source.values[key] not in _NO_PROXY:
            raise CommandError(f"{source.names[key]}: {_UNSUPPORTED[key]}", Exit.USAGE)


def _login(sources: Sequence[Source]) -> dict[str, Any]:
    for index, source in enumerate(sources):
        ways = [way for way in _WAYS if way in source.values or (way == "user" and "password" in source.values)]
        if len(ways) > 1 and source.is_strict:
            first, second, *_ = (way if way in source.values else "password" for way in ways)
            raise CommandError(f"{source.names[first]} and {source.names[second]} cannot be given together", Exit.USAGE)
        for way in ways:
            if way in _UNSUPPORTED:
                raise CommandError(f"{source.names[way]}: {_UNSUPPORTED[way]}", Exit.USAGE)
            login = {way: source.values[way]} if way != "user" else _user_and_password(source, sources[index + 1 :])
            if login:
                return login
        if source.has_login_in_url:
            return {}
    return {}


def _user_and_password(source: Source, lower: Sequence[Source]) -> dict[str, Any]:
    """A user and a password, of which the source has at least one; empty if it has a password for nobody."""
    user, password = source.values.get("user"), source.values.get("password")
    if password is None:
        # One that comes with a user of its own is not this user's.
        others = (each.values for each in lower if "user" not in each.values)
        password = next((each["password"] for each in others if "password" in each), None)
    if user is None:
        user = next((each.values["user"] for each in lower if "user" in each.values), None)
    if user is not None and password is not None:
        return {"user": user, "password": password}
    if user is not None:
        if source.is_strict:  # for the ``nats`` command as well
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
