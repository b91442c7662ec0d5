"""The output of ``natsery top`` without a live screen: a table or a line of JSON for each interval."""

from __future__ import annotations

import sys
from datetime import datetime
from typing import Any

import anyio

import natsery

from .._cells import Cells
from .._exit_codes import Exit
from .._format import format_time, now, pluralize
from .._output import Column, print_error, print_line, show_json, show_table, stdout_console
from ._columns import columns_of, lay_out
from ._figures import EndpointFigures, InstanceFigures, Rates, ServiceFigures
from ._polling import FIRST_ROUND_SECONDS, LAST_ROUND_SECONDS, Poller, ServerStatus, WatchOptions
from ._rates import Meter
from ._rows import rows_of
from ._screen import table


async def print_snapshots(nc: natsery.abc.Connection, options: WatchOptions, *, as_json: bool) -> Exit:
    """Print the figures after each interval, until the count is reached.

    Raises:
        NatseryError: as for `Poller.poll`.
    """
    meter = Meter()
    printed = 0
    services: tuple[ServiceFigures, ...] = ()
    with ServerStatus.watch(nc, lambda: None) as status:
        poller = Poller(nc, status, meter, name=options.name, prefix=options.prefix)
        rounds = 0
        while options.count is None or printed < options.count:
            if status.is_disconnected:
                print_error(status.message)
            start = anyio.current_time()
            first = max(options.interval, FIRST_ROUND_SECONDS)
            if not await poller.poll(min(options.interval, LAST_ROUND_SECONDS) if rounds else first):
                continue
            rounds += 1
            if rounds == 1:
                continue
            services = meter.figures()
            if as_json:
                _print_json(services, options, poller.malformed)
            else:
                _print_table(services, options, is_first=printed == 0)
            if poller.malformed and not as_json:
                print_error(f"Warning: {pluralize(poller.malformed, 'answer')} could not be read")
            printed += 1
            if printed != options.count:
                await anyio.sleep(max(0.0, start + options.interval - anyio.current_time()))
    if services:
        return Exit.OK
    if not as_json:
        print_error(f"Error: {options.empty_text.lower().removesuffix('.')}")
    return Exit.NOT_FOUND


def _print_table(services: tuple[ServiceFigures, ...], options: WatchOptions, *, is_first: bool) -> None:
    if not services:
        return
    if not is_first:
        print_line()
    columns = columns_of(options.view.level, history=False)
    cells = Cells(sys.stdout.encoding)
    rows = rows_of(services, options.view, cells, now())
    console = stdout_console()
    if console.is_terminal:
        for line in table(rows, lay_out(rows, columns, console.width), options.view, cells):
            console.print(line, no_wrap=True)
        return
    # An empty cell would not be a field for programs that split lines at blanks.
    texts = [[row.texts.get(column.key) or cells.glyphs.nothing for column in columns] for row in rows]
    show_table([Column(each.title, right=each.right) for each in columns], texts)


def _print_json(services: tuple[ServiceFigures, ...], options: WatchOptions, malformed: int) -> None:
    show_json(to_json(services, now(), options.interval, malformed), compact=True)


def to_json(services: tuple[ServiceFigures, ...], moment: datetime, interval: float, malformed: int) -> dict[str, Any]:
    """Return the object that ``--json`` prints: rates per second, times in nanoseconds, null for unknown values."""
    return {
        "time": format_time(moment),
        "interval": interval,
        "malformed": malformed,
        "services": [
            {
                "name": service.name,
                "versions": list(service.versions),
                "started": format_time(service.started),
                **_figures(service),
                "endpoints": [_endpoint(each) for each in service.endpoints],
                "instances": [
                    {
                        "id": each.id,
                        "version": each.version,
                        "metadata": dict(each.metadata),
                        "started": format_time(each.started),
                        "stale": each.is_stale,
                        **_figures(each),
                        "endpoints": [_endpoint(endpoint) for endpoint in each.endpoints],
                    }
                    for each in service.instances
                ],
            }
            for service in services
        ],
    }


def _endpoint(endpoint: EndpointFigures) -> dict[str, Any]:
    return {
        "name": endpoint.name,
        "subject": endpoint.subject,
        "queue_group": endpoint.queue_group,
        **_figures(endpoint),
    }


def _figures(figures: ServiceFigures | InstanceFigures | EndpointFigures) -> dict[str, Any]:
    return {
        **_rates(figures.rates),
        "num_requests": figures.num_requests,
        "num_errors": figures.num_errors,
        "last_error": figures.last_error,
    }


def _rates(rates: Rates | None) -> dict[str, float | None]:
    return {
        "requests_per_second": None if rates is None else rates.requests,
        "errors_per_second": None if rates is None else rates.errors,
        "error_share": None if rates is None else rates.error_share,
        "mean_processing_time": None if rates is None else rates.mean_time,
    }
