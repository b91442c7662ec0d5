"""A TCP proxy in front of a server that writes down what the client sends, and can be dead in one direction."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
from anyio.abc import ByteStream


class Proxy:
    """What went through, and the port that it listens on.

    Attributes:
        sent: what the client has sent, passed on or not.
        port: where it listens.
        dead: the directions in which nothing is passed on any more, ``"to server"`` and ``"to client"``.
        connections: how many the client has now.
        cuts: how often it has cut the network as ``cut_after`` said.
    """

    def __init__(self) -> None:
        self.sent = bytearray()
        self.port = 0
        self.dead: set[str] = set()
        self.connections = 0
        self.cuts = 0
        self._left: dict[str, int] = {}

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def verbs(self) -> list[str]:
        """The client's command lines, without payloads' sizes and the like, in order."""
        return [line.decode() for line in self.sent.split(b"\r\n") if line.split(b" ")[0] in _VERBS]

    def cut_after(self, direction: str, size: int) -> None:
        """Pass on so many more bytes in a direction, and then cut the connection; for once."""
        self._left[direction] = size

    def _until_cut(self, direction: str, chunk: bytes) -> tuple[bytes, bool]:
        """Return what of a chunk is passed on, and whether the connection is cut after it."""
        left = self._left.get(direction)
        if left is None:
            return chunk, False
        if len(chunk) < left:
            self._left[direction] = left - len(chunk)
            return chunk, False
        del self._left[direction]
        self.cuts += 1
        return chunk[:left], True


_VERBS = (b"SUB", b"UNSUB", b"PING")


@asynccontextmanager
async def open_proxy(port: int) -> AsyncIterator[Proxy]:
    proxy = Proxy()

    async def copy(source: ByteStream, target: ByteStream, direction: str, done: anyio.CancelScope) -> None:
        try:
            while True:
                chunk = await source.receive()
                if direction == "to server":
                    proxy.sent.extend(chunk)
                passed, is_cut = proxy._until_cut(direction, chunk)
                if direction not in proxy.dead and passed:
                    await target.send(passed)
                if is_cut:
                    done.cancel()
                    return
        except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
            done.cancel()

    async def handle(client: ByteStream) -> None:
        proxy.connections += 1
        try:
            async with client, await anyio.connect_tcp("127.0.0.1", port) as server, anyio.create_task_group() as tasks:
                tasks.start_soon(copy, client, server, "to server", tasks.cancel_scope)
                tasks.start_soon(copy, server, client, "to client", tasks.cancel_scope)
        finally:
            proxy.connections -= 1

    async with (
        await anyio.create_tcp_listener(local_host="127.0.0.1") as listener,
        anyio.create_task_group() as tasks,
    ):
        proxy.port = listener.extra(anyio.abc.SocketAttribute.local_port)
        tasks.start_soon(listener.serve, handle)
        yield proxy
        tasks.cancel_scope.cancel()
