"""NUIDs: the unique identifiers that NATS clients use."""

from __future__ import annotations

import secrets
import string

_ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
_LENGTH = 22


def new_nuid() -> str:
    """Return a new identifier in the form of a NUID: 22 characters of base 62."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(_LENGTH))
