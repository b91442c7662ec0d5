"""Credentials files, which contain a user's JWT and the seed of the key that signs for it."""

from __future__ import annotations

import re
from typing import NamedTuple

from .._errors import ConfigError

_BLOCK = re.compile(r"-{3,}\s*BEGIN (?P<what>[A-Z ]+?)\s*-{3,}\s*(?P<text>[^\s-]\S*)\s*-{3,}\s*END [A-Z ]+?\s*-{3,}")


class Credentials(NamedTuple):
    """The contents of a credentials file, not shown by ``repr``."""

    jwt: str
    seed: str

    def __repr__(self) -> str:
        return "Credentials(…)"


def read_credentials(field: str, name: str, text: str) -> Credentials:
    """Return the contents of a credentials file.

    Args:
        field: the name of the option, for the error.
        name: the name of the file, for the error.
        text: the text of the file.

    Raises:
        ConfigError: a block is missing; the error does not contain the text.
    """
    blocks = {match["what"]: match["text"] for match in _BLOCK.finditer(text)}
    jwt = blocks.get("NATS USER JWT")
    seed = blocks.get("USER NKEY SEED")
    if jwt is None or seed is None:
        missing = "NATS USER JWT" if jwt is None else "USER NKEY SEED"
        raise ConfigError(field, name, f"holds no block {missing!r}, so it is no credentials file")
    return Credentials(jwt, seed)
