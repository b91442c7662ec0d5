"""What is said where nats-py sends in clear although TLS could be had."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from ..bounds import bounded
from ..certificates import Certificates
from ..conftest import MATRIX, open_connection
from ..server import NatsServer

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.parametrize("setting", [case for case in MATRIX if case.values[0][1] != "native"]),  # type: ignore[index]
]

USERS = "authorization { users: [{ user: me, password: secret }] }\n"
OFFERED = "allow_non_tls: true\n"


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.getMessage() for each in caplog.records if each.name == "natsery"]


async def connect_and_reconnect(transport: str, server: NatsServer, url: str, **options: Any) -> None:
    async with bounded(60), open_connection(transport, url, reconnect_time_wait=0.01, **options) as nc:
        with nc.events() as events:
            await anyio.to_thread.run_sync(server.restart)
            async for event in events:
                if event.kind == "reconnected":
                    break
        await nc.flush()


async def test_a_password_in_clear_is_told_once_where_the_server_offers_tls(
    transport: str, certificates: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    """It was sent in clear without a word."""
    with NatsServer(certificates.server_config() + OFFERED + USERS) as server:
        await connect_and_reconnect(transport, server, server.url, user="me", password="secret")
        (warning,) = warnings_in(caplog)
        assert warning.startswith(
            f"nats-py has sent what it logs in with to 127.0.0.1:{server.port} in clear, which offers TLS; "
        )
        assert "tls_handshake_first=True" in warning
        caplog.clear()
        async with open_connection(transport, server.url.replace("//", "//me:secret@")):
            pass
        (warning,) = warnings_in(caplog)
        assert "secret" not in warning


async def test_tls_that_was_wanted_and_is_not_there_is_told(
    transport: str, certificates: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever gave a context thought that all of it was encrypted."""
    with NatsServer() as server:
        context = certificates.client_context()
        await connect_and_reconnect(transport, server, server.url, tls=context)
        (warning,) = warnings_in(caplog)
        assert warning.startswith(f"TLS is wanted, but nats-py sends everything to 127.0.0.1:{server.port} in clear")


async def test_nothing_is_told_where_nothing_is_wrong(
    transport: str, certificates: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    with NatsServer(certificates.server_config() + USERS) as server:
        context = certificates.client_context()
        options: dict[str, Any] = {"tls": context, "tls_hostname": "localhost", "user": "me", "password": "secret"}
        async with bounded(60), open_connection(transport, server.tls_url, **options):
            pass
    with NatsServer(certificates.server_config() + OFFERED) as server:
        async with bounded(60), open_connection(transport, server.url):
            pass
    with NatsServer(USERS) as server:
        async with bounded(60), open_connection(transport, server.url, user="me", password="secret"):
            pass
    assert warnings_in(caplog) == []
