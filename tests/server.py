"""A real nats-server for tests: a free port, a temporary folder, ended by its own process id."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path


class NatsServer:
    """A server process; a context manager that can also be killed, stopped, continued, restarted and reloaded."""

    def __init__(self, config: str = "", *, port: int | None = None) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="natsery-test-")
        self.port = port or _free_port()
        self.monitor_port = _free_port()
        self.url = f"nats://127.0.0.1:{self.port}"
        self._config = Path(self._folder.name) / "server.conf"
        self._config.write_text(config)
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> NatsServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._folder.cleanup()

    def start(self) -> None:
        program = shutil.which("nats-server", path=str(Path(sys.executable).parent)) or shutil.which("nats-server")
        assert program, "nats-server is not installed"
        command = [program, "-a", "127.0.0.1", "-p", str(self.port), "-m", str(self.monitor_port)]
        self._log = (Path(self._folder.name) / "server.log").open("wb")
        self.process = subprocess.Popen(
            [*command, "-c", str(self._config)], stdout=self._log, stderr=self._log, stdin=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 10
        while True:
            try:
                with socket.create_connection(("127.0.0.1", self.port), 1) as sock:
                    if sock.recv(4) == b"INFO":
                        return
            except OSError:
                pass
            assert time.monotonic() < deadline, "nats-server did not start"
            time.sleep(0.02)

    def kill(self, how: signal.Signals = signal.SIGKILL) -> None:
        if self.process is not None:
            self.process.send_signal(how)
            if how is signal.SIGKILL:
                self.process.send_signal(signal.SIGCONT)
            self.process.wait(10)
            self.process = None
            self._log.close()

    def restart(self) -> None:
        self.kill()
        self.start()

    def freeze(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def reload(self, config: str) -> None:
        """Give it another configuration, as ``nats-server --signal reload`` does."""
        assert self.process is not None
        self._config.write_text(config)
        self.process.send_signal(signal.SIGHUP)

    def subscriptions(self) -> list[str]:
        """The subjects that clients are subscribed to, sorted."""
        url = f"http://127.0.0.1:{self.monitor_port}/connz?subs=1"
        with urllib.request.urlopen(url, timeout=5) as reply:
            connections = json.load(reply)["connections"]
        return sorted(subject for each in connections for subject in each.get("subscriptions_list", []))


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
