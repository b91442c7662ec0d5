"""NATS services (ADR-32) as nursery-scoped async context managers, for trio and for anyio on either backend.

The layers; each imports only what stands below it:

- ``_cli``: the ``natsery`` command, on the public API alone; ``testing``: a broker in memory and a real server for tests.
- ``otel``, ``prometheus``: instruments for OpenTelemetry and Prometheus, which are imported by whoever uses them.
- ``_service``: from `serve` to a handler and its reply; ``_client``: `ServiceClient`. Both know connections through the seam.
- ``abc``, ``_fast_path``: the seam, as users see it and as the service layer uses it; ``_connection_base``: what is common.
- ``_native``: `connect`; ``_nats_py``: `adapt` and `bridge`, which alone import nats-py, when they are called.
- ``_backends``: the few things for which trio and asyncio are used directly.
- ``_codecs``: typed bodies, read, written and described. It does no I/O and imports no event loop.
- ``_core``: what every message passes, in two forms, compiled and plain Python.
- ``_protocol``: the NATS client protocol, bytes to events and back; ``_service_config``, ``_endpoint_config``, ``_limits``,
  ``_adr32``, ``_responses``, ``_schemas``, ``_statistics``, ``_message``, ``_subjects``, ``_errors`` and the like: values and
  rules. These do no I/O and import no event loop.

``docs/architecture.md`` has the picture, and the way of a request through it.
"""

from . import abc as abc
from ._access_log import AccessLog as AccessLog
from ._adr32 import Verb as Verb
from ._adr32 import control_subject as control_subject
from ._client._collection import EndReason as EndReason
from ._client._replies import Replies as Replies
from ._client._replies import ReplyStream as ReplyStream
from ._client._service_client import ServiceClient as ServiceClient
from ._codecs._codec import Codec as Codec
from ._codecs._json_codec import JSONCodec as JSONCodec
from ._core import CORE as CORE
from ._endpoint_config import EndpointConfig as EndpointConfig
from ._endpoint_config import EndpointLike as EndpointLike
from ._endpoint_config import GroupConfig as GroupConfig
from ._endpoint_config import endpoint as endpoint
from ._endpoint_config import group as group
from ._error_map import ErrorMapping as ErrorMapping
from ._error_map import map_errors as map_errors
from ._errors import AuthorizationError as AuthorizationError
from ._errors import BackendMismatchError as BackendMismatchError
from ._errors import ConfigError as ConfigError
from ._errors import ConnectError as ConnectError
from ._errors import ConnectionClosedError as ConnectionClosedError
from ._errors import ConnectionLostError as ConnectionLostError
from ._errors import DeadlineExceededError as DeadlineExceededError
from ._errors import DecodeError as DecodeError
from ._errors import EndpointOverloadedError as EndpointOverloadedError
from ._errors import InvalidBodyError as InvalidBodyError
from ._errors import MalformedMessageError as MalformedMessageError
from ._errors import MalformedReplyError as MalformedReplyError
from ._errors import MalformedRequestError as MalformedRequestError
from ._errors import MaxPayloadError as MaxPayloadError
from ._errors import NatseryError as NatseryError
from ._errors import NoReplySubjectError as NoReplySubjectError
from ._errors import NoRespondersError as NoRespondersError
from ._errors import OutboundBufferError as OutboundBufferError
from ._errors import PermissionDeniedError as PermissionDeniedError
from ._errors import ProtocolError as ProtocolError
from ._errors import PublishDeniedError as PublishDeniedError
from ._errors import PublishError as PublishError
from ._errors import ReportsDroppedError as ReportsDroppedError
from ._errors import SecureConnectionError as SecureConnectionError
from ._errors import ServerError as ServerError
from ._errors import ServiceStoppedError as ServiceStoppedError
from ._errors import SlowConsumerError as SlowConsumerError
from ._errors import SubscriptionDeniedError as SubscriptionDeniedError
from ._errors import UnknownEndpointError as UnknownEndpointError
from ._events import ConnectionEvent as ConnectionEvent
from ._events import EventKind as EventKind
from ._events import Listener as Listener
from ._exports import set_public_module
from ._handlers import EndpointHandler as EndpointHandler
from ._handlers import Handler as Handler
from ._headers import Headers as Headers
from ._headers import HeadersInput as HeadersInput
from ._instruments import Call as Call
from ._instruments import Instrument as Instrument
from ._instruments import Outcome as Outcome
from ._limits import NO_QUEUE_GROUP as NO_QUEUE_GROUP
from ._limits import Limiter as Limiter
from ._limits import Middleware as Middleware
from ._limits import QueueGroup as QueueGroup
from ._message import Deliver as Deliver
from ._message import Message as Message
from ._native._connect import connect as connect
from ._native._connection_statistics import ConnectionStatistics as ConnectionStatistics
from ._native._native_connection import NativeConnection as NativeConnection
from ._nats_py._adapt import AdaptedConnection as AdaptedConnection
from ._nats_py._adapt import adapt as adapt
from ._nats_py._bridge import BridgedConnection as BridgedConnection
from ._nats_py._bridge import bridge as bridge
from ._protocol._server_info import ServerInfo as ServerInfo
from ._responses import EndpointInfo as EndpointInfo
from ._responses import EndpointStats as EndpointStats
from ._responses import ServiceInfo as ServiceInfo
from ._responses import ServicePing as ServicePing
from ._responses import ServiceStats as ServiceStats
from ._schemas import EndpointSchema as EndpointSchema
from ._schemas import ServiceSchema as ServiceSchema
from ._service._detached_request import DetachedRequest as DetachedRequest
from ._service._endpoint import Endpoint as Endpoint
from ._service._request import Request as Request
from ._service._serve import serve as serve
from ._service._serve import serve_forever as serve_forever
from ._service._service import Group as Group
from ._service._service import Service as Service
from ._service_config import ErrorHandler as ErrorHandler
from ._service_config import Lifespan as Lifespan
from ._service_config import ServiceConfig as ServiceConfig
from ._service_config import StatsHandler as StatsHandler
from ._service_error import ServiceError as ServiceError
from ._service_error import error_headers as error_headers
from ._statistics import Clock as Clock
from ._statistics import FailureCause as FailureCause
from ._streams import Events as Events
from ._streams import Messages as Messages
from ._version import __version__ as __version__

