"""The HTTP server of the commands, as curious and as hostile clients meet it."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus

import anyio
import pytest
from anyio.abc import SocketStream
from anyio.lowlevel import checkpoint

from natsery._cli import _http
from natsery._cli._http import Response, serve_http

from ..bounds import bounded
from ..conftest import QUICK_BACKENDS

pytestmark = pytest.mark.anyio


@pytest.fixture(params=QUICK_BACKENDS)
def anyio_backend(request: pytest.FixtureRequest) -> object:
    return request.param


async def respond(path: str) -> Response:
    if path == "/large":
        return Response(HTTPStatus.OK, "application/octet-stream", b"x" * 10_000_000)
    return Response.of_text(HTTPStatus.OK, f"this is {path}")


@asynccontextmanager
async def serving() -> AsyncIterator[int]:
    async with bounded(), anyio.create_task_group() as tasks:
        yield await tasks.start(serve_http, "127.0.0.1", 0, respond)
        tasks.cancel_scope.cancel()


async def connect(port: int) -> SocketStream:
    return await anyio.connect_tcp("127.0.0.1", port)


async def read(client: SocketStream) -> bytes:
    received = bytearray()
    async for chunk in client:
        received += chunk
    return bytes(received)


async def ask(port: int, request: bytes) -> tuple[str, dict[str, str], bytes]:
    """The status line, the headers and the body."""
    async with await connect(port) as client:
        await client.send(request)
        head, _, body = (await read(client)).partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    return status, dict(line.split(": ", 1) for line in lines), body


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
async def test_it_goes_on_after_there_was_no_file_for_a_client() -> None:
    """The service that it answered for ended, too."""
    import resource

    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with serving() as port:
        with socket.socket() as client:
            free = os.dup(0)
            os.close(free)
            resource.setrlimit(resource.RLIMIT_NOFILE, (free, limits[1]))
            try:
                client.connect(("127.0.0.1", port))
                for _ in range(10):
                    await checkpoint()
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            client.sendall(b"GET /here HTTP/1.1\r\n\r\n")
            client.setblocking(False)
            await anyio.wait_readable(client)
            assert client.recv(100).startswith(b"HTTP/1.1 200 OK")


async def test_get() -> None:
    async with serving() as port:
        for _ in range(2):
            assert await ask(port, b"GET /a?b=c HTTP/1.1\r\nHost: x\r\n\r\n") == (
                "HTTP/1.1 200 OK",
                {"Content-Type": "text/plain; charset=utf-8", "Content-Length": "11", "Connection": "close"},
                b"this is /a\n",
            )


async def test_head_and_older_clients() -> None:
    async with serving() as port:
        status, headers, body = await ask(port, b"HEAD /a HTTP/1.0\r\n\r\n")
    assert (status, headers["Content-Length"], body) == ("HTTP/1.1 200 OK", "11", b"")


async def test_a_request_in_pieces_and_a_large_response() -> None:
    async with serving() as port, await connect(port) as client:
        for each in b"GET /large HTTP/1.1\r\n\r\n":
            await client.send(bytes([each]))
        assert (await read(client)).endswith(b"\r\n\r\n" + b"x" * 10_000_000)


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"POST / HTTP/1.1\r\n\r\n", "405 Method Not Allowed"),
        (b"\r\n\r\n", "400 Bad Request"),
        (b"GET /\r\n\r\n", "400 Bad Request"),
        (b"GET / HTTP/2\r\n\r\n", "400 Bad Request"),
        (b"GET /a b HTTP/1.1\r\n\r\n", "400 Bad Request"),
        (b"GET /\xff HTTP/1.1\r\n\r\n", "400 Bad Request"),
        (b"GET / HTTP/1.1\r\n" + b"x" * 8_192, "431 Request Header Fields Too Large"),
    ],
)
async def test_requests_that_are_refused(request_: bytes, status: str) -> None:
    async with serving() as port:
        assert (await ask(port, request_))[0] == f"HTTP/1.1 {status}"
        assert (await ask(port, b"GET / HTTP/1.1\r\n\r\n"))[0] == "HTTP/1.1 200 OK"


async def test_clients_that_leave() -> None:
    async with serving() as port:
        for request in (b"", b"GET /", b"GET /large HTTP/1.1\r\n\r\n"):
            async with await connect(port) as client:
                await client.send(request or b"G")
        assert (await ask(port, b"GET / HTTP/1.1\r\n\r\n"))[0] == "HTTP/1.1 200 OK"


async def answered(port: int) -> None:
    """Ask until there is room for the request."""
    while True:
        async with await connect(port) as client:
            try:
                await client.send(b"GET / HTTP/1.1\r\n\r\n")
                if await read(client):
                    return
            except anyio.BrokenResourceError:
                continue


async def test_one_that_is_slow_to_ask_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_http, "REQUEST_SECONDS", 0.01)
    async with serving() as port, await connect(port) as client:
        assert (await read(client)).startswith(b"HTTP/1.1 408 Request Timeout\r\n")


async def test_one_that_does_not_read_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_http, "RESPONSE_SECONDS", 0.01)
    monkeypatch.setattr(_http, "MAX_CONNECTIONS", 1)
    async with serving() as port, await connect(port) as client:
        await client.send(b"GET /large HTTP/1.1\r\n\r\n")
        await answered(port)


async def test_connections_beyond_the_limit_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_http, "MAX_CONNECTIONS", 2)
    async with serving() as port:
        async with await connect(port), await connect(port), await connect(port) as third:
            assert await read(third) == b""
        await answered(port)


async def test_a_port_that_is_taken() -> None:
    async with serving() as port, anyio.create_task_group() as tasks:
        with pytest.raises(OSError, match="in use"):
            await tasks.start(serve_http, "127.0.0.1", port, respond)


async def test_on_all_addresses() -> None:
    async with bounded(), anyio.create_task_group() as tasks:
        port = await tasks.start(serve_http, None, 0, respond)
        assert (await ask(port, b"GET / HTTP/1.1\r\n\r\n"))[0] == "HTTP/1.1 200 OK"
        tasks.cancel_scope.cancel()
