"""The screen of ``natsery top``, exactly."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from textwrap import dedent

import pytest

from natsery._cli._cells import Cells
from natsery._cli._top._columns import columns_of, lay_out
from natsery._cli._top._figures import ServiceFigures
from natsery._cli._top._rates import Meter
from natsery._cli._top._rows import rows_of
from natsery._cli._top._screen import MARGIN, ScreenState, draw
from natsery._cli._top._view import Level, Sort, View

from .figures import STARTED, endpoint, stats

LONG = "order-processing-and-fulfilment-service-for-the-whole-of-europe"
LONG_ID = "instance-with-an-id-that-somebody-has-chosen-to-be-very-long-42"


def services() -> tuple[ServiceFigures, ...]:
    """Two instances, of which one has ceased to answer; one with long names; one that does nothing."""
    meter = Meter()
    for now in range(13):
        adds = sum(100 + 60 * (each % 5) for each in range(now + 1))
        divides = 40 * now
        answers = [
            stats(
                endpoint(adds, 0, adds * 28_900),
                endpoint(divides, 2 * now, divides * 1_250_000, "400:expected 'a/b', got a text", name="divide"),
                instance="x3Yuiq7g7MoxhXdxk7i4K7",
                metadata={"région": "Köln", "都市": "東京"},
            ),
            stats(
                endpoint(7 * now, 0, 0, name="reserve", subject="shop.europe.orders.stock.reserve"),
                name=LONG,
                instance=LONG_ID,
                version="12.13.14-beta.1+build.2026",
                metadata={"note": "tab\there, \x1b[31mred"},
                started=STARTED - timedelta(days=400),
            ),
            stats(endpoint(3, 3, 0, "500:Internal Server Error", name="nothing"), name="idle", instance="i"),
        ]
        if now < 11:
            answers.append(stats(endpoint(now, 0, now * 30_000), instance="two", version="1.1.0"))
        for each in answers:
            meter.add(each, now)
        meter.end_round()
    return meter.figures()


STATE = ScreenState(
    server="nats://127.0.0.1:4222",
    services=services(),
    view=View(),
    interval=1.0,
    now=STARTED + timedelta(hours=3, minutes=20),
)


def show(view: View, width: int, height: int = 16, *, encoding: str = "utf-8", **changes: object) -> str:
    """The lines of a screen, none of them too long."""
    screen = draw(replace(STATE, view=view, **changes), width, height, Cells(encoding))
    assert len(screen.lines) == height
    assert all(each.cell_len <= width for each in screen.lines)
    return "\n".join(each.plain.rstrip() for each in screen.lines)


def golden(text: str) -> str:
    return dedent(text).strip("\n ")


def test_services_at_80_columns() -> None:
    assert show(View(), 80, 12) == golden(
        r"""
        natsery top  nats://127.0.0.1:4222                     every 1 s · by requests/s
        3 services · 3 of 4 instances · 267 req/s · 2.00 err/s (0.7%) · mean 211 µs

        Name                                     Inst   Req/s▼    Err/s   Err%      Mean
        calc                                      1/2      260     2.00   0.8%    217 µs
        order-processing-a…e-whole-of-europe        1     7.00        0     0%      0 ns
        idle                                        1        0        0      –         –




        q quit  r e t n sort  R reverse  l level  space pause  j k scroll  ? help
        """
    )


def test_everything_at_80_columns_sorted_by_errors() -> None:
    assert show(View(level=Level.ALL, sort=Sort.ERRORS), 80, 14) == golden(
        r"""
        natsery top  nats://127.0.0.1:4222                       every 1 s · by errors/s
        3 services · 3 of 4 instances · 267 req/s · 2.00 err/s (0.7%) · mean 211 µs

        Name                                     Inst    Req/s   Err/s▼   Err%      Mean
        calc                                      1/2      260     2.00   0.8%    217 µs
          x3Yuiq7g7MoxhXdxk7i4K7                           260     2.00   0.8%    217 µs
            divide                                        40.0     2.00   5.0%   1.25 ms
            add                                            220        0     0%   28.9 µs
          two                                            stale        –      –         –
            add                                          stale        –      –         –
        idle                                        1        0        0      –         –
          i                                                  0        0      –         –
            nothing                                          0        0      –         –
        q quit  r e t n sort  R reverse  l level  space pause  j k scroll   1 to 9 of 12
        """
    )


def test_services_at_160_columns() -> None:
    assert show(View(), 160, 9) == golden(
        r"""
        natsery top  nats://127.0.0.1:4222                                                                                                     every 1 s · by requests/s
        3 services · 3 of 4 instances · 267 req/s · 2.00 err/s (0.7%) · mean 211 µs

        Name                                 Inst  Version        Up   Req/s▼    Err/s   Err%      Mean  History       Requests    Errors  Last error
        calc                                  1/2  1.0.0, …    3h20m      260     2.00   0.8%    217 µs  ▇█▄▅▆▇█▄▅▆       3,170        24  400:expected 'a/b', got a te…
        order-processing…whole-of-europe        1  12.13.1…   400d3h     7.00        0     0%      0 ns  ██████████          84         0
        idle                                    1  1.0.0       3h20m        0        0      –         –  ▁▁▁▁▁▁▁▁▁▁           3         3  500:Internal Server Error

        q quit  r e t n sort  R reverse  l level  space pause  j k scroll  ? help
        """
    )


def test_instances_at_160_columns_sorted_by_name() -> None:
    assert show(View(level=Level.INSTANCES, sort=Sort.NAME), 160, 12) == golden(
        r"""
        natsery top  nats://127.0.0.1:4222                                                                                                           every 1 s · by name
        3 services · 3 of 4 instances · 267 req/s · 2.00 err/s (0.7%) · mean 211 µs

        Name▲                                Inst  Version        Up    Req/s    Err/s   Err%      Mean  History       Requests    Errors  Last error      Metadata
        calc                                  1/2  1.0.0, …    3h20m      260     2.00   0.8%    217 µs  ▇█▄▅▆▇█▄▅▆       3,170        24  400:expected …
          two                                      1.1.0       3h20m    stale        –      –         –  ████████            10         0
          x3Yuiq7g7MoxhXdxk7i4K7                   1.0.0       3h20m      260     2.00   0.8%    217 µs  ▇█▄▅▆▇█▄▅▆       3,160        24  400:expected …  région=Köln,…
        idle                                    1  1.0.0       3h20m        0        0      –         –  ▁▁▁▁▁▁▁▁▁▁           3         3  500:Internal …
          i                                        1.0.0       3h20m        0        0      –         –  ▁▁▁▁▁▁▁▁▁▁           3         3  500:Internal …
        order-processing…whole-of-europe        1  12.13.1…   400d3h     7.00        0     0%      0 ns  ██████████          84         0
          instance-with-…be-very-long-42           12.13.1…   400d3h     7.00        0     0%      0 ns  ██████████          84         0                  note=tab\the…
        q quit  r e t n sort  R reverse  l level  space pause  j k scroll  ? help
        """
    )


def test_endpoints_at_160_columns() -> None:
    assert show(View(level=Level.ENDPOINTS), 160, 12) == golden(
        r"""
        natsery top  nats://127.0.0.1:4222                                                                                                     every 1 s · by requests/s
        3 services · 3 of 4 instances · 267 req/s · 2.00 err/s (0.7%) · mean 211 µs

        Name                                 Inst  Version        Up   Req/s▼    Err/s   Err%      Mean  History       Requests    Errors  Subject        Last error
        calc                                  1/2  1.0.0, …    3h20m      260     2.00   0.8%    217 µs  ▇█▄▅▆▇█▄▅▆       3,170        24                 400:expected …
          add                                                             220        0     0%   28.9 µs  ▇█▄▅▆▇█▄▅▆       2,690         0  math.add
          divide                                                         40.0     2.00   5.0%   1.25 ms  ██████████         480        24  math.divide    400:expected …
        order-processing…whole-of-europe        1  12.13.1…   400d3h     7.00        0     0%      0 ns  ██████████          84         0
          reserve                                                        7.00        0     0%      0 ns  ██████████          84         0  shop.e…eserve
        idle                                    1  1.0.0       3h20m        0        0      –         –  ▁▁▁▁▁▁▁▁▁▁           3         3                 500:Internal …
          nothing                                                           0        0      –         –  ▁▁▁▁▁▁▁▁▁▁           3         3  math.nothing   500:Internal …
        q quit  r e t n sort  R reverse  l level  space pause  j k scroll  ? help
        """
    )


def test_what_is_less_important_gives_way_to_what_is_more() -> None:
    assert show(View(), 40, 9) == golden(
        r"""
        natsery top    every 1 s · by requests/s
        3 services · 3 of 4 instances

        Name                    Req/s▼      Mean
        calc                       260    217 µs
        order-proc…-of-europe     7.00      0 ns
        idle                         0         –

        q quit  r e t n sort  R reverse  l level
        """
    )


def test_a_terminal_that_knows_ascii_alone() -> None:
    assert show(View(sort=Sort.TIME, is_reversed=True), 100, 9, encoding="ascii") == golden(
        r"""
        natsery top  nats://127.0.0.1:4222                                every 1 s | by mean time, reversed
        3 services | 3 of 4 instances | 267 req/s | 2.00 err/s (0.7%) | mean 211 us

        Name                                 Inst    Req/s    Err/s   Err%     Mean^  History       Requests
        order-processing~whole-of-europe        1     7.00        0     0%      0 ns  ##########          84
        calc                                  1/2      260     2.00   0.8%    217 us  *#:=+*#:=+       3,170
        idle                                    1        0        0      -         -  __________           3

        q quit  r e t n sort  R reverse  l level  space pause  j k scroll  ? help
        """
    )


def test_scrolled_with_the_server_away() -> None:
    assert show(
        View(level=Level.ALL, offset=3), 80, 10, is_disconnected=True, message="The server is away", malformed=1
    ) == golden(
        r"""
        natsery top  nats://127.0.0.1:4222                     every 1 s · by requests/s
        3 services · 3 of 4 instances · 267 req/s · 2.00 err/s (0.7%) · mean 211 µs
        The server is away · 1 answer could not be read
        Name                                     Inst   Req/s▼    Err/s   Err%      Mean
            divide                                        40.0     2.00   5.0%   1.25 ms
          two                                            stale        –      –         –
            add                                          stale        –      –         –
        order-processing-a…e-whole-of-europe        1     7.00        0     0%      0 ns
          instance-with-an…o-be-very-long-42              7.00        0     0%      0 ns
        q quit  r e t n sort  R reverse  l level  space pause  j k scroll   4 to 8 of 12
        """
    )


def test_help() -> None:
    assert show(View(shows_help=True, is_paused=True), 80, 17, services=()) == golden(
        r"""
        natsery top  nats://127.0.0.1:4222            every 1 s · by requests/s · paused
        0 services · 0 instances

          q, Ctrl-C         quit
          up, down, j, k    scroll by a row
          PageUp, PageDown  scroll by a page
          Home, End, g, G   go to the first or the last row
          r                 sort by requests per second
          e                 sort by errors per second
          t                 sort by the mean time of a request
          n                 sort by name
          R                 reverse the order
          l, Enter          show instances, or endpoints, or both, or services alone
          space             pause, and continue
          ?                 this help, and back

        q quit  r e t n sort  R reverse  l level  space pause  j k scroll  ? help
        """
    )


@pytest.mark.parametrize("level", list(Level))
@pytest.mark.parametrize("width", [*range(1, 30), 79, 81, 120, 200, 1000])
def test_no_line_is_ever_too_long(width: int, level: Level) -> None:
    for view in (View(level=level), View(level=level, shows_help=True), View(level=level, is_paused=True)):
        for encoding in ("utf-8", "latin-1"):
            show(view, width, 11, encoding=encoding, malformed=2, message="日本" * 30)


@pytest.mark.parametrize("level", list(Level))
def test_columns_go_in_the_order_of_their_importance(level: Level) -> None:
    rows = rows_of(STATE.services, View(level=level), Cells(), STATE.now)
    columns = columns_of(level)
    by_importance = sorted(columns, key=lambda each: each.importance)
    for width in range(1, 200):
        shown = [column for column, _ in lay_out(rows, columns, width)]
        assert shown == [each for each in columns if each in by_importance[: len(shown)]]
    assert shown == columns


def test_help_that_is_too_long_loses_its_end() -> None:
    lines = show(View(shows_help=True), 80, 8).splitlines()
    assert lines[0].startswith("natsery top")
    assert lines[3] == "  q, Ctrl-C         quit"


@pytest.mark.parametrize("height", [1, 2, 3, 4, 5, 6])
def test_any_height_will_do(height: int) -> None:
    assert show(View(), 80, height).splitlines()[-1].startswith("q quit")
    assert show(View(shows_help=True), 80, height).splitlines()[-1].startswith("q quit")


def test_rows_that_have_gone_do_not_leave_the_screen_empty() -> None:
    screen = draw(replace(STATE, view=View(offset=1000)), 80, MARGIN + 2, Cells())
    assert (screen.rows, screen.page) == (3, 2)
    assert [line.plain.split()[0] for line in screen.lines[-3:-1]] == ["order-processing-a…e-whole-of-europe", "idle"]
    assert screen.lines[-1].plain.endswith("2 to 3 of 3")


def test_nobody_there() -> None:
    lines = show(View(), 80, 8, services=(), empty_text="No service calc answers.").splitlines()
    assert lines[1] == "0 services · 0 instances"
    assert lines[4] == "No service calc answers."


def test_without_keys_it_says_how_to_leave() -> None:
    assert show(View(), 80, has_keys=False).splitlines()[-1] == "Ctrl-C quits; keys cannot be read here"


def styles(view: View, **changes: object) -> dict[str, set[str]]:
    """The styles in the row of each name."""
    screen = draw(replace(STATE, view=view, **changes), 80, 20, Cells())
    return {
        line.plain.split()[0]: {str(span.style) for span in line.spans} | {str(line.style)}
        for line in screen.lines[4:-1]
        if line.plain
    }


def test_errors_stand_out_and_what_is_stale_or_old_is_dim() -> None:
    found = styles(View(level=Level.ALL))
    assert "bold red" in found["divide"]
    assert "bold red" not in found["add"]
    assert found["two"] == {"dim"}
    assert all(each == {"dim"} for each in styles(View(level=Level.ALL), is_disconnected=True).values())


def test_different_names_are_never_cut_to_the_same_text() -> None:
    """Services that differ in the middle of their names could not be told apart."""
    names = [
        f"warehouse-of-the-{where}-stock-and-order-processing-service-v2" for where in ("north", "south", "southeast")
    ]
    meter = Meter()
    for each in names:
        meter.add(stats(endpoint(1), name=each), 0)
    meter.end_round()
    for width in (40, 60, 80, 100):
        lines = show(View(sort=Sort.NAME), width, 9, services=meter.figures()).splitlines()[4:7]
        assert len({line.split()[0] for line in lines}) == 3, lines


@pytest.mark.parametrize("width", [80, 100, 120])
def test_an_instance_s_id_is_whole(width: int) -> None:
    """At 120 columns it was cut, for history and totals."""
    lines = show(View(level=Level.ALL), width)
    assert "  x3Yuiq7g7MoxhXdxk7i4K7 " in lines
