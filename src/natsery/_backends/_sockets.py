"""Network connections that are given up for good, although a forked process may hold a copy of their sockets."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from typing import Any, Protocol, final
from weakref import WeakSet

from anyio.abc import SocketAttribute


class LetsGo(Protocol):
    """What has a socket that is of no use in a forked process."""

    def let_go(self) -> None:
        """Close this process's socket without an end to the connection."""


def let_go_in_forks(owner: LetsGo) -> None:
    """Have ``owner.let_go`` called in every process that is forked while ``owner`` exists; see `keep_in_forks`."""
    _owners.add(owner)


def keep_in_forks(owner: LetsGo) -> None:
    """Undo `let_go_in_forks`."""
    _owners.discard(owner)


def put_empty_file_at(number: int) -> None:
    """Close the file that has this number; what knows the number finds an empty file there."""
    with suppress(OSError):
        empty = os.open(os.devnull, os.O_RDWR)
        os.dup2(empty, number, inheritable=False)
        os.close(empty)


@final
class ConnectedSocket:
    """The socket below a stream.

    A connection ends when every copy of its socket is closed, and every process that is forked has a copy: the server would
    go on sending it what nobody reads. So a socket is shut down before it is closed, which ends the connection whatever
    copies there are, and forked processes let go of theirs at once.

    Args:
        stream: a stream of anyio's. The socket stays its own, and may be closed through it at any time; the number that it
            had may then be another's, so what has that number is compared by its local address.
    """

    __slots__ = ("__weakref__", "_name", "_number")

    def __init__(self, stream: Any) -> None:  # anyio has no common type for what has attributes
        raw = stream.extra(SocketAttribute.raw_socket)  # noqa: S610  # no Django
        self._number = -1
        self._name: object = None
        if hasattr(os, "fork"):  # pragma: no branch - Windows has no forks
            self._number = raw.fileno()
            with suppress(OSError):
                self._name = raw.getsockname()  # pyright: ignore[reportOptionalMemberAccess]  # it has a number
            let_go_in_forks(self)

    def shut_down(self) -> None:
        """End the network connection. The socket is still to be closed."""
        copy = self._copy()
        if copy is not None:
            with copy, suppress(OSError):
                copy.shutdown(socket.SHUT_RDWR)
        self._name = None

    def let_go(self) -> None:
        """Close this process's socket without an end to the connection; what knows its number finds an empty file there."""
        copy = self._copy()
        if copy is not None:
            copy.close()
            put_empty_file_at(self._number)
        self._name = None

    def _copy(self) -> socket.socket | None:
        """Return another socket for the same connection, since not every event loop has one with all the methods."""
        if self._name is None:
            return None
        try:
            number = os.dup(self._number)
        except OSError:
            return None
        try:
            copy = socket.socket(fileno=number)
        except OSError:
            os.close(number)
            return None
        with suppress(OSError):
            if copy.getsockname() == self._name:
                return copy
        copy.close()
        return None


_owners: WeakSet[LetsGo] = WeakSet()


def _let_go_of_all() -> None:
    for each in list(_owners):
        each.let_go()


if hasattr(os, "register_at_fork"):  # pragma: no branch - Windows has no forks
    os.register_at_fork(after_in_child=_let_go_of_all)
