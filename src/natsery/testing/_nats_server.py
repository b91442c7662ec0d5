"""A real nats-server that tests can kill, stop, restart and configure anew."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, final

from .._server import ServerProcessError, find_program

SECONDS = 10
"""How long a server may take for what it is told to do."""

POLL_SECONDS = 0.02


@final
class NatsServer:
    """A nats-server on 127.0.0.1, as a context manager for synchronous code, such as fixtures::

        with NatsServer("max_payload: 1000") as server:
            ...

    It is a process of its own with its files in a temporary folder; leaving the block ends it. What it is told to do is done
    when the call returns. The calls block: they belong into tests, not into services.

    Args:
        config: the text of a configuration file, without ``port`` and ``http``.
        port: the port; one that is free if left out. It stays the same over restarts.

    Attributes:
        port: where clients connect.
        url: the same as a URL, ``nats://127.0.0.1:<port>``.
        tls_url: the same with ``tls://``.
        process: the process, ``None`` while it does not run.

    Raises:
        ServerProcessError: nats-server is not installed, or does not do what it is told within ten seconds.
    """

    def __init__(self, config: str = "", *, port: int | None = None) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="natsery-test-")
        self._reservations = ExitStack()
        self.port: int = port or self._reserve()
        self.url: str = f"nats://127.0.0.1:{self.port}"
        self.tls_url: str = f"tls://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None
        self._monitor_port = self._reserve()
        self._config = Path(self._folder.name) / "server.conf"
        self._first_config = config
        self._config.write_text(config)
        self._log = Path(self._folder.name) / "server.log"

    def __enter__(self) -> NatsServer:
        try:
            self.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.kill()
        self._reservations.close()
        self._folder.cleanup()

    def start(self) -> None:
        """Start it, as entering the block does; returns when it accepts clients."""
        command = [find_program(), "-a", "127.0.0.1", "-p", str(self.port), "-m", str(self._monitor_port)]
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [*command, "-c", str(self._config)], stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        # Asked of the monitor, because a server that wants TLS first says nothing to a client.
        self.wait_until(lambda: self.monitor("healthz")["status"] == "ok", "nats-server did not start")

    def kill(self, how: signal.Signals = signal.SIGKILL) -> None:
        """End it with a signal, ``SIGKILL`` unless another is given. Safe when it does not run."""
        if self.process is not None:
            self.process.send_signal(how)
            if how is signal.SIGKILL:
                self.process.send_signal(signal.SIGCONT)
            self.wait_ended()

    def restart(self, config: str | None = None) -> None:
        """Kill it and start it again on the same port, with another configuration if one is given."""
        self.kill()
        if config is not None:
            self._config.write_text(config)
        self.start()

    def freeze(self) -> None:
        """Stop it (``SIGSTOP``): its connections stay open and it answers no more."""
        process = self._signal(signal.SIGSTOP)
        if hasattr(os, "waitid"):
            # The signal is on its way: until it has arrived, the server may still answer. What is found stays to be found again.
            os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def thaw(self) -> None:
        """Let it go on after ``freeze``."""
        self._signal(signal.SIGCONT)

    def reload(self, config: str) -> None:
        """Give it another configuration while it runs, as ``nats-server --signal reload`` does."""
        before = self._load_time()
        self._config.write_text(config)
        self._signal(signal.SIGHUP)
        self.wait_until(lambda: self._load_time() != before, "nats-server did not take the configuration")

    def recover(self) -> None:
        """Have it as it was at first: running, not stopped, with its first configuration."""
        if self.process is not None and self.process.poll() is None:
            self.thaw()
            if self._config.read_text() == self._first_config:
                return
        self.restart(self._first_config)

    def lame_duck(self) -> None:
        """Have it tell its clients to go elsewhere and end, as ``nats-server --signal ldm`` does; returns at once.

        It ends after ``lame_duck_grace_period`` (10 s unless configured) and up to a second for each client.
        """
        self._signal(signal.SIGUSR2)

    def wait_ended(self) -> None:
        """Wait until it has ended, as after a signal to do so."""
        if self.process is not None:
            self.process.wait(SECONDS)
            self.process = None

    def wait_until(self, condition: Callable[[], object], otherwise: str) -> None:
        """Wait for a condition, which may raise ``OSError`` as long as it does not hold; ``otherwise`` begins the error."""
        deadline = time.monotonic() + SECONDS
        while True:
            if self.process is None or self.process.poll() is not None:
                raise ServerProcessError(f"nats-server has ended:\n{self.log()}")
            try:
                if condition():
                    return
            except OSError:
                pass
            if time.monotonic() >= deadline:
                raise ServerProcessError(f"{otherwise}:\n{self.log()}")
            time.sleep(POLL_SECONDS)

    def monitor(self, path: str) -> Any:
        """What its monitoring says, read from JSON; such as ``"varz"`` or ``"connz?subs=1"``."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self._monitor_port}/{path}", timeout=SECONDS) as reply:
            return json.load(reply)

    def subscriptions(self, client_id: int | None = None) -> list[str]:
        """The subjects that clients, or one of them, are subscribed to, sorted."""
        only = "" if client_id is None else f"&cid={client_id}"
        connections = self.monitor(f"connz?subs=1{only}")["connections"]
        return sorted(subject for each in connections for subject in each.get("subscriptions_list", []))

    def log(self) -> str:
        """What it has logged since its last start."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def _reserve(self) -> int:
        return port_of(self._reservations.enter_context(reserve_port()))

    def _load_time(self) -> str:
        return str(self.monitor("varz")["config_load_time"])

    def _signal(self, number: signal.Signals) -> subprocess.Popen[bytes]:
        if self.process is None:
            raise ServerProcessError("nats-server does not run")
        self.process.send_signal(number)
        return self.process


def reserve_port() -> socket.socket:
    """A port that nobody has, and that no other server of tests gets until the socket returned is closed.

    A killed server wants its port back. Nothing may hold that port itself meanwhile, as nats-server could not listen there, so
    that a UDP socket of the same number stands for it; the operating system lets it go with this process, however that ends.

    The port is outside the range that the kernel takes for clients: one of that range can be gone when the server wants it back,
    and a client that tries again and again to reach it in between can get connected to itself.
    """
    while True:
        port = random.randrange(10_000, 32_000)  # noqa: S311  # no secret
        reservation = socket.socket(type=socket.SOCK_DGRAM)
        try:
            reservation.bind(("127.0.0.1", port))
            with socket.socket() as server:
                server.bind(("127.0.0.1", port))
        except OSError:
            reservation.close()
            continue
        return reservation


def port_of(reservation: socket.socket) -> int:
    """The port that is reserved."""
    return int(reservation.getsockname()[1])
