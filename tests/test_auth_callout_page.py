"""The auth callout of examples/auth_callout.py logs users in, set up as docs/auth-callout.md says."""

from __future__ import annotations

import base64
import json
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

import anyio
import nkeys
import pytest

import natsery
from natsery._cli._run._loading import load
from natsery.testing import MemoryBroker, NatsServer

from .bounds import bounded
from .calc_service import error_of
from .operator_mode import ACCOUNT, Key, encode_jwt
from .processes import running

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "examples" / "auth_callout.py"
KEYS, CONFIG, COMMAND = (
    textwrap.dedent(block)
    for block in re.findall(
        r"^   ```(?:python)?\n(.*?)^   ```",
        (ROOT / "docs" / "auth-callout.md").read_text(encoding="utf-8"),
        re.MULTILINE | re.DOTALL,
    )
)


@pytest.fixture(params=["trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return request.param


def make_keys(capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    """The seed and the public key, as the page makes them."""
    exec(compile(KEYS, "keys", "exec", dont_inherit=True), {})
    seed, issuer = re.findall(r": (\w+)$", capsys.readouterr().out, re.MULTILINE)
    return seed, issuer


@pytest.fixture
def url(capsys: pytest.CaptureFixture[str]) -> Iterator[str]:
    """Of a server whose logins the example answers."""
    seed, issuer = make_keys(capsys)
    with NatsServer(re.sub(r'issuer: "\w+"', f'issuer: "{issuer}"', CONFIG)) as server:
        options = re.findall(r"--user (\w+) --password '(.*)'", COMMAND)
        (user, password), command = options[0], ("-m", "natsery", "run", str(EXAMPLE))
        environment = {"ISSUER_SEED": seed, "NATS_URL": server.url, "PYTHONWARNINGS": "error"}
        with running(*command, "--user", user, "--password", password, environment=environment) as program:
            program.wait_for("ready")
            yield server.url
            program.terminate()
            assert program.wait() == 0, program.output
        assert "Traceback" not in program.output


async def test_users_get_in_with_the_permissions_that_the_service_gives(url: str) -> None:
    async with bounded():
        async with (
            natsery.connect(url, user="ada", password="lovelace") as ada,
            natsery.connect(url, user="carl", password="gauss") as carl,
        ):
            async with carl.subscribe("math.add") as requests, anyio.create_task_group() as tasks:

                async def answer() -> None:
                    message = await requests.receive()
                    await carl.publish(message.reply, b"3")

                tasks.start_soon(answer)
                await carl.flush()
                assert (await ada.request("math.add", b"1+2")).data == b"3"
            with pytest.raises(natsery.PublishDeniedError, match=r"other\.subject"):
                await ada.request("other.subject")
            with pytest.raises(natsery.SubscriptionDeniedError, match=r"math\.>"):
                async with ada.subscribe("math.>"):
                    pass
            with pytest.raises(natsery.PublishDeniedError):
                await carl.request("math.add")


@pytest.mark.parametrize(("user", "password"), [("ada", "gauss"), ("ada", " "), ("eve", "lovelace")])
async def test_others_are_refused(url: str, user: str, password: str) -> None:
    async with bounded():
        with pytest.raises(natsery.AuthorizationError):
            async with natsery.connect(url, user=user, password=password):
                pass


def request_of(signer: Key) -> bytes:
    asked = {"user_nkey": "U", "server_id": {"id": signer.public}, "connect_opts": {"user": "ada", "pass": "lovelace"}}
    return encode_jwt(signer, "U", "", {"type": "authorization_request", **asked}).encode()


async def test_only_requests_that_a_server_has_signed_are_taken(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seed, issuer = make_keys(capsys)
    monkeypatch.setenv("ISSUER_SEED", seed)
    server = Key(nkeys.PREFIX_BYTE_SERVER)
    good = request_of(server)
    header, _, signature = good.split(b".")
    other_claims = request_of(Key(nkeys.PREFIX_BYTE_SERVER)).split(b".")[1]
    forged = b".".join((header, other_claims, signature))
    bad = (b"", b"{}", b"a.b.c", good[:-4], forged, b"\xff.\xff.\xff", request_of(Key(ACCOUNT)))
    async with bounded(), MemoryBroker() as broker, broker.connect() as nc:
        async with load(str(EXAMPLE)).open(nc) as configs, natsery.serve(nc, *configs):
            answer = await nc.request("$SYS.REQ.USER.AUTH", good)
            claims = json.loads(base64.urlsafe_b64decode(answer.data.split(b".")[1] + b"==="))
            assert (claims["iss"], claims["sub"], claims["aud"]) == (issuer, "U", server.public)
            for request in bad:
                answer = await nc.request("$SYS.REQ.USER.AUTH", request)
                assert error_of(answer) == "400:not a request for an authorization, signed by a server"
