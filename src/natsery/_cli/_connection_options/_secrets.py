"""Secrets and files of secrets, given directly or by reference: ``file://``, ``env://`` or ``data:``."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from typing import Final

import natsery

_UNSUPPORTED: Final = ("op://", "nsc://")
_SEED = re.compile(r"SU[A-Z2-7]{40,}")


def secret(field: str, text: str) -> str | Callable[[], str]:
    """Return a secret, or the function that reads the secret that the text refers to.

    Raises:
        ConfigError: the reference is of a kind that is not supported.
    """
    return _reference(field, text) or text


def secret_file(field: str, text: str) -> str | Path | Callable[[], str]:
    """Return a seed, the path of a file with a secret, or the function that reads the content that the text refers to.

    A path may begin with ``~`` and hold variables such as ``$HOME``, as for the ``nats`` command.

    Raises:
        ConfigError: the reference is of a kind that is not supported.
    """
    if _SEED.fullmatch(text):
        return text
    if not text.lower().startswith("file://"):
        reference = _reference(field, text)
        if reference is not None:
            return reference
    return Path(expand(text))


def without_reference(text: str, variables: Collection[str]) -> str:
    """Return a text that stands for the same without one of these environment variables."""
    name = text[len("env://") :] if text.lower().startswith("env://") else ""
    value = os.environ.get(name) if name in variables else None
    return f"data:;base64,{base64.b64encode(os.fsencode(value)).decode()}" if value else text


def expand(text: str) -> str:
    """Return a path without ``file://``, and with ``~`` and variables expanded."""
    path = text[len("file://") :] if text.lower().startswith("file://") else text
    return os.path.expanduser(os.path.expandvars(path))  # noqa: PTH111  # a Path would lose a trailing slash


def _reference(field: str, text: str) -> Callable[[], str] | None:
    scheme = text[: text.find(":") + 1].lower()
    if text.lower().startswith(_UNSUPPORTED):
        raise natsery.ConfigError(field, f"{scheme}//…", "is not supported; file://, env:// and data: are")
    if text.lower().startswith("file://"):
        return partial(_from_file, field, Path(expand(text)))
    if text.lower().startswith("env://"):
        return partial(_from_environment, field, text[len("env://") :])
    head, comma, data = text.partition(",")
    if scheme == "data:" and comma and head.endswith(";base64"):
        return partial(_from_data, field, data)
    return None


def _from_file(field: str, path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").rstrip("\r\n")
    except OSError as error:
        raise natsery.ConfigError(
            field, str(path), f"cannot be read ({error.strerror or type(error).__name__})"
        ) from None
    except ValueError:
        raise natsery.ConfigError(field, str(path), "is not a text file") from None


def _from_environment(field: str, name: str) -> str:
    value = os.environ.get(name)
    if not value:
        raise natsery.ConfigError(field, f"env://{name}", "names an environment variable that is not set")
    return value.rstrip("\r\n")


def _from_data(field: str, data: str) -> str:
    try:
        return base64.b64decode(data, validate=True).decode().rstrip("\r\n")
    except ValueError:
        pass
    # Not raised in the handler of the other error, which would become its context: that one holds the data.
    raise natsery.ConfigError(field, "data:…", "holds no text in base64")
