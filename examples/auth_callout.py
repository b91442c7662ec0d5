"""Logs the users of a nats-server in, as its auth callout (ADR-26): checks passwords, and says who may do what.

ISSUER_SEED=SA... natsery run examples/auth_callout.py --user auth --password ...

docs/auth-callout.md has the server's configuration, and how to make the seed.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import nacl.exceptions
import nacl.signing
import nkeys

import natsery

SECONDS = 3600
"""How long a user stays logged in before the server asks again."""


@dataclass(frozen=True)
class User:
    """What a database would hold: a hash of the password, and permissions."""

    salt: bytes
    password_hash: bytes
    account: str
    publish: list[str]
    subscribe: list[str]

    def has_password(self, password: str) -> bool:
        return hmac.compare_digest(hash_password(password, self.salt), self.password_hash)


def hash_password(password: str, salt: bytes) -> bytes:
    return hashlib.scrypt(password.encode(), salt=salt, n=2**14, r=8, p=1)


USERS = {
    "ada": User(b"1", hash_password("lovelace", b"1"), "APP", publish=["math.>", "_INBOX.>"], subscribe=["_INBOX.>"]),
    "carl": User(b"2", hash_password("gauss", b"2"), "APP", publish=["_INBOX.>"], subscribe=["math.>", "_INBOX.>"]),
}


@asynccontextmanager
async def lifespan(nc: natsery.abc.Connection) -> AsyncIterator[nkeys.KeyPair]:
    yield nkeys.from_seed(os.environ["ISSUER_SEED"].encode())  # the key that signs for the issuer


@natsery.endpoint(subject="$SYS.REQ.USER.AUTH", in_thread=True, concurrency=4)  # hashing a password takes its time
def authorize(request: natsery.Request[nkeys.KeyPair]) -> bytes:
    claims = decode_jwt(request.data)
    asked, issuer = claims["nats"], request.state
    login = asked["connect_opts"]
    user = USERS.get(login.get("user", ""))
    response = {"type": "authorization_response", "version": 2}
    if user is None or not user.has_password(login.get("pass", "")):
        response["error"] = (
            "wrong user or password"  # for the server's log; the client learns only that it may not enter
        )
    else:
        permissions = {"pub": {"allow": user.publish}, "sub": {"allow": user.subscribe}}
        limits = {"subs": -1, "data": -1, "payload": -1}
        response["jwt"] = encode_jwt(
            issuer,
            sub=asked["user_nkey"],
            aud=user.account,
            name=login["user"],
            exp=int(time.time()) + SECONDS,
            nats={"type": "user", "version": 2, **permissions, **limits},
        ).decode()
    return encode_jwt(issuer, sub=asked["user_nkey"], aud=asked["server_id"]["id"], nats=response)


config = natsery.ServiceConfig("auth", "1.0.0", lifespan=lifespan, endpoints=[authorize])


# JWTs, as NATS has them: signed with ed25519 keys, whose public parts are written in base 32.


def encode_jwt(issuer: nkeys.KeyPair, **claims: Any) -> bytes:
    claims |= {"iss": issuer.public_key.decode(), "iat": int(time.time())}
    claims["jti"] = base64.b32encode(hashlib.sha256(json.dumps(claims).encode()).digest()).decode().rstrip("=")
    signed = b".".join(_base64(json.dumps(each).encode()) for each in ({"typ": "JWT", "alg": "ed25519-nkey"}, claims))
    return signed + b"." + _base64(issuer.sign(signed))


def decode_jwt(token: bytes) -> Any:
    """Return the claims of a server's request; anybody else's is an error."""
    try:
        signed, signature = token.rsplit(b".", 1)
        claims = json.loads(_from_base64(signed.split(b".")[1]))
        kind, *key = base64.b32decode(claims["iss"] + "=" * (-len(claims["iss"]) % 8))[:33]
        nacl.signing.VerifyKey(bytes(key)).verify(signed, _from_base64(signature))
        if kind == nkeys.PREFIX_BYTE_SERVER and claims["nats"]["type"] == "authorization_request":
            return claims
    except (ValueError, LookupError, TypeError, nacl.exceptions.CryptoError):
        pass
    raise natsery.ServiceError(400, "not a request for an authorization, signed by a server")


def _base64(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def _from_base64(text: bytes) -> bytes:
    return base64.urlsafe_b64decode(text + b"=" * (-len(text) % 4))
