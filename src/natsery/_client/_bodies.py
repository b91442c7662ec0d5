"""Typed bodies, as a client writes and reads them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias, TypeVar, final

from .._codecs._codec import Codec
from .._endpoint_config import EndpointConfig
from .._errors import DecodeError, MalformedReplyError
from .._handlers import NO_BODY
from .._message import Message
from .._protocol._commands import as_bytes

MAX_KEPT: Final = 1_024
"""Types for which what reads or writes them is kept, and codecs of endpoints for which the same is done."""

MadeT = TypeVar("MadeT")

Read: TypeAlias = "Callable[[Message], Any]"
"""Reads a reply."""


@final
class Bodies:
    """Writes requests and reads replies with a codec. What it has made for a type is kept.

    Args:
        codec: how bodies of other types than ``bytes`` are written.
    """

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self._encoders: dict[Any, Callable[[Any], bytes]] = {}
        self._readers: dict[Any, Read] = {}
        self._others: dict[int, Bodies] = {}  # by the id of the codec, which need not have a hash

    def prepare(self, field: str, body: Any, returns: Any) -> tuple[Any, Read]:
        """Return a payload, and what reads its reply: as it is, with a body that is bytes, where the type is ``Message``.

        Raises:
            TypeError, ValueError: the codec does not know the type, or cannot write the body; it names the ``field``.
        """
        if returns is Message:
            return _check_bytes(field, body), as_it_is
        # Before the body is written, which would be in vain with a type that nobody can read.
        read = self.reader(returns)
        return self.write(body), read

    def prepare_declared(self, endpoint: EndpointConfig, body: Any) -> tuple[Any, Read]:
        """Return a payload, and what reads its replies, of the types that the function of an endpoint declares.

        Raises:
            TypeError, ValueError: the codec cannot write the body.
        """
        signature = endpoint._read_signature()
        bodies = self if endpoint.codec is None else self._with_codec(endpoint.codec)
        data = body if signature.body is NO_BODY else bodies.write(body, signature.body)
        return data, bodies.reader(signature.result)

    def _with_codec(self, codec: Codec) -> Bodies:
        return _kept(self._others, id(codec), lambda _: Bodies(codec))

    def write(self, body: Any, type_: Any = Any) -> bytes:
        """Return a body as payload; ``bytes`` as they are.

        Raises:
            TypeError, ValueError: the codec cannot write it, or it is not bytes where the type is.
        """
        if isinstance(body, bytes):
            return body
        if type_ is bytes:
            return as_bytes(body)
        return _kept(self._encoders, type_, self._codec.encoder)(body)

    def reader(self, type_: Any) -> Read:
        """Return what reads the payload of a reply as a value of a type; as it is for ``bytes``.

        It raises `MalformedReplyError` for a reply that does not fit.

        Raises:
            TypeError: the codec does not know the type.
        """
        return _payload_of if type_ is bytes else _kept(self._readers, type_, self._make_reader)

    def _make_reader(self, type_: Any) -> Read:
        decode = self._codec.decoder(type_)

        def read(reply: Message) -> Any:
            try:
                return decode(reply.data)
            except DecodeError as error:
                raise MalformedReplyError(f"the reply does not fit {_name_of(type_)}: {error}") from error

        return read


def as_it_is(reply: Message) -> Message:
    """Return a reply as it came."""
    return reply


def _check_bytes(field: str, value: Any) -> Any:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return value
    own = "write text.encode(), or " if isinstance(value, str) else "write "
    hint = f"{own}returns=..., the type of the reply, to have the body encoded"
    raise TypeError(f"{field}: must be bytes, not {type(value).__name__}; {hint}")


def _payload_of(reply: Message) -> bytes:
    return reply.data


def _kept(kept: dict[Any, MadeT], type_: Any, make: Callable[[Any], MadeT]) -> MadeT:
    """Return what is kept for a type; made, and kept in place of the oldest if there are many, the first time."""
    try:
        made = kept.get(type_)
    except TypeError:  # it has no hash, as ``Annotated[int, []]``
        return make(type_)
    if made is None:
        made = make(type_)
        if len(kept) >= MAX_KEPT:
            del kept[next(iter(kept))]
        kept[type_] = made
    return made


def _name_of(type_: Any) -> str:
    return type_.__name__ if isinstance(type_, type) else str(type_)
