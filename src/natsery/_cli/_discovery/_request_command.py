"""``natsery request``: calls a service."""

from __future__ import annotations

import base64
import sys
from pathlib import Path
from typing import Any

import anyio
import click

from ..._checks import check_config
from ..._client._collection import EndReason
from ..._client._service_client import ServiceClient
from ..._errors import NoRespondersError
from ..._message import Headers, Message
from ..._native._native_connection import NativeConnection
from ..._service_error import ServiceError
from ..._subjects import literal_subject_rule
from .._connection_options._help import ConnectingCommand
from .._connection_options._server_check import check_server
from .._connection_options._settings import Settings, connection_options
from .._exit_codes import CommandError, Exit, line_of
from .._format import counted, format_duration
from .._output import complain, show_json
from .._runner import run_async


@click.command(cls=ConnectingCommand)
@click.argument("subject")
@click.argument("data", required=False)
@click.option(
    "-f",
    "--file",
    "path",
    type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path),
    help="Send a file's bytes; - for stdin.",
)
@click.option("-H", "--header", "header_lines", multiple=True, metavar="'NAME: VALUE'", help="A header; repeatable.")
@click.option(
    "--count", type=click.IntRange(min=1), default=1, show_default=True, help="Send the request N times, one by one."
)
@click.option(
    "--replies", type=click.IntRange(min=1), default=1, show_default=True, help="Take up to N replies to each request."
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=5.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for a reply.",
)
@click.option("--raw", is_flag=True, help="Print the reply's bytes and nothing else, not even a line's end.")
@click.option("-v", "--verbose", is_flag=True, help="Show headers and times, on stderr.")
@click.option("--json", "as_json", is_flag=True, help="Print each reply as a JSON object, headers included.")
@connection_options
def request(
    settings: Settings,
    subject: str,
    data: str | None,
    path: Path | None,
    header_lines: tuple[str, ...],
    count: int,
    replies: int,
    timeout: float,
    *,
    raw: bool,
    verbose: bool,
    as_json: bool,
) -> Exit:
    """Send DATA to SUBJECT and print the reply.

    Without DATA, what is piped to stdin is sent; on a terminal, nothing.

    \b
      natsery request math.add 1+2
      natsery request math.add -H 'Trace: 7' < numbers.txt

    An error reply goes to stderr as "Error: CODE: DESCRIPTION", and the exit status is 1; it is 4 if nobody listens on the
    subject and 5 if no reply comes in time.
    """  # noqa: D301  # click wants the character that \\b is
    if data is not None and path is not None:
        raise click.UsageError("DATA and --file cannot be given together.")
    check_config("SUBJECT", subject, literal_subject_rule)
    call = _Call(subject, _payload(data, path), _headers(header_lines), count, replies, timeout)
    show = _Show(raw=raw, verbose=verbose, as_json=as_json)
    return run_async(call.run, settings, show)


class _Show:
    """How replies are printed."""

    def __init__(self, *, raw: bool, verbose: bool, as_json: bool) -> None:
        self._raw = raw
        self._verbose = verbose
        self._as_json = as_json

    def reply(self, reply: Message, seconds: float) -> None:
        """Print a reply."""
        if self._verbose:
            complain(f"{counted(len(reply.data), 'byte')} in {format_duration(seconds * 1e9)}")
            for name, value in reply.headers.multi_items():
                complain(f"{name}: {value}")
        if self._as_json:
            show_json(_as_json(reply))
            return
        end = b"" if self._raw or reply.data.endswith(b"\n") else b"\n"
        sys.stdout.buffer.write(reply.data + end)
        sys.stdout.buffer.flush()

    def error(self, error: ServiceError, reply: Message, seconds: float) -> None:
        """Print an error reply: its code and description to stderr, with what it carries."""
        if self._as_json:
            self.reply(reply, seconds)
        complain(f"Error: {error.code}: {error.description}")
        if error.data and not self._as_json:
            complain(error.data.decode(errors="replace"))
        if self._verbose and not self._as_json:
            for name, value in reply.headers.multi_items():
                complain(f"{name}: {value}")


class _Call:
    """A request, sent as often as was asked for."""

    def __init__(self, subject: str, data: bytes, headers: Headers, count: int, replies: int, timeout: float) -> None:
        self._subject = subject
        self._data = data
        self._headers = headers
        self._count = count
        self._replies = replies
        self._timeout = timeout

    async def run(self, settings: Settings, show: _Show) -> Exit:
        """Send it and print what comes."""
        statuses: list[Exit] = []
        times: list[float] = []
        async with settings.connect("natsery request") as nc:
            for _ in range(self._count):
                begun = anyio.current_time()
                try:
                    statuses.append(await self._send(nc, show, begun))
                except CommandError as error:
                    if self._count == 1:
                        raise
                    error.show()
                    statuses.append(Exit(error.exit_code))
                times.append(anyio.current_time() - begun)
        if self._count > 1:
            failed = sum(status is not Exit.OK for status in statuses)
            mean = sum(times) / len(times)
            complain(
                f"{self._count} requests, {failed} failed; shortest {_readable(min(times))}, mean {_readable(mean)}, "
                f"longest {_readable(max(times))}"
            )
        return next((status for status in statuses if status is not Exit.OK), Exit.OK)

    async def _send(self, nc: NativeConnection, show: _Show, begun: float) -> Exit:
        status: Exit | None = None
        async with ServiceClient(nc).request_many(
            self._subject, self._data, headers=self._headers, wait=self._timeout, count=self._replies
        ) as replies:
            async for reply in replies:
                seconds = anyio.current_time() - begun
                error = ServiceError.from_message(reply)
                if error is None:
                    show.reply(reply, seconds)
                    status = status or Exit.OK
                else:
                    show.error(error, reply, seconds)
                    status = Exit.FAILED
        if status is None and replies.ended is EndReason.NO_RESPONDERS:
            nobody = NoRespondersError(self._subject)
            raise CommandError(line_of(nobody), Exit.NOBODY)
        if status is None:
            await check_server(nc)
            raise CommandError(f"no reply from {self._subject!r} within {self._timeout:g} s", Exit.TIMEOUT)
        return status


def _payload(data: str | None, path: Path | None) -> bytes:
    if data is not None:
        # What the shell gave that is not UTF-8 is sent as it was given.
        return data.encode(errors="surrogateescape")
    if path is not None and str(path) != "-":
        return path.read_bytes()
    if path is not None or (sys.stdin is not None and not sys.stdin.isatty()):
        return sys.stdin.buffer.read()
    return b""


def _headers(lines: tuple[str, ...]) -> Headers:
    pairs = []
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            raise click.BadParameter(f"{line!r} is not of the form 'NAME: VALUE'", param_hint="--header")
        pairs.append((name.strip(), value.strip()))
    try:
        return Headers(pairs)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--header") from None


def _as_json(reply: Message) -> dict[str, Any]:
    """A reply as JSON: its payload as text where it is UTF-8, in base64 where it is not."""
    error = ServiceError.from_message(reply)
    result: dict[str, Any] = {"subject": reply.subject, "headers": reply.headers.multi_items()}
    try:
        result["data"] = reply.data.decode()
    except UnicodeDecodeError:
        result["data_base64"] = base64.b64encode(reply.data).decode()
    if error is not None:
        result["error"] = {"code": error.code, "description": error.description}
    return result


def _readable(seconds: float) -> str:
    return format_duration(seconds * 1e9)
