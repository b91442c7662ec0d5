"""Configurations are found in modules and files, and what is wrong with them is said clearly."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import anyio
import pytest

import natsery
from natsery._cli._exit_codes import CommandError, Exit
from natsery._cli._run._loading import load, split

Write = Callable[[str, str], None]

SERVICES = """
    import contextlib
    import natsery
    config = natsery.ServiceConfig("one", "1.0.0")
    other = natsery.ServiceConfig("two", "1.0.0")
    both = [config, other]
    mixed = (config, "no")
    none = []
    def make(): return other
    def make_both(): return config, other
    async def make_late(): return config
    def handler(request): ...
    def fail(): return 1 / 0
    def make_of(nc): return natsery.ServiceConfig(nc, "1.0.0")
    def make_of_named(other=1, nc=None): return other
    def make_of_optional(nc=None): return [natsery.ServiceConfig(nc, "1.0.0")]
    async def make_late_of(nc): return make_of(nc), config
    async def fail_late(nc): return 1 / 0
    async def undecorated(nc): yield config
    @contextlib.contextmanager
    def not_async(): yield config
    def of_two(nc, name): return config
    entered = []
    @contextlib.asynccontextmanager
    async def block():
        entered.append("in")
        yield config
        entered.append("out")
    @contextlib.asynccontextmanager
    async def block_of(nc):
        yield [make_of(nc), other]
    @contextlib.asynccontextmanager
    async def wrong_block():
        yield 3
    class Holder:
        class inner:
            config = natsery.ServiceConfig("held", "1.0.0")