__all__ = (
    "CORE",
    "NO_QUEUE_GROUP",
    "AccessLog",
    "AdaptedConnection",
    "AuthorizationError",
    "BackendMismatchError",
    "BridgedConnection",
    "Call",
    "Clock",
    "Codec",
    "ConfigError",
    "ConnectError",
    "ConnectionClosedError",
    "ConnectionEvent",
    "ConnectionLostError",
    "ConnectionStatistics",
    "DeadlineExceededError",
    "DecodeError",
    "Deliver",
    "DetachedRequest",
    "EndReason",
    "Endpoint",
    "EndpointConfig",
    "EndpointHandler",
    "EndpointInfo",
    "EndpointLike",
    "EndpointOverloadedError",
    "EndpointSchema",
    "EndpointStats",
    "ErrorHandler",
    "ErrorMapping",
    "EventKind",
    "Events",
    "FailureCause",
    "Group",
    "GroupConfig",
    "Handler",
    "Headers",
    "HeadersInput",
    "Instrument",
    "InvalidBodyError",
    "JSONCodec",
    "Lifespan",
    "Limiter",
    "Listener",
    "MalformedMessageError",
    "MalformedReplyError",
    "MalformedRequestError",
    "MaxPayloadError",
    "Message",
    "Messages",
    "Middleware",
    "NativeConnection",
    "NatseryError",
    "NoReplySubjectError",
    "NoRespondersError",
    "OutboundBufferError",
    "Outcome",
    "PermissionDeniedError",
    "ProtocolError",
    "PublishDeniedError",
    "PublishError",
    "QueueGroup",
    "Replies",
    "ReplyStream",
    "ReportsDroppedError",
    "Request",
    "SecureConnectionError",
    "ServerError",
    "ServerInfo",
    "Service",
    "ServiceClient",
    "ServiceConfig",
    "ServiceError",
    "ServiceInfo",
    "ServicePing",
    "ServiceSchema",
    "ServiceStats",
    "ServiceStoppedError",
    "SlowConsumerError",
    "StatsHandler",
    "SubscriptionDeniedError",
    "UnknownEndpointError",
    "Verb",
    "__version__",
    "abc",
    "adapt",
    "bridge",
    "connect",
    "control_subject",
    "endpoint",
    "error_headers",
    "group",
    "map_errors",
    "serve",
    "serve_forever",
)

set_public_module(__name__, __all__, globals())
