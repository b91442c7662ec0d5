"""Measures what each optional feature costs: an echo service that has it, beside one that has none."""

from __future__ import annotations

from feature_configs import BODY, FEATURES, NONE
from lab import Contestant, Lab, in_turn
from peers import own_command

from natsery.testing import NatsServer
from processes import ServiceFailedError, cpu_seconds, finish_requester, service, start_requester

BACKENDS = ("trio", "asyncio")
OUTSTANDING = 64
COUNT = 40_000
WARM_UP = 5_000

MEASURES = {"cpu_us": "CPU µs each", "requests_per_second": "requests/s", "p99_us": "p99 µs", "errors": "errors"}
NOTE = f"Native connection, {OUTSTANDING} outstanding, `{BODY}` as request and reply; ratios to the same without any of them."


def measure_features(lab: Lab) -> None:
    """Each in a fresh process, in turn."""
    backends = BACKENDS[:1] if lab.is_quick else BACKENDS
    for backend in backends:
        with NatsServer() as server:
            contestants = _find_contestants(lab, backend, server.url)
            rows = {(each.title,): (NONE,) for each in contestants}
            table = lab.begin(
                f"features-{backend}", f"The cost of each feature, {backend}", ("feature",), MEASURES, rows, NOTE
            )
            for number in range(1, lab.runs + 1):
                run = table.begin_run()
                for each in in_turn(contestants, number):
                    with service(each.command, server.url, each.subject) as live:
                        _measure(live.process.pid, server.url, each.subject, WARM_UP)
                        result = _measure(live.process.pid, server.url, each.subject, lab.scaled(COUNT))
                    said = f"CPU {result['cpu_us']:.1f} µs, {result['errors']:.0f} errors"
                    lab.record(number, run, (each.title,), result, said)


def _find_contestants(lab: Lab, backend: str, url: str) -> list[Contestant]:
    """A service for each feature that is installed."""

    def try_out(number: int, feature: str) -> tuple[Contestant, str]:
        command = [*own_command(f"native-{backend}"), "--feature", feature]
        with service(command, url, "bench.trial") as trial:
            return Contestant(str(number), feature, command), trial.versions

    found = []
    for number, feature in enumerate(FEATURES):
        try:
            contestant, versions = try_out(number, feature)
        except ServiceFailedError as error:
            lab.skipped[feature] = str(error)
        else:
            lab.versions[f"the services with features, {backend}"] = versions
            found.append(contestant)
    return found


def _measure(pid: int, url: str, subject: str, count: int) -> dict[str, float]:
    """One run of the requester against one service."""
    before = cpu_seconds(pid)
    result = finish_requester(start_requester(url, subject, "--body", BODY, count=count, outstanding=OUTSTANDING))
    result["cpu_us"] = (cpu_seconds(pid) - before) * 1e6 / count
    return {measure: result[measure] for measure in MEASURES}
