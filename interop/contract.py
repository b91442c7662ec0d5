"""The service that every implementation here offers, and natsery's own edition of it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field

import natsery


@dataclass(frozen=True)
class Contract:
    """One service: ``<name>.echo`` and ``<name>.fail``; other implementations get it as JSON.

    ``echo`` answers with the payload, and with the request's header ``Trace`` as ``Traced``. ``fail`` answers the payload
    ``expected`` with the error described here, and fails in any other case as that implementation's handlers fail.
    """

    name: str
    version: str = "1.2.3-rc.1+build.5"
    description: str = "Größe – 計算 🧮"
    metadata: dict[str, str] = field(default_factory=lambda: {"größe": "klein", "言語": "日本語"})
    endpoint_metadata: dict[str, str] = field(default_factory=lambda: {"schéma": "écho 🪞"})
    failing_queue_group: str = "failing"
    code: int = 400
    text: str = "no such thing"
    data: str = "only größere"

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
        return json.dumps(asdict(self), ensure_ascii=False)

    def config(self, *, data: bool = True) -> natsery.ServiceConfig:
        """The service as natsery's; ``data`` for a ``data`` in its statistics."""

        async def echo(request: natsery.Request) -> None:
            trace = request.headers.get("Trace")
            await request.respond(request.data, headers={"Traced": trace} if trace else None)

        async def fail(request: natsery.Request) -> None:
            if request.data != b"expected":
                raise LookupError("the colour of the database")
            raise natsery.ServiceError(self.code, self.text, data=self.data.encode())

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
