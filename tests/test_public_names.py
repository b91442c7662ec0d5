"""What is public: exported, final, shown where it is public, and documented."""

from __future__ import annotations

import importlib
import inspect

import pytest

import natsery
import natsery.abc
import natsery.otel
import natsery.prometheus
import natsery.testing

MODULES = [natsery, natsery.abc, natsery.otel, natsery.prometheus, natsery.testing]

MADE_TO_BE_SUBCLASSED = {
    "Codec",
    "Connection",
    "Instrument",
    "Limiter",
    "Message",
    "NatseryError",
    "PermissionDeniedError",
    "PublishError",
    "ReplyStream",  # by the one that `ServiceClient.stream` gives
    "ServicePing",
    "Subscription",
}

PUBLIC = [(module, name) for module in MODULES for name in module.__all__]
CLASSES = [(module, name) for module, name in PUBLIC if inspect.isclass(getattr(module, name))]


def ids(cases):
    return [f"{module.__name__}.{name}" for module, name in cases]


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_all_is_what_the_module_exports(module):
    """The linter keeps it sorted."""
    exported = set()
    for node in inspect.getsource(module).splitlines():
        words = node.split()
        if words[:1] == ["from"] and words[-2:-1] == ["as"]:
            assert words[-3] == words[-1], "an export keeps its name"
            exported.add(words[-1])
        elif node.startswith(("class ", "def ")) and not words[1].startswith("_"):
            exported.add(words[1].partition("(")[0].removesuffix(":"))
    assert exported == set(module.__all__)


@pytest.mark.parametrize(("module", "name"), PUBLIC, ids=ids(PUBLIC))
def test_a_public_name_shows_where_it_is_public(module, name):
    value = getattr(module, name)
    if inspect.isclass(value) or inspect.isfunction(value):
        assert value.__module__ == module.__name__
        assert getattr(importlib.import_module(value.__module__), value.__qualname__) is value


@pytest.mark.parametrize(("module", "name"), CLASSES, ids=ids(CLASSES))
def test_a_public_class_is_final_unless_it_is_made_to_be_subclassed(module, name):
    cls = getattr(module, name)
    assert getattr(cls, "__final__", False) is (name not in MADE_TO_BE_SUBCLASSED)


@pytest.mark.parametrize(
    ("method", "name"),
    [
        (natsery.ServiceClient.request, "ServiceClient.request"),
        (natsery.ServiceClient.find_endpoint, "ServiceClient.find_endpoint"),
        (natsery.ServiceClient.discover, "ServiceClient.discover"),
        (natsery.ServiceClient.request_many, "ServiceClient.request_many"),
        (natsery.ServiceClient.stream, "ServiceClient.stream"),
        (natsery.NativeConnection.publish, "Connection.publish"),
        (natsery.testing.MemoryConnection.request, "Connection.request"),
    ],
)
def test_errors_of_python_have_the_names_that_users_know(method, name):
    """They told of `Calls.request()`, and so did the warning about a call that was not awaited."""
    assert method.__qualname__ == name
    with pytest.raises(TypeError, match=rf"{name}\(\) missing 1 required positional argument"):
        method("self", *["calc"] * name.endswith("find_endpoint"))


def documented_members(cls):
    for base in cls.__mro__:
        if base.__module__.split(".")[0] == "natsery":
            for name, value in vars(base).items():
                plain = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
                is_field = name in getattr(base, "__dataclass_fields__", ())
                if (
                    not name.startswith("_")
                    and not is_field
                    and (inspect.isfunction(plain) or isinstance(value, property))
                ):
                    yield f"{base.__qualname__}.{name}", plain


@pytest.mark.parametrize(("module", "name"), PUBLIC, ids=ids(PUBLIC))
def test_a_public_name_is_documented(module, name):
    value = getattr(module, name)
    if inspect.isclass(value) or inspect.isfunction(value):
        assert inspect.getdoc(value)
    if inspect.isclass(value):
        assert [member for member, plain in documented_members(value) if not inspect.getdoc(plain)] == []


def test_the_version_is_that_of_the_distribution():
    assert importlib.import_module("importlib.metadata").version("natsery") == natsery.__version__
