"""Credentials that change: read again at every connect, expired or refused under way."""

from __future__ import annotations

import logging
import secrets
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

import natsery
from natsery import EventKind

from ..certificates import Certificates
from ..operator_mode import USER, Key, Operator, nkey_config
from ..server import NatsServer, cluster
from .tools import AT_ONCE, FUNCTIONS, PASSWORD, QUICK, WRONG, Events, bounded, password_config, token_config

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("nothing_left")]


# Read again at every connect


async def reconnected(server: NatsServer, config: str, change: Callable[[], object], **options: Any) -> None:
    """Connect, restart the server with other credentials, and see the connection come back."""
    with bounded():
        async with natsery.connect(server.url, **options, **QUICK) as nc:
            events = Events(nc)
            change()
            server.restart(config)
            await events.wait(EventKind.RECONNECTED)
            await nc.flush()


@FUNCTIONS
async def test_functions_are_called_again_at_every_connect(how: str) -> None:
    values = {"user": "u", "password": "first", "token": "first"}

    def read(name: str) -> Any:
        async def give_later() -> str:
            return values[name]

        return (lambda: values[name]) if how == "function" else give_later

    with NatsServer(password_config("first")) as server:
        await reconnected(
            server,
            password_config("second").replace("user: u", "user: other"),
            lambda: values.update(user="other", password="second"),
            user=read("user"),
            password=read("password"),
        )
        server.restart(token_config("first"))
        await reconnected(server, token_config("second"), lambda: values.update(token="second"), token=read("token"))


@pytest.mark.parametrize("kind", ["file", "function"])
async def test_a_seed_is_read_again_at_every_connect(kind: str, tmp_path: Path) -> None:
    first, second = Key(USER), Key(USER)
    file = tmp_path / "user.nk"
    file.write_text(first.seed)
    seed = file if kind == "file" else file.read_text
    with NatsServer(nkey_config(first)) as server:
        await reconnected(server, nkey_config(second), lambda: file.write_text(second.seed), nkey_seed=seed)


async def test_a_credentials_file_is_read_again_at_every_connect(tmp_path: Path) -> None:
    first, second = Operator(), Operator()
    file = first.account.user().write_credentials(tmp_path / "user.creds")
    with NatsServer(first.server_config()) as server:
        await reconnected(
            server,
            second.server_config(),
            lambda: second.account.user().write_credentials(file),
            credentials=file,
        )


# Under way


async def soon(server: NatsServer, credentials: Path) -> float:
    """A time by which a JWT can have been used, however busy the machine is, and after which nobody waits long.

    JWTs know whole seconds only.
    """
    begun = time.time()
    async with natsery.connect(server.url, credentials=credentials):
        now = time.time()
    return now + 0.6 + 20 * (now - begun)


async def closes(nc: natsery.NativeConnection, events: Events, error: type[Exception]) -> str:
    """The connection closes for a reason, which every call gives from then on; returns its text."""
    await nc.wait_closed()
    reason = events.seen[-1].error
    assert events.seen[-1].kind is EventKind.CLOSED
    assert type(reason) is error
    calls: list[Callable[[], Any]] = [
        lambda: nc.publish("a", b""),
        lambda: nc.request("a", b""),
        lambda: nc.add_subscription("a", print),
        nc.flush,
    ]
    for call in calls:
        with pytest.raises(natsery.ConnectionClosedError) as caught:
            await call()
        assert caught.value.__cause__ is reason
        assert str(caught.value) == f"the NATS connection is closed: {reason}"
    return str(reason)


async def test_jwts_that_expire(operator_server: NatsServer, operator: Operator, tmp_path: Path) -> None:
    """Of two, one has a successor in its file by then."""
    replaced, left = tmp_path / "replaced.creds", tmp_path / "left.creds"
    with bounded():
        expires = await soon(operator_server, operator.account.user().write_credentials(left))
        user = operator.account.user(expires=expires)
        for file in (replaced, left):
            user.write_credentials(file)
        async with (
            natsery.connect(operator_server.url, credentials=replaced, **QUICK) as lasting,
            natsery.connect(operator_server.url, credentials=left, **AT_ONCE) as ending,
        ):
            lasting_events, ending_events = Events(lasting), Events(ending)
            operator.account.user().write_credentials(replaced)
            lost = await lasting_events.wait(EventKind.DISCONNECTED)
            assert str(lost.error) == "the server refuses the credentials: User Authentication Expired"
            await lasting_events.wait(EventKind.RECONNECTED)
            await lasting.flush()
            text = await closes(ending, ending_events, natsery.AuthorizationError)
            # Within the second in which it expires the server says so, and later only that it refuses.
            assert text.startswith(f"{operator_server.url} refuses the credentials: ")


