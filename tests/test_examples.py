"""The examples and the README's code, run as a reader would run them."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import signal
import urllib.error
import urllib.request
from pathlib import Path

import nats
import pytest

from .bounds import HANG_SECONDS
from .calc_service import ping
from .plain_client import ask_json
from .processes import running
from .server import NatsServer

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
EXAMPLES = ROOT / "examples"
STRICT = {"PYTHONWARNINGS": "error", "PYTHONDONTWRITEBYTECODE": "1"}


def ask(url: str, *payloads: bytes) -> list[str]:
    """What a plain nats-py client gets for requests that are all sent at once."""

    async def main() -> list[str]:
        client = await nats.connect(url)
        try:
            replies = await asyncio.gather(*(client.request("math.add", each, timeout=10) for each in payloads))
        finally:
            await client.close()  # noqa: ASYNC102
        return [(reply.headers or {}).get("Nats-Service-Error-Code") or reply.data.decode() for reply in replies]

    return asyncio.run(main())


@pytest.mark.parametrize("name", ["calc.py", "calc_asyncio.py"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_example_answers_and_stops_on_a_signal(name: str, number: signal.Signals, nats_server: NatsServer) -> None:
    with running(str(ROOT / "examples" / name), nats_server.url) as program:
        program.wait_for("ready")
        assert ask(nats_server.url, b"1+2", b"-5+5", b"x") == ["3", "0", "400"]
        program.send(number)
        assert program.wait() == 0, program.output
    assert program.output.endswith("math.add: 3 requests, 1 errors\n")
    assert "Traceback" not in program.output
    assert not [subject for subject in nats_server.subscriptions() if "math" in subject]


def test_the_shop_is_served_by_natsery_run(nats_server: NatsServer) -> None:
    quote = {"item": "tea", "count": 3, "cents": 1050}
    environment = STRICT | {"NATS_URL": nats_server.url}
    with running("-m", "natsery", "run", str(EXAMPLES / "shop.py"), environment=environment) as program:
        program.wait_for("ready")
        replies = ask_json(
            nats_server.url,
            ("shop.price", '{"item": "tea", "count": 3}'),
            ("shop.price", '{"item": "gold"}'),
            ("shop.price", '{"count": 3}'),
            ("shop.buy", '{"item": "tea", "count": 3}'),
            ("shop.receipt", json.dumps([quote])),
        )
        program.terminate()
        assert program.wait() == 0, program.output
    assert replies == [
        quote,
        "404: there is no 'gold' here",
        "400: Invalid Body: $.item: is missing",
        quote,
        "3 tea: 10.50\ntotal: 10.50",
    ]
    assert program.output.endswith("stopped: 0 requests drained, 5 in all\n")
    assert "Traceback" not in program.output


@pytest.mark.parametrize("name", ["shop_trio.py", "shop_asyncio.py"])
def test_the_shop_is_served_and_called_in_one_program(name: str, nats_server: NatsServer) -> None:
    with running(str(EXAMPLES / name), nats_server.url, environment=STRICT) as program:
        assert program.wait() == 0, program.output
    assert program.output.splitlines() == [
        "2 tea: 7.00",
        "2 cocoa: 8.20",
        "total: 15.20",
        "there is tea",
        "there is coffee",
        "there is cocoa",
        "404:there is no 'gold' here",
        "served 5 requests",
    ]


def test_the_shop_streams_its_items_to_any_client(nats_server: NatsServer) -> None:
    async def read() -> list[bytes]:
        client = await nats.connect(nats_server.url)
        try:
            inbox = client.new_inbox()
            parts = await client.subscribe(inbox)
            await client.publish("shop.items", reply=inbox)
            received = [(await parts.next_msg(10)).data]
            while received[-1]:
                received.append((await parts.next_msg(10)).data)
            return received
        finally:
            await client.close()  # noqa: ASYNC102

    environment = STRICT | {"NATS_URL": nats_server.url}
    with running("-m", "natsery", "run", str(EXAMPLES / "shop.py"), environment=environment) as program:
        program.wait_for("ready")
        *items, end = asyncio.run(read())
        program.terminate()
        assert program.wait() == 0, program.output
    assert [json.loads(item)["name"] for item in items] == ["tea", "coffee", "cocoa"]
    assert end == b""


def test_the_shop_is_served_in_the_lifespan_of_a_web_application(nats_server: NatsServer) -> None:
    def get(address: str, path: str) -> tuple[int, object]:
        try:
            with urllib.request.urlopen(address + path, timeout=HANG_SECONDS) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)

    arguments = ("-m", "uvicorn", "--app-dir", str(EXAMPLES), "--port", "0", "shop_fastapi:app")
    with running(*arguments, environment={"NATS_URL": nats_server.url, "PYTHONDONTWRITEBYTECODE": "1"}) as program:
        (address,) = re.findall(r"http://127\.0\.0\.1:\d+", program.wait_for("Uvicorn running on"))
        assert get(address, "/price/tea?count=3") == (200, {"item": "tea", "count": 3, "cents": 1050})
        assert get(address, "/price/gold") == (404, {"detail": "there is no 'gold' here"})
        (instance,) = asyncio.run(ping(nats_server.url))
        assert instance.name == "shop"
        program.terminate()
        program.wait()
    assert "Application shutdown complete" in program.output
    assert "Traceback" not in program.output
    assert asyncio.run(ping(nats_server.url)) == ()


def python_of(page: Path, url: str) -> list[str]:
    """The Python blocks of a page, with this server in place of the one on the usual port."""
    text = page.read_text(encoding="utf-8").replace("nats://127.0.0.1:4222", url)
    return re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def test_the_readme_is_true(nats_server: NatsServer, tmp_path: Path) -> None:
    """Its service runs, with nats-py too, as docs/nats-py.md has it; its command prints what it says; its test passes."""
    service, test = python_of(README, nats_server.url)
    (with_nats_py,) = python_of(ROOT / "docs" / "nats-py.md", nats_server.url)
    (tmp_path / "calc.py").write_text(service)
    (tmp_path / "calc_nats_py.py").write_text(with_nats_py)
    (tmp_path / "test_calc.py").write_text(test)
    ((command, printed),) = re.findall(
        r"^`natsery (request .*?)` then prints `(.*?)`", README.read_text(), re.MULTILINE
    )
    arguments = ("-m", "natsery", *shlex.split(command), "--server", nats_server.url)
    for name in ("calc.py", "calc_nats_py.py"):
        with running(name, cwd=tmp_path, environment=STRICT) as program:
            program.wait_for("ready")
            with running(*arguments, environment=STRICT) as asking:
                assert asking.wait() == 0, asking.output
            assert asking.output == f"{printed}\n"
            program.interrupt()
            assert program.wait() == 0, program.output
        assert program.output == "ready\n"
    with running("-m", "pytest", "-q", "-p", "no:cacheprovider", "test_calc.py", cwd=tmp_path) as program:
        assert program.wait() == 0, program.output
    assert "2 passed" in program.output  # on trio and on asyncio


def test_the_readme_fits_a_screen() -> None:
    lines = README.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 95
    code = "\n".join(python_of(README, "nats://127.0.0.1:4222"))
    assert max(map(len, code.splitlines())) <= 80


def test_the_tests_in_the_documents_pass(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "testing.md").read_text(encoding="utf-8")
    shop, *tests = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    (tmp_path / "shop.py").write_text(shop)
    (tmp_path / "pytest.ini").write_text("[pytest]\ntrio_mode = true\nfilterwarnings = error\n")
    for number, test in enumerate(tests):
        (tmp_path / f"test_{number}.py").write_text(test)
    with running("-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=tmp_path) as program:
        assert program.wait() == 0, program.output
    assert f"{text.count('async def test_')} passed" in program.output
