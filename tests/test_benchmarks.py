"""The benchmarks: what their tables show, what they write, and that they run to their end, or to Ctrl-C."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from xml.etree import ElementTree as ET

import pytest

ROOT = Path(__file__).parents[1]
BENCHMARKS = ROOT / "benchmarks"
SECONDS = 600

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the benchmarks read /proc")


@pytest.fixture(autouse=True)
def benchmarks_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def a_table(*runs):
    from figures import Table

    rows = {("16 B", "1", name): ("16 B", "1", "nats-py") for name in ("nats-py", "natsery <trio>", "late")}
    measures = {"requests_per_second": "requests/s", "cpu_us": "CPU µs each", "errors": "errors"}
    table = Table("services", "Services", ("payload", "outstanding", "service"), measures, rows)
    for run in runs:
        begun = table.begin_run()
        for name, per_second, errors in run:
            begun["16 B", "1", name] = {"requests_per_second": per_second, "cpu_us": 7.0, "errors": errors}
    return table


ALL_RUNS = (
    [("nats-py", 100.0, 0), ("natsery <trio>", 200.0, 1)],
    [("nats-py", 10.0, 0), ("natsery <trio>", 30.0, 2)],
    [("nats-py", 1000.0, 0), ("natsery <trio>", 1000.0, 0)],
)


def test_a_ratio_is_the_median_of_paired_ratios() -> None:
    table = a_table(*ALL_RUNS)
    assert table.ratio(("16 B", "1", "natsery <trio>"), "requests_per_second") == 2.0
    assert "| 16 B | 1 | natsery <trio> | 2.00 (200) | 1.00 (7) | 3 |" in table.markdown()


def test_a_run_that_was_broken_off_counts_for_what_it_came_to() -> None:
    table = a_table(*ALL_RUNS, [("natsery <trio>", 5.0, 0)])
    assert table.ratio(("16 B", "1", "natsery <trio>"), "requests_per_second") == 2.0
    assert [row[-1] for row in table.found] == ["nats-py", "natsery <trio>"]
    assert a_table([]).markdown() == ""


def test_a_row_without_the_one_that_it_is_compared_with_has_no_ratio() -> None:
    table = a_table([("natsery <trio>", 5.0, 0)])
    assert "| natsery <trio> | 5 | 7 | 0 |" in table.markdown()
    assert table.as_json()["rows"][0]["figures"]["cpu_us"] == {"median": 7.0, "ratio": None, "runs": [7.0]}


def test_the_chart_is_svg_with_a_bar_for_each_figure() -> None:
    from chart import draw

    root = ET.fromstring(draw(a_table(*ALL_RUNS), "now & here"))
    bars = [element.get("class") for element in root.iter("{http://www.w3.org/2000/svg}rect")]
    assert bars == ["other", "own"] * 2
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"natsery <trio>", "now & here", "2.00"} <= set(texts)


def test_a_part_of_the_page_is_replaced_and_nothing_else(tmp_path: Path) -> None:
    from page import write_part

    page = tmp_path / "page.md"
    page.write_text("before\n<!-- begin: a -->\nold\n<!-- end: a -->\nafter\n")
    write_part("a", "new \\1\n", page)
    write_part("a", "new \\1\n", page)
    assert page.read_text() == "before\n<!-- begin: a -->\n\nnew \\1\n\n<!-- end: a -->\nafter\n"
    with pytest.raises(SystemExit, match="lacks the line"):
        write_part("b", "new", page)


def test_the_page_has_the_parts_that_are_written(tmp_path: Path) -> None:
    from page import INSTRUCTIONS, PAGE, times, write_part

    with start_run(tmp_path, "--only", "nothing") as process:
        _, said = process.communicate(timeout=SECONDS)
    parts = said.rpartition("not among ")[2].strip().split(", ")
    assert "services" in parts
    copy = tmp_path / "benchmarks.md"
    copy.write_bytes(PAGE.read_bytes())
    for part in (*map(times, parts), INSTRUCTIONS):
        write_part(part, f"figures of {part}", copy)
        assert f"figures of {part}" in copy.read_text(encoding="utf-8")


@pytest.mark.parametrize("count", [40, 0])
def test_others_take_the_place_of_overdue_requests_only_where_some_may_be_lost(
    count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More large ones under way than asked for, and nats-server closes the requester's connection."""
    import requester

    now, under_way, answered, largest = 0, [], 0, 0

    class Slow:
        def send(self, subject: str, numbers: range) -> None:
            nonlocal largest
            under_way.extend(numbers)
            largest = max(largest, len(under_way))

        def receive(self) -> list[tuple[int, str]]:
            nonlocal now, answered
            now += requester.OVERDUE_AFTER_NS * 2 // 3
            answered += 1
            if not count and answered == 40:
                must_stop.append(True)
            return [(under_way.pop(0), requester.ANSWERED)] if answered % 2 else []

    must_stop: list[bool] = []
    monkeypatch.setattr(requester, "time", SimpleNamespace(perf_counter_ns=lambda: now))
    requester.run(Slow(), "echo", count, 4, must_stop)
    assert (largest > 4) == (not count)


