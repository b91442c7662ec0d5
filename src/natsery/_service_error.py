"""Error replies: how one is written and read."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, final

from ._adr32 import ERROR_CODE_HEADER, ERROR_HEADER
from ._checks import WrongType, check_argument
from ._errors import NatseryError, printable, shorten
from ._headers import Headers

if TYPE_CHECKING:
    from ._headers import HeadersInput
    from ._message import Message

MAX_ERROR_CODE: Final = 2**31 - 1
"""The largest error code that readers with 32-bit integers can take."""

_CODE = re.compile(r"[0-9]{1,10}", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_NO_DESCRIPTION: Final = "unknown error"


@final
class ServiceError(NatseryError):
    """An error reply: raised by a handler to send one, raised to the caller who received one.

    Args:
        code: a whole number, as in ``Nats-Service-Error-Code``, or its decimal digits as a ``str``; HTTP's meanings are
            customary.
        description: a text for a person, as in ``Nats-Service-Error``; not empty. Line breaks and other control
            characters travel as spaces, and what is not ASCII travels escaped, as in Python's string literals.
        data: the payload of the error reply.
        headers: further headers of the error reply; the two error headers win over these.

    Attributes:
        code: the code, as an ``int``.
        description: the text.
        data: the payload.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: ``code`` is not between 0 and 2,147,483,647, or ``description`` is empty.

    Source: ADR-32, "Error handling".
    """

    def __init__(
        self,
        code: int | str,
        description: str,
        *,
        data: bytes = b"",
        headers: HeadersInput | None = None,
    ) -> None:
        number = read_code(code)
        check_argument("description", description, description_rule)
        if not isinstance(data, bytes):
            raise TypeError(f"data: must be bytes; got {shorten(data)}")
        super().__init__(number, description)
        self.code: int = number
        self.description = description
        self.data = data
        self._headers: HeadersInput | None = headers

    @property
    def headers(self) -> Headers:
        """The headers that were given, or all headers of the reply that was received.

        Raises:
            TypeError, ValueError: a header that was given breaks a rule.
        """
        # Checked late, so that a wrong header costs an error reply no more than its headers.
        if not isinstance(self._headers, Headers):
            self._headers = Headers(self._headers)
        return self._headers

    @classmethod
    def from_message(cls, message: Message) -> ServiceError | None:
        """Return the error that a reply carries, or ``None`` if it is a good reply.

        A reply is an error when either error header is there; a code that is not a number reads as 500, its text kept.

        Source: ADR-32, "Error handling".
        """
        headers = message.headers
        if ERROR_HEADER not in headers and ERROR_CODE_HEADER not in headers:
            return None
        code = headers.get(ERROR_CODE_HEADER, "").strip()
        text = headers.get(ERROR_HEADER, "").strip()
        if _CODE.fullmatch(code) and int(code) <= MAX_ERROR_CODE:
            return cls(int(code), text or _NO_DESCRIPTION, data=message.data, headers=headers)
        text = f"{code}: {text}" if code and text else code or text
        return cls(500, text or _NO_DESCRIPTION, data=message.data, headers=headers)

    def __str__(self) -> str:
        return f"{self.code}:{printable(self.description)}"

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (self.code, self.description, self.data, self._headers))


def _rebuild(code: int, description: str, data: bytes, headers: HeadersInput | None) -> ServiceError:
    return ServiceError(code, description, data=data, headers=headers)


def error_headers(code: int | str, description: str, headers: HeadersInput | None = None) -> Headers:
    r"""Return the headers of an error reply; they win over ``headers``, which is not changed.

    Control characters in the description become spaces, and what is not ASCII is escaped as in Python's string literals
    (``\xe9``), so that an error always reaches its reader.

    Raises:
        TypeError, ValueError: ``code``, ``description`` or one of ``headers`` breaks a rule.

    Source: ADR-32, "Error handling"; ADR-4, revision 2: header values are ASCII.
    """
    number = read_code(code)
    check_argument("description", description, description_rule)
    others = [
        (name, value)
        for name, value in Headers(headers).multi_items()
        if name.lower() not in (ERROR_HEADER.lower(), ERROR_CODE_HEADER.lower())
    ]
    text = _CONTROL.sub(" ", description).strip().encode("ascii", "backslashreplace").decode()
    return Headers([(ERROR_HEADER, text or _NO_DESCRIPTION), (ERROR_CODE_HEADER, str(number)), *others])


def sendable_error_headers(
    code: int, description: str, headers: HeadersInput | None
) -> tuple[Headers, Exception | None]:
    """Return the headers of an error reply, and what is wrong with ``headers`` if they had to be left out."""
    try:
        return error_headers(code, description, headers), None
    except Exception as problem:  # of any kind, for headers may be given as a generator
        return error_headers(code, description), problem


def sole_service_error(error: Exception) -> Exception:
    """Return the `ServiceError` that an exception group holds and nothing else, otherwise the error itself."""
    if not isinstance(error, ExceptionGroup):
        return error
    members = [sole_service_error(each) for each in error.exceptions]
    first = members[0]
    if isinstance(first, ServiceError) and all(
        isinstance(each, ServiceError) and (each.code, each.description) == (first.code, first.description)
        for each in members
    ):
        return first
    return error


def read_code(code: object) -> int:
    """Return an error code as an ``int``.

    Raises:
        TypeError, ValueError: it is not one.
    """
    number = int(code) if isinstance(code, str) and _CODE.fullmatch(code) else code
    check_argument("code", number, _code_rule)
    assert isinstance(number, int)
    return number


def _code_rule(value: object) -> str | None:
    if not isinstance(value, int) or isinstance(value, bool):
        wrong = "must be an int, or its decimal digits as a str"
        return wrong if isinstance(value, str) else WrongType(wrong)
    return None if 0 <= value <= MAX_ERROR_CODE else f"must be between 0 and {MAX_ERROR_CODE}"


def description_rule(value: object) -> str | None:
    """The text of an error."""
    if not isinstance(value, str):
        return WrongType("must be a str")
    return None if value.strip() else "must not be empty"
