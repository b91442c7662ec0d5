"""Typed bodies, as a client writes and reads them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

from .._codecs._codec import Codec
from .._errors import DecodeError, MalformedReplyError
from .._message import Message
from .._protocol._commands import as_bytes


@final
class Bodies:
    """Writes requests and reads replies with a codec. What it has made for a type is kept.

    Args:
        codec: how bodies of other types than ``bytes`` are written.
    """

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self._encoders: dict[Any, Callable[[Any], bytes]] = {}
        self._decoders: dict[Any, Callable[[bytes], Any]] = {}

    def write(self, body: Any, type_: Any = Any) -> bytes:
        """Return a body as payload; ``bytes`` as they are.

        Raises:
            TypeError, ValueError: the codec cannot write it, or it is not bytes where the type is.
        """
        if isinstance(body, bytes):
            return body
        if type_ is bytes:
            return as_bytes(body)
        if type_ not in self._encoders:
            self._encoders[type_] = self._codec.encoder(type_)
        return self._encoders[type_](body)

    def read(self, type_: Any, reply: Message) -> Any:
        """Return the payload of a reply as a value of a type; as it is for ``bytes``.

        Raises:
            MalformedReplyError: it does not fit.
            TypeError: the codec does not know the type.
        """
        if type_ is bytes:
            return reply.data
        if type_ not in self._decoders:
            self._decoders[type_] = self._codec.decoder(type_)
        try:
            return self._decoders[type_](reply.data)
        except DecodeError as error:
            raise MalformedReplyError(f"the reply does not fit {_name_of(type_)}: {error}") from error


def _name_of(type_: Any) -> str:
    return type_.__name__ if isinstance(type_, type) else str(type_)
