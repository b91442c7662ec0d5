"""Everything that is checked: ``nox`` runs all but the sessions that are marked with a dash in ``nox -l``."""

from __future__ import annotations

import argparse
import os
import shutil
from pathlib import Path

import nox

nox.needs_version = ">=2025.5.1"
nox.options.default_venv_backend = "venv"
nox.options.error_on_missing_interpreters = False
nox.options.stop_on_first_error = True  # what failed is then the last that is printed

PROJECT = nox.project.load_toml("pyproject.toml")
PYTHONS = nox.project.python_versions(PROJECT)


PROCESSES = (os.cpu_count() or 2) * 3 // 2
"""More than there are processors, since tests wait half of the time; each has servers of its own."""

PYTEST = ("pytest", "-n", str(PROCESSES), "--dist", "worksteal")

USES_OF_THE_CORE = (
    "tests/core/test_handlers.py",  # the others test both forms side by side
    "tests/native",
    "tests/protocol",
    "tests/service",
    "tests/client",
    "tests/test_contract.py",
)


COMMAND = "*/natsery/_cli/*,*/natsery/__main__.py,*/natsery_command.py"
"""What runs in programs of its own, and is measured apart."""

EXAMPLES_SHARE = 0.2
"""The part of the soak's time that is for generated examples."""


def _groups(*names: str) -> tuple[str, ...]:
    return nox.project.dependency_groups(PROJECT, *names)


def _install(session: nox.Session, core: str, *requirements: str) -> None:
    """Install natsery with this core, and have the session run it or fail."""
    session.env["NATSERY_CORE"] = core
    session.install(".", *requirements)


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Run the tests, with the compiled core, on every supported Python that is installed.

    On those between the oldest and the newest only the quick ones.
    """
    _install(session, "compiled", *_groups("test"))
    is_between = session.python in PYTHONS[1:-1]
    session.run(*PYTEST, *(["-m", "not slow"] if is_between else []), *session.posargs)


@nox.session(python=PYTHONS[0])
def core(session: nox.Session) -> None:
    """Run the tests of what the core is used for, with its plain Python form."""
    _install(session, "python", *_groups("test"))
    session.run(*PYTEST, *USES_OF_THE_CORE, *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Check format, style, spelling, the rules of structured concurrency, and what the workflows may do."""
    session.install(*_groups("lint"))
    session.run("codespell")
    session.run("zizmor", "--offline", "--quiet", ".github")
    session.run("ruff", "format", "--check")
    session.run("ruff", "check")
    sources = sorted(str(path) for path in Path("src").rglob("*.py"))
    # 106, 109, 114 and 124 are about style; 118 sees a class that only goes into `isinstance`.
    session.run("flake8-async", "--anyio", "--disable=ASYNC9,ASYNC106,ASYNC109,ASYNC114,ASYNC118,ASYNC124", *sources)


@nox.session
def typing(session: nox.Session) -> None:
    """Check the types, and that the public ones are complete."""
    _install(session, "python", *_groups("typing"), "nox")
    session.run("mypy")
    session.run("pyright")
    session.run("pyright", "--ignoreexternal", "--verifytypes", "natsery")


def _build_site(session: nox.Session, builder: str) -> Path:
    """Build the site with everything checked, and return where it is."""
    _install(session, "python", *_groups("docs"))
    folder = Path("docs", "_build", builder)
    session.run(
        "sphinx-build",
        "--builder",
        builder,
        "--fresh-env",
        "--fail-on-warning",
        "--keep-going",
        "-q",
        "docs",
        str(folder),
    )
    return folder


@nox.session
def docs(session: nox.Session) -> None:
    """Build the site of the documents; a warning, a page outside the contents and a link that leads nowhere in it are errors."""
    session.log(f"written: {_build_site(session, 'html').resolve()}/index.html")


@nox.session(default=False)
def links(session: nox.Session) -> None:
    """Check that what the documents link to outside the site is there, which needs the network."""
    _build_site(session, "linkcheck")


@nox.session
def package(session: nox.Session) -> None:
    """Build wheels with each core and without a compiler, install them, and run the demo from another folder."""
    session.install("build", *PROJECT["build-system"]["requires"])
    folder = Path(session.create_tmp())
    shutil.rmtree(folder / "dist", ignore_errors=True)
    for name, core, tag, environment in (
        ("compiled", "compiled", "*", {"NATSERY_CORE": "compiled"}),
        ("python", "python", "py3-none-any", {"NATSERY_CORE": "python"}),
        ("no compiler", "python", "*", {"CC": "false"}),
    ):
        dist = folder / "dist" / name
        session.run("python", "-m", "build", "--no-isolation", "--outdir", str(dist), env=environment)
        (wheel,) = dist.glob(f"natsery-*-{tag}.whl")
        session.run("python", "-m", "pip", "uninstall", "--yes", "--quiet", "natsery")  # the last, of the same version
        session.install(f"natsery[server] @ {wheel.resolve().as_uri()}")
        with session.chdir(folder):
            version = session.run("natsery", "--version", silent=True)
            if f"({core} core)" not in str(version):
                session.error(f"{wheel} has another core than the {core} one: {version}")
            session.run("natsery", "demo")


