"""Configurations, the endpoint decorator, groups and the inheritance of queue groups."""

from __future__ import annotations

import functools
import inspect
import math
import re
from unittest.mock import AsyncMock

import pytest

import natsery
from natsery import NO_QUEUE_GROUP, ConfigError, EndpointConfig, GroupConfig, ServiceConfig, endpoint, group
from natsery._endpoint_config import as_config


async def add(request):
    return b""


def generates(request):
    yield b""


def plain(request):
    return b""


class Calc:
    @endpoint(concurrency=3)
    async def add(self, request):
        return b"method"

    async def sub(self, request):
        return b"plain method"


def placed(*endpoints, **options):
    config = ServiceConfig("calc", "1.0.0", endpoints=endpoints, **options)
    return [(each.subject, each.queue_group) for each in config.placed_endpoints()]


def queue_of(*endpoints, **options):
    return placed(*endpoints, **options)[0][1]


def test_a_service_has_defaults():
    config = ServiceConfig("calc", "1.0.0")
    assert (config.prefix, config.description, config.id, config.queue_group) == ("$SRV", "", None, None)
    assert config.metadata == {}
    assert config.placed_endpoints() == ()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "a b"),
        ("name", "a\n"),
        ("version", "1.0"),
        ("version", "1.0.0\n"),
        ("description", 0),
        ("description", "\ud800"),
        ("queue_group", ""),
        ("queue_group", "a b"),
        ("queue_group", False),
        ("stats_handler", 5),
        ("error_handler", "x"),
        ("prefix", ""),
        ("prefix", "a.*"),
        ("prefix", "a."),
        ("id", ""),
        ("id", "a.b"),
        ("clock", None),
        ("pending_messages", 0),
        ("pending_messages", True),
        ("pending_bytes", 1.5),
        ("metadata", [1]),
        ("middlewares", "ab"),
        ("middlewares", 5),
        ("endpoints", 5),
        ("endpoints", "ab"),
    ],
)
def test_a_service_refuses_bad_values_by_field(field, value):
    with pytest.raises(ConfigError) as caught:
        ServiceConfig(**{"name": "calc", "version": "1.0.0", field: value})
    assert caught.value.field == f"ServiceConfig.{field}"
    assert caught.value.value is value


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("subject", ""),
        ("subject", "a..b"),
        ("subject", "a b"),
        ("subject", ">.a"),
        ("queue_group", ""),
        ("queue_group", "a\n"),
        ("concurrency", 0),
        ("concurrency", True),
        ("concurrency", 1.0),
        ("timeout", 0),
        ("timeout", -1),
        ("timeout", math.nan),
        ("timeout", "1"),
        ("pending_messages", 0),
        ("pending_bytes", -1),
        ("metadata", "ab"),
        ("middlewares", 5),
        ("handler", None),
        ("handler", plain),
        ("handler", generates),
    ],
)
def test_an_endpoint_refuses_bad_values_by_field(field, value):
    with pytest.raises(ConfigError) as caught:
        EndpointConfig(**{"name": "add", "handler": add, field: value})
    assert caught.value.field == f"EndpointConfig('add').{field}"
    assert caught.value.value is value


@pytest.mark.parametrize("name", ["", "a.b", "a b", "add\n", "٣", None])
def test_an_endpoint_refuses_bad_names(name):
    with pytest.raises(ConfigError) as caught:
        EndpointConfig(name, add)
    assert (caught.value.field, caught.value.value) == ("EndpointConfig.name", name)


def test_metadata_is_copied_and_read_only():
    source = {"a": "1"}
    for config in (ServiceConfig("calc", "1.0.0", metadata=source), EndpointConfig("add", add, metadata=source)):
        source["a"] = "2"
        assert config.metadata == {"a": "1"}
        with pytest.raises(TypeError):
            config.metadata["a"] = "3"
        source["a"] = "1"


def test_configurations_are_frozen():
    with pytest.raises(AttributeError):
        EndpointConfig("add", add).name = "x"
    with pytest.raises(AttributeError):
        ServiceConfig("calc", "1.0.0").name = "x"


def test_a_list_of_endpoints_is_copied():
    endpoints = [add]
    config = ServiceConfig("calc", "1.0.0", endpoints=endpoints)
    endpoints.clear()
    assert len(config.placed_endpoints()) == 1


@pytest.mark.parametrize("name", [">", "a.>", ".a", "a.", "a..b", "a b", "a*", None])
def test_a_group_refuses_a_bad_name_when_it_is_made(name):
    with pytest.raises(ConfigError) as caught:
        group(name)
    assert (caught.value.field, caught.value.value) == ("group name", name)


