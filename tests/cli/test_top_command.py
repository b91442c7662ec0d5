"""``natsery top`` in a terminal, on a real server."""

from __future__ import annotations

import os
import signal
import termios
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import anyio.from_thread

import natsery

from ..calc_service import add
from ..server import NatsServer
from .conftest import CALC, OTHER_NAME
from .pseudo_terminal import PseudoTerminal, terminal


@contextmanager
def serving(url: str, config: natsery.ServiceConfig) -> Iterator[Callable[[str, bytes], object]]:
    """A service in a thread of its own, and a function that makes requests."""
    with anyio.from_thread.start_blocking_portal("trio") as portal:
        with (
            portal.wrap_async_context_manager(natsery.connect(url, max_reconnect_wait=0.2)) as nc,
            portal.wrap_async_context_manager(natsery.serve(nc, config)),
        ):
            yield lambda subject, data: portal.call(nc.request, subject, data)


@contextmanager
def top(url: str, *arguments: str, interval: str = "0.1", lines: int = 24) -> Iterator[PseudoTerminal]:
    """The command, when it shows its first figures."""
    with terminal("top", "-s", url, "--interval", interval, *arguments, lines=lines) as screen:
        screen.wait_for("natsery top", "Req/s", "q quit")
        assert screen.is_taken
        yield screen


def names(screen: PseudoTerminal) -> list[str]:
    """What the rows begin with."""
    return [line.split()[0] for line in screen.text.splitlines()[4:-1] if line]


def test_it_shows_services_obeys_keys_and_leaves_the_terminal_as_it_was(services: str) -> None:
    with top(services, "--sort", "name") as screen:
        screen.wait_for(services, "2 services · 3 instances · 0 req/s", "every 0.1 s · by name")
        assert names(screen) == ["a-service-with-a-n…nsiderable-length", "calc"]
        screen.press(b"R")
        screen.wait_until(lambda: names(screen) == ["calc", "a-service-with-a-n…nsiderable-length"])
        screen.press(b"l")
        screen.wait_until(lambda: names(screen)[:3] == ["calc", "two", "one"])
        screen.press(b"\r")
        screen.wait_until(lambda: names(screen)[:2] == ["calc", "add"])
        screen.press(b"?")
        screen.wait_for("sort by name", "this help")
        screen.press(b"x")
        screen.wait_until(lambda: "this help" not in screen.text)
        screen.press(b"e")
        screen.wait_for("by errors/s", "Err/s▼")
        assert not termios.ECHO & screen.mode()[3]
        screen.press(b"q")
        assert screen.wait_ended() == 0
        assert screen.is_as_it_was


def test_it_scrolls_and_follows_the_size_of_the_terminal(services: str) -> None:
    with top(services, "--level", "all", "--sort", "name", interval="60", lines=8) as screen:
        screen.wait_for("1 to 3 of 9")
        assert names(screen)[0].startswith("a-service")
        screen.press(b"\x1b[B\x1b[B")
        screen.wait_for("3 to 5 of 9")
        screen.press(b"\x1b[6~\x1b[6~")
        screen.wait_for("7 to 9 of 9")
        screen.resize(180, 30)
        screen.wait_for("Metadata", "stadt=Köln")
        screen.wait_until(lambda: len(names(screen)) == 9)
        screen.resize(60, 9)
        screen.wait_for("6 to 9 of 9")
        assert "Metadata" not in screen.text
        screen.press(b"q")
        assert screen.wait_ended() == 0


