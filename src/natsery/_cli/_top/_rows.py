"""The rows of ``natsery top``: services, instances and endpoints, sorted, with the text of each column."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeVar, final

from .._cells import Cells
from .._format import format_age
from ._compact import compact, compact_count, compact_duration, compact_share
from ._figures import EndpointFigures, History, InstanceFigures, Rates, ServiceFigures
from ._view import Level, Sort, View

INDENT: Final = "  "
"""The indent of instances and endpoints, for each level."""

REQUESTS_WIDTH: Final = 10
ERRORS_WIDTH: Final = 8

Figures = TypeVar("Figures", ServiceFigures, InstanceFigures, EndpointFigures)


@final
@dataclass(frozen=True)
class Row:
    """A row of ``natsery top``.

    Attributes:
        texts: the texts of the columns, by the column's key; the others are empty.
        history: the values of the sparkline.
        is_service: whether it is a service's row.
        is_stale: whether the service or instance missed the last round.
        has_errors: whether requests failed since the last reply.
    """

    texts: Mapping[str, str]
    history: History
    is_service: bool = False
    is_stale: bool = False
    has_errors: bool = False


def rows_of(services: Iterable[ServiceFigures], view: View, cells: Cells, now: datetime) -> list[Row]:
    """Return all rows of a view, sorted at each level."""
    rows: list[Row] = []
    for service in _sorted(services, view, lambda each: each.name):
        rows.append(_service_row(service, cells, now))
        if view.level is Level.ENDPOINTS:
            rows.extend(_endpoint_rows(service.endpoints, view, cells, 1, is_stale=False))
        if view.level in (Level.INSTANCES, Level.ALL):
            for instance in _sorted(service.instances, view, lambda each: each.id):
                rows.append(_instance_row(instance, cells, now))
                if view.level is Level.ALL:
                    rows.extend(_endpoint_rows(instance.endpoints, view, cells, 2, is_stale=instance.is_stale))
    return rows


def rate_texts(rates: Rates | None, cells: Cells, *, is_stale: bool = False) -> dict[str, str]:
    """Return the texts of the columns with rates."""
    nothing = cells.glyphs.nothing
    if rates is None:
        return {
            "rate": "stale" if is_stale else nothing,
            "error_rate": nothing,
            "error_share": nothing,
            "mean": nothing,
        }
    share, mean = rates.error_share, rates.mean_time
    return {
        "rate": compact(rates.requests),
        "error_rate": compact(rates.errors),
        "error_share": nothing if share is None else compact_share(share),
        "mean": nothing if mean is None else compact_duration(mean).replace("µ", cells.glyphs.micro),
    }


def _service_row(service: ServiceFigures, cells: Cells, now: datetime) -> Row:
    answering = sum(not each.is_stale for each in service.instances)
    total = len(service.instances)
    texts = {
        "name": cells.printable(service.name),
        "instances": str(total) if answering == total else f"{answering}/{total}",
        "version": cells.printable(", ".join(service.versions)),
        "up": format_age(service.started, now),
    }
    return _row(service, texts, cells, is_service=True, is_stale=answering == 0)


def _instance_row(instance: InstanceFigures, cells: Cells, now: datetime) -> Row:
    texts = {
        "name": INDENT + cells.printable(instance.id),
        "version": cells.printable(instance.version),
        "up": format_age(instance.started, now),
        "metadata": cells.printable(", ".join(f"{key}={value}" for key, value in instance.metadata.items())),
    }
    return _row(instance, texts, cells, is_stale=instance.is_stale)


def _endpoint_rows(
    endpoints: Sequence[EndpointFigures], view: View, cells: Cells, depth: int, *, is_stale: bool
) -> Iterable[Row]:
    for each in _sorted(endpoints, view, lambda each: each.name):
        texts = {"name": INDENT * depth + cells.printable(each.name), "subject": cells.printable(each.subject)}
        yield _row(each, texts, cells, is_stale=is_stale)


def _row(
    figures: ServiceFigures | InstanceFigures | EndpointFigures,
    texts: dict[str, str],
    cells: Cells,
    *,
    is_service: bool = False,
    is_stale: bool,
) -> Row:
    rates = figures.rates
    texts |= rate_texts(rates, cells, is_stale=is_stale)
    texts["requests"] = compact_count(figures.num_requests, REQUESTS_WIDTH)
    texts["errors"] = compact_count(figures.num_errors, ERRORS_WIDTH)
    texts["last_error"] = cells.printable(figures.last_error)
    has_errors = rates is not None and rates.errors > 0
    return Row(texts, figures.history, is_service=is_service, is_stale=is_stale, has_errors=has_errors)


def _sorted(items: Iterable[Figures], view: View, name: Callable[[Figures], str]) -> list[Figures]:
    """Sort in the order of the view; items without a value come last in either direction, equal ones are sorted by name."""
    by_name = sorted(items, key=name)
    if view.sort is Sort.NAME:
        return by_name[::-1] if view.is_reversed else by_name
    known = [(value, each) for each in by_name if (value := _value(each.rates, view.sort)) is not None]
    unknown = [each for each in by_name if _value(each.rates, view.sort) is None]
    known.sort(key=lambda pair: pair[0], reverse=view.largest_first)
    return [each for _, each in known] + unknown


def _value(rates: Rates | None, sort: Sort) -> float | None:
    if rates is None:
        return None
    match sort:
        case Sort.REQUESTS:
            return rates.requests
        case Sort.ERRORS:
            return rates.errors
        case _:
            return rates.mean_time
