"""Requests for handlers alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast, final

from .._adr32 import check_subject
from .._errors import ConfigError
from .._message import Headers, HeadersInput, Message
from .._service._request import Request

if TYPE_CHECKING:
    from .._service._endpoint import Endpoint


def make_request(
    data: bytes = b"",
    *,
    subject: str = "test",
    pattern: str | None = None,
    reply: str = "_INBOX.test",
    headers: HeadersInput | None = None,
) -> tuple[Request, list[Message]]:
    """A request that no connection carries, and the list in which what ``respond…`` sends is found::

        request, answers = make_request(b"1+2")
        assert await add(request) == b"3"
        assert answers == []

    Args:
        data: the payload.
        subject: where it was sent to.
        pattern: the endpoint's subject, for ``request.tokens``; the same as ``subject`` if left out.
        reply: where the answer goes, ``""`` for a message that wants none.
        headers: its headers.

    Raises:
        ConfigError: a subject, the headers or the payload break a rule.
    """
    if not isinstance(data, bytes):
        raise ConfigError("data", type(data).__name__, "must be bytes")
    check_subject("subject", subject, wildcards=False)
    answers: list[Message] = []
    request = Request(subject, data, reply, Headers(headers))
    place = _Place(check_subject("pattern", subject if pattern is None else pattern), _Recorder(answers))
    request.endpoint = cast("Endpoint", place)
    return request, answers


@final
class _Recorder:
    """Keeps what is sent."""

    def __init__(self, answers: list[Message]) -> None:
        self._answers = answers

    async def _send(
        self, subject: str, data: bytes = b"", *, reply: str = "", headers: HeadersInput | None = None
    ) -> None:
        self._answers.append(Message(subject, data, reply, Headers(headers)))


@final
@dataclass(frozen=True)
class _Place:
    """As much of an endpoint as a request looks at."""

    subject: str
    _fast_path: _Recorder
