"""Which module may import what."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import natsery

ROOT = Path(natsery.__file__).parent
MODULES = sorted(ROOT.rglob("*.py"))
PURE = (
    "_adr32",
    "_bounded_values",
    "_canonical_json",
    "_checks",
    "_codecs",
    "_core",
    "_deadline_header",
    "_endpoint_config",
    "_error_map",
    "_errors",
    "_events",
    "_exports",
    "_handlers",
    "_headers",
    "_instruments",
    "_limits",
    "_message",
    "_nuid",
    "_protocol",
    "_responses",
    "_schemas",
    "_service_config",
    "_service_error",
    "_statistics",
    "_stream_headers",
    "_subjects",
    "_instrumentation",
    "_usage",
    "_version",
)
LOOPS = {"anyio", "trio", "asyncio", "nats"}


def parts_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return parts[:-1] if parts[-1] == "__init__" else parts


def is_type_checking(node):
    return isinstance(node, ast.If) and "TYPE_CHECKING" in {
        getattr(each, "id", getattr(each, "attr", None)) for each in ast.walk(node.test)
    }


def nodes_at_runtime(node):
    for child in ast.iter_child_nodes(node):
        if is_type_checking(child):
            for other in child.orelse:
                yield other
                yield from nodes_at_runtime(other)
            continue
        yield child
        yield from nodes_at_runtime(child)


def names_in(node, path):
    """What an import statement of a module imports, in full."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        package = ("natsery", *path.relative_to(ROOT).parent.parts)
        base = package[: len(package) - node.level + 1] if node.level else ()
        module = ".".join((*base, *((node.module,) if node.module else ())))
        yield from (f"{module}.{alias.name}" for alias in node.names)


def imports_of(path, source=None):
    for node in nodes_at_runtime(ast.parse(source if source is not None else path.read_text(encoding="utf-8"))):
        yield from names_in(node, path)


def tops_of(path):
    return {name.split(".")[0] for name in imports_of(path)}


def layer_of(path):
    return next(iter(parts_of(path)), "")


def modules(*layers):
    found = [path for path in MODULES if layer_of(path) in layers]
    return pytest.mark.parametrize("path", found, ids=[".".join(parts_of(path)) for path in found])


def test_every_layer_is_there():
    assert {layer_of(path) for path in MODULES} >= {
        *PURE,
        "_service",
        "_client",
        "_native",
        "_nats_py",
        "_backends",
        "_cli",
    }


def test_imports_are_found_at_any_depth_except_for_type_checking():
    source = "if TYPE_CHECKING:\n import a\nelse:\n import b\ndef f():\n from .. import c\nfrom ._d import e"
    assert list(imports_of(ROOT / "_service" / "x.py", source)) == ["b", "natsery.c", "natsery._service._d.e"]


@modules(*PURE)
def test_pure_modules_import_no_event_loop(path):
    assert not tops_of(path) & LOOPS


@modules(*PURE)
def test_pure_modules_import_only_pure_modules_of_natsery(path):
    own = {name.split(".")[1] for name in imports_of(path) if name.startswith("natsery.")}
    assert own <= set(PURE)


@modules("_native")
def test_the_native_connection_imports_no_event_loop_but_anyio(path):
    assert not tops_of(path) & (LOOPS - {"anyio"})


@modules("_service")
def test_the_service_imports_no_event_loop_but_anyio(path):
    assert not tops_of(path) & (LOOPS - {"anyio"})


@modules("_client")
def test_the_client_knows_the_seam_and_what_is_pure(path):
    own = {name.split(".")[1] for name in imports_of(path) if name.startswith("natsery.")}
    assert own <= {*PURE, "abc", "_client", "_fast_path", "_streams"}
    assert not tops_of(path) & (LOOPS - {"anyio"})


def test_the_command_is_the_only_one_to_need_its_extra():
    assert {layer_of(path) for path in MODULES if tops_of(path) & {"click", "rich"}} == {"__main__", "_cli"}


@pytest.mark.parametrize("layer", sorted({layer_of(path) for path in MODULES} - {"", "__main__", "_cli"}))
def test_nothing_imports_the_command(layer):
    imports = [name for path in MODULES if layer_of(path) == layer for name in imports_of(path)]
    assert not any(name.split(".")[:2] == ["natsery", "_cli"] for name in imports)


def uses_of_natsery(path, source=None):
    """The names of natsery that a module uses, also for type checking, except for those of the command itself."""
    for node in ast.walk(ast.parse(source if source is not None else path.read_text(encoding="utf-8"))):
        names = [ast.unparse(node)] if isinstance(node, ast.Attribute) else names_in(node, path)
        for name in names:
            if name.split(".")[0] == "natsery" and name.split(".")[1:2] != ["_cli"]:
                yield name


def is_public(name):
    return not any(part.startswith("_") and part != "__version__" for part in name.split("."))


def test_all_uses_of_natsery_in_a_command_are_found():
    source = "import natsery._a\nfrom .._b import c\nfrom .. import d\nif TYPE_CHECKING:\n from natsery import _e\nnatsery._f.g(x)"
    found = list(uses_of_natsery(ROOT / "_cli" / "x.py", source))
    assert set(found) == {"natsery._a", "natsery._b.c", "natsery.d", "natsery._e", "natsery._f", "natsery._f.g"}
    assert [name for name in found if is_public(name)] == ["natsery.d"]


@modules("__main__", "_cli")
def test_the_command_uses_the_public_api_only(path):
    assert [name for name in uses_of_natsery(path) if not is_public(name)] == []


@modules("_service")
def test_the_service_reaches_backends_only_through_the_asyncio_one(path):
    own = [name for name in imports_of(path) if name.startswith("natsery._backends")]
    assert all(name.startswith("natsery._backends._asyncio.") for name in own)


@pytest.mark.parametrize(
    ("module", "layers"),
    [("nats", {"_nats_py"}), ("asyncio", {"_nats_py", "_backends"}), ("trio", {"_backends"})],
)
def test_an_event_loop_is_imported_only_in_its_own_layers(module, layers):
    assert {layer_of(path) for path in MODULES if module in tops_of(path)} == layers


@pytest.mark.parametrize("module", ["nats", "asyncio", "msgspec", "opentelemetry", "prometheus_client", "pydantic"])
def test_importing_natsery_imports_no_client_and_no_event_loop_of_others(module):
    """nats-py took two thirds of the time; who does not use it does not wait for it."""
    program = f"import sys, natsery; natsery.adapt, natsery.bridge, natsery.BridgedConnection; print({module!r} in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.mark.parametrize(
    ("module", "missing", "package"),
    [("prometheus", "prometheus_client", "prometheus-client"), ("otel", "opentelemetry", "opentelemetry-api")],
)
def test_without_an_extra_the_import_says_what_to_install(module: str, missing: str, package: str) -> None:
    program = f"import sys; sys.modules[{missing!r}] = None; import natsery; import natsery.{module}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    expected = f"ImportError: natsery.{module} needs {package}; run: pip install 'natsery[{module}]'"
    assert expected in done.stderr
    assert done.returncode == 1


def test_tests_take_no_help_from_other_tests() -> None:
    """Helpers are found where their names say so, and a test can be moved."""
    tests = Path(__file__).parent
    helped = [
        path.relative_to(tests).as_posix()
        for path in tests.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for name in (getattr(node, "module", None) or "", *(alias.name for alias in node.names))
        if name.rpartition(".")[2].startswith("test_")
    ]
    assert helped == []