def test_a_group_refuses_a_bad_queue_group_and_bad_endpoints():
    with pytest.raises(ConfigError, match=r"group\('a'\)\.queue_group"):
        group("a", queue_group="")
    with pytest.raises(ConfigError, match=r"group\('a'\)\.endpoints"):
        GroupConfig("a", 5)
    with pytest.raises(ConfigError, match="endpoints"):
        group("a", [5])


def test_the_queue_group_is_q_unless_chosen():
    assert queue_of(add) == "q"
    assert queue_of(group("a", [group("b", [add])])) == "q"


def test_the_queue_group_is_inherited_from_the_service():
    assert queue_of(group("a", [group("b", [add])]), queue_group="s") == "s"


def test_the_nearest_choice_of_queue_group_wins():
    own = EndpointConfig("add", add, queue_group="e")
    assert queue_of(group("a", [group("b", [own], queue_group="n")], queue_group="g"), queue_group="s") == "e"
    assert queue_of(group("a", [group("b", [add], queue_group="n")], queue_group="g"), queue_group="s") == "n"
    assert queue_of(group("a", [group("b", [add])], queue_group="g"), queue_group="s") == "g"


@pytest.mark.parametrize(
    "tree",
    [
        lambda: (EndpointConfig("add", add, queue_group=NO_QUEUE_GROUP),),
        lambda: (group("a", [add], queue_group=NO_QUEUE_GROUP),),
        lambda: (group("a", [group("b", [add], queue_group=NO_QUEUE_GROUP)], queue_group="g"),),
    ],
)
def test_queueing_can_be_switched_off_at_each_level(tree):
    assert queue_of(*tree(), queue_group="s") == ""


def test_queueing_switched_off_is_inherited_and_a_name_below_switches_it_on():
    assert queue_of(group("a", [add]), queue_group=NO_QUEUE_GROUP) == ""
    assert queue_of(group("a", [add], queue_group="g"), queue_group=NO_QUEUE_GROUP) == "g"
    assert repr(NO_QUEUE_GROUP) == "natsery.NO_QUEUE_GROUP"


def test_a_groups_choice_does_not_reach_its_siblings():
    assert placed(group("a", [add], queue_group="g"), add) == [("a.add", "g"), ("add", "q")]


def test_subjects_join_below_groups_and_empty_names_add_nothing():
    tree = group("", [group("a", [group("", [add, group("b.*", [EndpointConfig("x", add, subject="c.>")])])])])
    assert [subject for subject, _ in placed(tree)] == ["a.add", "a.b.*.c.>"]
    assert placed(group("", [add])) == [("add", "q")]


def test_two_endpoints_may_share_a_name_and_keep_their_order():
    first, second = EndpointConfig("x", add, subject="b"), EndpointConfig("x", add, subject="a")
    assert [subject for subject, _ in placed(first, second)] == ["b", "a"]


@pytest.mark.parametrize("subject", ["$SRV", "$SRV.PING", "$SRV.x.>"])
def test_endpoints_may_not_lie_in_the_control_plane(subject):
    with pytest.raises(ConfigError, match="control plane"):
        placed(EndpointConfig("x", add, subject=subject))
    assert placed(EndpointConfig("x", add, subject="$SRVX"))


def test_groups_may_not_lead_into_the_control_plane():
    with pytest.raises(ConfigError, match="control plane"):
        placed(group("my", [group("srv", [add])]), prefix="my.srv")


@pytest.mark.parametrize(
    ("prefixes", "reason"),
    [
        ("$JS.ACK", "must be a sequence of subjects, such as ['$JS.ACK']"),
        (5, "must be a sequence of subjects"),
        (["$JS.ACK.>"], "must not contain a wildcard; write '$JS.ACK', which stands for all subjects below it"),
        (["$JS.*.x"], "must not contain a wildcard"),
        (["$JS."], "empty token"),
        ([""], "must not be empty"),
        ([5], "must be a str"),
    ],
)
def test_reply_prefixes_are_literal_subjects(prefixes, reason):
    with pytest.raises(ConfigError, match=rf"EndpointConfig\('x'\).reply_prefixes: .*{re.escape(reason)}"):
        EndpointConfig("x", add, reply_prefixes=prefixes)


def test_reply_prefixes_are_copied():
    source = ["$JS.ACK"]
    config = EndpointConfig("x", add, reply_prefixes=source)
    source.append("$KV")
    assert config.reply_prefixes == ("$JS.ACK",)


