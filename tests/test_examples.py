"""The examples and the README's code, run as a reader would run them."""

from __future__ import annotations

import asyncio
import re
import signal
from pathlib import Path

import nats
import pytest

import natsery

from .processes import running
from .server import NatsServer

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"


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
@pytest.mark.parametrize("attempt", range(2))
def test_an_example_answers_and_stops_on_ctrl_c(name: str, attempt: int, nats_server: NatsServer) -> None:
    with running(str(ROOT / "examples" / name), nats_server.url) as program:
        program.wait_for("ready")
        assert ask(nats_server.url, b"1+2", b"-5+5", b"x") == ["3", "0", "400"]
        program.interrupt()
        assert program.wait() == 0, program.output
    assert program.output.endswith("math.add: 3 requests, 1 errors\n")
    assert "Traceback" not in program.output
    assert not [subject for subject in nats_server.subscriptions() if "math" in subject]


def readme_blocks(url: str) -> list[str]:
    text = README.read_text(encoding="utf-8").replace("nats://127.0.0.1:4222", url)
    return re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def test_the_permissions_in_the_readme_are_enough_and_hold_replies_to_inboxes() -> None:
    (permissions,) = re.findall(r"^```\n(authorization.*?)^```", README.read_text(), re.MULTILINE | re.DOTALL)
    others = "users: [ { user: asker, password: asker }"

    async def answer(request: natsery.Request) -> bytes:
        return b"answered"

    config = natsery.ServiceConfig("calc", "1.0.0", endpoints=[natsery.group("math", [answer])])

    async def main(url: str) -> None:
        asker = await nats.connect(url, user="asker", password="asker")
        client = await nats.connect(url, user="calc", password="change me")
        try:
            async with natsery.serve(client, config):
                assert (await asker.request("math.answer", timeout=10)).data == b"answered"
                assert (await asker.request("$SRV.PING.calc", timeout=10)).data
                elsewhere = await asker.subscribe("elsewhere")
                await asker.publish("math.answer", reply="elsewhere")
                assert (await asker.request("math.answer", timeout=10)).data == b"answered"
                assert elsewhere.pending_msgs == 0
        finally:
            await client.close()  # noqa: ASYNC102
            await asker.close()  # noqa: ASYNC102

    with NatsServer(permissions.replace("users: [", others)) as server:
        asyncio.run(main(server.url))


def test_the_python_in_the_readme_runs(nats_server: NatsServer, tmp_path: Path) -> None:
    service, *others, test = readme_blocks(nats_server.url)
    (variant,) = [block for block in others if "asyncio.run(" in block]
    (tmp_path / "calc.py").write_text(service)
    (tmp_path / "calc_asyncio.py").write_text(variant)
    (tmp_path / "test_calc.py").write_text(test)
    for name in ("calc.py", "calc_asyncio.py"):
        with running(name, cwd=tmp_path) as program:
            program.wait_for("ready")
            assert ask(nats_server.url, b"1+2", b"x") == ["3", "400"]
            program.interrupt()
            assert program.wait() in (-signal.SIGINT, 130), program.output
        assert program.output.endswith("KeyboardInterrupt\n")
    with running("-m", "pytest", "-q", "-p", "no:cacheprovider", "test_calc.py", cwd=tmp_path) as program:
        assert program.wait() == 0, program.output
    assert "1 passed" in program.output


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
