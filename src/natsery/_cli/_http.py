"""A small HTTP/1.1 server for what monitoring asks for: GET requests, one on each connection."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, TypeAlias, final

import anyio
from anyio.abc import SocketAttribute, SocketStream, TaskStatus
from anyio.streams.buffered import BufferedByteReceiveStream

MAX_REQUEST: Final = 8_192
"""Bytes of a request's head."""

MAX_CONNECTIONS: Final = 32
"""Connections at the same time; further ones are closed at once."""

REQUEST_SECONDS: Final = 5.0
"""How long a client may take to send its request."""

RESPONSE_SECONDS: Final = 10.0
"""How long a client may take to read the response."""

ACCEPT_PAUSE_SECONDS: Final = 0.1
"""How long no client is accepted after one could not be."""


@final
@dataclass(frozen=True)
class Response:
    """What a request is answered with."""

    status: HTTPStatus
    content_type: str = "text/plain; charset=utf-8"
    body: bytes = b""

    @classmethod
    def of_text(cls, status: HTTPStatus, text: str = "") -> Response:
        """Return a response with one line of text: that of the status if none is given."""
        return cls(status, body=f"{text or status.phrase}\n".encode(errors="replace"))


Respond: TypeAlias = Callable[[str], Awaitable[Response]]
"""Answers a request for a path. It owns its deadline; what it raises ends the server."""


async def serve_http(
    host: str | None,
    port: int,
    respond: Respond,
    reuse_port: bool = False,  # `TaskGroup.start` takes no names
    *,
    task_status: TaskStatus[int] = anyio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until cancelled; ``started`` gets the port. Without a host, it listens on all addresses.

    Raises:
        OSError: it cannot listen there.
    """
    connections = 0

    async def handle(stream: SocketStream) -> None:
        nonlocal connections
        connections += 1
        try:
            async with stream:
                if connections <= MAX_CONNECTIONS:
                    await _serve(stream, respond)
        except (OSError, anyio.BrokenResourceError):
            pass  # the client is gone
        finally:
            connections -= 1

    listener = await anyio.create_tcp_listener(local_host=host, local_port=port, reuse_port=reuse_port)
    async with listener, anyio.create_task_group() as tasks:
        task_status.started(listener.extra(SocketAttribute.local_port))  # noqa: S610  # it is not Django's
        while True:
            try:
                await listener.serve(handle, tasks)
            except* (OSError, anyio.BrokenResourceError):
                pass  # the process has no file for a client, or the client has gone already
            await anyio.sleep(ACCEPT_PAUSE_SECONDS)


async def _serve(stream: SocketStream, respond: Respond) -> None:
    """Answer one request."""
    method, path = "", ""
    try:
        with anyio.fail_after(REQUEST_SECONDS):
            head = await BufferedByteReceiveStream(stream).receive_until(b"\r\n\r\n", MAX_REQUEST)
        method, target, version = head.decode("ascii").partition("\r\n")[0].split(" ")
        path = target.partition("?")[0]
    except (anyio.EndOfStream, anyio.IncompleteRead):
        return
    except TimeoutError:
        response = Response.of_text(HTTPStatus.REQUEST_TIMEOUT)
    except anyio.DelimiterNotFound:
        response = Response.of_text(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
    except ValueError:
        response = Response.of_text(HTTPStatus.BAD_REQUEST)
    else:
        if not version.startswith("HTTP/1."):
            response = Response.of_text(HTTPStatus.BAD_REQUEST)
        elif method not in ("GET", "HEAD"):
            response = Response.of_text(HTTPStatus.METHOD_NOT_ALLOWED)
        else:
            response = await respond(path)
    lines = [
        f"HTTP/1.1 {response.status.value} {response.status.phrase}",
        f"Content-Type: {response.content_type}",
        f"Content-Length: {len(response.body)}",
        *(["Allow: GET, HEAD"] if response.status is HTTPStatus.METHOD_NOT_ALLOWED else []),
        "Connection: close",
    ]
    head = "".join(f"{line}\r\n" for line in [*lines, ""]).encode()
    with anyio.move_on_after(RESPONSE_SECONDS):
        await stream.send(head if method == "HEAD" else head + response.body)
