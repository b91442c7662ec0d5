"""Credentials files."""

from __future__ import annotations

import pytest

from natsery import ConfigError
from natsery._protocol._credentials import read_credentials

JWT = "eyJ0eXAiOiJKV1QifQ.eyJqdGkiOiI-_W1.c2ln-_bmF0dXJl--"
SEED = "SUAIO3FHUX5PNV2LQIIP7TZ3N4L7TX3W53MQGEIVYFIGA635OZCKEYHFLM"

# As nsc writes it.
REAL = f"""-----BEGIN NATS USER JWT-----
{JWT}
------END NATS USER JWT------

************************* IMPORTANT *************************
NKEY Seed printed below can be used to sign and prove identity.
NKEYs are sensitive and should be treated as secrets.

-----BEGIN USER NKEY SEED-----
{SEED}
------END USER NKEY SEED------

*************************************************************
"""
JWT_BLOCK = f"-----BEGIN NATS USER JWT-----\n{JWT}\n------END NATS USER JWT------\n"
SEED_BLOCK = f"-----BEGIN USER NKEY SEED-----\n{SEED}\n------END USER NKEY SEED------\n"


@pytest.mark.parametrize(
    "text",
    [
        REAL,
        REAL.replace("\n", "\r\n"),
        "\ufeff" + REAL,
        REAL.replace("------END", "-----END").replace("JWT------", "JWT-----"),
        REAL.replace("-----BEGIN", "---BEGIN"),
        REAL.replace("\n", "\n\n  "),
        REAL.replace(JWT, f"  {JWT}\t "),
        JWT_BLOCK + SEED_BLOCK,
        SEED_BLOCK + JWT_BLOCK,
        JWT_BLOCK + "-----BEGIN OTHER-----\nx\n-----END OTHER-----\n" + SEED_BLOCK.rstrip(),
    ],
    ids=range(10),
)
def test_good_files_are_read(text):
    assert read_credentials("credentials", "x.creds", text) == (JWT, SEED)


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("", "NATS USER JWT"),
        (JWT, "NATS USER JWT"),
        (SEED, "NATS USER JWT"),
        (SEED_BLOCK, "NATS USER JWT"),
        (JWT_BLOCK, "USER NKEY SEED"),
        (REAL.replace(JWT, ""), "NATS USER JWT"),
        (REAL.replace(SEED, ""), "USER NKEY SEED"),
        (REAL.replace(f"{SEED}\n", ""), "USER NKEY SEED"),
        (REAL.replace("------END NATS USER JWT------", ""), "NATS USER JWT"),
        (REAL.replace("------END USER NKEY SEED------", ""), "USER NKEY SEED"),
        (REAL.replace(JWT, f"{JWT}\n{JWT}"), "NATS USER JWT"),
        (REAL.replace("USER NKEY", "user nkey"), "USER NKEY SEED"),
        (REAL.replace("NATS USER JWT", "NATS ACCOUNT JWT"), "NATS USER JWT"),
        (REAL.replace("--", ""), "NATS USER JWT"),
    ],
    ids=range(14),
)
def test_a_missing_block_is_named_and_nothing_of_the_file_is_shown(text, missing):
    """An empty block was read as a few of the dashes around it."""
    with pytest.raises(ConfigError) as caught:
        read_credentials("credentials", "x.creds", text)
    assert caught.value.field == "credentials"
    assert caught.value.value == "x.creds"
    assert repr(missing) in str(caught.value)
    for secret in (JWT, SEED):
        assert secret[:20] not in str(caught.value) + repr(caught.value)


def test_credentials_are_not_shown():
    credentials = read_credentials("credentials", "x.creds", REAL)
    assert repr(credentials) == str(credentials) == f"{credentials}" == "Credentials(…)"
