"""Tools for testing services: a broker in memory, requests for handlers, and real nats-servers."""

from .._exports import set_public_module
from ._make_request import make_request as make_request
from ._memory_broker import MemoryBroker as MemoryBroker
from ._memory_connection import MemoryConnection as MemoryConnection
from ._nats_server import NatsServer as NatsServer
from ._open_server import open_server as open_server
from ._server_process import ServerProcessError as ServerProcessError

__all__ = (
    "MemoryBroker",
    "MemoryConnection",
    "NatsServer",
    "ServerProcessError",
    "make_request",
    "open_server",
)

set_public_module(__name__, __all__, globals())
