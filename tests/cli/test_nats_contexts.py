"""The ``nats`` command's contexts: which one is read, and what is wrong with those that cannot be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import natsery
from natsery._cli._connection_options._nats_contexts import contexts_folder, read_context
from natsery._cli._connection_options._sources import Source
from natsery._cli._exit_codes import CommandError, Exit

# As `nats context add` of natscli 0.5.1 writes it, with nothing in it.
EMPTY: dict[str, Any] = {
    "description": "",
    "url": "",
    "socks_proxy": "",
    "token": "",
    "user": "",
    "password": "",
    "creds": "",
    "nkey": "",
    "cert": "",
    "key": "",
    "ca": "",
    "nsc": "",
    "jetstream_domain": "",
    "jetstream_api_prefix": "",
    "jetstream_event_prefix": "",
    "inbox_prefix": "",
    "user_jwt": "",
    "user_seed": "",
    "color_scheme": "",
    "tls_first": False,
    "windows_cert_store": "",
    "windows_cert_match_by": "",
    "windows_cert_match": "",
    "windows_ca_certs_match": None,
}


def write(folder: Path, name: str, **fields: Any) -> Path:
    path = folder / "context" / f"{name}.json"
    path.write_text(json.dumps({**EMPTY, **fields}))
    return path


def read(name: str | None, folder: Path) -> Source:
    source = read_context(name, folder)
    assert source is not None
    return source


def refused(name: str | None, folder: Path) -> str:
    with pytest.raises(CommandError) as caught:
        read_context(name, folder)
    assert caught.value.exit_code == Exit.USAGE
    return caught.value.message


def test_where_contexts_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert contexts_folder({"XDG_CONFIG_HOME": "/config"}) == Path("/config/nats")
    assert contexts_folder({}) == Path("/home/me/.config/nats")
    assert contexts_folder({"XDG_CONFIG_HOME": ""}) == Path("/home/me/.config/nats")


def test_all_that_a_context_says_is_read(contexts: Path) -> None:
    write(
        contexts,
        "full",
        url="nats://a, tls://b:1",
        user="u",
        password="p",
        token="t",
        creds="~/c.creds",
        nkey="n.nk",
        cert="cert.pem",
        key="key.pem",
        ca="ca.pem",
        inbox_prefix="_ME",
        tls_first=True,
        jetstream_domain="hub",
        something_new={"a": 1},
    )
    assert read("full", contexts).values == {
        "servers": ("nats://a", "tls://b:1"),
        "user": "u",
        "password": "p",
        "token": "t",
        "credentials": "~/c.creds",
        "nkey": "n.nk",
        "tls_cert": "cert.pem",
        "tls_key": "key.pem",
        "tls_ca": "ca.pem",
        "inbox_prefix": "_ME",
        "tls_first": True,
    }


def test_an_empty_context_says_nothing(contexts: Path) -> None:
    write(contexts, "empty")
    assert read("empty", contexts).values == {}
    (contexts / "context" / "null.json").write_text('{"url": null, "tls_first": null, "token": null}')
    assert read("null", contexts).values == {}


def test_names_of_fields_are_taken_in_either_case(contexts: Path) -> None:
    """A context with URL in it would go to the default server."""
    (contexts / "context" / "caps.json").write_text('{"URL": "nats://a", "User": "u", "Password": "p"}')
    assert read("caps", contexts).values == {"servers": ("nats://a",), "user": "u", "password": "p"}


def test_the_selected_context_is_read_if_none_is_named(contexts: Path) -> None:
    assert read_context(None, contexts) is None
    write(contexts, "one", url="nats://one")
    write(contexts, "two", url="nats://two")
    assert read_context(None, contexts) is None
    (contexts / "context.txt").write_text("one\n")
    assert read(None, contexts).values == {"servers": ("nats://one",)}
    assert read("two", contexts).values == {"servers": ("nats://two",)}
    (contexts / "context.txt").write_text("\n")
    assert read_context(None, contexts) is None


def test_nobody_who_does_not_use_nats_needs_its_folder(tmp_path: Path) -> None:
    assert read_context(None, tmp_path / "nowhere") is None


def test_a_context_may_be_a_file_elsewhere(contexts: Path, tmp_path: Path) -> None:
    path = tmp_path / "elsewhere.json"
    path.write_text('{"url": "nats://elsewhere"}')
    assert read(str(path), contexts).values == {"servers": ("nats://elsewhere",)}


def test_a_missing_context_names_the_file(contexts: Path) -> None:
    path = contexts / "context" / "gone.json"
    assert refused("gone", contexts) == f"the context 'gone' does not exist: there is no {path}"
    (contexts / "context.txt").write_text("gone")
    selection = contexts / "context.txt"
    assert (
        refused(None, contexts) == f"the context 'gone', which {selection} selects, does not exist: there is no {path}"
    )
    # It is the user's to select another one; the nats command would unselect it.
    assert selection.read_text() == "gone"


@pytest.mark.parametrize("name", ["../x", "a/b", "a\\b", "..", "/nowhere/x.json"])
def test_a_name_cannot_leave_the_folder(contexts: Path, name: str) -> None:
    assert refused(name, contexts) == f"{name!r} is neither a context's name nor a file that ends in .json"


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"url: nats://a", "is not JSON (Expecting value: line 1 column 1 (char 0))"),
        (b"", "is not JSON (Expecting value: line 1 column 1 (char 0))"),
        (b'{"password": "secret", }', "is not JSON ("),
        (b'["secret"]', "holds no JSON object"),
    ],
)
def test_a_broken_context_names_the_file_and_shows_nothing(contexts: Path, content: bytes, what: str) -> None:
    path = contexts / "context" / "bad.json"
    path.write_bytes(content)
    text = refused("bad", contexts)
    assert text.startswith(f"the context 'bad' is broken: {path} {what}")
    assert "secret" not in text
    assert "\n" not in text


def test_a_context_that_cannot_be_read_names_the_file(contexts: Path) -> None:
    path = contexts / "context" / "bad.json"
    path.write_bytes(b'{"password": "\xff"}')
    assert refused("bad", contexts) == f"the context 'bad' cannot be read from {path}: it is not a text file"
    path.unlink()
    path.mkdir()
    assert refused("bad", contexts) == f"the context 'bad' cannot be read from {path}: Is a directory"
    selection = contexts / "context.txt"
    selection.mkdir()
    assert refused(None, contexts) == f"the selected context cannot be read from {selection}: Is a directory"


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"url": 5}, "url of the context {path!r}: must be a str; got 'int'"),
        ({"password": ["secret"]}, "password of the context {path!r}: must be a str; got 'list'"),
        ({"tls_first": "secret"}, "tls_first of the context {path!r}: must be a bool; got 'str'"),
        ({"inbox_prefix": "a b"}, "inbox_prefix of the context {path!r}: must not contain white space"),
    ],
)
def test_a_value_that_breaks_a_rule_is_named(contexts: Path, fields: dict[str, Any], text: str) -> None:
    path = write(contexts, "bad", **fields)
    with pytest.raises(natsery.ConfigError) as caught:
        read_context("bad", contexts)
    assert str(caught.value).startswith(text.format(path=str(path)))
    assert "secret" not in str(caught.value)
