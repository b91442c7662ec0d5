"""stub"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, final

from .._checks import WrongType
from .._errors import NatseryError


class DecodeError(NatseryError, ValueError):
    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


class Codec(ABC):
    content_type: str

    @abstractmethod
    def decoder(self, type_: Any) -> Callable[[bytes], Any]: ...
    @abstractmethod
    def encoder(self, type_: Any) -> Callable[[Any], bytes]: ...
    @abstractmethod
    def schema(self, type_: Any) -> dict[str, Any]: ...


@final
class JSONCodec(Codec):
    content_type = "application/json"

    def decoder(self, type_: Any) -> Callable[[bytes], Any]:
        return json.loads

    def encoder(self, type_: Any) -> Callable[[Any], bytes]:
        return lambda value: json.dumps(value).encode()

    def schema(self, type_: Any) -> dict[str, Any]:
        return {}


def codec_rule(value: object) -> str | None:
    return None if isinstance(value, Codec) else WrongType("must be a natsery.Codec")
