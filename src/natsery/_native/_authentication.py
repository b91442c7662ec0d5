"""Authentication: the credentials in a CONNECT and the context for TLS, had again for every network connection."""

from __future__ import annotations

import base64
import inspect
import os
import re
import ssl
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast, final

import anyio

from .._errors import ConfigError
from .._protocol._addresses import Address
from .._protocol._credentials import read_credentials
from ._options import FileSecret, Options, Secret, Sign

if TYPE_CHECKING:
    import nkeys

_SEED = re.compile(r"SU\S*|S[A-Z2-7]{40,}")
"""Matches a seed rather than a path: the seed of a user, even a mistyped one, or a complete seed of another kind."""


@final
class CredentialsUnavailableError(Exception):
    """The credentials or the context for TLS cannot be had. Internal; users get the error itself.

    Attributes:
        error: what the user's function raised, or a `ConfigError`.
    """

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


@contextmanager
def credentials_needed() -> Iterator[None]:
    """Raise what goes wrong in a block as a `CredentialsUnavailableError`, which is not mistaken for the network's failure."""
    try:
        yield
    except Exception as error:  # the user's functions may raise anything
        raise CredentialsUnavailableError(error) from error


async def tls_context(options: Options) -> ssl.SSLContext:
    """Return the context for the TLS of one network connection.

    Raises:
        ConfigError: the function returned something else.
        Exception: raised by the function.
    """
    if isinstance(options.tls, ssl.SSLContext):
        return options.tls
    if isinstance(options.tls, bool):
        return ssl.create_default_context()
    context = await _call(options.tls)
    if not isinstance(context, ssl.SSLContext):
        raise ConfigError("tls", type(context).__name__, "the function must return an ssl.SSLContext")
    return context


async def authenticate(options: Options, address: Address, nonce: str) -> dict[str, str]:
    """Return the fields of CONNECT that authenticate this client to a server.

    Args:
        options: the options of the connection.
        address: the server, whose URL may contain credentials.
        nonce: the server's nonce, ``""`` if it has sent none.

    Raises:
        ConfigError: a file cannot be read or has the wrong content, or a function returned the wrong type.
    """
    if options.credentials is not None:
        name, text = await _read_file("credentials", options.credentials)
        jwt, seed = read_credentials("credentials", name, text)
        return {"jwt": jwt, **_signature(_key("credentials", name, seed), nonce)}
    if options.nkey_seed is not None:
        name, text = await _read_file("nkey_seed", options.nkey_seed, may_be_text=True)
        key = _key("nkey_seed", name, text.strip())
        return {"nkey": bytes(key.public_key).decode(), **_signature(key, nonce)}
    if options.sign is not None:
        fields = {"sig": await _signature_by_function(options.sign, nonce)} if nonce else {}
        if options.nkey is not None:
            fields["nkey"] = options.nkey
        if options.jwt is not None:
            fields["jwt"] = await _read("jwt", options.jwt)
        return fields
    if options.user is not None and options.password is not None:
        return {"user": await _read("user", options.user), "pass": await _read("password", options.password)}
    if options.token is not None:
        return {"auth_token": await _read("token", options.token)}
    if address.user is not None and address.password is not None:
        return {"user": address.user, "pass": address.password}
    if address.token is not None:
        return {"auth_token": address.token}
    return {}


async def check_files(options: Options) -> None:
    """Check that the credentials that are files can be read, before any server is contacted.

    Raises:
        ConfigError: a file cannot be read or has the wrong content.
    """
    files = [value for value in (options.credentials, options.nkey_seed) if value is not None]
    if files and not callable(files[0]):
        await authenticate(options, options.addresses[0], "")


async def _read(field: str, value: Secret) -> str:
    if isinstance(value, str):
        return value
    text = await _call(value)
    if not isinstance(text, str):
        raise ConfigError(field, type(text).__name__, "the function must return a str")
    return text


async def _read_file(field: str, value: FileSecret, *, may_be_text: bool = False) -> tuple[str, str]:
    if not isinstance(value, (str, os.PathLike)):
        return "the text that the function returned", await _read(field, value)
    if may_be_text and isinstance(value, str) and _SEED.fullmatch(value):
        return "a seed", value
    path = anyio.Path(value)
    try:
        return str(path), await path.read_text(encoding="utf-8")
    except OSError as error:
        # Not the value itself, which may be a seed given by mistake.
        shown = os.fspath(value) if isinstance(value, os.PathLike) or os.sep in value or "." in value else "…"
        raise ConfigError(field, shown, f"cannot be read ({error.strerror or type(error).__name__})") from None
    except ValueError:
        raise ConfigError(field, str(path), "is not a text file") from None


async def _call(function: Callable[..., Any], *args: object) -> object:
    result = function(*args)
    if inspect.isawaitable(result):
        result = await cast("Awaitable[object]", result)
    return result


def _key(field: str, name: str, seed: str) -> nkeys.KeyPair:
    try:
        import nkeys
    except ImportError:
        raise ConfigError(field, name, "needs the package nkeys, so run: pip install 'natsery[nkeys]'") from None
    try:
        prefix, raw = nkeys.decode_seed(bytearray(seed, "ascii"))
        # `decode_seed` ignores the checksum, so a mistyped seed would silently become another key.
        if prefix == nkeys.PREFIX_BYTE_USER and nkeys.encode_seed(bytes(raw), prefix) == seed.encode():
            return nkeys.from_seed(bytearray(seed, "ascii"))
    except (nkeys.NkeysError, ValueError):
        pass
    # Raised outside of the `except` block, so that the other error, which may contain the seed, is not its context.
    raise ConfigError(field, name, "holds no seed of a user's key (SU…), or a mistyped one")


def _signature(key: nkeys.KeyPair, nonce: str) -> dict[str, str]:
    # A server that requires no signature sends no nonce.
    return {"sig": _encoded(key.sign(nonce.encode()))} if nonce else {}


async def _signature_by_function(sign: Sign, nonce: str) -> str:
    signature = await _call(sign, nonce.encode())
    if not isinstance(signature, bytes) or len(signature) != 64:
        got = f"{len(signature)} bytes" if isinstance(signature, bytes) else type(signature).__name__
        raise ConfigError("sign", got, "the function must return the 64 bytes of a signature")
    return _encoded(signature)


def _encoded(signature: bytes) -> str:
    return base64.urlsafe_b64encode(signature).rstrip(b"=").decode()
