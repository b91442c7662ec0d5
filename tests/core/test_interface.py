"""What both forms have: the same names, the same parameters, the same fields."""

from __future__ import annotations

import copy
import enum
import inspect
import itertools
import pickle

import anyio
import pytest

import natsery
from natsery import _core
from natsery._native._connection_statistics import Counters
from natsery.testing import MemoryBroker, make_request

from ..bounds import HANG_SECONDS
from .forms import BOTH, COMPILED, NAMES, PLAIN, message_type, needs_both, request_type

PRIVATE_TO_THE_PLAIN_FORM = {"_frames", "_parser", "_subscriptions", "_on_event", "_on_malformed"}
"""How it does things, which nothing else reads."""


class Name(enum.StrEnum):
    ADD = "add"


class Payload(bytes):
    pass


def own(kind: type) -> set[str]:
    """What a class has that is not Python's."""
    found = {name for name in dir(kind) if not (name.startswith("__") and name.endswith("__"))}
    return (found | set(getattr(kind, "__annotations__", ()))) - PRIVATE_TO_THE_PLAIN_FORM


def test_the_core_has_what_both_forms_have():
    assert {*NAMES, "AWAY", "CORE"} == set(_core.__all__)
    assert set(vars(PLAIN)) == set(NAMES)
    form = COMPILED if _core.CORE == "compiled" else PLAIN
    assert all(getattr(_core, name) is getattr(form, name) for name in NAMES)


@needs_both
@pytest.mark.parametrize("name", NAMES)
def test_the_compiled_form_has_what_the_plain_one_has(name):
    plain, compiled = own(getattr(PLAIN, name)), own(getattr(COMPILED, name))
    if name == "EndpointQueue":
        # What a subclass has to have is not written down twice.
        plain -= {each for each in plain if "NotImplementedError" in source_of(PLAIN.EndpointQueue, each)}
    elif name == "FrameBuffer":
        plain -= {"wake", "sent"}
    assert compiled == plain


def source_of(kind, name):
    found = vars(kind).get(name)
    return inspect.getsource(found) if inspect.isfunction(found) else ""


@needs_both
@pytest.mark.parametrize("name", NAMES)
def test_both_forms_take_the_same_parameters(name):
    """A compiled class does not say which it takes; so each of them is given, by position and by name."""
    signature = inspect.signature(getattr(PLAIN, name))
    parameters = list(signature.parameters.values())
    given = {each.name: SAMPLES[each.name] for each in parameters}
    positional = [each for each in parameters if each.kind is not each.KEYWORD_ONLY]
    compiled = getattr(COMPILED, name)
    if name == "EndpointQueue":
        given["counters"] = COMPILED.CounterFields()
    elif name == "FrameBuffer":
        given["held"] = COMPILED.HeldAnswers()
    for count in range(len(positional) + 1):
        by_position = [given[each.name] for each in positional[:count]]
        by_name = {each.name: given[each.name] for each in parameters[count:]}
        compiled(*by_position, **by_name)
        for left_out in by_name:
            others = {each: value for each, value in by_name.items() if each != left_out}
            if signature.parameters[left_out].default is inspect.Parameter.empty:
                with pytest.raises(TypeError):
                    compiled(*by_position, **others)
            else:
                compiled(*by_position, **others)
        if parameters:
            with pytest.raises(TypeError):
                compiled(*by_position, **by_name, another=1)


SAMPLES = {
    "subject": "a",
    "data": b"x",
    "reply": "r",
    "headers": natsery.Headers({"A": "1"}),
    "status": 503,
    "subscriptions": {},
    "on_event": print,
    "on_malformed": print,
    "wakeup": object(),
    "endpoint": object(),
    "fast_path": object(),
    "counters": Counters(),
    "held": None,  # of the same form
    "clock_ns": int,
    "checkpoint": print,
    "concurrency": 1,
    "max_messages": 1,
    "max_bytes": 1,
    "suspicious": frozenset({"."}),
}


