"""Everything that is checked: ``nox`` runs all but the sessions that are marked with a dash in ``nox -l``."""

from __future__ import annotations

import shutil
from pathlib import Path

import nox

nox.needs_version = ">=2025.5.1"
nox.options.default_venv_backend = "venv"
nox.options.error_on_missing_interpreters = False

PROJECT = nox.project.load_toml("pyproject.toml")
PYTHONS = nox.project.python_versions(PROJECT)


PYTEST = ("pytest", "-n", "auto", "--dist", "worksteal")
"""In as many processes as there are processors; each has servers of its own."""


def _groups(*names: str) -> tuple[str, ...]:
    return nox.project.dependency_groups(PROJECT, *names)


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Run the tests on every supported Python that is installed."""
    session.install(".", *_groups("test"))
    session.run(*PYTEST, *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Check format, style and the rules of structured concurrency."""
    session.install(*_groups("lint"))
    session.run("ruff", "format", "--check")
    session.run("ruff", "check")
    sources = sorted(str(path) for path in Path("src").rglob("*.py"))
    # 106, 109, 114 and 124 are about style; 118 sees a class that only goes into `isinstance`.
    session.run("flake8-async", "--anyio", "--disable=ASYNC9,ASYNC106,ASYNC109,ASYNC114,ASYNC118,ASYNC124", *sources)


@nox.session
def typing(session: nox.Session) -> None:
    """Check the types, and that the public ones are complete."""
    session.install(".", *_groups("typing"), "nox")
    session.run("mypy")
    session.run("pyright")
    session.run("pyright", "--ignoreexternal", "--verifytypes", "natsery")


@nox.session
def package(session: nox.Session) -> None:
    """Build the wheel, install it, and run the demo from another folder."""
    session.install("build")
    folder = Path(session.create_tmp())
    shutil.rmtree(folder / "dist", ignore_errors=True)
    session.run("python", "-m", "build", "--outdir", str(folder / "dist"))
    (wheel,) = (folder / "dist").glob("*.whl")
    session.install(f"natsery[server] @ {wheel.resolve().as_uri()}")
    with session.chdir(folder):
        session.run("natsery", "demo")


@nox.session
def interop(session: nox.Session) -> None:
    """Test with other implementations of NATS services, and AsyncAPI's schema, those that can be got on this machine."""
    session.install(".", *_groups("interop"))
    peers = session.cache_dir / "peers"
    session.run("python", "-m", "pytest", "interop", *session.posargs, env={"NATSERY_PEERS": str(peers)})


@nox.session(python=PYTHONS[0], default=False)
def minimums(session: nox.Session) -> None:
    """Run the tests with the oldest dependencies that are allowed."""
    allowed = [*PROJECT["project"]["dependencies"], *_groups("test")]
    session.install(".", *(requirement.replace(">=", "==") for requirement in allowed))
    session.run(*PYTEST, *session.posargs)


@nox.session(default=False)
def latest(session: nox.Session) -> None:
    """Run the tests of the nats-py adapter with the newest nats-py that there is."""
    session.install(".", *_groups("test"))
    session.install("--upgrade", "nats-py")
    session.run("python", "-m", "pip", "show", "nats-py")
    session.run("pytest", "tests/nats_py", "tests/test_contract.py", "tests/test_drain.py", *session.posargs)


@nox.session(default=False)
def bench(session: nox.Session) -> None:
    """Measure natsery beside other implementations of NATS services."""
    session.install(".", *_groups("benchmark"))
    folder = session.cache_dir / "benchmark-peers"
    session.run("python", "benchmarks/micro.py", "--folder", str(folder), *session.posargs)
