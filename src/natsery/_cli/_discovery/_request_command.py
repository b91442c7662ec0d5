"""``natsery request``: sends requests to a service."""

from __future__ import annotations

import base64
import os
import re
import select
import sys
from pathlib import Path
from typing import Any

import anyio
import click

import natsery

from .._argument_checks import SECONDS, check_name, check_subject
from .._connection_options._help import ConnectingCommand
from .._connection_options._server_check import check_server
from .._connection_options._settings import Settings, connection_options
from .._exit_codes import CommandError, Exit, line_of
from .._format import format_duration, pluralize, printable
from .._output import print_error, show_json
from .._runner import run_async

PATIENCE = 1.0
"""Seconds after which the user is told that the command waits for stdin."""

FIRST_OF_A_STREAM = re.compile(r"\.[0-9a-f]{16}\.1$", re.ASCII)
"""The end of the reply subject that acknowledges it; JetStream's messages, for example, have others."""


@click.command(cls=ConnectingCommand, short_help="Send a request, and print the reply.")
@click.argument("subject", required=False)
@click.argument("data", required=False)
@click.option("--service", metavar="NAME", help="Call an endpoint of this service; its INFO says the subject.")
@click.option("--endpoint", metavar="NAME", help="The endpoint's name or whole subject, with --service.")
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
@click.option("--stream", is_flag=True, help="Print all replies of an endpoint that streams them, until the last.")
@click.option(
    "--timeout",
    type=SECONDS,
    default=5.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for a reply, and for stdin.",
)
@click.option("--raw", is_flag=True, help="Print the reply's bytes as they are, without a final newline.")
@click.option("-v", "--verbose", is_flag=True, help="Show headers and times, on stderr.")
@click.option("--json", "as_json", is_flag=True, help="Print each reply as a JSON object, headers included.")
@connection_options
def request(
    settings: Settings,
    subject: str | None,
    data: str | None,
    service: str | None,
    endpoint: str | None,
    path: Path | None,
    header_lines: tuple[str, ...],
    count: int,
    replies: int,
    timeout: float,
    *,
    stream: bool,
    raw: bool,
    verbose: bool,
    as_json: bool,
) -> Exit:
    """Send DATA to SUBJECT, or to an endpoint of a service, and print the reply.

    Without DATA, the bytes from stdin are sent; none if stdin is a terminal. A stdin that is silent for as long as --timeout
    is an error.

    \b
      natsery request math.add 1+2
      natsery request notes.read '"tea"'   # a text in JSON has quotes of its own
      natsery request math.add -H 'Trace: 7' < numbers.txt
      natsery request --service calc --endpoint add 1+2

    An error reply goes to stderr as "Error: CODE: DESCRIPTION", and the exit status is 1. It is 4 if nothing listens on the
    subject or there is no such service or endpoint, and 5 if no reply comes in time.
    """  # noqa: D301  # click needs the character that \\b stands for
    if service is not None or endpoint is not None:
        if service is None or endpoint is None:
            raise click.UsageError("--service and --endpoint are given together.")
        if data is not None:
            raise click.UsageError("SUBJECT and --service cannot be given together.")
        subject, data = None, subject
        check_name("--service", service)
    elif subject is None:
        raise click.UsageError("Give a SUBJECT, or --service and --endpoint.")
    if data is not None and path is not None:
        raise click.UsageError("DATA and --file cannot be given together.")
    if stream and replies > 1:
        raise click.UsageError("--stream and --replies cannot be given together.")
    if subject is not None:
        check_subject("SUBJECT", subject)
    place = subject or (str(service), str(endpoint))
    sent = _payload(data, path, timeout), _headers(header_lines)
    sender = _Sender(place, *sent, count=count, replies=None if stream else replies, timeout=timeout)
    printer = _ReplyPrinter(raw=raw, verbose=verbose, as_json=as_json)
    return run_async(sender.run, settings, printer)


