"""What newcomers write, and what the errors tell them to write instead."""

from __future__ import annotations

import inspect
import re

import anyio
import pytest

import natsery
from natsery import BackendMismatchError, ConfigError, EndpointConfig, ServiceClient, ServiceConfig, endpoint
from natsery._native import _connect
from natsery._protocol._addresses import read_address
from natsery._protocol._commands import as_bytes
from natsery._service._invoke import reply_from
from natsery.testing import MemoryBroker

from .virtual_time import in_virtual_time


async def add(request):
    return b""


@pytest.mark.parametrize(
    ("option", "hint"),
    [
        ("name", "write the name first, without name=, as in @endpoint('add')"),
        ("handler", "EndpointConfig(name, handler)"),
    ]
    + [("queue", "write queue_group=...")],
)
def test_options_that_an_endpoint_does_not_have(option, hint):
    with pytest.raises(TypeError, match=re.escape(hint)):
        endpoint(**{option: "add"})


@pytest.mark.parametrize(
    "declare",
    [
        lambda handler: endpoint(handler),
        lambda handler: EndpointConfig("add", handler),
        lambda handler: ServiceConfig("calc", "1.0.0", endpoints=[handler]),
    ],
    ids=["endpoint", "EndpointConfig", "endpoints"],
)
def test_a_lambda_is_no_handler(declare):
    """In a list of endpoints, the error was about its name."""
    with pytest.raises(ConfigError, match=r"not a lambda; write 'async def name\(request\):'"):
        declare(lambda request: b"")


def test_one_endpoint_is_no_list_of_endpoints():
    """The error did not say what to write around it."""
    for declare in (lambda: ServiceConfig("calc", "1.0.0", endpoints=add), lambda: natsery.group("math", add)):
        with pytest.raises(ConfigError, match=r"endpoints: must be a sequence of endpoints, such as \[add\]; got"):
            declare()


def test_the_path_of_an_authority_is_no_context():
    """The error did not say how to make a context of it."""

    async def main():
        hint = re.escape("tls: must be an ssl.SSLContext, such as ssl.create_default_context(cafile=...), a function")
        with pytest.raises(ConfigError, match=hint):
            async with natsery.connect("nats://127.0.0.1:1", tls="ca.pem"):
                pass

    in_virtual_time(main)


@pytest.mark.parametrize("result", [{"a": 1}, [1], (b"a", b"b"), 7, True, 1.5, "a"])
def test_what_a_handler_returns(result):
    kind = type(result).__name__
    hint = f"annotate it, as with '-> {kind}', to have that encoded"
    with pytest.raises(TypeError, match=re.escape(f"a handler must return bytes or None, not {kind}; {hint}")):
        reply_from(result)


def test_what_has_no_hint():
    with pytest.raises(TypeError, match=r"not object$"):
        reply_from(object())


def test_a_handler_returns_the_data_of_a_message():
    with pytest.raises(TypeError, match=r"not Message; write message\.data$"):
        reply_from(natsery.Message("a"))


@pytest.mark.parametrize(
    ("data", "hint"),
    [("a", "str; write text.encode()"), ({"a": 1}, "dict; write json.dumps(data).encode()"), (7, "int")],
)
def test_what_is_not_bytes(data, hint):
    with pytest.raises(TypeError, match=rf"^data: must be bytes, not {re.escape(hint)}$"):
        as_bytes(data)


@pytest.mark.parametrize("option", _connect._NATS_PY_HINTS)
def test_options_of_nats_py_are_explained(option):
    assert option not in inspect.signature(natsery.connect).parameters
    with pytest.raises(TypeError, match=rf"^connect\(\) has no option '{option}': "):
        natsery.connect("nats://127.0.0.1", **{option: 1})


def test_every_option_of_nats_py_is_known():
    import nats.aio.client

    theirs = set(inspect.signature(nats.aio.client.Client.connect).parameters) - {"self"}
    assert theirs <= {*_connect._NATS_PY_HINTS, *inspect.signature(natsery.connect).parameters}


def test_other_options_are_told_in_pythons_words():
    with pytest.raises(TypeError, match="unexpected keyword argument 'nonsense'"):
        natsery.connect(nonsense=1)