@pytest.mark.parametrize("prefix", ["$SRV", "$SRV.PING", "my.srv", "my.srv.x", "my"])
def test_reply_prefixes_do_not_open_the_control_plane(prefix):
    with pytest.raises(ConfigError, match="must not hold control subjects"):
        placed(EndpointConfig("x", add, reply_prefixes=[prefix]), prefix="my.srv")


def test_the_bare_decorator_leaves_the_function_plain():
    async def handler(request):
        return b""

    assert endpoint(handler) is handler
    assert inspect.iscoroutinefunction(handler)
    assert as_config(handler) == EndpointConfig("handler", handler)


def test_the_decorator_takes_options_and_a_name():
    @endpoint("add-all", subject="x.y", concurrency=8, queue_group=NO_QUEUE_GROUP, metadata={"a": "b"}, timeout=2)
    async def handler(request):
        return b""

    config = as_config(handler)
    assert (config.name, config.subject, config.concurrency, config.timeout) == ("add-all", "x.y", 8, 2)
    assert config.queue_group is NO_QUEUE_GROUP
    assert config.metadata == {"a": "b"}
    assert config.handler is handler


def test_the_decorator_with_empty_parentheses_takes_the_functions_name():
    @endpoint()
    async def handler(request):
        return b""

    assert as_config(handler).name == "handler"


def test_a_decorated_method_goes_in_bound():
    calc = Calc()
    config = as_config(calc.add)
    assert (config.name, config.concurrency) == ("add", 3)
    assert config.handler == calc.add
    assert config.handler.__self__ is calc


def test_an_undecorated_method_goes_in_bound():
    calc = Calc()
    assert as_config(calc.sub) == EndpointConfig("sub", calc.sub)


def test_a_bound_method_cannot_be_decorated():
    with pytest.raises(ConfigError, match=r"EndpointConfig\(name, handler\)"):
        endpoint(Calc().sub)


def test_a_wrapper_of_a_decorated_function_is_what_runs():
    @endpoint("named")
    async def handler(request):
        return b""

    @functools.wraps(handler)
    async def wrapper(request):
        return await handler(request)

    assert as_config(wrapper).name == "named"
    assert as_config(wrapper).handler is wrapper


def test_the_decorator_refuses_an_unknown_option():
    with pytest.raises(TypeError, match=r"no option 'concurency'; it has .*concurrency"):
        endpoint(concurency=8)
    with pytest.raises(TypeError, match="no option 'handler'"):
        endpoint(handler=add)


@pytest.mark.parametrize("function", [plain, generates])
def test_the_decorator_refuses_what_is_no_async_function(function):
    with pytest.raises(ConfigError, match="async function"):
        endpoint(function)
    with pytest.raises(ConfigError, match="async function"):
        endpoint("x")(function)


@pytest.mark.parametrize("name", ["", "a.b", "a b", "x\n"])
def test_the_decorator_refuses_bad_names(name):
    with pytest.raises(ConfigError, match=r"EndpointConfig\.name"):
        endpoint(name)(add)


def test_the_decorator_refuses_a_name_that_is_no_text():
    with pytest.raises(ConfigError, match="endpoint name"):
        endpoint(5)


def test_a_callable_without_a_name_needs_a_configuration():
    handler = functools.partial(add)
    with pytest.raises(ConfigError, match=r"EndpointConfig\(name, handler\)"):
        as_config(handler)
    assert as_config(EndpointConfig("add", handler)).handler is handler


class Handlers:
    @endpoint
    async def add(self, request):
        return b""

    async def __call__(self, request):
        return b""

    def plain(self, request):
        return b""


class PlainCall:
    def __call__(self, request):
        return b""


async def takes_nothing():
    return b""


async def takes_three(request, body, other):
    return b""


async def takes_an_option(request, other=None, *, more=0):
    return b""


@pytest.mark.parametrize(
    "handler", [Handlers().add, Handlers(), takes_an_option, functools.partial(takes_three, other=1)]
)
def test_what_can_be_called_with_a_request_is_a_handler(handler):
    config = ServiceConfig("calc", "1.0.0", endpoints=[EndpointConfig("add", handler)])
    assert config.placed_endpoints()[0].config.handler == handler