class _ReplyPrinter:
    """Prints replies as the options say."""

    def __init__(self, *, raw: bool, verbose: bool, as_json: bool) -> None:
        self._raw = raw
        self._verbose = verbose
        self._as_json = as_json

    def reply(self, reply: natsery.Message, seconds: float) -> None:
        """Print a reply."""
        if self._verbose:
            print_error(f"{pluralize(len(reply.data), 'byte')} in {format_duration(seconds * 1e9)}")
            for name, value in reply.headers.multi_items():
                print_error(f"{name}: {value}")
        if self._as_json:
            show_json(_as_json(reply))
            return
        if sys.stdout.isatty() and not self._raw:
            # Tabs are no danger to a terminal, and common in tables.
            text = printable(reply.data.decode(errors="backslashreplace"), keep="\n\t")
            sys.stdout.write(text if text.endswith("\n") else f"{text}\n")
            sys.stdout.flush()
            return
        end = b"" if self._raw or reply.data.endswith(b"\n") else b"\n"
        sys.stdout.buffer.write(reply.data + end)
        sys.stdout.buffer.flush()

    def error(self, error: natsery.ServiceError, reply: natsery.Message, seconds: float) -> None:
        """Print an error reply: its code, description and payload to stderr."""
        if self._as_json:
            self.reply(reply, seconds)
        print_error(f"Error: {error.code}: {error.description}")
        if error.data and not self._as_json:
            print_error(error.data.decode(errors="replace"))
        if self._verbose and not self._as_json:
            for name, value in reply.headers.multi_items():
                print_error(f"{name}: {value}")


class _Sender:
    """Sends a request, once or more often."""

    def __init__(
        self,
        place: str | tuple[str, str],
        data: bytes,
        headers: natsery.Headers,
        *,
        count: int,
        replies: int | None,
        timeout: float,
    ) -> None:
        self._place = place
        self._subject = ""
        self._data = data
        self._headers = headers
        self._count = count
        self._replies = replies
        self._timeout = timeout
        self._saw_stream = False

    async def run(self, settings: Settings, printer: _ReplyPrinter) -> Exit:
        """Send the requests, print the replies, and return the exit status."""
        statuses: list[Exit] = []
        times: list[float] = []
        async with settings.connect("natsery request") as nc:
            self._subject = await self._find_subject(nc, settings.prefix)
            for _ in range(self._count):
                start = anyio.current_time()
                try:
                    statuses.append(await self._send(nc, printer, start))
                except CommandError as error:
                    if self._count == 1:
                        raise
                    error.show()
                    statuses.append(Exit(error.exit_code))
                times.append(anyio.current_time() - start)
        if self._count > 1:
            failed = sum(status is not Exit.OK for status in statuses)
            mean = sum(times) / len(times)
            print_error(
                f"{self._count} requests, {failed} failed; shortest {_format_seconds(min(times))}, mean {_format_seconds(mean)}, "
                f"longest {_format_seconds(max(times))}"
            )
        if self._saw_stream and self._replies == 1:
            print_error("this is the first reply of a stream; --stream prints all of them")
        return next((status for status in statuses if status is not Exit.OK), Exit.OK)

    async def _find_subject(self, nc: natsery.NativeConnection, prefix: str) -> str:
        if isinstance(self._place, str):
            return self._place
        service, endpoint = self._place
        with anyio.move_on_after(self._timeout):
            try:
                found = await natsery.ServiceClient(nc, prefix=prefix).find_endpoint(service, endpoint)
            except natsery.NoRespondersError:
                raise CommandError(f"no service {service} answered", Exit.NOT_FOUND) from None
            check_subject(f"the subject of endpoint {endpoint!r}", found.subject)
            return found.subject
        await check_server(nc)
        raise CommandError(f"no service {service} answered within {self._timeout:g} s", Exit.TIMEOUT)

    async def _send(self, nc: natsery.NativeConnection, printer: _ReplyPrinter, start: float) -> Exit:
        if self._replies is None:
            return await self._read_stream(nc, printer, start)
        status: Exit | None = None
        async with natsery.ServiceClient(nc).request_many(
            self._subject, self._data, headers=self._headers, wait=self._timeout, count=self._replies
        ) as replies:
            async for reply in replies:
                seconds = anyio.current_time() - start
                error = natsery.ServiceError.from_message(reply)
                if error is None:
                    printer.reply(reply, seconds)
                    status = status or Exit.OK
                else:
                    printer.error(error, reply, seconds)
                    status = Exit.FAILED
                self._saw_stream = self._saw_stream or bool(reply.data and FIRST_OF_A_STREAM.search(reply.reply))
        if status is None and replies.ended is natsery.EndReason.NO_RESPONDERS:
            raise CommandError(line_of(natsery.NoRespondersError(self._subject)), Exit.NOT_FOUND)
        if status is None:
            await check_server(nc)
            raise CommandError(f"no reply from {self._subject!r} within {self._timeout:g} s", Exit.TIMEOUT)
        return status

    async def _read_stream(self, nc: natsery.NativeConnection, printer: _ReplyPrinter, start: float) -> Exit:
        """Print the replies of a stream; the time-out is for each of them, and for the end."""
        client = natsery.ServiceClient(nc)
        async with client.stream(self._subject, self._data, headers=self._headers) as replies:
            with anyio.move_on_after(self._timeout) as scope:
                try:
                    async for reply in replies:
                        printer.reply(reply, anyio.current_time() - start)
                        scope.deadline = anyio.current_time() + self._timeout
                except natsery.ServiceError as error:
                    reply = natsery.Message(self._subject, error.data, headers=error.headers)
                    printer.error(error, reply, anyio.current_time() - start)
                    return Exit.FAILED
                return Exit.OK
        await check_server(nc)
        what = f"{self._subject!r} sent neither a reply nor the end of a stream within {self._timeout:g} s"
        raise CommandError(what, Exit.TIMEOUT)


