"""Who connects: every kind of credentials, right and wrong, at the start."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import anyio
import pytest

import natsery
from natsery._protocol._addresses import read_addresses

from ..operator_mode import ACCOUNT, USER, Account, Key, Operator, nkey_config
from ..server import NatsServer
from .tools import (
    FUNCTIONS,
    PASSWORD,
    TOKEN,
    WRONG,
    bounded,
    connection_error,
    password_config,
    recording_server,
    token_config,
)

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("nothing_left")]


@pytest.fixture(scope="module")
def password_server() -> Iterator[NatsServer]:
    with NatsServer(password_config(PASSWORD)) as server:
        yield server


@pytest.fixture(scope="module")
def token_server() -> Iterator[NatsServer]:
    with NatsServer(token_config(TOKEN)) as server:
        yield server


@pytest.fixture(scope="module")
def key() -> Key:
    return Key(USER)


@pytest.fixture(scope="module")
def nkey_server(key: Key) -> Iterator[NatsServer]:
    with NatsServer(nkey_config(key)) as server:
        yield server


def giving(value: Any, how: str) -> Any:
    """A value itself, or a function that gives it, async or not."""
    if how == "value":
        return value

    def give(*_: object) -> Any:
        return value

    async def give_later(*_: object) -> Any:
        await anyio.lowlevel.checkpoint()
        return value

    return give if how == "function" else give_later


HOWS = pytest.mark.parametrize("how", ["value", "function", "async function"])


async def works(servers: str, **options: Any) -> None:
    """Connect, and have something go to the server and back."""
    with bounded():
        async with natsery.connect(servers, **options) as nc, nc.subscribe("there.and.back") as messages:
            await nc.publish("there.and.back", b"x")
            assert (await messages.receive()).data == b"x"


# The right ones


@HOWS
async def test_user_and_password(password_server: NatsServer, how: str) -> None:
    await works(password_server.url, user=giving("u", how), password=giving(PASSWORD, how))


async def test_user_and_password_in_the_url(password_server: NatsServer) -> None:
    await works(f"nats://u:{quote(PASSWORD, safe='')}@127.0.0.1:{password_server.port}")


async def test_options_win_over_the_url(password_server: NatsServer) -> None:
    await works(f"nats://u:{WRONG}@127.0.0.1:{password_server.port}", user="u", password=PASSWORD)


@HOWS
async def test_token(token_server: NatsServer, how: str) -> None:
    await works(token_server.url, token=giving(TOKEN, how))


async def test_token_in_the_url(token_server: NatsServer) -> None:
    await works(f"nats://{quote(TOKEN)}@127.0.0.1:{token_server.port}")


@HOWS
async def test_seed(nkey_server: NatsServer, key: Key, how: str) -> None:
    await works(nkey_server.url, nkey_seed=giving(key.seed, how))


@pytest.mark.parametrize("kind", [str, Path])
async def test_seed_in_a_file(nkey_server: NatsServer, key: Key, kind: Callable[[Path], Any], tmp_path: Path) -> None:
    file = tmp_path / "user.nk"
    file.write_text(f"{key.seed}\n")
    await works(nkey_server.url, nkey_seed=kind(file))


@pytest.mark.parametrize("kind", [str, Path])
async def test_credentials_file(
    operator_server: NatsServer, operator: Operator, kind: Callable[[Path], Any], tmp_path: Path
) -> None:
    await works(operator_server.url, credentials=kind(operator.account.user().write_credentials(tmp_path / "u.creds")))


@FUNCTIONS
async def test_credentials_from_a_function(operator_server: NatsServer, operator: Operator, how: str) -> None:
    await works(operator_server.url, credentials=giving(operator.account.user().credentials, how))


async def test_credentials_with_line_ends_of_windows(operator_server: NatsServer, operator: Operator) -> None:
    text = operator.account.user().credentials.replace("\n", "\r\n")
    await works(operator_server.url, credentials=lambda: text)


def signer(key: Key, how: str) -> Any:
    async def sign(nonce: bytes) -> bytes:
        await anyio.lowlevel.checkpoint()
        return key.sign(nonce)

    return key.sign if how == "function" else sign


@FUNCTIONS
async def test_nkey_with_an_external_signer(nkey_server: NatsServer, key: Key, how: str) -> None:
    await works(nkey_server.url, nkey=key.public, sign=signer(key, how))


@FUNCTIONS
async def test_jwt_with_an_external_signer(operator_server: NatsServer, operator: Operator, how: str) -> None:
    user = operator.account.user()
    await works(operator_server.url, jwt=giving(user.jwt, how), sign=signer(user.key, how))


async def test_credentials_for_a_server_that_wants_none(
    operator: Operator, tmp_path: Path, nats_server: NatsServer
) -> None:
    file = operator.account.user().write_credentials(tmp_path / "u.creds")
    await works(nats_server.url, credentials=file)
    await works(nats_server.url, nkey=Key(USER).public, sign=giving(b"not asked", "function"))


# The wrong ones


async def refused(servers: str, caplog: pytest.LogCaptureFixture, *hidden: str, **options: Any) -> None:
    """The first connection fails at once, whether or not it may be tried again, and shows no secret."""
    for retry in (False, True):
        error = await connection_error(servers, caplog, hidden=hidden, retry_first_connect=retry, **options)
        assert type(error) is natsery.AuthorizationError
        assert str(error) == f"{error.server} refuses the credentials: Authorization Violation"
        assert error.server in [str(address) for address in read_addresses(servers)]


async def test_wrong_password(password_server: NatsServer, caplog: pytest.LogCaptureFixture) -> None:
    await refused(password_server.url, caplog, WRONG, user="u", password=WRONG)
    await refused(f"nats://u:{WRONG}@127.0.0.1:{password_server.port}", caplog, WRONG)


async def test_no_password(password_server: NatsServer, caplog: pytest.LogCaptureFixture) -> None:
    await refused(password_server.url, caplog)


async def test_wrong_token(token_server: NatsServer, caplog: pytest.LogCaptureFixture) -> None:
    await refused(token_server.url, caplog, WRONG, token=WRONG)
    await refused(f"nats://{WRONG}@127.0.0.1:{token_server.port}", caplog, WRONG)


async def test_wrong_seed(nkey_server: NatsServer, caplog: pytest.LogCaptureFixture) -> None:
    seed = Key(USER).seed
    await refused(nkey_server.url, caplog, seed, nkey_seed=seed)


async def test_wrong_signature(nkey_server: NatsServer, key: Key, caplog: pytest.LogCaptureFixture) -> None:
    await refused(nkey_server.url, caplog, nkey=key.public, sign=Key(USER).sign)


async def test_credentials_of_another_account(operator_server: NatsServer, caplog: pytest.LogCaptureFixture) -> None:
    user = Account("strangers").user()
    hidden = (user.jwt, user.key.seed)
    await refused(operator_server.url, caplog, *hidden, credentials=lambda: user.credentials)


async def test_expired_jwt(operator_server: NatsServer, operator: Operator, caplog: pytest.LogCaptureFixture) -> None:
    user = operator.account.user(expires=time.time() - 60)
    hidden = (user.jwt, user.key.seed)
    await refused(operator_server.url, caplog, *hidden, credentials=lambda: user.credentials)


async def test_a_refusal_is_not_made_up_for_by_another_server(
    password_server: NatsServer, nats_server: NatsServer
) -> None:
    """The order is the given one, and wrong credentials are a mistake of this program, not a server that is away."""
    error = await connection_error(
        [password_server.url, nats_server.url], shuffle=False, user="u", password=WRONG, hidden=(WRONG,)
    )
    assert isinstance(error, natsery.AuthorizationError)


@pytest.mark.parametrize("text", ["Authorization Timeout", "Authentication Timeout"])
async def test_too_slow_for_the_server(text: str) -> None:
    """Not that the credentials were wrong: trying again may help."""

    async def script(stream: anyio.abc.ByteStream) -> None:
        await stream.receive()
        await stream.send(f"-ERR '{text}'\r\n".encode())
        await stream.aclose()

    with bounded():
        async with recording_server(b"INFO {}\r\n", script) as server:
            error = await connection_error(server.url, user="u", password=PASSWORD, hidden=(PASSWORD,))
    assert isinstance(error, natsery.ConnectError)
    assert str(error) == f"cannot connect to NATS ({server.url}: the server reports an error: {text})"


# What cannot be read


async def unreadable(caplog: pytest.LogCaptureFixture, *hidden: str, **options: Any) -> str:
    """The text of a ConfigError; no server is asked."""
    with bounded():
        async with recording_server(b'INFO {"nonce":"n"}\r\n') as server:
            error = await connection_error(server.url, caplog, hidden=hidden, retry_first_connect=True, **options)
            assert server.received == b""
    assert type(error) is natsery.ConfigError
    return str(error)


@pytest.mark.parametrize("field", ["credentials", "nkey_seed"])
async def test_a_file_that_is_not_there(field: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "none.creds"
    for value in (file, str(file)):
        text = await unreadable(caplog, **{field: value})
        assert text == f"{field}: cannot be read (No such file or directory); got {str(file)!r}"


@pytest.mark.parametrize("field", ["credentials", "nkey_seed"])
async def test_a_file_that_is_no_text(field: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "binary"
    file.write_bytes(b"\xff\xfe\x00")
    assert await unreadable(caplog, **{field: file}) == f"{field}: is not a text file; got {str(file)!r}"


@pytest.mark.parametrize("field", ["credentials", "nkey_seed"])
async def test_a_folder(field: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    text = await unreadable(caplog, **{field: tmp_path})
    assert text == f"{field}: cannot be read (Is a directory); got {str(tmp_path)!r}"


async def test_credentials_without_a_block(
    operator: Operator, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    user = operator.account.user()
    file = tmp_path / "user.creds"
    jwt, seed = user.credentials.split("*****", 1)
    for text, missing in ((jwt, "USER NKEY SEED"), (seed, "NATS USER JWT"), ("", "NATS USER JWT")):
        file.write_text(text)
        shown = await unreadable(caplog, user.jwt, user.key.seed, credentials=file)
        assert shown == f"credentials: holds no block {missing!r}, so it is no credentials file; got {str(file)!r}"


def mistyped(seed: str) -> str:
    return seed[:-1] + ("A" if seed[-1] != "A" else "B")


@pytest.mark.parametrize("make", [mistyped, lambda seed: seed[:-4], lambda seed: Key(ACCOUNT).seed, lambda seed: "é"])
async def test_a_malformed_seed(
    make: Callable[[str], str], operator: Operator, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    user = operator.account.user()
    seed = make(user.key.seed)
    rule = "holds no seed of a user's key (SU…), or a mistyped one"

    file = tmp_path / "user.creds"
    file.write_text(user.credentials.replace(user.key.seed, seed))
    text = await unreadable(caplog, seed, user.jwt, credentials=file)
    assert text == f"credentials: {rule}; got {str(file)!r}"

    file = tmp_path / "user.nk"
    file.write_text(seed)
    assert await unreadable(caplog, seed, nkey_seed=file) == f"nkey_seed: {rule}; got {str(file)!r}"
    text = await unreadable(caplog, seed, nkey_seed=lambda: seed)
    assert text == f"nkey_seed: {rule}; got 'the text that the function returned'"


async def test_a_mistyped_seed_as_text(key: Key, caplog: pytest.LogCaptureFixture) -> None:
    seed = mistyped(key.seed)
    text = await unreadable(caplog, seed, nkey_seed=seed)
    assert text == "nkey_seed: holds no seed of a user's key (SU…), or a mistyped one; got 'a seed'"


async def test_the_seed_of_another_kind_of_key_as_text(caplog: pytest.LogCaptureFixture) -> None:
    seed = Key(ACCOUNT).seed
    text = await unreadable(caplog, seed, nkey_seed=seed)
    assert text == "nkey_seed: holds no seed of a user's key (SU…), or a mistyped one; got 'a seed'"


@pytest.mark.parametrize("field", ["credentials", "nkey_seed"])
async def test_without_the_package_nkeys(
    field: str, operator: Operator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    user = operator.account.user()
    file = tmp_path / "user"
    file.write_text(user.credentials if field == "credentials" else user.key.seed)
    monkeypatch.setitem(sys.modules, "nkeys", None)
    text = await unreadable(caplog, user.jwt, user.key.seed, **{field: file})
    assert text == f"{field}: needs the package nkeys, so run: pip install 'natsery[nkeys]'; got {str(file)!r}"


CALLABLES: list[dict[str, Any]] = [
    {"user": None, "password": "p"},
    {"user": "u", "password": None},
    {"token": None},
    {"credentials": None},
    {"nkey_seed": None},
    {"jwt": None, "sign": lambda nonce: bytes(64)},
]
"""Options where a function belongs in place of None."""

CALLABLE = pytest.mark.parametrize(
    "options", CALLABLES, ids=lambda options: next(k for k in options if options[k] is None)
)


@CALLABLE
@FUNCTIONS
async def test_a_function_that_gives_another_type(
    options: dict[str, Any], how: str, caplog: pytest.LogCaptureFixture
) -> None:
    field = next(name for name, value in options.items() if value is None)
    text = await unreadable(caplog, WRONG, **{**options, field: giving(WRONG.encode(), how)})
    assert text == f"{field}: the function must return a str; got 'bytes'"


@FUNCTIONS
@pytest.mark.parametrize("given", ["text", b"short", None])
async def test_a_signer_that_gives_something_else(
    how: str, given: object, key: Key, caplog: pytest.LogCaptureFixture
) -> None:
    text = await unreadable(caplog, nkey=key.public, sign=giving(given, how))
    got = "5 bytes" if given == b"short" else type(given).__name__
    assert text == f"sign: the function must return the 64 bytes of a signature; got {got!r}"


@pytest.mark.parametrize("options", [*CALLABLES, {"nkey": "U", "sign": None}])
@FUNCTIONS
async def test_a_function_that_raises(options: dict[str, Any], how: str, nkey_server: NatsServer) -> None:
    """What it raises is raised at the start, the same object."""
    failure = LookupError("no secret")

    def fail(*_: object) -> Any:
        raise failure

    async def fail_later(*_: object) -> Any:
        raise failure

    field = next(name for name, value in options.items() if value is None)
    function = fail if how == "function" else fail_later
    error = await connection_error(nkey_server.url, **{**options, field: function}, retry_first_connect=True)
    assert error is failure
