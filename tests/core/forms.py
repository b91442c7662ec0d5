"""Both forms of the core, side by side, each with classes of its own fields."""

from __future__ import annotations

from types import ModuleType, SimpleNamespace

import pytest

import natsery
from natsery._core import _endpoint_queue, _fields, _frame_buffer, _reader

MODULES = (_endpoint_queue, _fields, _frame_buffer, _reader)

NAMES = (
    "CounterFields",
    "EndpointQueue",
    "FrameBuffer",
    "HeldAnswers",
    "MessageFields",
    "Reader",
    "RequestFields",
    "SubscriptionFields",
    "Worker",
)
"""What each form has."""

PLAIN = SimpleNamespace(**{name: vars(module)[name] for module in MODULES for name in NAMES if name in vars(module)})


def _compiled() -> ModuleType | None:
    try:
        from natsery._core import _compiled
    except ImportError:
        return None
    return _compiled


COMPILED = _compiled()

BOTH = [
    pytest.param(PLAIN, id="python"),
    pytest.param(
        COMPILED,
        id="compiled",
        marks=pytest.mark.skipif(COMPILED is None, reason="this installation has no compiled core"),
    ),
]
"""For tests of what each form has to do."""

needs_both = pytest.mark.skipif(COMPILED is None, reason="there is no compiled core to compare with")


def message_type(form: object) -> type:
    """A class of messages, as `natsery.Message` is one."""

    class Message(form.MessageFields):
        __slots__ = ()
        __init__ = natsery.Message.__init__

    return Message


def request_type(form: object) -> type:
    """A class of requests, as `natsery.Request` is one."""

    class Request(form.RequestFields):
        __slots__ = ("_arrived",)
        __init__ = natsery.Request.__init__

    return Request


def subscription(form: object, subject: str, deliver: object, kind: type | None = None) -> object:
    """A subscription, as a connection has them."""

    class Subscription(form.SubscriptionFields):
        pass

    self = Subscription()
    self.subject, self._subject = subject, subject.encode()
    self.delivered = 0
    self._deliver = deliver
    self._message_type = kind or message_type(form)
    return self