def _payload(data: str | None, path: Path | None, timeout: float) -> bytes:
    if data is not None:
        # Bytes of the command line that are not UTF-8 are sent as they are.
        return data.encode(errors="surrogateescape")
    if path is not None and str(path) != "-":
        return path.read_bytes()
    if path is not None or (sys.stdin is not None and not sys.stdin.isatty()):
        return _read_stdin(timeout)
    return b""


def _read_stdin(timeout: float) -> bytes:
    """Read stdin to its end, and give up when it is silent: it may be a pipe that nobody writes to or closes."""
    try:
        descriptor = sys.stdin.fileno()
    except OSError:  # it is no file
        return sys.stdin.buffer.read()
    if sys.platform == "win32":  # where only sockets can be waited for
        return sys.stdin.buffer.read()
    if sys.stdin.isatty():
        print_error("reading the data from the terminal; end it with Ctrl-D")
    data = bytearray()
    was_told = False
    while True:
        if not select.select([descriptor], [], [], min(timeout, PATIENCE))[0]:
            if timeout > PATIENCE and not was_told:
                was_told = True
                print_error("waiting for data on stdin; for none, add '' or < /dev/null")
            if timeout <= PATIENCE or not select.select([descriptor], [], [], timeout - PATIENCE)[0]:
                raise CommandError(
                    f"no data on stdin within {timeout:g} s; give DATA or --file, or '' for none", Exit.TIMEOUT
                )
        chunk = os.read(descriptor, 65_536)
        if not chunk:
            return bytes(data)
        data += chunk


def _headers(lines: tuple[str, ...]) -> natsery.Headers:
    pairs = []
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            raise click.BadParameter(f"{line!r} is not of the form 'NAME: VALUE'", param_hint="--header")
        pairs.append((name.strip(), value.strip()))
    try:
        return natsery.Headers(pairs)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--header") from None


def _as_json(reply: natsery.Message) -> dict[str, Any]:
    """Return a reply as JSON, with its payload as text if it is UTF-8, otherwise in base64."""
    error = natsery.ServiceError.from_message(reply)
    result: dict[str, Any] = {"subject": reply.subject, "headers": reply.headers.multi_items()}
    try:
        result["data"] = reply.data.decode()
    except UnicodeDecodeError:
        result["data_base64"] = base64.b64encode(reply.data).decode()
    if error is not None:
        result["error"] = {"code": error.code, "description": error.description}
    return result


def _format_seconds(seconds: float) -> str:
    return format_duration(seconds * 1e9)
