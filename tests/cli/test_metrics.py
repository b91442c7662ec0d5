"""``natsery run --metrics``: what Prometheus reads of the services that run."""

from __future__ import annotations

import re
import signal
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import anyio
import pytest
from prometheus_client.parser import text_string_to_metric_families

from natsery._cli._exit_codes import Exit
from natsery._cli._listening import Address, read_address
from natsery._cli._run import _metrics
from natsery._cli._run._metrics import of_worker
from natsery.testing._reserved_ports import port_of, reserve_port

from ..bounds import HANG_SECONDS
from ..processes import Program
from ..server import NatsServer
from .conftest import Result
from .programs import MODULE, asking, serving

Run = Callable[..., Result]

OWN_METRICS = """
import prometheus_client
import natsery.prometheus

ORDERS = prometheus_client.Counter("orders", "Orders.")
metrics = natsery.prometheus.Metrics()
with_it = natsery.ServiceConfig("calc", "1.0.0", endpoints=[natsery.group("math", [echo])], instruments=[metrics])
without_it = [with_it, natsery.ServiceConfig("more", "2.0.0", endpoints=[hold])]
"""


@pytest.fixture(scope="module")
def server() -> Iterator[NatsServer]:
    """A server of this module's own, so that nobody else serves there."""
    with NatsServer() as server:
        yield server


def url_of(program: Program) -> str:
    """Where it says that its metrics are."""
    return program.wait_for("metrics at ").strip().rpartition(" ")[2]


def scrape(url: str) -> dict[tuple[str, ...], float]:
    """The samples at a URL, each by its name and its labels' values in the order of the labels' names."""
    with urllib.request.urlopen(url, timeout=HANG_SECONDS) as reply:
        assert reply.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        text = reply.read().decode()
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_prometheus_reads_what_it_serves(server: NatsServer, tmp_path: Path, backend: str) -> None:
    with (
        serving(tmp_path, "--metrics", "0", "--backend", backend, url=server.url) as program,
        asking(server.url) as asker,
    ):
        url = url_of(program)
        program.wait_for("ready")
        assert scrape(url)["natsery_requests_total", "200", "echo", "calc"] == 0
        assert asker.ask("math.echo", b"hello") == "hello"
        held = asker.begin("math.hold")
        program.wait_for("holding")
        samples = scrape(url)
        assert samples["natsery_requests_total", "200", "echo", "calc"] == 1
        assert samples["natsery_requests_in_flight", "hold", "calc"] == 1
        assert samples["process_cpu_seconds_total",] > 0
        program.terminate()
        program.wait_for("draining")
        assert scrape(url)["natsery_requests_pending", "hold", "calc"] == 1, "it is scraped to the end"
        (tmp_path / "go").touch()
        held.result(HANG_SECONDS)
        assert program.wait() == 0, program.output


def test_each_worker_has_its_own(server: NatsServer, tmp_path: Path) -> None:
    with serving(tmp_path, "--workers", "2", "--metrics", "0", url=server.url) as program, asking(server.url) as asker:
        program.wait_for("2 workers ready")
        urls = dict(re.findall(r"^worker (\d): metrics at (\S+)$", program.output, re.MULTILINE))
        assert sorted(urls) == ["1", "2"], program.output
        for _ in range(20):
            asker.ask("math.echo")
        counted = [scrape(url).get(("natsery_requests_total", "200", "echo", "calc"), 0) for url in urls.values()]
        assert sum(counted) == 20
        program.terminate()
        assert program.wait() == 0, program.output


def test_a_worker_hands_its_port_on(server: NatsServer, tmp_path: Path) -> None:
    with (
        reserve_port() as free,
        serving(tmp_path, "--workers", "1", "--metrics", str(port_of(free)), url=server.url) as program,
    ):
        program.wait_for("1 worker ready")
        program.send(signal.SIGHUP)
        program.wait_for("exchanged 1 worker")
        assert ("process_cpu_seconds_total",) in scrape(f"http://127.0.0.1:{port_of(free)}/metrics")
        program.terminate()
        assert program.wait() == 0, program.output


def test_metrics_of_the_program_are_there_too(server: NatsServer, tmp_path: Path) -> None:
    text = MODULE + OWN_METRICS
    with serving(tmp_path, "service:with_it", "--metrics", "0", url=server.url, text=text) as program:
        url = url_of(program)
        program.wait_for("ready")
        with asking(server.url) as asker:
            assert asker.ask("math.echo", b"hello") == "hello"
        samples = scrape(url)
        assert samples["orders_total",] == 0
        assert samples["natsery_requests_total", "200", "echo", "calc"] == 1
        program.terminate()
        assert program.wait() == 0, program.output


def test_metrics_that_miss_a_service_are_an_error(server: NatsServer, tmp_path: Path) -> None:
    text = MODULE + OWN_METRICS
    with serving(tmp_path, "service:without_it", "--metrics", "0", url=server.url, text=text) as program:
        assert program.wait() == Exit.USAGE, program.output
    assert program.output.splitlines()[-1] == (
        "Error: --metrics: the program has made natsery.prometheus.Metrics itself; give it to the service 'more' as well: "
        "ServiceConfig(instruments=[metrics])"
    )


