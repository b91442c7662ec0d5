"""Other implementations at work: run to the end, or live for the length of a block."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream

SECONDS = 30
"""What one step may take, on a machine that has much else to do."""

LIMIT = 120
"""What a test may take."""

MAX_LINE = 1_000_000

versions: set[str] = set()
"""What the implementations that served are made of."""


async def output(command: Sequence[str], *, status: int = 0, errors: bool = False) -> str:
    """What a command prints; with its standard error, too, if it is asked for or the command is to fail."""
    with anyio.fail_after(SECONDS):
        done = await anyio.run_process(list(command), stdin=subprocess.DEVNULL, check=False, env=_environment())
    printed, complaints = done.stdout.decode(), done.stderr.decode()
    assert done.returncode == status, f"{command} ended with {done.returncode}:\n{printed}{complaints}"
    return printed + complaints if errors or status else printed


class Program:
    """A program that runs beside the test, obeys its standard input and answers in lines."""

    def __init__(self, process: Process, complaints: Any) -> None:
        assert process.stdout is not None
        self._process = process
        self._complaints = complaints
        self._output = BufferedByteReceiveStream(process.stdout)

    async def wait_for(self, word: str) -> str:
        """The rest of the next line that begins with a word."""
        try:
            with anyio.fail_after(SECONDS):
                while True:
                    line = (await self._output.receive_until(b"\n", MAX_LINE)).decode()
                    if line.startswith(word):
                        return line.removeprefix(word).strip()
        except (anyio.IncompleteRead, TimeoutError):
            self._complaints.seek(0)
            raise AssertionError(f"no {word!r}; it said:\n{self._complaints.read().decode()}") from None

    async def do(self, what: str) -> None:
        """Have something done."""
        assert self._process.stdin is not None
        await self._process.stdin.send(f"{what}\n".encode())
        await self.wait_for("done")


@asynccontextmanager
async def running(command: Sequence[str]) -> AsyncIterator[Program]:
    """A program that runs as long as the block."""
    with tempfile.TemporaryFile() as complaints:
        process = await anyio.open_process(list(command), stdin=subprocess.PIPE, stderr=complaints, env=_environment())
        async with process:
            try:
                yield Program(process, complaints)
            finally:
                if process.returncode is None:
                    process.kill()


@asynccontextmanager
async def serving(command: Sequence[str], url: str, contract: str) -> AsyncIterator[tuple[Program, str]]:
    """The service of another implementation, live, and its id."""
    async with running([*command, "serve", url, contract]) as program:
        ready = json.loads(await program.wait_for("ready"))
        versions.add(ready["versions"])
        yield program, ready["id"]


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONIOENCODING": "utf-8", "PYTHONUTF8": "1"}
