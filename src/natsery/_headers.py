"""The headers of a NATS message, as values."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TypeAlias, final

from ._checks import WrongType, check_argument
from ._errors import shorten

HeadersInput: TypeAlias = "Mapping[str, str | Iterable[str]] | Iterable[tuple[str, str]]"
"""What can be given as headers: a mapping of names to one or several values, or pairs."""

_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+", re.ASCII)
_VERSION_LINE = b"NATS/1.0\r\n"


@final
class Headers(Mapping[str, str]):
    """The headers of a message: several values a name, case kept, look-up without regard to case. Immutable.

    As a mapping it gives the first value of each name; ``get_all`` gives every value and ``multi_items`` every pair in
    the order of the wire.

    Leading and trailing blanks of a value do not travel and are removed.

    Raises:
        TypeError: a name or a value is not a ``str``, or what is given is neither a mapping nor pairs.
        ValueError: a name is not an HTTP token, or a value holds CR, LF or NUL or is not ASCII. Received headers are checked
            in the same way when they are sent on.

    Source: ADR-4, NATS message headers.
    """

    __slots__ = ("_block", "_is_sendable", "_known_first", "_known_pairs", "_size")

    def __init__(self, headers: HeadersInput | None = None) -> None:
        if headers is None:
            pairs: tuple[tuple[str, str], ...] = ()
        elif isinstance(headers, Headers) and headers._is_sendable:
            pairs = headers._pairs
        else:
            given = headers._pairs if isinstance(headers, Headers) else _pairs_of(headers)
            pairs = tuple((_check_name(name), _check_value(name, value)) for name, value in given)
        self._set(pairs, b"", is_sendable=True)

    def _set(self, pairs: tuple[tuple[str, str], ...] | None, block: bytes, *, is_sendable: bool) -> None:
        # The pairs, and the first value of each name, are made when they are first asked for.
        self._known_pairs = pairs
        self._known_first: dict[str, str] | None = None
        self._block = block
        self._size = len(block)
        self._is_sendable = is_sendable

    @classmethod
    def from_wire(cls, pairs: Iterable[tuple[str, str]]) -> Headers:
        """Return headers as they were received, without the checks made on what is sent."""
        self = cls.__new__(cls)
        self._set(tuple(pairs), b"", is_sendable=False)
        return self

    @classmethod
    def from_block(cls, block: bytes) -> Headers:
        """Return the headers of a received block, which must be well-formed; it is not taken apart before it is looked at."""
        self = cls.__new__(cls)
        # `_set`, written out: a call less for each message.
        self._known_pairs = self._known_first = None
        self._block = block
        self._size = len(block)
        self._is_sendable = False
        return self

    @property
    def _pairs(self) -> tuple[tuple[str, str], ...]:
        pairs = self._known_pairs
        return self._read_block() if pairs is None else pairs

    @property
    def _first(self) -> dict[str, str]:
        first = self._known_first
        return self._read_first() if first is None else first

    def _read_block(self) -> tuple[tuple[str, str], ...]:
        pairs: list[tuple[str, str]] = []
        for line in self._block[:-4].decode().split("\r\n")[1:]:
            name, _, value = line.partition(":")
            pairs.append((name, value.strip(" \t")))
        self._known_pairs = known = tuple(pairs)
        self._block = b""
        return known

    def _read_first(self) -> dict[str, str]:
        pairs = self._known_pairs
        if pairs is None:
            pairs = self._read_block()
        first: dict[str, str] = {}
        for name, value in pairs:
            first.setdefault(name.lower(), value)
        self._known_first = first
        return first

    @property
    def _wire_size(self) -> int:
        """Bytes that they take on the wire; 0 if there are none."""
        if not self._size and self._pairs:
            text = "".join(f"{name}: {value}\r\n" for name, value in self._pairs)
            self._size = len(_VERSION_LINE) + len(text.encode(errors="surrogatepass")) + len(b"\r\n")
        return self._size

    def _may_have(self, name: bytes) -> bool:
        """Whether there may be a name, given in lower case: a block that was received is not taken apart for that."""
        return not self._block or name in self._block.lower()

    def __getitem__(self, name: str) -> str:
        # `_first`, written out: a call less for each look-up.
        first = self._known_first
        if first is None:
            first = self._read_first()
        return first[name.lower()]

    def __contains__(self, name: object) -> bool:
        if not isinstance(name, str):
            return False
        first = self._known_first
        if first is None:
            first = self._read_first()
        return name.lower() in first

    def __iter__(self) -> Iterator[str]:
        seen = set()
        for name, _ in self._pairs:
            if name.lower() not in seen:
                seen.add(name.lower())
                yield name

    def __len__(self) -> int:
        return len(self._first)

    def get_all(self, name: str) -> list[str]:
        """Return all values of a name, in the order of the wire; an empty list if there is none."""
        wanted = name.lower()
        return [value for each, value in self._pairs if each.lower() == wanted]

    def multi_items(self) -> list[tuple[str, str]]:
        """Return all pairs of name and value, in the order of the wire."""
        return list(self._pairs)

    def encode(self) -> bytes:
        """Return the header block as it travels, its closing empty line included."""
        lines = [_VERSION_LINE]
        lines += [f"{name}: {value}\r\n".encode() for name, value in self._pairs]
        lines.append(b"\r\n")
        return b"".join(lines)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Headers):
            return [(n.lower(), v) for n, v in self._pairs] == [(n.lower(), v) for n, v in other._pairs]
        if isinstance(other, Mapping):
            return dict(self) == other
        return NotImplemented

    def __hash__(self) -> int:
        return hash(tuple((name.lower(), value) for name, value in self._pairs))

    def __repr__(self) -> str:
        return f"Headers({list(self._pairs)!r})"


def _pairs_of(headers: object) -> Iterator[tuple[str, str]]:
    if isinstance(headers, Mapping):
        for name, values in headers.items():
            if isinstance(values, str) or not isinstance(values, Iterable):
                yield name, values
            else:
                for value in values:
                    yield name, value
        return
    if isinstance(headers, (str, bytes)) or not isinstance(headers, Iterable):
        raise TypeError(f"headers: must be a mapping or pairs of name and value; got {shorten(headers)}")
    for pair in headers:
        if not isinstance(pair, tuple) or len(pair) != 2:
            raise TypeError(f"headers: must be pairs of name and value; got {shorten(pair)}")
        yield pair


def _check_name(name: object) -> str:
    check_argument("header name", name, _name_rule)
    return str(name)


def _name_rule(name: object) -> str | None:
    if not isinstance(name, str):
        return WrongType("must be a str")
    return None if _NAME.fullmatch(name) else "must be printable ASCII without spaces or separators"


def _check_value(name: str, value: object) -> str:
    check_argument(f"header {name}", value, _value_rule)
    return str(value).strip()


def _value_rule(value: object) -> str | None:
    if not isinstance(value, str):
        return WrongType("must be a str")
    if "\r" in value or "\n" in value or "\0" in value:
        return "must not contain CR, LF or NUL"
    if not value.isascii():
        # ADR-4, revision 2. Some clients stop reading at a value that is not.
        return "must be ASCII; send other text in the payload, or percent-encoded (urllib.parse.quote)"
    return None


NO_HEADERS = Headers()
"""The headers of a message that has none."""