def test_a_collector_of_the_program_that_raises_costs_no_more_than_the_scrape(
    server: NatsServer, tmp_path: Path
) -> None:
    text = f"""{MODULE}
import prometheus_client

class Broken:
    def describe(self):
        return []

    def collect(self):
        raise LookupError("no figures")

prometheus_client.REGISTRY.register(Broken())
"""
    with serving(tmp_path, "--metrics", "0", url=server.url, text=text) as program, asking(server.url) as asker:
        url = url_of(program)
        program.wait_for("ready")
        for wanted, status in ((url, 500), (f"{url}/other", 404)):
            with pytest.raises(urllib.error.HTTPError) as caught, urllib.request.urlopen(wanted, timeout=HANG_SECONDS):
                pass
            with caught.value as error:
                assert error.code == status
        program.wait_for("a collector of metrics raised")
        program.wait_for("LookupError: no figures")
        assert asker.ask("math.echo", b"hello") == "hello"
        program.terminate()
        assert program.wait() == 0, program.output


def test_a_collector_of_the_program_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_metrics, "SCRAPE_SECONDS", 0.01)
    let_go = threading.Event()
    monkeypatch.setattr(_metrics, "_write", let_go.wait)

    async def main() -> None:
        respond = _metrics.respond_to_scrapes()
        try:
            for _ in range(2):
                response = await respond("/metrics")
                assert response.status == 503
                assert response.body == b"the metrics were not collected within 0.01 s\n"
        finally:
            let_go.set()

    anyio.run(main, backend="trio")


def test_a_port_that_is_taken_is_one_line(server: NatsServer, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with serving(tmp_path, "--metrics", str(port), url=server.url) as program:
            assert program.wait() == Exit.FAILED
    assert program.output == (
        f"loading\nError: --metrics: cannot listen at 127.0.0.1:{port}: Address already in use; write another port, or 0 for a free one\n"
    )


@contextmanager
def bound_behind_a_free_port(taken: socket.socket) -> Iterator[int]:
    """Bind a socket to a port; the one before it is free, and stays so for the length of the block."""
    while True:
        with reserve_port() as free:
            port = port_of(free) + 1
            try:
                taken.bind(("127.0.0.1", port))
            except OSError:
                continue
            yield port
            return


@pytest.mark.parametrize("of", ["another program", "the workers of another program"])
def test_a_port_of_a_worker_that_is_taken_is_one_line(server: NatsServer, tmp_path: Path, of: str) -> None:
    """The others served until that worker was given up, and ended then; with other workers, they shared the scrapes."""
    with socket.socket() as taken, ExitStack() as stack:
        if of == "the workers of another program":
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        port = stack.enter_context(bound_behind_a_free_port(taken))
        taken.listen()
        with serving(tmp_path, "--workers", "2", "--metrics", str(port - 1), url=server.url) as program:
            assert program.wait() == Exit.FAILED
    text = f"cannot listen at 127.0.0.1:{port}: Address already in use; write another port, or 0 for a free one"
    assert program.output == f"Error: --metrics, worker 2: {text}\n"


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("9090", Address("127.0.0.1", 9090)),
        ("0.0.0.0:9090", Address("0.0.0.0", 9090)),
        ("metrics.example:0", Address("metrics.example", 0)),
        ("[::1]:9090", Address("::1", 9090)),
        (":9090", Address("", 9090)),
    ],
)
def test_addresses(text: str, address: Address) -> None:
    assert read_address(text) == address
    assert read_address(str(address)) == address


def test_workers_have_ports_in_a_row() -> None:
    address = Address("127.0.0.1", 9090)
    assert [of_worker(address, number).port for number in (0, 1, 2, 3)] == [9090, 9090, 9091, 9092]
    assert of_worker(Address("127.0.0.1", 0), 3).port == 0


@pytest.mark.parametrize("text", ["", "x", "::1:9090", "host:", "65536", "-1", "9090:x", "٣"])
def test_what_is_no_address_is_refused(run: Run, text: str) -> None:
    result = run("run", "service", "--metrics", text)
    assert result.status == Exit.USAGE
    assert f"Invalid value for '--metrics': {text!r} is not [HOST:]PORT, such as 9100" in result.err


def test_options_that_cannot_be_are_refused(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    result = run("run", "service", "--metrics", "65535", "--workers", "2")
    message = "Error: --metrics: 2 workers need as many ports, from 65535 on; there is none beyond 65535\n"
    assert result == Result(Exit.USAGE, "", message)
    monkeypatch.setattr(_metrics.importlib.util, "find_spec", lambda name: None)
    message = "Error: --metrics needs prometheus-client; run: pip install 'natsery[prometheus]'\n"
    assert run("run", "service", "--metrics", "9090") == Result(Exit.FAILED, "", message)