@nox.session
def interop(session: nox.Session) -> None:
    """Test with other implementations of NATS services, and AsyncAPI's schema, those that can be got on this machine."""
    _install(session, "compiled", *_groups("interop"))
    peers = session.cache_dir / "peers"
    limit = ("-o", "faulthandler_timeout=1800")  # a test may have to build its peer first
    session.run("python", "-m", "pytest", "interop", *limit, *session.posargs, env={"NATSERY_PEERS": str(peers)})


@nox.session(python=PYTHONS[0], default=False)
def coverage(session: nox.Session) -> None:
    """Measure which lines and branches the tests run, with both cores and in every process: all outside of the command."""
    _install(session, "compiled", *_groups("test", "coverage"))
    session.env["COVERAGE_FILE"] = str((session.cache_dir / "coverage" / ".coverage").resolve())
    session.run("coverage", "erase")
    # natsery is a plugin of pytest, so it must be measured from before pytest begins. The compiled module is not measured.
    for core, folders in (("compiled", ("tests",)), ("python", USES_OF_THE_CORE)):
        session.run("coverage", "run", "-m", *PYTEST, *folders, *session.posargs, env={"NATSERY_CORE": core})
    session.run("coverage", "combine")
    session.run("coverage", "report", "--omit", COMMAND, "--fail-under", "100")
    session.run("coverage", "report", "--include", COMMAND)


@nox.session(python=PYTHONS[0], default=False)
def mutation(session: nox.Session) -> None:
    """Break the service layer in one place after the other, and fail where no test notices; an hour at a time."""
    _install(session, "python", *_groups("test", "mutation"))
    session.run("python", "mutation/run.py", *session.posargs)


@nox.session(python=PYTHONS[0], default=False)
def minimums(session: nox.Session) -> None:
    """Run the tests with the oldest dependencies that are allowed."""
    allowed = [*PROJECT["project"]["dependencies"], *_groups("test")]
    _install(session, "compiled", *(requirement.replace(">=", "==") for requirement in allowed))
    session.run(*PYTEST, *session.posargs)


@nox.session(default=False)
def latest(session: nox.Session) -> None:
    """Run the tests of the nats-py adapter with the newest nats-py that there is."""
    _install(session, "compiled", *_groups("test"))
    session.install("--upgrade", "nats-py")
    session.run("python", "-m", "pip", "show", "nats-py")
    session.run("pytest", "tests/nats_py", "tests/test_contract.py", "tests/test_drain.py", *session.posargs)


@nox.session(default=False)
def bench(session: nox.Session) -> None:
    """Measure natsery beside other NATS libraries; ``-- --quick`` takes some three minutes."""
    _install(session, "compiled", *_groups("benchmark"))
    folder = session.cache_dir / "benchmark-peers"
    # After Ctrl-C it still writes what there is.
    session.run("python", "benchmarks/run.py", "--folder", str(folder), *session.posargs, interrupt_timeout=30)


@nox.session(python=PYTHONS[0], default=False)
def instructions(session: nox.Session) -> None:
    """Count the instructions of a request with valgrind, and fail if one takes 2 % more than its budget."""
    _install(session, "compiled", *_groups("benchmark"))
    session.run("python", "benchmarks/instructions.py", *session.posargs)


@nox.session(default=False)
def soak(session: nox.Session) -> None:
    """Repeat scenarios under load, and look for examples that break what must hold: ten minutes (-- --minutes 60) in all."""
    _install(session, "compiled", *_groups("test"))
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--minutes", type=float, default=10)
    given, others = parser.parse_known_args(session.posargs)
    for_examples = given.minutes * EXAMPLES_SHARE
    session.run("python", "-m", "tests.soak", "--minutes", f"{given.minutes - for_examples:g}", *others)
    session.run("python", "-m", "tests.soak.generated", "--minutes", f"{for_examples:g}")


@nox.session(python=PYTHONS[0], default=False)
def fuzz(session: nox.Session) -> None:
    """Look, guided by coverage, for bytes that break what reads them, ten minutes in all (-- -max_total_time=900 for an hour)."""
    _install(session, "compiled", *_groups("test", "fuzz"))
    for target in ("stream", "headers", "info", "replies"):
        folder = (session.cache_dir / "fuzz" / target).resolve()
        session.run("python", "-m", "tests.fuzz", target, str(folder), *(session.posargs or ["-max_total_time=150"]))