@pytest.mark.parametrize("form", BOTH)
@pytest.mark.parametrize("kind", ["MessageFields", "RequestFields"])
def test_messages_begin_alike(form, kind):
    kind = request_type(form) if kind == "RequestFields" else message_type(form)
    message = kind("a", b"", "")
    fields = (message.subject, message.data, message.reply, message.headers, message.status)
    assert fields == ("a", b"", "", {}, 0)
    message = kind("a", b"x", "r", natsery.Headers({"A": "1"}), 503)
    fields = (message.subject, message.data, message.reply, message.headers, message.status)
    assert fields == ("a", b"x", "r", {"A": "1"}, 503)
    if hasattr(message, "_failure"):
        assert message._failure is None
        assert (message._has_responded, message._has_ended, message._is_released) == (False, False, False)
    with pytest.raises(TypeError):
        kind()
    with pytest.raises(AttributeError):
        request_type(form)("a", b"", "").nonsense = 1


VALUES = [None, "text", Name.ADD, b"x", Payload(b"x"), bytearray(b"x"), memoryview(b"x"), 5, 1.5, {}, [], object()]


@pytest.mark.parametrize("form", BOTH)
@pytest.mark.parametrize("field", ["subject", "data", "reply", "headers", "status", "endpoint"])
@pytest.mark.parametrize("value", VALUES, ids=range(len(VALUES)))
def test_a_field_takes_what_a_handler_sets_it_to(form, field, value):
    request = request_type(form)("a", b"", "")
    setattr(request, field, value)
    assert getattr(request, field) is value


def test_messages_can_be_copied_and_pickled():
    message = natsery.Message("a", b"x", "r", natsery.Headers({"A": "1"}), 503)
    for other in (copy.copy(message), copy.deepcopy(message), pickle.loads(pickle.dumps(message))):
        assert type(other) is natsery.Message
        assert repr(other) == repr(message)
    request = natsery.Request("a", b"x", "r")
    assert repr(copy.copy(request)) == repr(request)


def test_messages_of_a_subclass_are_made_by_its_own_rules():
    class Priced(natsery.Message):
        def __init__(self, subject, price):
            super().__init__(subject, b"%d" % price)
            self.price = price

    assert (Priced("a", 5).data, Priced("a", price=5).price) == (b"5", 5)


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["trio", "asyncio"])
async def test_subjects_and_payloads_may_be_subclasses():
    """A ``StrEnum`` that names subjects, for one."""

    @natsery.endpoint
    async def add(request: natsery.Request) -> bytes:
        return Payload(request.data + b"!")

    config = natsery.ServiceConfig("calc", "1.0.0", endpoints=[add])
    with anyio.fail_after(HANG_SECONDS):
        async with MemoryBroker() as broker, broker.connect() as nc, natsery.serve(nc, config):
            assert (await nc.request(Name.ADD, Payload(b"x"))).data == b"x!"
            async with nc.subscribe("replies") as replies:
                await nc.publish(Name.ADD, b"y", reply=enum.StrEnum("Reply", {"A": "replies"}).A)
                assert (await replies.receive()).data == b"y!"
    request, _ = make_request(Payload(b"x"), subject=Name.ADD, reply=Name.ADD)
    assert (request.subject, request.data, request.reply) == ("add", b"x", "add")


@pytest.mark.parametrize("form", BOTH)
def test_workers_and_counters_hold_what_they_are_given(form):
    wakeup = object()
    worker = form.Worker(wakeup)
    assert (worker.wakeup, worker.request) == (wakeup, None)
    counters = form.CounterFields()
    for number, size in itertools.product(range(3), (0, 2**32, 2**62)):
        counters.num_requests, counters.processing_time = number, size
        counters.num_requests += 1
        assert (counters.num_requests, counters.processing_time) == (number + 1, size)


@needs_both
def test_what_the_compiled_form_needs_is_there_from_the_beginning():
    """A subclass that forgets to call ``__init__`` gets an error, or what it asks for, and no crash."""

    class Forgetful(COMPILED.FrameBuffer):
        def __init__(self):
            self.limit = self.max_payload = 100_000

    buffer = Forgetful()
    buffer.add(b"PING\r\n")
    assert buffer.answer("r", b"x" * 20_000)
    buffer.add(b"PONG\r\n")
    assert [len(frame) for frame in buffer.clear()] == [6, 20_015, 6]
    with pytest.raises(AttributeError):
        COMPILED.EndpointQueue.__new__(COMPILED.EndpointQueue)._counters = None