def test_a_budget_may_be_passed_by_two_percent_and_no_more() -> None:
    from instructions import is_within, remarks

    budget = {"made with": {"anyio": "0.1"}, "instructions": {"a": 1000, "b": 1000}}
    assert is_within({"a": 1020, "b": 10}, budget["instructions"])
    assert not is_within({"a": 1021}, budget["instructions"])
    said = "\n".join(remarks({"a": 1021, "b": 1000}, budget))
    assert "made with anyio 0.1" in said
    assert "| a | 1,021 | 1,000 | +2.1% |" in said
    assert "| b |" not in said


def test_what_has_no_budget_does_not_pass_unnoticed() -> None:
    from instructions import is_within, remarks

    assert not is_within({"c": 1}, {"a": 1000})
    assert "has: c. --update writes one" in remarks({"c": 1}, {})[-1]


def test_every_case_has_a_budget() -> None:
    from instructions import BUDGET, CASES

    for budget in json.loads(BUDGET.read_text()).values():
        assert set(budget["instructions"]) == {case.name for case in CASES}


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_what_is_counted_runs_to_its_end(backend: str, tmp_path: Path) -> None:
    """Each piece of work against the server that answers only while the client waits; the service with TLS, too."""
    import ssl

    from instructions import make_certificates
    from lockstep import LockstepServer

    certificates = make_certificates(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates / "server.pem")
    peer = [sys.executable, str(BENCHMARKS / "instructions_peer.py")]
    with subprocess.Popen(peer, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin
        assert process.stdout
        for work, burst, authority in (
            ("service", 1, ""),
            ("service", 64, ""),
            ("service", 64, certificates / "authority.pem"),
            ("request", 64, ""),
            ("publish", 64, ""),
            ("receive", 64, ""),
            ("memory", 1, ""),
        ):
            server = LockstepServer(burst, 3, context if authority else None)
            print(work, backend, server.url, burst, 3, authority, file=process.stdin, flush=True)
            serving = Thread(target=server.serve, args=(int(process.stdout.readline()),))
            serving.start()
            assert (work, process.stdout.readline()) == (work, "0\n")
            server.close()
            serving.join(SECONDS)
            assert not serving.is_alive()
        process.stdin.close()


def start_run(folder: Path, *options: str) -> subprocess.Popen[str]:
    """A short run of a copy of the benchmarks, which writes the page of that copy."""
    shutil.copytree(BENCHMARKS, folder / "benchmarks", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "docs").mkdir()
    shutil.copy(ROOT / "docs" / "benchmarks.md", folder / "docs")
    command = [sys.executable, str(folder / "benchmarks" / "run.py"), "--runs", "1", "--scale", "0.001"]
    command += ["--output", str(folder / "results"), *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_run_writes_json_tables_a_chart_and_the_page(tmp_path: Path) -> None:
    with start_run(tmp_path, "--only", "services", "--peers", "native-trio", "--page") as process:
        printed, said = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, said
    results = json.loads((tmp_path / "results" / "results.json").read_text())
    assert results["finished"] is True
    assert results["skipped"] == {}
    assert set(results["versions"]) == {"nats-py micro, asyncio", "natsery native, trio"}
    (table,) = results["tables"]
    assert [row["labels"]["outstanding"] for row in table["rows"]] == ["1", "1", "64", "64", "512", "512"]
    assert {row["figures"]["errors"]["median"] for row in table["rows"]} == {0}
    page, before = ((folder / "docs" / "benchmarks.md").read_text(encoding="utf-8") for folder in (tmp_path, ROOT))
    rows = [line for line in printed.splitlines() if line.startswith("| 16 B")]
    assert len(rows) == 6
    assert "\n".join(rows) in page
    clients = [line for line in before.splitlines() if line.startswith("| request, 64 callers |")]
    assert "\n".join(clients) in page  # what was not measured stays
    assert printed.strip() in (tmp_path / "results" / "results.md").read_text(encoding="utf-8")
    assert "(benchmarks.svg)" in page
    for chart in (tmp_path / "results" / "results.svg", tmp_path / "docs" / "benchmarks.svg"):
        ET.parse(chart)


def test_ctrl_c_ends_a_run_with_what_there_is(tmp_path: Path) -> None:
    with start_run(tmp_path, "--only", "services,features", "--peers", "native-trio") as process:
        assert process.stderr
        for line in process.stderr:
            if line.startswith("run 1 of 1"):
                break
        os.kill(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=SECONDS)
    assert process.returncode == 130, said
    results = json.loads((tmp_path / "results" / "results.json").read_text())
    assert results["finished"] is False
    assert [table["key"] for table in results["tables"]] == ["services"]
    assert results["tables"][0]["rows"]


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (("--only", "speed"), "speed: not among services, payloads"),
        (("--peers", "nats-cobol"), "nats-cobol: not among nats-py, "),
        (("--runs", "0"), "0: write a number from 1 on"),
        (("--scale", "-1"), "-1: write a number above 0"),
    ],
)
def test_wrong_options_are_named(options: tuple[str, str], error: str, tmp_path: Path) -> None:
    with start_run(tmp_path, *options) as process:
        _, said = process.communicate(timeout=SECONDS)
    assert process.returncode == 2
    assert error in said.replace("\n", " ")
