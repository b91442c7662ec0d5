"""The options of a connection: what a command gets, what it passes on, and how it ends when nothing comes of it."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import anyio
import click
import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

import natsery
from natsery._cli._app import cli
from natsery._cli._connection_options._help import ConnectingCommand
from natsery._cli._connection_options._secrets import secret_file
from natsery._cli._connection_options._settings import Settings, connection_options
from natsery._cli._connection_options._sources import FIELDS
from natsery._cli._exit_codes import Exit
from natsery._cli._runner import run_async

from ..bounds import HANG_SECONDS
from ..certificates import Certificates
from ..operator_mode import USER, Key, Operator, nkey_config
from ..server import NatsServer
from .conftest import Result

Run = Callable[..., Result]

SECRET = "my-secret"
CONTEXT = click.Context(cli)
COMMANDS = {name: cli.get_command(CONTEXT, name) for name in cli.list_commands(CONTEXT)}
CONNECTING = [
    name
    for name, command in COMMANDS.items()
    if command is not None and any(each.name == "servers" for each in command.params)
]
ARGUMENTS = {
    "request": ("subject", "data"),
    "schema": ("calc",),
    "run": (f"{__package__}.conftest:CALC",),
    "probe": ("calc",),
    "export": ("--once",),
}


@click.command(cls=ConnectingCommand)
@click.option("--own", is_flag=True, help="An option of the command.")
@click.argument("name", default="")
@connection_options
def remember(settings: Settings, name: str, *, own: bool) -> None:
    """Remember the settings."""
    seen.append(settings)


@click.command(cls=ConnectingCommand)
@connection_options
def reach(settings: Settings) -> None:
    """Connect, and have the server answer."""

    async def flush() -> None:
        with anyio.fail_after(HANG_SECONDS):
            async with settings.connect("natsery reach") as nc:
                await nc.flush()
        click.echo("reached")

    run_async(flush)


seen: list[Settings] = []


@pytest.fixture(autouse=True)
def _test_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    seen.clear()
    monkeypatch.setitem(cli.commands, "remember", remember)
    monkeypatch.setitem(cli.commands, "reach", reach)


@pytest.fixture
def run(run: Run, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the command, with nothing about NATS in the environment."""
    monkeypatch.delenv("NATS_URL")
    return run


@pytest.fixture
def settings(run: Run) -> Callable[..., Settings]:
    """The settings that options give."""

    def settings(*options: str) -> Settings:
        result = run("remember", *options)
        assert result == Result(0, "", "")
        return seen[-1]

    return settings


@pytest.fixture
def fails(run: Run) -> Callable[..., str]:
    """The one line that is left of a failure."""

    def fails(status: Exit, *arguments: str) -> str:
        result = run(*arguments)
        assert result.status == status, result
        assert result.out == ""
        line = result.err.removesuffix("\n")
        assert line.startswith("Error: ")
        assert len(line.splitlines()) == 1
        assert SECRET not in line
        return line.removeprefix("Error: ")

    return fails


# What a command gets


def test_without_anything_it_is_the_server_of_this_machine(settings: Callable[..., Settings]) -> None:
    assert settings() == Settings()
    assert Settings().servers == ("nats://127.0.0.1:4222",)
    assert Settings().prefix == "$SRV"


OPTIONS = {
    "--server a --server b": {"servers": ("a", "b")},
    "-s nats://a,b": {"servers": ("nats://a", "b")},
    "--user u --password p": {"user": "u", "password": "p"},
    "--token t": {"token": "t"},
    "--creds c": {"credentials": "c"},
    "--nkey n": {"nkey": "n"},
    "--tls": {"tls": True},
    "--tls-ca a": {"tls_ca": "a"},
    "--tlsca a": {"tls_ca": "a"},
    "--tls-cert c --tls-key k": {"tls_cert": "c", "tls_key": "k"},
    "--tlscert c --tlskey k": {"tls_cert": "c", "tls_key": "k"},
    "--tls-first": {"tls_first": True},
    "--tlsfirst": {"tls_first": True},
    "--connect-timeout 0.1": {"connect_timeout": 0.1},
    "--inbox-prefix _ME": {"inbox_prefix": "_ME"},
    "--prefix $OTHER": {"prefix": "$OTHER"},
}


@pytest.mark.parametrize("options", OPTIONS)
def test_options(settings: Callable[..., Settings], options: str) -> None:
    assert settings(*options.split()) == Settings(**OPTIONS[options])