def test_blocks_are_not_awaited():
    """It was an error about an object of a class that nobody knows."""

    async def main():
        async with MemoryBroker() as broker, broker.connect() as nc:
            client = ServiceClient(nc)
            blocks = {
                "natsery.connect": natsery.connect(),
                "nc.subscribe": nc.subscribe("a"),
                "client.request_many": client.request_many("a"),
                "client.stream": client.stream("a"),
                "client.discover": client.discover("PING"),
                "natsery.serve": natsery.serve(nc, ServiceConfig("calc", "1.0.0")),
            }
            for name, block in blocks.items():
                with pytest.raises(
                    TypeError, match=rf"^{name}\(\.\.\.\) is not to be awaited; write 'async with {name}"
                ):
                    await block
                with pytest.raises(
                    TypeError, match=rf"^{name}\(\.\.\.\) is not for 'async for'; write 'async with {name}"
                ):
                    async for _ in block:
                        pass
                with pytest.raises(
                    TypeError, match=rf"^{name}\(\.\.\.\) is not for a plain 'with'; write 'async with {name}"
                ):
                    with block:
                        pass
                with pytest.raises(AttributeError, match=rf"^{name}\(\.\.\.\) has no 'publish'; write 'async with "):
                    block.publish  # noqa: B018

    in_virtual_time(main)


def test_deadlines_are_the_callers():
    async def main():
        async with MemoryBroker() as broker, broker.connect() as nc:
            client = ServiceClient(nc)
            for request in (nc.request, client.request):
                with pytest.raises(
                    TypeError, match=r"^request\(\) has no option 'timeout': .*'with anyio.fail_after\(2\):'"
                ):
                    await request("a", timeout=2)
            with pytest.raises(TypeError, match=r"^request_many\(\) has no option 'timeout': write wait="):
                client.request_many("a", timeout=2)
            for collect in (client.ping, client.info, client.stats):
                with pytest.raises(TypeError, match=rf"^{collect.__name__}\(\) has no option 'timeout': write wait="):
                    await collect(timeout=2)
            with pytest.raises(TypeError, match=r"^discover\(\) has no option 'max_wait': write wait="):
                client.discover("PING", max_wait=2)
            with pytest.raises(TypeError, match="'async for message in messages:'"):
                nc.subscribe("a", cb=add)
            with pytest.raises(TypeError, match="queue_group"):
                nc.subscribe("a", queue="q")
            for method in (nc.request, client.request):
                with pytest.raises(TypeError, match=r"^request\(\) got an unexpected keyword argument 'nonsense'$"):
                    await method("a", nonsense=2)
                assert inspect.iscoroutinefunction(method)
                # A coroutine around it would be paid for with each request.
                assert not hasattr(method, "__wrapped__")

    in_virtual_time(main)


@pytest.mark.parametrize(
    ("make", "hint"),
    [
        (lambda: "nats://127.0.0.1", "; write: async with natsery.connect(url) as nc"),
        (MemoryBroker, "; write: async with broker.connect() as nc"),
        (
            natsery.connect,
            "not natsery.connect(...); write 'async with natsery.connect(...) as ...:' and use what that gives",
        ),
        (object, "; a connection comes from natsery.connect, and from natsery.adapt for a nats-py client"),
        (anyio.create_task_group, "; use it with 'async with' and give what that yields"),
    ],
)
def test_what_is_no_connection(make, hint):
    async def main():
        with pytest.raises(BackendMismatchError) as caught:
            async with natsery.serve(make(), ServiceConfig("calc", "1.0.0")):
                pass
        assert str(caught.value).endswith(hint)
        with pytest.raises(BackendMismatchError) as caught:
            ServiceClient(make())
        assert str(caught.value).endswith(hint)

    in_virtual_time(main)


@pytest.mark.parametrize("url", ["nats//host", "nats:/host", "nats:host", "tls//host:4222", "tls:/host", "nats/host"])
def test_a_scheme_that_is_not_quite_one(url):
    """It named a host 'nats', or said that the URL has to end after the port."""
    with pytest.raises(ConfigError, match="must begin with nats:// or tls://, colon and both slashes included"):
        read_address(url)


@pytest.mark.parametrize(
    "url", ["nats://host:port", "host:42x", "nats://[::1]:http", "nats://host:42 22", "tls://a:b/"]
)
def test_a_port_that_is_no_number(url):
    with pytest.raises(ConfigError, match="must have a port that is a number, as in 'nats://127"):
        read_address(url)


@pytest.mark.parametrize("url", ["nats://user:pa/ss@host", "user:pa:ss@host:x", "nats://u:secret:x@h:y"])
def test_no_password_is_taken_for_a_port(url):
    with pytest.raises(ConfigError) as caught:
        read_address(url)
    assert "ss" not in str(caught.value).replace("must", "").replace("ssword", "").replace("address", "")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["nats", "nats:4222", "nats:secret@host", "tls", "nats.example:4222"])
def test_hosts_with_the_name_of_a_scheme(url):
    assert read_address(url).host in ("nats", "tls", "host", "nats.example")
