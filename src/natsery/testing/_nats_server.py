"""`NatsServer`: a real nats-server that tests can kill, freeze, restart and configure."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, final

import anyio.to_thread

from .._checks import WrongType, check_argument
from ._reserved_ports import port_of, reserve_port
from ._server_process import HOST, POLL_SECONDS, ServerProcess, ServerProcessError, check_port_free, read_log

SECONDS = 10.0
"""How long a server may take to carry out a command."""


@final
class NatsServer:
    """A nats-server on 127.0.0.1, as a context manager for synchronous code, such as fixtures::

        with NatsServer("max_payload: 1000") as server:
            ...

    Async code gets one from `open_server`. The server is a separate process with its files in a temporary folder; leaving the
    block kills it. Methods return when the server has carried them out. Those that are not async block the event loop
    until then: they are for tests, not for services. Freezing, reloading and lame duck mode need signals, which Windows lacks.

    Args:
        config: the text of a configuration, or the path of a configuration file as a ``Path``. Its ``host`` and ``port`` do
            not count; a text must leave out ``http`` as well.
        port: where clients connect; a free port if left out. It stays the same over restarts.
        jetstream: with JetStream, whose data is gone at the end of the block.
        show_log: send its log to this process's stderr.

    Attributes:
        port: where clients connect.
        url: the same as a URL, ``nats://127.0.0.1:<port>``.
        tls_url: the same with ``tls://``.

    Raises:
        TypeError, ValueError: an argument breaks a rule.
        ServerProcessError: nats-server is not installed, or does not carry out a command within ten seconds.
    """

    def __init__(
        self,
        config: str | os.PathLike[str] = "",
        *,
        port: int | None = None,
        jetstream: bool = False,
        show_log: bool = False,
    ) -> None:
        check_argument("config", config, _config_rule)
        if port is not None:
            check_argument("port", port, _port_rule)
        check_argument("jetstream", jetstream, _switch_rule)
        check_argument("show_log", show_log, _switch_rule)
        self._folder = tempfile.TemporaryDirectory(prefix="natsery-")
        self._reservations = ExitStack()
        self._jetstream = jetstream
        self._show_log = show_log
        self._first_config = config
        self._config = config
        self._server: ServerProcess | None = None
        self.port: int = port_of(self._reservations.enter_context(reserve_port())) if port is None else port
        self.url: str = f"nats://{HOST}:{self.port}"
        self.tls_url: str = f"tls://{HOST}:{self.port}"

    def __repr__(self) -> str:
        return f"NatsServer(port={self.port})"

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
        self._clean_up()

    @property
    def process(self) -> subprocess.Popen[bytes] | None:
        """The server's process, ``None`` before it is started and after it was killed or waited for."""
        return None if self._server is None else self._server.popen

    def start(self) -> None:
        """Start it, as entering the block does; return when it accepts clients."""
        self._launch().wait_ready()

    def kill(self, how: signal.Signals | None = None) -> None:
        """End it with a signal, ``SIGKILL`` if left out, and wait until it has ended. Safe when it does not run."""
        if self._server is not None:
            self._server.popen.kill() if how is None else self._server.popen.send_signal(how)
            self.wait_ended()

    def restart(self, config: str | None = None) -> None:
        """Kill it and start it again on the same port, with another configuration if one is given."""
        self.kill()
        if config is not None:
            self._config = config
        self.start()

    def freeze(self) -> None:
        """Stop it with ``SIGSTOP``: its connections stay open, and it does not answer."""
        process = self._running().popen
        process.send_signal(signal.SIGSTOP)
        if hasattr(os, "waitid"):  # pragma: no branch - macOS has it since Python 3.13
            # The server may still answer until the signal has arrived. WNOWAIT leaves its status for `Popen`.
            os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def thaw(self) -> None:
        """Let it go on after ``freeze``."""
        self._running().thaw()

    def reload(self, config: str) -> None:
        """Give it another configuration while it runs, as ``nats-server --signal reload`` does.

        Raises:
            RuntimeError: it runs with a configuration file, which this does not overwrite.
        """
        if not isinstance(self._config, str):
            raise RuntimeError(  # noqa: TRY004  # not the argument is wrong
                "a server that runs with a configuration file cannot be reloaded with a text; restart it"
            )
        before = self._load_time()
        self._config = config
        self._write_config()
        self._running().popen.send_signal(signal.SIGHUP)
        self.wait_until(lambda: self._load_time() != before, "nats-server did not take the configuration")

    def recover(self) -> None:
        """Bring it back to how it was at first: running, not frozen, with its first configuration."""
        if self._server is not None and self._server.popen.poll() is None:
            self.thaw()
            if self._config == self._first_config:
                return
        self._config = self._first_config
        self.restart()

    def lame_duck(self) -> None:
        """Make it send its clients to other servers and end, as ``nats-server --signal ldm`` does; return at once.

        It ends after ``lame_duck_grace_period`` (10 s unless configured) and up to a second for each client.
        """
        self._running().popen.send_signal(signal.SIGUSR2)

    def wait_ended(self) -> None:
        """Wait until it has ended after a signal to do so, ten seconds at most."""
        if self._server is not None:
            try:
                self._server.popen.wait(SECONDS)
            except subprocess.TimeoutExpired:
                raise ServerProcessError(f"nats-server has not ended:\n{self.log()}") from None
            self._server = None

    async def wait_exit(self) -> str:
        """Wait without a limit until its process exits, for example in a crash; return how it ended, in a few words.

        **Cancellation:** the server goes on running. A checkpoint.
        """
        server = self._running()
        await anyio.to_thread.run_sync(server.popen.wait, abandon_on_cancel=True)
        return server.describe_exit()

    def wait_until(self, condition: Callable[[], object], otherwise: str) -> None:
        """Wait until ``condition()`` is true, ten seconds at most.

        Args:
            condition: may raise ``OSError`` as long as it does not hold.
            otherwise: the beginning of the error's text if it never holds; the server's log follows.
        """
        deadline = time.monotonic() + SECONDS
        while True:
            if self._server is None or self._server.popen.poll() is not None:
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
        """Return what its monitoring says as JSON, for a path such as ``"varz"`` or ``"connz?subs=1"``."""
        import urllib.request  # takes long, and few programs need it

        url = self._running().monitor_url
        if url is None:
            raise ServerProcessError("nats-server has no monitoring: its configuration file has no 'http'")
        with urllib.request.urlopen(f"{url}/{path}", timeout=SECONDS) as reply:
            return json.load(reply)

    def subscriptions(self, client_id: int | None = None) -> list[str]:
        """Return the subjects that all clients, or one of them, are subscribed to, sorted."""
        only = "" if client_id is None else f"&cid={client_id}"
        connections = self.monitor(f"connz?subs=1{only}")["connections"]
        return sorted(subject for each in connections for subject in each.get("subscriptions_list", []))

    def log(self) -> str:
        """Return what it has logged since its last start."""
        return read_log(Path(self._folder.name))

    # Starting and ending

    def _launch(self) -> ServerProcess:
        """Start the process without waiting until it is ready."""
        check_port_free(self.port)
        arguments = ["-p", str(self.port), "-c", str(self._write_config())]
        if isinstance(self._config, str):
            arguments += ["-m", "-1"]  # monitoring on any free port; with a file, that is the file's decision
        if self._jetstream:
            arguments += ["-js", "-sd", self._folder.name]
        self._server = ServerProcess(arguments, Path(self._folder.name), show_log=self._show_log)
        return self._server

    async def _end(self) -> None:
        """End it gently, and clean up."""
        try:
            if self._server is not None:
                await self._server.end()
        finally:
            self._clean_up()

    def _clean_up(self) -> None:
        self._reservations.close()
        self._folder.cleanup()

    def _write_config(self) -> os.PathLike[str]:
        """Return the path of the configuration, after writing it if it is a text."""
        if not isinstance(self._config, str):
            return self._config
        path = Path(self._folder.name) / "server.conf"
        path.write_text(self._config or f'host: "{HOST}"')  # nats-server warns of an empty file
        return path

    def _running(self) -> ServerProcess:
        if self._server is None:
            raise ServerProcessError("nats-server does not run")
        return self._server

    def _load_time(self) -> str:
        return str(self.monitor("varz")["config_load_time"])


def _port_rule(value: object) -> str | None:
    wrong = "must be an int between 1 and 65535"
    if not isinstance(value, int) or isinstance(value, bool):
        return WrongType(wrong)
    return None if 1 <= value <= 65535 else wrong


def _config_rule(value: object) -> str | None:
    is_config = isinstance(value, (str, os.PathLike))
    return None if is_config else WrongType("must be the text of a configuration, or the path of a file")


def _switch_rule(value: object) -> str | None:
    return None if isinstance(value, bool) else WrongType("must be True or False")
