"""Services tested without a server: a broker in memory, requests for handlers alone, and a real server where one is wanted."""

from .._server import Server as Server
from .._server import ServerError as ServerError
from .._server import open_server as open_server
from ._broker import MemoryBroker as MemoryBroker
from ._connection import MemoryConnection as MemoryConnection
from ._nats_server import NatsServer as NatsServer
from ._request import make_request as make_request

__all__ = (
    "MemoryBroker",
    "MemoryConnection",
    "NatsServer",
    "Server",
    "ServerError",
    "make_request",
    "open_server",
)