"""


@pytest.fixture(autouse=True)
def isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A folder of its own, and no trace of the modules that were loaded from it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(name: str, text: str) -> None:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))

    return write


def configs(target: str) -> tuple[natsery.ServiceConfig, ...]:
    async def open_target() -> tuple[natsery.ServiceConfig, ...]:
        async with load(target).open("connected") as configs:  # type: ignore[arg-type]
            return configs

    return anyio.run(open_target)


def names(target: str) -> list[str]:
    return [config.name for config in configs(target)]


def complaint(target: str) -> str:
    with pytest.raises(CommandError) as caught:
        configs(target)
    assert caught.value.exit_code == Exit.USAGE
    return caught.value.message


@pytest.mark.parametrize(
    ("target", "parts"),
    [
        ("calc", ("calc", "config")),
        ("calc:", ("calc", "config")),
        ("shop.calc:a.b", ("shop.calc", "a.b")),
        ("shop/calc.py", ("shop/calc.py", "config")),
        ("C:\\shop\\calc.py", ("C:\\shop\\calc.py", "config")),
        ("C:\\shop\\calc.py:one", ("C:\\shop\\calc.py", "one")),
    ],
)
def test_a_target_is_a_place_and_an_attribute(target: str, parts: tuple[str, str]) -> None:
    assert split(target) == parts


@pytest.mark.parametrize(
    ("attribute", "expected"),
    [
        ("", ["one"]),
        (":other", ["two"]),
        (":both", ["one", "two"]),
        (":make", ["two"]),
        (":make_both", ["one", "two"]),
        (":make_late", ["one"]),
        (":make_of", ["connected"]),
        (":make_of_optional", ["connected"]),
        (":make_late_of", ["connected", "one"]),
        (":block", ["one"]),
        (":block_of", ["connected", "two"]),
        (":Holder.inner.config", ["held"]),
    ],
)
def test_what_a_module_may_hold(write: Write, attribute: str, expected: list[str]) -> None:
    write("services.py", SERVICES)
    assert names(f"services{attribute}") == expected
    assert names(f"services.py{attribute}") == expected


def test_a_file_in_a_package_is_imported_as_its_module(write: Write, tmp_path: Path) -> None:
    write("deep/shop/__init__.py", "")
    write("deep/shop/names.py", "NAME = 'shop'")
    write("deep/shop/api.py", "import natsery\nfrom .names import NAME\nconfig = natsery.ServiceConfig(NAME, '1.0.0')")
    assert names("deep/shop/api.py") == ["shop"]
    assert "shop.api" in sys.modules
    assert names(f"{tmp_path}/deep/shop/api.py:config") == ["shop"]


def test_a_file_finds_its_neighbours_and_the_current_folder(write: Write) -> None:
    write("inner/neighbour.py", "NAME = 'a'")
    write("current.py", "NAME = 'b'")
    write(
        "inner/service.py",
        "import natsery, neighbour, current\nconfig = natsery.ServiceConfig(neighbour.NAME + current.NAME, '1.0.0')",
    )
    assert names("inner/service.py") == ["ab"]


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("absent", "there is no module 'absent' in {folder}, nor is one installed"),
        ("absent.deep", "there is no module 'absent' in {folder}, nor is one installed"),
        (
            "services.deep",
            "there is no module 'services.deep'; services is a module, and no package ({folder}/services.py)",
        ),
        ("time.deep", "there is no module 'time.deep'; time is a module, and no package (built in)"),
        ("package.deep", "there is no module 'package.deep' in {folder}/package"),
        ("absent.py", "there is no file 'absent.py'"),
        ("my-service", "'my-service' is neither a module's name, such as shop.calc, nor a file, such as shop/calc.py"),
        (".services", "'.services' is neither a module's name, such as shop.calc, nor a file, such as shop/calc.py"),
        (
            "deep/services",
            "'deep/services' is neither a module's name, such as shop.calc, nor a file, such as shop/calc.py",
        ),
        ("services:no.such", "services has no attribute 'no.such'; there is services:config, services:other"),
        ("services:both.no", "services has no attribute 'both.no'; there is services:config, services:other"),
        (
            "services:undecorated",
            (
                "services:undecorated gives something of type async_generator, not a natsery.ServiceConfig; "
                "for an async context manager function, write @asynccontextmanager above an 'async def'"
            ),
        ),
        (
            "services:not_async",
            (
                "services:not_async is of type _GeneratorContextManager, not a natsery.ServiceConfig; "
                "for an async context manager function, write @asynccontextmanager above an 'async def'"
            ),
        ),
        (
            "services:of_two",
            "services:of_two must take no argument, or the connection alone; it takes (nc, name)",
        ),
        (
            "services:handler",
            "services:handler gives something of type NoneType, not a natsery.ServiceConfig; there is services:config, services:other",
        ),
        (
            "services:Holder",
            "services:Holder is a class, not a natsery.ServiceConfig; there is services:config, services:other",
        ),
        (
            "services:mixed",
            "services:mixed is of type str, not a natsery.ServiceConfig; there is services:config, services:other",
        ),
        ("services:none", "services:none holds no natsery.ServiceConfig"),
        (
            "services:wrong_block",
            "services:wrong_block yields something of type int, not a natsery.ServiceConfig; there is services:config, services:other",
        ),
        (
            "services:make_of_named",
            "services:make_of_named is of type int, not a natsery.ServiceConfig; there is services:config, services:other",
        ),
    ],
)
def test_what_is_wrong_is_one_line(write: Write, tmp_path: Path, target: str, message: str) -> None:
    write("services.py", SERVICES)
    write("package/__init__.py", "")
    assert complaint(target) == message.replace("{folder}", str(tmp_path))


def test_a_path_of_a_folder_is_one_line(write: Write) -> None:
    write("inner/service.py", SERVICES)
    assert complaint("./inner") == (
        "'./inner' is neither a module's name, such as shop.calc, nor a file, such as shop/calc.py; "
        "it is a folder: name a file in it"
    )


def test_a_file_whose_name_is_taken_is_not_confused_with_its_namesake(write: Write) -> None:
    write("json.py", SERVICES)
    assert complaint("json.py").startswith("json.py cannot be imported: 'json' is the name of another module (/")


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        (
            "import calc_of_nobody\n",
            ['  File "{file}", line 1, in <module>', "ModuleNotFoundError: No module named 'calc_of_nobody'"],
        ),
        (
            "def f():\n    raise SystemExit('no')\nf()\n",
            ['  File "{file}", line 3, in <module>', '  File "{file}", line 2, in f', "SystemExit: no"],
        ),
        ("x = (\n", ['  File "{file}", line 1', "SyntaxError: '(' was never closed"]),
        (
            "import natsery\nconfig = natsery.ServiceConfig('a b', '1.0.0')\n",
            ['  File "{file}", line 2, in <module>', "natsery.ConfigError: ServiceConfig.name: "],
        ),
        (
            "try:\n    1 / 0\nexcept ZeroDivisionError as error:\n    raise RuntimeError('so') from error\n",
            ['  File "{file}", line 2, in <module>', '  File "{file}", line 4, in <module>', "RuntimeError: so"],
        ),
    ],
)
def test_a_module_that_raises_is_shown_with_its_own_frames(
    write: Write, tmp_path: Path, text: str, lines: list[str]
) -> None:
    write("broken.py", text)
    message = complaint("broken")
    assert message.startswith("broken raised:\n")
    shown = message.splitlines()
    for line in lines:
        expected = line.format(file=tmp_path / "broken.py")
        assert [each for each in shown if each.startswith(expected)], message
    frames = [line for line in shown if line.startswith("  File ")]
    assert all(str(tmp_path) in frame for frame in frames)


def test_a_function_that_raises_is_shown_with_its_own_frames(write: Write, tmp_path: Path) -> None:
    write("services.py", SERVICES)
    message = complaint("services:fail")
    assert message.startswith("services:fail raised:\nTraceback")
    assert message.endswith("ZeroDivisionError: division by zero")
    assert message.count("  File ") == message.count(f'  File "{tmp_path}') == 1


def test_ctrl_c_while_a_module_is_loaded_is_not_the_module_s_error(write: Write) -> None:
    write("interrupted.py", "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        load("interrupted")


def test_what_is_loaded_is_the_very_object(write: Write) -> None:
    write("services.py", SERVICES)
    (config,) = configs("services")
    assert isinstance(config, natsery.ServiceConfig)
    assert config is sys.modules["services"].config


@pytest.mark.parametrize(
    ("target", "hint"),
    [
        ("app.config", "there is no module 'app.config'; write app:config"),
        ("app.nothing", "there is no module 'app.nothing'; app is a module, and no package ({folder}/app.py)"),
        (
            "empty",
            "empty has no attribute 'config'; write config = natsery.ServiceConfig(…) there, or name what it has: empty:NAME",
        ),
        ("./app", "nor a file, such as shop/calc.py; write ./app.py"),
        ("./nothing", "nor a file, such as shop/calc.py"),
    ],
)
def test_what_newcomers_write_is_explained(
    target: str, hint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "app.py").write_text("config = 1")
    (tmp_path / "empty.py").write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "app", raising=False)
    with pytest.raises(CommandError) as caught:
        load(target)
    sys.modules.pop("app", None)
    assert caught.value.message.endswith(hint.replace("{folder}", str(tmp_path)))
