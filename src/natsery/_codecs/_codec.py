"""The seam between typed bodies and the bytes of messages: what a codec is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from .._checks import WrongType


class Codec(ABC):
    """How typed bodies are read, written and described. `JSONCodec` is one; subclass this for another format.

    A codec is asked once for each endpoint, when that is added, and the functions that it returns are called for each message.
    They are called in the event loop and must not block.

    Attributes:
        content_type: the media type of what it writes, such as ``"application/json"``.
    """

    content_type: str

    @abstractmethod
    def decoder(self, type_: Any) -> Callable[[bytes], Any]:
        """Return the function that reads a body of a type; it raises `DecodeError` for what does not fit.

        Raises:
            TypeError: bodies cannot be of this type.
        """

    @abstractmethod
    def encoder(self, type_: Any) -> Callable[[Any], bytes]:
        """Return the function that writes a body of a type; it raises `TypeError` or `ValueError` for what cannot be written.

        Raises:
            TypeError: bodies cannot be of this type.
        """

    @abstractmethod
    def schema(self, type_: Any) -> dict[str, Any]:
        """Return the JSON Schema (2020-12) of a type, complete in itself, and the same each time.

        Raises:
            TypeError: bodies cannot be of this type.
        """


def codec_rule(value: object) -> str | None:
    """A codec."""
    return None if isinstance(value, Codec) else WrongType("must be a natsery.Codec")
