"""The options of `natsery.connect`, validated before anything is started."""

from __future__ import annotations

import os
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias, final

from .._checks import GRACE_RULE, check_config, count_rule, seconds_rule
from .._errors import ConfigError
from .._protocol._addresses import Address
from .._subjects import literal_subject_rule

Secret: TypeAlias = "str | Callable[[], str | Awaitable[str]]"
"""A text, or a function that returns it, called for every network connection."""

FileSecret: TypeAlias = "str | os.PathLike[str] | Callable[[], str | Awaitable[str]]"
"""A file, read for every network connection, or a function that returns the text of such a file."""

Sign: TypeAlias = "Callable[[bytes], bytes | Awaitable[bytes]]"
"""A function that takes a server's nonce and returns the 64 bytes of its Ed25519 signature."""

TLSContext: TypeAlias = "ssl.SSLContext | Callable[[], ssl.SSLContext | Awaitable[ssl.SSLContext]]"
"""An SSL context, or a function that returns it, called for every network connection that uses TLS."""

MAX_PENDING_BYTES = 8 * 1024 * 1024
"""Default bytes of messages that may wait while no server is connected."""


@final
@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of a native connection; see `natsery.connect`."""

    addresses: tuple[Address, ...]
    name: str | None = None
    user: Secret | None = field(default=None, repr=False)
    password: Secret | None = field(default=None, repr=False)
    token: Secret | None = field(default=None, repr=False)
    credentials: FileSecret | None = field(default=None, repr=False)
    nkey_seed: FileSecret | None = field(default=None, repr=False)
    nkey: str | None = None
    jwt: Secret | None = field(default=None, repr=False)
    sign: Sign | None = None
    tls: TLSContext | bool = False
    tls_hostname: str | None = None
    tls_first: bool = False
    inbox_prefix: str = "_INBOX"
    echo: bool = True
    verbose: bool = False
    pedantic: bool = False
    shuffle: bool = True
    connect_timeout: float = 2.0
    retry_first_connect: bool = False
    ignore_discovered_servers: bool = False
    reconnect: bool = True
    credentials_grace: float = 30.0
    reconnect_wait: float = 0.1
    max_reconnect_wait: float = 10.0
    max_reconnect_rounds: int | None = None
    ping_interval: float = 30.0
    max_outstanding_pings: int = 2
    max_pending_bytes: int = MAX_PENDING_BYTES
    max_control_line: int = 4096

    def __post_init__(self) -> None:
        _check_text("name", self.name)
        for where in ("user", "password", "token", "jwt"):
            _check_secret(where, getattr(self, where))
        for where in ("credentials", "nkey_seed"):
            _check_secret(where, getattr(self, where), files=True)
        self._check_authentication()
        # The class itself would make a context that verifies nothing.
        if not isinstance(self.tls, (bool, ssl.SSLContext)) and (not callable(self.tls) or isinstance(self.tls, type)):
            context = "an ssl.SSLContext, such as ssl.create_default_context(cafile=...)"
            raise ConfigError("tls", self.tls, f"must be {context}, a function that returns one, or a bool")
        _check_text("tls_hostname", self.tls_hostname)
        check_config("inbox_prefix", self.inbox_prefix, literal_subject_rule)
        switches = (
            "tls_first",
            "echo",
            "verbose",
            "pedantic",
            "shuffle",
            "retry_first_connect",
            "ignore_discovered_servers",
            "reconnect",
        )
        for where in switches:
            if not isinstance(getattr(self, where), bool):
                raise ConfigError(where, getattr(self, where), "must be True or False")
        for where in ("connect_timeout", "ping_interval"):
            check_config(where, getattr(self, where), seconds_rule(infinite=True))
        check_config("credentials_grace", self.credentials_grace, GRACE_RULE)
        for where in ("reconnect_wait", "max_reconnect_wait"):
            check_config(where, getattr(self, where), seconds_rule())
        for where in ("max_outstanding_pings", "max_pending_bytes", "max_control_line"):
            check_config(where, getattr(self, where), count_rule)
        if self.max_reconnect_rounds is not None:
            check_config("max_reconnect_rounds", self.max_reconnect_rounds, count_rule)

    def _check_authentication(self) -> None:
        if (self.user is None) != (self.password is None):
            given, missing = ("user", "password") if self.password is None else ("password", "user")
            raise ConfigError(missing, None, f"must be given together with {given}")
        if self.sign is not None and not callable(self.sign):
            raise ConfigError("sign", type(self.sign).__name__, "must be a function that signs a nonce")
        if self.sign is not None and self.nkey is None and self.jwt is None:
            raise ConfigError("sign", self.sign, "needs nkey (the public key) or jwt as well")
        if (self.nkey is not None or self.jwt is not None) and self.sign is None:
            where = "nkey" if self.jwt is None else "jwt"
            raise ConfigError("sign", None, f"must be given together with {where}")
        if self.nkey is not None and not (isinstance(self.nkey, str) and self.nkey.startswith("U")):
            hint = "; a seed goes to nkey_seed" if isinstance(self.nkey, str) and self.nkey.startswith("S") else ""
            raise ConfigError("nkey", "…", f"must be a user's public key, which begins with U{hint}")
        ways = {
            "user": self.user,
            "token": self.token,
            "credentials": self.credentials,
            "nkey_seed": self.nkey_seed,
            "sign": self.sign,
        }
        first, *others = [where for where, value in ways.items() if value is not None] or [""]
        if others:
            raise ConfigError(others[0], "…", f"cannot be given together with {first}")


def _check_text(where: str, value: object) -> None:
    if value is not None and (not isinstance(value, str) or not value):
        raise ConfigError(where, value, "must be a str that is not empty")


def _check_secret(where: str, value: Any, *, files: bool = False) -> None:
    # An invalid value may still contain a secret, so only its type is shown.
    if value is None or callable(value) or (isinstance(value, str) and value):
        return
    if files and isinstance(value, os.PathLike):
        return
    kinds = "a path, or a function that returns the file's text" if files else "a str, or a function that returns one"
    shown = "an empty str" if value == "" else type(value).__name__
    raise ConfigError(where, shown, f"must be {kinds}")
