"""Makes TLS contexts from files, with errors that name the file."""

from __future__ import annotations

import ssl
from pathlib import Path

import natsery

from ._secrets import expand


def tls_context(ca: str | None, cert: str | None, key: str | None) -> ssl.SSLContext:
    """Return a TLS context for a client.

    Args:
        ca: a file with the only authorities to trust; the system's if left out.
        cert: a file with the client's certificate.
        key: a file with its key; the certificate's file if left out.

    Raises:
        ConfigError: a file cannot be read or holds something else.
    """
    context = ssl.create_default_context(cafile=None if ca is None else _authorities(ca))
    if cert is not None:
        _load_certificate(context, _readable("TLS certificate", cert), key)
    return context


def _authorities(text: str) -> str:
    path = _readable("TLS authority", text)
    try:
        ssl.create_default_context(cafile=path)
    except ssl.SSLError:
        raise natsery.ConfigError("TLS authority", path, "holds no certificate") from None
    return path


def _load_certificate(context: ssl.SSLContext, cert: str, key: str | None) -> None:
    key_path = None if key is None else _readable("TLS key", key)
    try:
        # With an empty password, so that OpenSSL does not ask for one on the terminal.
        context.load_cert_chain(cert, key_path, password="")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise natsery.ConfigError(
                "TLS key", key_path or cert, f"does not belong to the certificate {cert!r}"
            ) from None
        needs = "holds no certificate with its key" if key_path is None else "is no certificate, or its key is none"
        raise natsery.ConfigError("TLS certificate", cert, f"{needs}; a key must not be encrypted") from None


def _readable(what: str, text: str) -> str:
    path = expand(text)
    try:
        with Path(path).open("rb"):
            return path
    except OSError as error:
        raise natsery.ConfigError(what, path, f"cannot be read ({error.strerror or type(error).__name__})") from None
