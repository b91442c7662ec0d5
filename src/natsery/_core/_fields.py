"""What the core reads and writes of the objects that it has in hand; the classes above add the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from .._headers import Headers
    from .._message import Deliver, Message
    from .._service._endpoint import Endpoint
    from .._service._request import Request
    from .._statistics import Failure
    from .._wakeup import Wakeup


class MessageFields:
    """The fields of `natsery.Message`."""

    __slots__ = ("data", "headers", "reply", "status", "subject")

    subject: str
    data: bytes
    reply: str
    headers: Headers
    status: int


class RequestFields(MessageFields):
    """The fields of `natsery.Request`.

    Attributes:
        endpoint: the endpoint that received it.
        _begun: when its handler was called, in nanoseconds.
        _failure: how it has failed.
        _has_responded: whether a reply has been sent.
        _has_ended: whether it has been counted, and takes no more replies.
        _is_released: whether the worker that called its handler has no more to do with it.
    """

    __slots__ = ("_begun", "_failure", "_has_ended", "_has_responded", "_is_released", "endpoint")

    endpoint: Endpoint
    _begun: int
    _failure: Failure | None
    _has_ended: bool
    _has_responded: bool
    _is_released: bool


class SubscriptionFields:
    """The fields of a connection's subscription.

    Attributes:
        subject: the subject, wildcards included.
        delivered: messages handed to ``_deliver`` so far.
        _subject: the subject as it travels; most messages have just this one.
        _deliver: takes the messages.
        _message_type: what they are made as.
    """

    subject: str
    delivered: int
    _subject: bytes
    _deliver: Deliver
    _message_type: type[Message]


class CounterFields:
    """The counters of an endpoint that every request changes.

    Attributes:
        num_requests: requests that have ended.
        processing_time: the nanoseconds that their handlers took together.
    """

    __slots__ = ("num_requests", "processing_time")

    num_requests: int
    processing_time: int


@final
class HeldAnswers:
    """The answers to requests that wait in a connection's write buffer for others, whichever endpoints they are of.

    Attributes:
        since: since when they may have been waiting, in nanoseconds; 0 if there are none.
    """

    __slots__ = ("since",)

    def __init__(self) -> None:
        self.since: int = 0


@final
class Worker:
    """One task of an endpoint, and the request that it is handling."""

    __slots__ = ("request", "wakeup")

    def __init__(self, wakeup: Wakeup) -> None:
        self.wakeup: Wakeup = wakeup
        self.request: Request | None = None
