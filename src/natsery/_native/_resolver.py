"""Look-ups of host names, which neither wait for other programs' threads nor keep a program from ending."""

from __future__ import annotations

import os
import socket
import threading
from collections import deque
from collections.abc import Callable
from typing import Final, final

import anyio
from anyio.lowlevel import checkpoint

from .._backends import caller_into_this_loop
from .._protocol._addresses import is_ip_address

MAX_THREADS: Final = 8
"""Look-ups under way at the same time, in all event loops of the process; others wait for their turn."""


async def look_up(host: str) -> list[str]:
    """Return the IP addresses of a host name, without duplicates, in the resolver's order.

    A system's resolver cannot be interrupted, so it runs in a thread of its own: not one of the event loop's, which would run
    out of them, and whose ends are waited for when the program ends. A name is looked up once at a time.

    Raises:
        OSError: it cannot be resolved.

    **Cancellation:** the look-up goes on without this task, and the next one for the same name joins it. A checkpoint.
    """
    await checkpoint()
    if is_ip_address(host):
        return [host]
    done = anyio.Event()
    call = caller_into_this_loop(done.set)
    look_up = _look_ups.join(host, call)
    try:
        await done.wait()
    finally:
        _look_ups.leave(look_up, call)
    if isinstance(look_up.result, OSError):
        # Each task gets an exception of its own.
        raise type(look_up.result)(*look_up.result.args) from look_up.result
    return list(look_up.result)


@final
class _LookUp:
    """A look-up, which any number of tasks wait for, in any event loop."""

    __slots__ = ("callers", "host", "result")

    def __init__(self, host: str) -> None:
        self.host = host
        self.callers: list[Callable[[], bool]] = []
        self.result: list[str] | OSError = []

    def run(self) -> None:
        try:
            found = socket.getaddrinfo(self.host, None, type=socket.SOCK_STREAM)
            self.result = list(dict.fromkeys(str(address[0]) for *_, address in found))
        except OSError as error:
            self.result = error
        except Exception as error:  # such as a UnicodeError, for a name that has no form on the wire
            self.result = OSError(f"{type(error).__name__}: {error}")


@final
class _LookUps:
    """The look-ups of this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_host: dict[str, _LookUp] = {}
        self._waiting: deque[_LookUp] = deque()
        self._threads = 0

    def join(self, host: str, call: Callable[[], bool]) -> _LookUp:
        """Begin a look-up, or join one that is under way; ``call`` is called, in its thread, when it has ended."""
        with self._lock:
            look_up = self._by_host.get(host)
            if look_up is not None:
                look_up.callers.append(call)
                return look_up
            look_up = self._by_host[host] = _LookUp(host)
            look_up.callers.append(call)
            if self._threads >= MAX_THREADS:
                self._waiting.append(look_up)
                return look_up
            self._threads += 1
        try:
            threading.Thread(target=self._work, args=(look_up,), name="natsery resolver", daemon=True).start()
        except RuntimeError as error:  # there are too many threads
            failed: _LookUp | None = look_up
            while failed is not None:
                failed.result = OSError(str(error))
                failed = self._end(failed)
        return look_up

    def leave(self, look_up: _LookUp, call: Callable[[], bool]) -> None:
        """Stop waiting for a look-up."""
        with self._lock:
            if call in look_up.callers:
                look_up.callers.remove(call)
            if not look_up.callers and look_up in self._waiting:
                self._waiting.remove(look_up)
                del self._by_host[look_up.host]

    def _work(self, look_up: _LookUp) -> None:
        while True:
            look_up.run()
            following = self._end(look_up)
            if following is None:
                return
            look_up = following

    def _end(self, look_up: _LookUp) -> _LookUp | None:
        """End a look-up; return the one that this thread runs next."""
        with self._lock:
            del self._by_host[look_up.host]
            callers, look_up.callers = look_up.callers, []
            following = self._waiting.popleft() if self._waiting else None
            if following is None:
                self._threads -= 1
        for call in callers:
            call()
        return following


_look_ups = _LookUps()


def _forget_all() -> None:
    """Begin anew in a forked process, which has none of the threads."""
    global _look_ups  # noqa: PLW0603  # a lock may be held
    _look_ups = _LookUps()


if hasattr(os, "register_at_fork"):  # pragma: no branch - Windows has no forks
    os.register_at_fork(after_in_child=_forget_all)