@pytest.mark.parametrize(
    ("handler", "reason"),
    [
        (Handlers, "not a class"),
        (Handlers.add, r"or \(request, body\), and takes \(self, request\); pass a bound method"),
        (Handlers().plain, "write 'async def"),
        (PlainCall(), "write 'async def"),
        (functools.partial(plain), "write 'async def"),
        (takes_nothing, r"must take \(request\), \(body\) or \(request, body\), and takes \(\)"),
        (takes_three, r"or \(request, body\), and takes \(request, body, other\)"),
        (lambda request: b"", "write 'async def"),
    ],
)
def test_what_can_never_answer_is_no_handler(handler, reason):
    """It was found out at the first request, or never."""
    with pytest.raises(ConfigError, match=reason):
        ServiceConfig("calc", "1.0.0", endpoints=[EndpointConfig("add", handler)])


async def around(request, handler):
    return await handler(request)


@pytest.mark.parametrize(
    ("options", "taken"),
    [
        ({"middlewares": [add]}, r"\(request, handler\)"),
        ({"middlewares": [lambda: None]}, r"\(request, handler\)"),
        ({"stats_handler": around}, r"\(stats\)"),
        ({"error_handler": lambda error: None}, r"\(error, endpoint, request\)"),
    ],
)
def test_hooks_that_can_never_be_called_are_refused(options, taken):
    (name,) = options
    with pytest.raises(ConfigError, match=rf"^ServiceConfig\.{name}: must take {taken}, and takes "):
        ServiceConfig("calc", "1.0.0", **options)


def test_hooks_that_can_be_called_are_taken():
    ServiceConfig(
        "calc",
        "1.0.0",
        middlewares=[around, lambda *both: around(*both)],
        stats_handler=print,
        error_handler=lambda error, endpoint=None, request=None: None,
    )


def test_a_function_is_declared_once():
    """The first declaration was lost without a word."""

    @endpoint("first", concurrency=4)
    async def work(request):
        return b""

    with pytest.raises(ConfigError, match="is declared already, as the endpoint 'first'; write EndpointConfig"):
        endpoint("second")(work)
    config = ServiceConfig("calc", "1.0.0", endpoints=[work, EndpointConfig("second", work)])
    assert [placed.limits.concurrency for placed in config.placed_endpoints()] == [4, None]


def test_the_same_endpoint_twice_is_told():
    with pytest.raises(
        ConfigError, match=r"ServiceConfig\.endpoints: must hold it once; 'math\.add' is there twice; got 'add'"
    ):
        ServiceConfig("calc", "1.0.0", endpoints=[group("math", [add]), group("math", [add])])


def test_endpoints_of_one_name_are_allowed():
    config = ServiceConfig("calc", "1.0.0", endpoints=[add, EndpointConfig("add", takes_an_option)])
    assert [placed.config.handler for placed in config.placed_endpoints()] == [add, takes_an_option]


def injected(function):
    @functools.wraps(function)
    async def with_database(request):
        return await function(request, "database")

    return with_database


def plainly(function):
    @functools.wraps(function)
    def call(request):
        return function(request)

    return call


def test_a_decorator_may_give_other_arguments():
    """What the function inside takes was taken for what the decorator takes."""
    for handler in (injected(takes_three), plainly(add), AsyncMock(return_value=b"")):
        ServiceConfig("calc", "1.0.0", endpoints=[EndpointConfig("add", handler)])
    with pytest.raises(ConfigError, match="write 'async def"):
        EndpointConfig("add", plainly(plain))


def test_a_declared_static_method_keeps_its_options():
    class Static:
        @endpoint(concurrency=8)
        @staticmethod
        async def over(request):
            return b""

    config = ServiceConfig("calc", "1.0.0", endpoints=[Static.over])
    assert config.placed_endpoints()[0].config.concurrency == 8


def test_no_description_is_an_empty_one():
    assert natsery.ServiceConfig("calc", "1.0.0", description=None).description == ""


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backend": "curio"}, r"ServiceConfig\.backend: must be 'trio' or 'asyncio'; got 'curio'"),
        ({"instruments": "AccessLog"}, r"ServiceConfig\.instruments: must be a sequence of natsery\.Instrument"),
        ({"instruments": [natsery.AccessLog]}, r"instances of natsery\.Instrument; write Name\(\), with parentheses"),
        ({"instruments": [5]}, r"must hold instances of natsery\.Instrument; got 5"),
    ],
)
def test_what_a_service_cannot_be_made_of_is_said(options, message):
    with pytest.raises(natsery.ConfigError, match=message):
        natsery.ServiceConfig("calc", "1.0.0", **options)


def test_a_function_of_which_python_knows_no_parameters_may_be_a_handler():
    class Handler:
        __signature__ = "unknown"

        async def __call__(self, request):
            return b""

    assert natsery.EndpointConfig("add", Handler()).name == "add"