async def test_those_who_wait_when_the_credentials_are_refused_hear_why() -> None:
    """They got a ConnectionClosedError that did not say why the connection is closed."""
    errors: list[natsery.ConnectionClosedError] = []

    async def ask() -> None:
        with pytest.raises(natsery.ConnectionClosedError) as caught:
            await nc.request("never.answered")
        errors.append(caught.value)

    async def listen() -> None:
        with pytest.raises(natsery.ConnectionClosedError) as caught:
            async with nc.subscribe("never.sent") as messages:
                await messages.receive()
        errors.append(caught.value)

    with NatsServer(password_config("first")) as server, bounded():
        async with natsery.connect(server.url, user="u", password="first", **AT_ONCE) as nc:
            async with nc.subscribe("never.answered"), anyio.create_task_group() as tasks:
                tasks.start_soon(ask)
                tasks.start_soon(listen)
                await anyio.wait_all_tasks_blocked()
                await nc.flush()
                server.reload(password_config("second"))
    start = f"the NATS connection is closed: {server.url} refuses the credentials: "
    assert [str(error).startswith(start) for error in errors] == [True, True]
    assert all(isinstance(error.__cause__, natsery.AuthorizationError) for error in errors)


async def test_a_service_ends_when_its_credentials_are_refused() -> None:
    with NatsServer(password_config("first")) as server, bounded():
        async with natsery.connect(server.url, user="u", password="first", **AT_ONCE) as nc:
            with pytest.raises(natsery.ConnectionClosedError, match="refuses the credentials"):
                async with natsery.serve(nc, natsery.ServiceConfig("s", "1.0.0")) as service:
                    server.reload(password_config("second"))
                    await service.wait_stopped()


async def test_a_file_that_is_gone_when_it_is_needed_again(operator: Operator, tmp_path: Path) -> None:
    file = operator.account.user().write_credentials(tmp_path / "user.creds")
    with NatsServer(operator.server_config()) as server, bounded():
        async with natsery.connect(server.url, credentials=file, **AT_ONCE) as nc:
            events = Events(nc)
            file.unlink()
            server.restart()
            text = await closes(nc, events, natsery.ConfigError)
            assert text == f"credentials: cannot be read (No such file or directory); got {str(file)!r}"


async def test_a_password_changed_by_a_reload() -> None:
    password = "first"
    with NatsServer(password_config("first")) as server, bounded():
        async with natsery.connect(server.url, user="u", password=lambda: password, **AT_ONCE) as nc:
            events = Events(nc)
            password = "second"
            server.reload(password_config("second"))
            lost = await events.wait(EventKind.DISCONNECTED)
            assert lost.error is not None
            await events.wait(EventKind.RECONNECTED)
            await nc.flush()
            events = Events(nc)
            server.reload(password_config("third"))
            await closes(nc, events, natsery.AuthorizationError)


async def test_a_refusal_once_is_given_another_try() -> None:
    """A server that is just being given its new users refuses the right credentials for a moment."""
    attempts = 0

    def password() -> str:
        nonlocal attempts
        attempts += 1
        return WRONG if attempts == 2 else PASSWORD

    with NatsServer(password_config(PASSWORD)) as server, bounded():
        async with natsery.connect(server.url, user="u", password=password, **QUICK) as nc:
            events = Events(nc)
            server.restart()
            await events.wait(EventKind.RECONNECTED)
    assert attempts == 3


async def test_a_function_that_raises_under_way() -> None:
    """What it raised is why the connection closes."""
    failure: Exception | None = None

    def password() -> str:
        if failure is not None:
            raise failure
        return PASSWORD

    with NatsServer(password_config(PASSWORD)) as server, bounded():
        async with natsery.connect(server.url, user="u", password=password, **AT_ONCE) as nc:
            events = Events(nc)
            failure = LookupError("no secret")
            server.restart()
            assert await closes(nc, events, LookupError) == "no secret"
            assert events.seen[-1].error is failure


async def test_a_function_that_raises_while_moving_away_from_a_server(caplog: pytest.LogCaptureFixture) -> None:
    """It tore down the block as an exception group, although the connection still worked."""
    calls = 0
    caplog.set_level(logging.INFO, "natsery")

    def password() -> str:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise LookupError("no secret")
        return "p"

    config = 'authorization { user: u, password: p }\nlame_duck_duration: "30s"\nlame_duck_grace_period: "20s"'
    with cluster(config) as (one, _), bounded():
        async with natsery.connect(one.url, user="u", password=password, shuffle=False, **QUICK) as nc:
            events = Events(nc)
            one.lame_duck()
            while "LookupError('no secret')" not in caplog.text:
                await nc.flush()
            one.kill()
            await events.wait(EventKind.RECONNECTED)
            await nc.flush()


# Short trouble


def errors_of(events: Events) -> list[Exception | None]:
    return [event.error for event in events.seen if event.kind is EventKind.ERROR]


@pytest.mark.parametrize(
    "error", [LookupError, FileNotFoundError, TimeoutError, anyio.EndOfStream, natsery.ServerError]
)
async def test_a_function_that_raises_for_a_while(error: type[Exception]) -> None:
    """The connection closed for good at the second failure, a tenth of a second after the first."""
    failures: list[Exception] = []
    fails = False

    def password() -> str:
        if fails and len(failures) < 5:
            failures.append(error("the vault is sealed"))
            raise failures[-1]
        return PASSWORD

    with NatsServer(password_config(PASSWORD)) as server, bounded():
        async with natsery.connect(server.url, user="u", password=password, **QUICK) as nc:
            events = Events(nc)
            fails = True
            server.restart()
            await events.wait(EventKind.RECONNECTED)
            await nc.flush()
    assert len(failures) == 5
    assert errors_of(events) == failures


