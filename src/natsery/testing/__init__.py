"""Services tested without a server: a broker in memory, requests for handlers alone, and a real server where one is wanted."""

from .._exports import set_public_module
from .._server import Server as Server
from .._server import ServerProcessError as ServerProcessError
from .._server import open_server as open_server
from ._make_request import make_request as make_request
from ._memory_broker import MemoryBroker as MemoryBroker
from ._memory_connection import MemoryConnection as MemoryConnection
from ._nats_server import NatsServer as NatsServer

__all__ = (
    "MemoryBroker",
    "MemoryConnection",
    "NatsServer",
    "Server",
    "ServerProcessError",
    "make_request",
    "open_server",
)

set_public_module(__name__, __all__, globals())