def test_figures_are_those_of_the_moment_and_a_pause_keeps_them(nats_server: NatsServer) -> None:
    asked: list[object] = []
    config = natsery.ServiceConfig(
        "pausing", "1.0.0", endpoints=[natsery.EndpointConfig("plus", add)], stats_handler=asked.append
    )
    with serving(nats_server.url, config) as request, top(nats_server.url, "pausing", "--level", "all") as screen:
        screen.wait_for("1 service · 1 instance · 0 req/s")
        while " 0 req/s" in screen.text:
            request("plus", b"1+2")
            request("plus", b"x")
            screen.look()
        screen.wait_for(" 0 req/s")
        screen.resize(160, 24)
        screen.wait_for("400:expected")
        screen.press(b" ")
        screen.wait_for("paused")
        shown = screen.text
        request("plus", b"3+4")
        before = len(asked)
        screen.wait_until(lambda: len(asked) > before + 1)
        screen.press(b"?")
        screen.wait_for("this help")
        screen.press(b"?")
        screen.wait_until(lambda: screen.text == shown)
        screen.press(b" ")
        screen.wait_until(lambda: "paused" not in screen.text)
        screen.press(b"q")
        assert screen.wait_ended() == 0


def test_ctrl_c_leaves_it(services: str) -> None:
    with top(services, interval="60") as screen:
        screen.press(b"\x03")
        assert screen.wait_ended() == 0
        assert screen.is_as_it_was
        assert "Traceback" not in screen.text


def test_a_signal_ends_it_as_it_ends_others_with_the_terminal_as_it_was(services: str) -> None:
    with top(services, interval="60") as screen:
        screen.signal(signal.SIGTERM)
        assert screen.wait_ended() == -signal.SIGTERM
        assert screen.is_as_it_was


def test_a_terminal_that_takes_nothing_does_not_keep_it(services: str) -> None:
    with top(services, interval="60") as screen:
        termios.tcflow(screen.theirs, termios.TCOOFF)
        screen.press(b"nlq")
        assert screen.wait_ended() == 0
        assert screen.mode() == screen.mode_before
        termios.tcflow(screen.theirs, termios.TCOON)


def test_ctrl_z_gives_the_terminal_back_and_fg_takes_it_again(services: str) -> None:
    with top(services, interval="60") as screen:
        screen.press(b"\x1a")
        _, status = os.waitpid(screen.process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        screen.wait_until(lambda: screen.is_as_it_was)
        screen.signal(signal.SIGCONT)
        screen.wait_until(lambda: screen.is_taken and "q quit" in screen.text)
        screen.press(b"n")
        screen.wait_for("by name")
        screen.press(b"q")
        assert screen.wait_ended() == 0
        assert screen.is_as_it_was


def test_it_leaves_by_itself_after_a_count(services: str) -> None:
    with top(services, "--count", "2") as screen:
        assert screen.wait_ended() == 0
        assert screen.is_as_it_was


def test_the_last_figures_stay_while_the_server_is_away() -> None:
    with NatsServer() as server, serving(server.url, CALC), top(server.url) as screen:
        screen.wait_for("1 instance · 0 req/s")
        server.kill()
        screen.wait_for("Disconnected from the server, these are the last figures")
        assert "1 service · 1 instance" in screen.text
        server.start()
        screen.wait_until(
            lambda: "Disconnected from the server" not in screen.text and "1 service · 1 instance" in screen.text
        )
        assert b"disconnected from NATS" not in screen.written, "the log is not for the screen"
        screen.press(b"q")
        assert screen.wait_ended() == 0


def test_an_error_is_one_line_on_the_terminal_as_it_was() -> None:
    with NatsServer('authorization { users: [ { user: a, password: b, permissions: { publish: "c" } } ] }') as server:
        url = server.url.replace("://", "://a:b@")
        with terminal("top", "-s", url) as screen:
            assert screen.wait_ended() == 1
            assert screen.is_as_it_was
            assert "Error: the server denies publishing to '$SRV.STATS'" in screen.text
            assert "Traceback" not in screen.text


def test_once_prints_a_table_on_a_terminal_too(services: str) -> None:
    with terminal("top", "--once", "--interval", "0.1", "-s", services, columns=100) as screen:
        assert screen.wait_ended() == 0
        head, other, calc = (line.split()[0] for line in screen.text.splitlines() if line)
        assert (head, calc) == ("Name", "calc")
        # How much of it there is room for depends on the figures.
        start, _, end = other.partition("…")
        assert OTHER_NAME.startswith(start)
        assert OTHER_NAME.endswith(end)
        assert screen.is_as_it_was
