"""The service that every implementation here offers, and natsery's own edition of it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field

import natsery


@dataclass(frozen=True)
class Contract:
    """One service: ``<name>.echo`` and ``<name>.fail``; other implementations get it as JSON.

    ``echo`` answers with the payload, and with the request's header ``Trace`` as ``Traced``; the payload ``unanswered`` it
    leaves unanswered. ``fail`` answers the payload ``expected`` with the error described here, ``unicode`` with the same
    error in ``unicode_text``, and fails in any other case as that implementation's handlers fail.
    """

    name: str
    version: str = "1.2.3-rc.1+build.5"
    description: str = "Größe – 計算 🧮"
    metadata: dict[str, str] = field(default_factory=lambda: {"größe": "klein", "言語": "日本語"})
    endpoint_metadata: dict[str, str] = field(default_factory=lambda: {"schéma": "écho 🪞"})
    failing_queue_group: str = "failing"
    code: int = 400
    text: str = "no such thing"
    unicode_text: str = "größer als 10: 数 🧮"
    data: str = "only größere"
    unanswered: str = "no answer, please"

    @property
    def echo(self) -> str:
        """The subject of the endpoint that answers."""
        return f"{self.name}.echo"

    @property
    def fail(self) -> str:
        """The subject of the endpoint that does not."""
        return f"{self.name}.fail"

    def to_json(self) -> str:
        """As the programs read it."""
        # In ASCII, for Java reads its arguments in the character set of the locale.
        return json.dumps(asdict(self))

    def config(self, *, data: bool = True) -> natsery.ServiceConfig:
        """The service as natsery's; ``data`` for a ``data`` in its statistics."""

        async def echo(request: natsery.Request) -> None:
            if request.data == self.unanswered.encode():
                return
            trace = request.headers.get("Trace")
            await request.respond(request.data, headers={"Traced": trace} if trace else None)

        async def fail(request: natsery.Request) -> None:
            if request.data not in (b"expected", b"unicode"):
                raise LookupError("the colour of the database")
            text = self.text if request.data == b"expected" else self.unicode_text
            raise natsery.ServiceError(self.code, text, data=self.data.encode())

        endpoints = [
            natsery.EndpointConfig("echo", echo, metadata=self.endpoint_metadata),
            natsery.EndpointConfig("fail", fail, queue_group=self.failing_queue_group),
        ]
        return natsery.ServiceConfig(
            self.name,
            self.version,
            description=self.description,
            metadata=self.metadata,
            endpoints=[natsery.group(self.name, endpoints)],
            stats_handler=data_of if data else None,
        )


def data_of(stats: natsery.EndpointStats) -> object:
    """What our service adds to an endpoint's statistics."""
    return {"größe": [stats.name, 1.5, None]}
