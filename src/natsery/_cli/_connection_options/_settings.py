"""The connection settings of a command, and the options for them that all commands share."""

from __future__ import annotations

import functools
import os
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar, final

import anyio
import click

import natsery

from .._argument_checks import renamed
from .._default_server import DEFAULT_SERVER
from .._exit_codes import CommandError, Exit
from ._help import ConnectionOption
from ._nats_contexts import contexts_folder, read_context
from ._secrets import secret, secret_file, without_reference
from ._sources import FIELDS, environment_source, merge, names_of, options_source
from ._tls import tls_context

DEFAULT_PREFIX: Final = "$SRV"

NO_CONTEXT: Final = "NATSERY_NO_CONTEXT"
"""The environment variable for ``--no-context``."""

SECRETS: Final = ("password", "token", "credentials", "nkey")
"""The settings that may refer to where they are."""

Command = TypeVar("Command", bound=Callable[..., Any])


@final
@dataclass(frozen=True, kw_only=True)
class Settings:
    """How to connect, and the control prefix of the services.

    Attributes:
        servers: URLs, one for each server.
        user: a user's name, with ``password``.
        password: the user's password, or a reference to it such as ``env://NAME``.
        token: a token, or a reference to it.
        credentials: the path of a credentials file, or a reference to its content.
        nkey: the path of a file with an nkey's seed, or a reference to its content.
        tls: whether TLS is required even without any of the files below.
        tls_ca: a file with the authorities to trust.
        tls_cert: a file with the client's certificate.
        tls_key: a file with its key; the certificate's file if left out.
        tls_first: whether the TLS handshake comes before the server's INFO.
        connect_timeout: seconds that each server gets.
        inbox_prefix: the beginning of reply subjects.
        prefix: the beginning of the services' control subjects.
        names: the names of settings where they were given, for errors.
    """

    servers: tuple[str, ...] = field(default=(DEFAULT_SERVER,), repr=False)
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    credentials: str | None = field(default=None, repr=False)
    nkey: str | None = field(default=None, repr=False)
    tls: bool = False
    tls_ca: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None
    tls_first: bool = False
    connect_timeout: float = 2.0
    inbox_prefix: str = "_INBOX"
    prefix: str = DEFAULT_PREFIX
    names: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)

    @asynccontextmanager
    async def connect(self, name: str, **options: Any) -> AsyncIterator[natsery.NativeConnection]:
        """Connect for the length of a block; ``options`` are further ones of `natsery.connect`.

        Without a server it fails soon; once connected, it reconnects for as long as the block lasts.

        Raises:
            ConfigError: a file for TLS cannot be used, or a reference is not supported; otherwise as for `natsery.connect`,
                with the names of the options, variables or fields of a context.
        """
        own: dict[str, Any] = {
            "name": name,
            "user": self.user,
            "password": None if self.password is None else secret("password", self.password),
            "token": None if self.token is None else secret("token", self.token),
            "credentials": None if self.credentials is None else secret_file("credentials", self.credentials),
            "nkey_seed": None if self.nkey is None else secret_file("nkey", self.nkey),
            "tls": self._tls(),
            "tls_first": self.tls_first,
            "connect_timeout": self.connect_timeout,
            "inbox_prefix": self.inbox_prefix,
        }
        async with AsyncExitStack() as stack:
            try:
                nc = await stack.enter_async_context(natsery.connect(self.servers, **own, **options))
            except natsery.ConfigError as error:
                raise renamed(error, self.names.get(error.field, error.field)) from None
            yield nc

    async def check(self) -> None:
        """Check the settings without connecting.

        Raises:
            ConfigError: as for `connect`.
        """
        with anyio.CancelScope() as scope:
            scope.cancel("only the check of the options is wanted")
            async with self.connect("natsery"):
                pass

    def as_environment(self) -> dict[str, str]:
        """Return environment variables that give a ``natsery`` command without options exactly these settings.

        They are to be added to those of this process, some of which they replace with empty ones. They may hold secrets, which
        must not be in arguments: every user of the machine can read those.
        """
        variables = {each.variable: "" for each in FIELDS if each.variable}
        for each in FIELDS:
            value = getattr(self, each.key, None)
            if value is not None:
                text = ",".join(value) if isinstance(value, tuple) else str(value)
                variables[each.variable] = without_reference(text, variables) if each.key in SECRETS else text
        return {**variables, "NATS_CONTEXT": "", NO_CONTEXT: "1"}

    def _tls(self) -> ssl.SSLContext | bool:
        if self.tls_ca is None and self.tls_cert is None:
            return self.tls
        return tls_context(self.tls_ca, self.tls_cert, self.tls_key)