def test_every_field_has_an_option() -> None:
    assert {key for given in OPTIONS.values() for key in given} == {
        each.name for each in fields(Settings) if each.compare
    }


def write_context(folder: Path, name: str, **given: Any) -> None:
    (folder / "context" / f"{name}.json").write_text(json.dumps(given))


def test_which_context_counts(
    settings: Callable[..., Settings], contexts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "two", "three"):
        write_context(contexts, name, url=f"nats://{name}")

    def server(*options: str) -> str:
        return settings(*options).servers[0]

    (contexts / "context.txt").write_text("one")
    assert server() == "nats://one"
    assert server("--no-context") == "nats://127.0.0.1:4222"
    assert server("--context", "two") == "nats://two"
    monkeypatch.setenv("NATS_CONTEXT", "three")
    assert server() == "nats://three"
    assert server("--context", "two") == "nats://two"
    assert server("--no-context") == "nats://127.0.0.1:4222"
    assert server("-s", "nats://four") == "nats://four"
    monkeypatch.setenv("NATSERY_NO_CONTEXT", "1")
    assert server() == "nats://127.0.0.1:4222"
    assert server("--context", "two") == "nats://two"


def test_options_environment_and_context_together(
    settings: Callable[..., Settings], contexts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_context(
        contexts, "one", url="nats://c", user="u", password="p", inbox_prefix="_C", ca="c.pem", tls_first=True
    )
    monkeypatch.setenv("NATS_CONTEXT", "one")
    monkeypatch.setenv("NATS_CA", "e.pem")
    monkeypatch.setenv("NATS_URL", "nats://e")
    expected = Settings(servers=("o",), token="t", inbox_prefix="_C", tls_ca="e.pem", tls_first=True)
    assert settings("-s", "o", "--token", "t") == expected


def test_secrets_are_not_in_the_repr() -> None:
    given = {each.name: SECRET for each in fields(Settings) if each.name in SECRETS}
    assert len(given) == len(SECRETS)
    assert SECRET not in repr(Settings(servers=(f"nats://u:{SECRET}@a",), **given))


SECRETS = ("password", "token", "credentials", "nkey")


# What it passes on

ALL = [
    Settings(),
    Settings(
        servers=("nats://a", "tls://u:p%2C@[::1]:1"),
        user="ü",
        password="p 'ä'",
        tls=True,
        tls_ca="ca.pem",
        tls_cert="cert.pem",
        tls_key="key.pem",
        tls_first=True,
        connect_timeout=1 / 3,
        inbox_prefix="_ME",
        prefix="$OTHER",
    ),
    Settings(servers=("nats://u:p@a",), token="t"),
    Settings(credentials="env://X", connect_timeout=float("inf")),
    Settings(nkey="~/n.nk"),
    Settings(user="env://NATS_USER", password="p"),
]


@pytest.mark.parametrize("given", ALL)
def test_a_child_gets_the_same_settings(
    settings: Callable[..., Settings], given: Settings, contexts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever its parent's environment says, and whatever context is selected by then."""
    for each in FIELDS:
        if each.variable:
            monkeypatch.setenv(each.variable, "1")
    (contexts / "context.txt").write_text("gone")
    monkeypatch.setenv("NATS_CONTEXT", "gone")
    for name, value in given.as_environment().items():
        monkeypatch.setenv(name, value)
    assert settings() == given


@pytest.mark.parametrize("field", ["password", "token", "credentials", "nkey"])
def test_a_child_reads_what_a_variable_holds_that_is_replaced_for_it(
    field: str, settings: Callable[..., Settings], contexts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker got the reference in place of the token: `--token env://NATS_TOKEN` worked without `--workers` only."""
    for variable in ("NATS_TOKEN", "NATSERY_PREFIX"):
        with monkeypatch.context() as patch:
            patch.setenv(variable, SECRET)
            user = {"user": "u"} if field == "password" else {}
            for name, value in Settings(**{field: f"env://{variable}"}, **user).as_environment().items():
                patch.setenv(name, value)
            read = secret_file(field, getattr(settings(), field))
            assert callable(read)
            assert read() == SECRET


def test_every_field_is_passed_on() -> None:
    default = Settings()
    changed = {
        each.name for given in ALL for each in fields(given) if getattr(given, each.name) != getattr(default, each.name)
    }
    assert changed == {each.name for each in fields(Settings) if each.compare}


def test_an_option_goes_before_what_a_parent_passes_on(
    settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in ALL[1].as_environment().items():
        monkeypatch.setenv(name, value)
    assert settings("-s", "b").servers == ("b",)


# Checks


@pytest.mark.parametrize(
    ("options", "environment", "context", "text"),
    [
        ("-s http://u:secret@a", {}, {}, "--server: must begin with nats:// or tls://; got '…@a'"),
        ("", {"NATS_URL": "nats://a:x"}, {}, "NATS_URL: must have a port that is a number"),
        ("", {}, {"url": "http://a"}, "url of the context '{path}': must begin with nats:// or tls://; got 'http://a'"),
        ("", {"NATS_URL": "b"}, {"url": "http://a"}, ""),
        ("--connect-timeout 0", {}, {}, "--connect-timeout: must be a number of seconds, more than 0; got 0.0"),
        (
            "",
            {"NATSERY_CONNECT_TIMEOUT": "nan"},
            {},
            "NATSERY_CONNECT_TIMEOUT: must be a number of seconds, more than 0",
        ),
        ("--tls-ca nothing", {}, {}, "TLS authority: cannot be read"),
    ],
)
def test_what_breaks_a_rule_is_named_as_it_was_given(
    settings: Callable[..., Settings],
    contexts: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: str,
    environment: dict[str, str],
    context: dict[str, str],
    text: str,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    write_context(contexts, "one", **context)
    given = settings("--context", "one", *options.split())
    if not text:
        anyio.run(given.check, backend="trio")  # there is no such server, and none is needed
        return
    with pytest.raises(natsery.ConfigError) as caught:
        anyio.run(given.check, backend="trio")
    assert str(caught.value).startswith(text.format(path=contexts / "context" / "one.json"))
    assert "secret" not in str(caught.value)


# Help


def test_the_connection_is_apart_in_the_help(run: Run) -> None:
    text = run("remember", "--help").out
    assert text.index("Options:") < text.index("--own") < text.index("--help") < text.index("Connection:")
    assert text.index("Connection:") < text.index("-s, --server URL") < text.index("--tls-ca, --tlsca FILE")
    assert "  [NAME]\n" not in text
    for each in FIELDS:
        if each.option:
            assert f"${each.variable}" in text.replace("\n", "")
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize("name", CONNECTING)
def test_every_command_has_it_apart(run: Run, name: str) -> None:
    assert isinstance(COMMANDS[name], ConnectingCommand)
    assert "\nConnection:\n" in run(name, "--help").out


def test_the_list_of_commands_cuts_no_sentence_short(run: Run) -> None:
    """What ``request`` and ``schema`` are for ended in dots."""
    assert "..." not in run("--help").out.partition("Commands:")[2]


# Failures: one line each


@pytest.fixture
def nobody() -> Iterator[str]:
    """The URL of a port where nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield f"nats://127.0.0.1:{sock.getsockname()[1]}"


@pytest.fixture(scope="module")
def password_server() -> Iterator[NatsServer]:
    with NatsServer(f'authorization {{ user: u, password: "{SECRET}" }}') as server:
        yield server


@pytest.fixture(scope="module")
def tls_server(certificates: Certificates) -> Iterator[NatsServer]:
    with NatsServer(certificates.server_config()) as server:
        yield server


@pytest.mark.parametrize("name", CONNECTING)
def test_no_server(fails: Callable[..., str], nobody: str, name: str) -> None:
    text = fails(Exit.UNREACHABLE, name, *ARGUMENTS.get(name, ()), "-s", nobody)
    assert text == f"cannot connect to NATS ({nobody}: Connection refused)"


def test_several_servers_and_nobody(fails: Callable[..., str], nobody: str) -> None:
    text = fails(
        Exit.UNREACHABLE, "reach", "-s", f"nats://u:{SECRET}@{nobody.removeprefix('nats://')}", "-s", "127.0.0.1:1"
    )
    assert f"{nobody}: Connection refused" in text
    assert "nats://127.0.0.1:1: Connection refused" in text


@pytest.mark.parametrize("options", [(), ("--user", "u", "--password", f"wrong-{SECRET}"), ("--token", SECRET)])
def test_wrong_credentials(fails: Callable[..., str], password_server: NatsServer, options: tuple[str, ...]) -> None:
    text = fails(Exit.UNREACHABLE, "reach", "-s", password_server.url, *options)
    assert text == f"{password_server.url} refuses the credentials: Authorization Violation"


def test_a_frozen_server(fails: Callable[..., str]) -> None:
    with NatsServer() as server:
        server.freeze()
        text = fails(Exit.UNREACHABLE, "reach", "-s", server.url, "--connect-timeout", "0.1")
        # What it waits for is the network or INFO, as fast as this machine is.
        assert text.startswith(
            f"cannot connect to NATS ({server.url}: gave up after 0.1 s (connect_timeout), waiting for "
        )
        server.thaw()


@pytest.mark.parametrize("options", [("--tls",), ("--tls-ca", "authority"), ("--tls-cert", "cert", "--tls-key", "key")])
def test_tls_that_is_not_offered(
    fails: Callable[..., str], nats_server: NatsServer, certificates: Certificates, options: tuple[str, ...]
) -> None:
    files = {"authority": certificates.authority, "cert": certificates.client.chain, "key": certificates.client.key}
    given = [str(files.get(each, each)) for each in options]
    text = fails(Exit.UNREACHABLE, "reach", "-s", nats_server.url, *given)
    assert text == f"TLS is wanted and {nats_server.url} does not offer it; nothing secret was sent"


def test_another_authority(fails: Callable[..., str], tls_server: NatsServer, tmp_path: Path) -> None:
    trustme.CA().cert_pem.write_to_path(tmp_path / "ca.pem")
    for options in (("--tls-ca", str(tmp_path / "ca.pem")), ()):
        text = fails(Exit.UNREACHABLE, "reach", "-s", tls_server.url, *options)
        assert text == (
            f"TLS with {tls_server.url} failed: its certificate is not accepted (unable to get local issuer certificate); "
            "name its authority in an ssl.SSLContext, or with --tls-ca"
        )


@pytest.mark.parametrize(
    ("url", "text"),
    [
        (f"http://u:{SECRET}@a", "--server: must begin with nats:// or tls://; got '…@a'"),
        ("nats://", "--server: must name a host; got 'nats://'"),
        (f"nats://u:{SECRET}@a/path", "--server: must end after the port; got '…@a/…'"),
        ("ws://a", "--server: WebSocket is not supported here; natsery.bridge and natsery.adapt can; got 'ws://a'"),
    ],
)
def test_a_url_that_is_none(fails: Callable[..., str], url: str, text: str) -> None:
    assert fails(Exit.USAGE, "reach", "-s", url) == text


def test_files_that_cannot_be_read(fails: Callable[..., str], tmp_path: Path) -> None:
    path = tmp_path / "nothing"
    for option, what in (
        ("--creds", "credentials"),
        ("--nkey", "nkey_seed"),
        ("--tls-ca", "TLS authority"),
        ("--tls-cert", "TLS certificate"),
    ):
        text = fails(Exit.USAGE, "reach", option, str(path))
        assert text == f"{what}: cannot be read (No such file or directory); got '{path}'"
    assert (
        fails(Exit.USAGE, "reach", "--creds", "a") == "credentials: cannot be read (No such file or directory); got 'a'"
    )


def test_files_that_hold_something_else(fails: Callable[..., str], tmp_path: Path, certificates: Certificates) -> None:
    path = tmp_path / "other"
    path.write_text(SECRET)
    chain, key = str(certificates.client.chain), str(certificates.client.key)
    encrypted = tmp_path / "encrypted.key"
    encrypted.write_bytes(
        load_pem_private_key(certificates.client.key.read_bytes(), None).private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"password")
        )
    )
    for options, text in (
        (
            ("--tls-cert", chain, "--tls-key", str(encrypted)),
            f"TLS certificate: is no certificate, or its key is none; a key must not be encrypted; got '{chain}'",
        ),
        (
            ("--creds", str(path)),
            f"credentials: holds no block 'NATS USER JWT', so it is no credentials file; got '{path}'",
        ),
        (("--nkey", str(path)), f"nkey_seed: holds no seed of a user's key (SU…), or a mistyped one; got '{path}'"),
        (("--tls-ca", str(path)), f"TLS authority: holds no certificate; got '{path}'"),
        (("--tls-ca", key), f"TLS authority: holds no certificate; got '{key}'"),
        (
            ("--tls-cert", str(path), "--tls-key", key),
            f"TLS certificate: is no certificate, or its key is none; a key must not be encrypted; got '{path}'",
        ),
        (
            ("--tls-cert", chain),
            f"TLS certificate: holds no certificate with its key; a key must not be encrypted; got '{chain}'",
        ),
        (
            ("--tls-cert", chain, "--tls-key", str(certificates.server.key)),
            f"TLS key: does not belong to the certificate '{chain}'; got '{certificates.server.key}'",
        ),
    ):
        assert fails(Exit.USAGE, "reach", *options) == text


def test_what_cannot_be_given_together(fails: Callable[..., str]) -> None:
    text = fails(Exit.USAGE, "reach", "--token", SECRET, "--user", "u", "--password", SECRET)
    assert text == "--user and --token cannot be given together"
    assert fails(Exit.USAGE, "reach", "--password", SECRET) == "--password needs --user"
    text = fails(Exit.USAGE, "reach", "--context", "a", "--no-context")
    assert text == "--context and --no-context cannot be given together"


def test_a_context_that_is_missing_or_broken(fails: Callable[..., str], contexts: Path) -> None:
    path = contexts / "context" / "one.json"
    assert fails(Exit.USAGE, "reach", "--context", "one") == f"the context 'one' does not exist: there is no {path}"
    path.write_text(SECRET)
    assert fails(Exit.USAGE, "reach", "--context", "one").startswith(f"the context 'one' is broken: {path} is not JSON")
    path.write_text(json.dumps({"nsc": SECRET}))
    assert fails(Exit.USAGE, "reach", "--context", "one") == (
        f"nsc of the context '{path}': looking credentials up with nsc is not supported; a credentials file is"
    )


# Successes


def test_user_and_password(run: Run, password_server: NatsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    reached = Result(0, "reached\n", "")
    assert run("reach", "-s", password_server.url, "--user", "u", "--password", SECRET) == reached
    monkeypatch.setenv("MINE", SECRET)
    assert run("reach", "-s", password_server.url, "--user", "u", "--password", "env://MINE") == reached
    monkeypatch.setenv("NATS_PASSWORD", SECRET)
    assert run("reach", "-s", password_server.url, "--user", "u") == reached


def test_an_inbox_prefix(nats_server: NatsServer) -> None:
    async def main() -> str:
        with anyio.fail_after(HANG_SECONDS):
            async with Settings(servers=(nats_server.url,), inbox_prefix="_ME").connect("natsery test") as nc:
                async with nc.subscribe("where") as messages, anyio.create_task_group() as tasks:
                    tasks.start_soon(nc.request, "where")
                    reply = (await messages.receive()).reply
                    tasks.cancel_scope.cancel()
                    return reply

    assert anyio.run(main).startswith("_ME.")


def test_a_token(run: Run) -> None:
    with NatsServer(f'authorization {{ token: "{SECRET}" }}') as server:
        for option in ("--token", "--user"):
            assert run("reach", "-s", server.url, option, SECRET).out == "reached\n"


def test_credentials_and_nkeys(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    operator, key = Operator(), Key(USER)
    monkeypatch.setenv("HOME", str(tmp_path))
    user = operator.account.user()
    user.write_credentials(tmp_path / "u.creds")
    (tmp_path / "u.nk").write_text(key.seed)
    with NatsServer(operator.server_config()) as server:
        assert run("reach", "-s", server.url, "--creds", "~/u.creds").out == "reached\n"
        monkeypatch.setenv("NATS_CREDS", f"file://{tmp_path}/u.creds")
        assert run("reach", "-s", server.url).out == "reached\n"
        monkeypatch.setenv("MINE", user.credentials)
        monkeypatch.setenv("NATS_CREDS", "env://MINE")
        assert run("reach", "-s", server.url).out == "reached\n"
        monkeypatch.delenv("NATS_CREDS")
    with NatsServer(nkey_config(key)) as server:
        assert run("reach", "-s", server.url, "--nkey", str(tmp_path / "u.nk")).out == "reached\n"


def test_tls(run: Run, certificates: Certificates, tmp_path: Path) -> None:
    both = tmp_path / "both.pem"
    both.write_text(certificates.client.chain.read_text() + certificates.client.key.read_text())
    trust = ("--tls-ca", str(certificates.authority))
    chain, key = str(certificates.client.chain), str(certificates.client.key)
    with NatsServer(certificates.server_config(options="verify: true")) as server:
        assert run("reach", "-s", server.url, *trust, "--tls-cert", chain, "--tls-key", key).out == "reached\n"
        assert run("reach", "-s", server.url, *trust, "--tls-cert", str(both)).out == "reached\n"
        assert run("reach", "-s", server.url, *trust).status == Exit.UNREACHABLE
    with NatsServer(certificates.server_config(options="handshake_first: true")) as server:
        assert run("reach", "-s", server.url, *trust, "--tls-first").out == "reached\n"


def test_the_settings_of_a_process_are_not_changed_by_it(run: Run) -> None:
    before = dict(os.environ)
    run("remember", "--token", SECRET)
    assert dict(os.environ) == before
