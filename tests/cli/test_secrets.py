"""Secrets and files that stand somewhere else."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import natsery
from natsery._cli._connection_options._secrets import expand, secret, secret_file

SEED = "SU" + "A" * 56


def encoded(text: bytes) -> str:
    return f"data:;base64,{base64.b64encode(text).decode()}"


@pytest.mark.parametrize("text", ["p@ss", "data:x", "data:x,y", "op:x", "env:x", "file:x", "a,b:c", ""])
def test_a_secret_stands_for_itself(text: str) -> None:
    assert secret("password", text) == text


def test_a_path_stands_for_its_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("WHERE", "/there")
    assert secret_file("credentials", "a.creds") == Path("a.creds")
    assert secret_file("credentials", "~/a.creds") == Path("/home/me/a.creds")
    assert secret_file("credentials", "$WHERE/a.creds") == Path("/there/a.creds")
    assert secret_file("credentials", "FILE:///a.creds") == Path("/a.creds")
    assert expand("file://~/ca.pem") == "/home/me/ca.pem"
    assert secret_file("nkey", SEED) == SEED


@pytest.mark.parametrize("function", [secret, secret_file])
def test_references(function: Callable[[str, str], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINE", "one")
    reference = function("token", "env://MINE")
    assert reference() == "one"
    # Read again for every network connection.
    monkeypatch.setenv("MINE", "two")
    assert reference() == "two"
    assert function("token", encoded("schlüssel\r\n".encode()))() == "schlüssel"
    assert function("token", "DATA:text/plain;base64,YQ==")() == "a"


def test_one_that_is_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("secret\n")
    assert secret("token", f"file://{path}")() == "secret"  # type: ignore[operator]
    path.write_bytes(b"\xff")
    assert failure(secret("token", f"file://{path}")) == f"token: is not a text file; got '{path}'"
    path.unlink()
    text = f"token: cannot be read (No such file or directory); got '{path}'"
    assert failure(secret("token", f"file://{path}")) == text


def test_references_to_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMPTY", "")
    for name in ("EMPTY", "MISSING"):
        text = f"token: names an environment variable that is not set; got 'env://{name}'"
        assert failure(secret("token", f"env://{name}")) == text
    for data in ("data:;base64,secret!", encoded(b"\xff")):
        assert failure(secret("token", data)) == "token: holds no text in base64; got 'data:…'"


@pytest.mark.parametrize("text", ["op://vault/secret/field", "nsc://O/secret/U", "OP://secret"])
@pytest.mark.parametrize("function", [secret, secret_file])
def test_references_that_are_not_supported(function: Callable[[str, str], Any], text: str) -> None:
    scheme = text.partition("/")[0].lower()
    with pytest.raises(natsery.ConfigError) as caught:
        function("token", text)
    assert str(caught.value) == f"token: is not supported; file://, env:// and data: are; got '{scheme}//…'"


def failure(reference: Any) -> str:
    with pytest.raises(natsery.ConfigError) as caught:
        reference()
    assert caught.value.__context__ is None or "secret" not in str(caught.value.__context__)
    return str(caught.value)