async def test_a_credentials_file_that_is_being_replaced(operator: Operator, tmp_path: Path) -> None:
    file = operator.account.user().write_credentials(tmp_path / "user.creds")
    text = file.read_text()
    with NatsServer(operator.server_config()) as server, bounded():
        async with natsery.connect(server.url, credentials=file, **QUICK) as nc:
            events = Events(nc)
            file.unlink()
            server.restart()
            await events.wait(EventKind.ERROR, 3)
            file.write_text(text[:200])
            seen = len(errors_of(events))
            await events.wait(EventKind.ERROR, seen + 3)
            file.write_text(text)
            await events.wait(EventKind.RECONNECTED)
    assert {type(error) for error in errors_of(events)} == {natsery.ConfigError}


async def test_a_server_that_does_not_know_the_user_yet() -> None:
    with NatsServer(password_config(PASSWORD)) as server, bounded():
        async with natsery.connect(server.url, user="u", password=PASSWORD, **QUICK) as nc:
            events = Events(nc)
            server.restart(password_config("other"))
            await events.wait(EventKind.ERROR, 5)
            server.reload(password_config(PASSWORD))
            await events.wait(EventKind.RECONNECTED)
    assert {type(error) for error in errors_of(events)} == {natsery.AuthorizationError}


async def test_trouble_that_lasts_closes_the_connection() -> None:
    fails = False

    def password() -> str:
        if fails:
            raise LookupError("no secret")
        return PASSWORD

    with NatsServer(password_config(PASSWORD)) as server, bounded():
        async with natsery.connect(server.url, user="u", password=password, credentials_grace=0.05, **QUICK) as nc:
            events = Events(nc)
            fails = True
            server.restart()
            assert await closes(nc, events, LookupError) == "no secret"
            assert len(errors_of(events)) >= 2
            assert events.seen[-1].error is errors_of(events)[-1]


@pytest.mark.parametrize("error", [LookupError, FileNotFoundError, TimeoutError])
async def test_a_function_that_raises_at_the_first_connect(error: type[Exception]) -> None:
    """An OSError of a function was taken for a server that cannot be reached, and tried again for ever."""
    failure = error("the vault is sealed")

    def token() -> str:
        raise failure

    with NatsServer(token_config("t")) as server, bounded():
        with pytest.raises(error) as caught:
            async with natsery.connect(server.url, token=token, retry_first_connect=True):
                pytest.fail("it connected")
    assert caught.value is failure


# Contexts for TLS


@FUNCTIONS
async def test_a_function_gives_a_context_for_every_connection(certificates: Certificates, how: str) -> None:
    calls = 0

    def give() -> ssl.SSLContext:
        nonlocal calls
        calls += 1
        if 2 <= calls <= 4:
            raise ssl.SSLError("half a file")
        return certificates.client_context(certificates.client)

    async def give_later() -> ssl.SSLContext:
        return give()

    with NatsServer(certificates.server_config(options="verify: true")) as server, bounded():
        tls = give if how == "function" else give_later
        async with natsery.connect(server.url, tls=tls, **QUICK) as nc:
            assert calls == 1
            events = Events(nc)
            server.restart()
            await events.wait(EventKind.RECONNECTED)
            assert nc.server_info.tls_required
    assert calls == 5
    assert [type(error) for error in errors_of(events)] == [ssl.SSLError] * 3


async def test_a_function_that_gives_no_context(certificates: Certificates) -> None:
    with NatsServer(certificates.server_config()) as server, bounded():
        with pytest.raises(natsery.ConfigError, match=r"tls: the function must return an ssl.SSLContext; got 'bool'"):
            async with natsery.connect(server.url, tls=lambda: True):  # type: ignore[arg-type,return-value]
                pytest.fail("it connected")


async def test_a_function_for_tls_requires_tls(nats_server: NatsServer) -> None:
    with bounded(), pytest.raises(natsery.SecureConnectionError, match="TLS is wanted"):
        async with natsery.connect(nats_server.url, tls=ssl.create_default_context):
            pytest.fail("it connected")


# Secrets


async def test_secrets_are_not_in_the_log_of_a_reconnect(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    url_password = secrets.token_hex(8)
    with NatsServer(password_config(url_password)) as server, bounded():
        url = f"nats://u:{url_password}@127.0.0.1:{server.port}"
        async with natsery.connect(url, **AT_ONCE) as nc:
            events = Events(nc)
            assert url_password not in repr(nc) + repr(nc.servers)
            server.reload(password_config("other"))
            await closes(nc, events, natsery.AuthorizationError)
    assert "disconnected from NATS" in caplog.text
    assert url_password not in caplog.text
