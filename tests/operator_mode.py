"""Keys, JWTs and credentials files for tests, with the configurations of servers that ask for them."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nkeys

OPERATOR = nkeys.PREFIX_BYTE_OPERATOR
ACCOUNT = nkeys.PREFIX_BYTE_ACCOUNT
USER = nkeys.PREFIX_BYTE_USER

UNLIMITED = {"subs": -1, "data": -1, "payload": -1}


class Key:
    """A pair of ed25519 keys: what is public, and the seed, as NATS writes them."""

    def __init__(self, kind: int) -> None:
        seed = nkeys.encode_seed(os.urandom(32), kind)
        self._pair = nkeys.from_seed(seed)
        self.seed = seed.decode()
        self.public = self._pair.public_key.decode()

    def sign(self, data: bytes) -> bytes:
        return bytes(self._pair.sign(data))


def encode_jwt(signer: Key, subject: str, name: str, claims: dict[str, Any], *, expires: float | None = None) -> str:
    """A JWT as NATS has them. ``expires`` is of ``time.time``; JWTs know whole seconds only, so it is rounded up."""
    body: dict[str, Any] = {"iat": int(time.time()), "iss": signer.public, "name": name, "sub": subject}
    if expires is not None:
        body["exp"] = math.ceil(expires)
    body["nats"] = {"version": 2, **claims}
    digest = hashlib.sha256(_json(body)).digest()
    body["jti"] = base64.b32encode(digest).rstrip(b"=").decode()
    signed = f"{_base64(_json({'typ': 'JWT', 'alg': 'ed25519-nkey'}))}.{_base64(_json(body))}"
    return f"{signed}.{_base64(signer.sign(signed.encode()))}"


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@dataclass(frozen=True)
class User:
    """What a client needs to log in."""

    jwt: str
    key: Key

    @property
    def credentials(self) -> str:
        """The text of a credentials file."""
        return (
            f"-----BEGIN NATS USER JWT-----\n{self.jwt}\n------END NATS USER JWT------\n\n"
            "************************* IMPORTANT *************************\n"
            "NKEY Seed printed below can be used to sign and prove identity.\n\n"
            f"-----BEGIN USER NKEY SEED-----\n{self.key.seed}\n------END USER NKEY SEED------\n\n"
            "*************************************************************\n"
        )

    def write_credentials(self, path: Path) -> Path:
        path.write_text(self.credentials)
        return path


class Account:
    """An account and its users."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._key = Key(ACCOUNT)
        self.public = self._key.public

    def jwt(self, operator: Key) -> str:
        limits = {**UNLIMITED, "imports": -1, "exports": -1, "wildcards": True, "conn": -1, "leaf": -1}
        return encode_jwt(operator, self.public, self.name, {"type": "account", "limits": limits})

    def user(
        self,
        name: str = "user",
        *,
        expires: float | None = None,
        publish: dict[str, list[str]] | None = None,
        subscribe: dict[str, list[str]] | None = None,
    ) -> User:
        """A new user. ``publish`` and ``subscribe`` are permissions, such as ``{"allow": ["a.>"], "deny": ["a.b"]}``."""
        key = Key(USER)
        claims = {"type": "user", **UNLIMITED, "pub": publish or {}, "sub": subscribe or {}}
        return User(encode_jwt(self._key, key.public, name, claims, expires=expires), key)


class Operator:
    """An operator with one account for users and one for the system; users of any other account are strangers."""

    def __init__(self) -> None:
        self._key = Key(OPERATOR)
        self.account = Account("users")
        self.system_account = Account("system")

    def server_config(self) -> str:
        """Makes a server take the users of these accounts and nobody else."""
        accounts = (self.account, self.system_account)
        claims = {"type": "operator", "system_account": self.system_account.public}
        preload = "".join(f'  {account.public}: "{account.jwt(self._key)}"\n' for account in accounts)
        return (
            f'operator: "{encode_jwt(self._key, self._key.public, "operator", claims)}"\n'
            f'system_account: "{self.system_account.public}"\n'
            f"resolver: MEMORY\nresolver_preload: {{\n{preload}}}\n"
        )


def nkey_config(*keys: Key, permissions: str = "") -> str:
    """Makes a server, without an operator, take the holders of these user keys and nobody else."""
    options = f", permissions: {{ {permissions} }}" if permissions else ""
    users = ", ".join(f'{{ nkey: "{key.public}"{options} }}' for key in keys)
    return f"authorization {{ users: [{users}] }}\n"
