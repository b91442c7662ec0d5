"""A real nats-server for tests: a free port, a temporary folder, ended by its own process id."""

from __future__ import annotations

import json
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

SECONDS = 10


class NatsServer:
    """A server process; a context manager that can also be killed, stopped, continued, restarted and reloaded.

    ``config`` is the text of a configuration file. The port stays the same over restarts.
    """

    def __init__(self, config: str = "", *, port: int | None = None) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="natsery-test-")
        self.port = port or free_port()
        self.monitor_port = 0
        self.url = f"nats://127.0.0.1:{self.port}"
        self.tls_url = f"tls://127.0.0.1:{self.port}"
        self._config = Path(self._folder.name) / "server.conf"
        self._config.write_text(config)
        self._log = Path(self._folder.name) / "server.log"
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> NatsServer:
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._folder.cleanup()

    def start(self) -> None:
        program = shutil.which("nats-server", path=str(Path(sys.executable).parent)) or shutil.which("nats-server")
        assert program, "nats-server is not installed"
        for attempts_left in (2, 1, 0):
            self.monitor_port = free_port()
            command = [program, "-a", "127.0.0.1", "-p", str(self.port), "-m", str(self.monitor_port)]
            with self._log.open("wb") as log:
                self.process = subprocess.Popen(
                    [*command, "-c", str(self._config)], stdout=log, stderr=log, stdin=subprocess.DEVNULL
                )
            try:
                # Asked of the monitor, because a server that wants TLS first says nothing to a client.
                self.wait_until(lambda: self.monitor("healthz")["status"] == "ok", "nats-server did not start")
                return
            except AssertionError:
                # Somebody else took the monitor's port in between.
                if "address already in use" not in self.log() or not attempts_left:
                    raise

    def wait_until(self, condition: Callable[[], object], otherwise: str) -> None:
        """Wait for the server to be as wanted, within a bound; ``condition`` may fail while it is not there yet."""
        deadline = time.monotonic() + SECONDS
        while True:
            assert self.process is not None
            assert self.process.poll() is None, f"nats-server ended:\n{self.log()}"
            try:
                if condition():
                    return
            except OSError:
                pass
            assert time.monotonic() < deadline, f"{otherwise}:\n{self.log()}"
            time.sleep(0.02)

    def kill(self, how: signal.Signals = signal.SIGKILL) -> None:
        if self.process is not None:
            self.process.send_signal(how)
            if how is signal.SIGKILL:
                self.process.send_signal(signal.SIGCONT)
            self.wait_ended()

    def restart(self, config: str | None = None) -> None:
        """Kill it with -9 and start it again on the same port, with another configuration if one is given."""
        self.kill()
        if config is not None:
            self._config.write_text(config)
        self.start()

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def reload(self, config: str) -> None:
        """Give it another configuration, as ``nats-server --signal reload`` does, and wait until it is in force."""
        before = self._load_time()
        self._config.write_text(config)
        self._signal(signal.SIGHUP)
        self.wait_until(lambda: self._load_time() != before, "nats-server did not take the configuration")

    def _load_time(self) -> str:
        return str(self.monitor("varz")["config_load_time"])

    def lame_duck(self) -> None:
        """Tell its clients to go elsewhere and then end, as ``nats-server --signal ldm`` does.

        The grace of ``lame_duck_grace_period`` (10 s unless configured) passes first, then up to a second per client.
        """
        self._signal(signal.SIGUSR2)

    def wait_ended(self) -> None:
        """Wait until it has ended, as after a signal to do so."""
        assert self.process is not None
        self.process.wait(SECONDS)
        self.process = None

    def monitor(self, path: str) -> Any:
        """What the server says about itself, such as ``varz`` or ``connz?subs=1``."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.monitor_port}/{path}", timeout=5) as reply:
            return json.load(reply)

    def subscriptions(self, client_id: int | None = None) -> list[str]:
        """The subjects that clients, or one of them, are subscribed to, sorted."""
        only = "" if client_id is None else f"&cid={client_id}"
        connections = self.monitor(f"connz?subs=1{only}")["connections"]
        return sorted(subject for each in connections for subject in each.get("subscriptions_list", []))

    def log(self) -> str:
        """All that it has logged."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def _signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)


@contextmanager
def cluster(config: str = "") -> Iterator[tuple[NatsServer, NatsServer]]:
    """Two servers that share a configuration and name each other in their INFO."""
    routes = (free_port(), free_port())
    listed = ", ".join(f'"nats-route://127.0.0.1:{port}"' for port in routes)
    texts = [
        f'{config}\ncluster {{ name: test, listen: "127.0.0.1:{port}", routes: [{listed}] }}\nserver_name: "{port}"\n'
        for port in routes
    ]
    with NatsServer(texts[0]) as one, NatsServer(texts[1]) as other:
        for server in (one, other):
            server.wait_until(partial(_knows_both, server), "the servers did not form a cluster")
        yield one, other


def _knows_both(server: NatsServer) -> bool:
    return len(server.monitor("varz").get("connect_urls", ())) == 2


def free_port() -> int:
    """A port that nobody has, outside the range that the kernel takes for clients.

    A port of that range can be gone when a killed server wants it back, and a client that tries again and again to reach
    it in between can get connected to itself.
    """
    while True:
        port = random.randrange(10_000, 32_000)
        with socket.socket() as sock:
            try:
                sock.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