def read_settings(
    arguments: Mapping[str, Any],
    environment: Mapping[str, str],
    *,
    context: str | None = None,
    no_context: bool = False,
) -> Settings:
    """Return the settings from options, the environment and a context, in this order of precedence.

    Args:
        arguments: options, by the fields of `Settings`.
        environment: environment variables.
        context: the context that an option names.
        no_context: whether an option says to ignore the selected context.

    Raises:
        CommandError: they cannot be combined, or the context cannot be read.
        ConfigError: a value breaks a rule.
    """
    if context and no_context:
        raise CommandError("--context and --no-context cannot be given together", Exit.USAGE)
    sources = [options_source(arguments), environment_source(environment)]
    if context or not (no_context or environment.get(NO_CONTEXT)):
        found = read_context(context or environment.get("NATS_CONTEXT"), contexts_folder(environment))
        if found is not None:
            sources.append(found)
    return Settings(**merge(sources), names=names_of(sources))


def connection_options(command: Command) -> Command:
    """Add the connection options to a command, which gets them as one argument, ``settings``.

    A command of the class `ConnectingCommand` lists them under a separate heading.
    """

    @functools.wraps(command)
    def with_settings(**arguments: Any) -> Any:
        given = {key: arguments.pop(key) for key in _OPTION_KEYS}
        settings = read_settings(
            given, os.environ, context=arguments.pop("context_name"), no_context=arguments.pop("no_context")
        )
        return command(settings=settings, **arguments)

    result: Any = with_settings
    for option in reversed(_options()):
        result = option(result)
    return result  # type: ignore[no-any-return]  # click's decorators return what they decorate


_OPTION_KEYS: Final = tuple(each.key for each in FIELDS if each.option)


def _options() -> list[Callable[[Any], Any]]:
    option = functools.partial(click.option, cls=ConnectionOption)
    return [
        option(
            "-s",
            "--server",
            "servers",
            multiple=True,
            metavar="URL",
            help=f"A server; repeatable ($NATS_URL). [default: {DEFAULT_SERVER}]",
        ),
        option("--user", metavar="NAME", help="User; without a password, a token ($NATS_USER)."),
        option("--password", metavar="TEXT", help="The user's password; safer in $NATS_PASSWORD."),
        option("--token", metavar="TEXT", help="Token; safer in $NATS_TOKEN."),
        option("--creds", "credentials", metavar="FILE", help="Credentials file ($NATS_CREDS)."),
        option("--nkey", metavar="FILE", help="File with an nkey's seed ($NATS_NKEY)."),
        option("--tls", is_flag=True, help="Connect with TLS only ($NATSERY_TLS)."),
        option("--tls-ca", "--tlsca", "tls_ca", metavar="FILE", help="Authorities to trust, and TLS only ($NATS_CA)."),
        option("--tls-cert", "--tlscert", "tls_cert", metavar="FILE", help="Certificate to show ($NATS_CERT)."),
        option("--tls-key", "--tlskey", "tls_key", metavar="FILE", help="The certificate's key ($NATS_KEY)."),
        option(
            "--tls-first",
            "--tlsfirst",
            "tls_first",
            is_flag=True,
            help="TLS from the first byte ($NATSERY_TLS_FIRST).",
        ),
        option(
            "--connect-timeout",
            type=float,
            metavar="SECONDS",
            help=f"For each server ($NATSERY_CONNECT_TIMEOUT). [default: {Settings.connect_timeout:g}]",
        ),
        option(
            "--inbox-prefix",
            metavar="SUBJECT",
            help=f"Reply subjects ($NATSERY_INBOX_PREFIX). [default: {Settings.inbox_prefix}]",
        ),
        option(
            "--prefix",
            metavar="SUBJECT",
            help=f"Control subjects of services ($NATSERY_PREFIX). [default: {DEFAULT_PREFIX}]",
        ),
        option(
            "--context", "context_name", metavar="NAME", help="Context of the nats command, or a file ($NATS_CONTEXT)."
        ),
        option("--no-context", is_flag=True, help="Ignore the selected context."),
    ]
