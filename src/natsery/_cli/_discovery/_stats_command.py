"""``natsery stats``: shows the statistics of services, summed over their instances."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

import click

import natsery

from .._connection_options._help import ConnectingCommand
from .._connection_options._settings import Settings, connection_options
from .._exit_codes import Exit
from .._format import format_age, format_count, format_duration, format_rate, now, pluralize
from .._output import Column, print_line, show_table
from .._runner import run_async
from ._one_endpoint import endpoint_option, only, those_with
from ._query import Query, finish, json_option, query_options, run_query, show_replies
from ._totals import EndpointKey, clamp_count, endpoint_key, sum_stats

_COLUMNS = (
    Column("  Endpoint", style="cyan"),
    Column("Subject"),
    Column("Requests", right=True),
    Column("Errors", right=True),
    Column("Rate", right=True),
    Column("Average", right=True),
    Column("Last error", style="red"),
)

_OVERVIEW_COLUMNS = (
    Column("Service", whole=True, style="bold cyan"),
    Column("Instances", right=True),
    Column("Requests", right=True),
    Column("Errors", right=True),
    Column("Rate", right=True),
    Column("Average", right=True),
)


@click.command(cls=ConnectingCommand)
@query_options
@endpoint_option
@click.option("--each", is_flag=True, help="Show each instance instead of the sums.")
@json_option
@connection_options
def stats(settings: Settings, query: Query, endpoint: str | None, *, each: bool, as_json: bool) -> Exit:
    """Show what services have done: requests, errors, rates, times.

    Asks all services, those with a NAME, or the instance of it with an ID, and sums per service and per endpoint. The rate
    counts from the start or reset of each instance, the average is the mean time of a request, and the last error is that of
    the instance with the most errors.
    """
    replies = those_with(endpoint, run_async(run_query, settings, "STATS", query))
    if as_json:
        show_replies(replies, endpoint)
    else:
        moment = now()
        shown = [only(endpoint, reply) for reply in replies]
        services = _by_name(shown)
        if len(services) > 1:
            _show_overview(services, moment)
        for index, group in enumerate([[reply] for reply in shown] if each else services):
            if index or len(services) > 1:
                print_line()
            _show(group, moment)
    return finish(replies, len(replies), query)


def _by_name(replies: Sequence[natsery.ServiceStats]) -> list[list[natsery.ServiceStats]]:
    services: dict[str, list[natsery.ServiceStats]] = {}
    for each in replies:
        services.setdefault(each.name, []).append(each)
    return list(services.values())


def _show_overview(services: Sequence[Sequence[natsery.ServiceStats]], moment: datetime) -> None:
    """Print a line for each service."""
    rows = []
    for instances in services:
        (totals,) = sum_stats(instances)
        rows.append(
            (
                totals.name,
                str(totals.instances),
                format_count(totals.num_requests),
                format_count(totals.num_errors),
                _total_rate(instances, _rates(instances, moment)),
                format_duration(totals.average_processing_time) if totals.num_requests else "",
            )
        )
    show_table(_OVERVIEW_COLUMNS, rows)


def _show(instances: Sequence[natsery.ServiceStats], moment: datetime) -> None:
    """Print the statistics of a service, or of one of its instances."""
    (totals,) = sum_stats(instances)
    rates = _rates(instances, moment)
    instance_text = f"instance {instances[0].id}" if len(instances) == 1 else pluralize(len(instances), "instance")
    print_line(f"{totals.name} {', '.join(totals.versions)}")
    print_line(f"  {instance_text}, up {format_age(totals.started, moment)}")
    done = [pluralize(totals.num_requests, "request"), pluralize(totals.num_errors, "error") + _causes(instances)]
    if totals.num_requests:
        average = format_duration(totals.average_processing_time)
        done += [_total_rate(instances, rates), f"{average} on average"]
    print_line(f"  {', '.join(done)}")
    if totals.endpoints:
        show_table(
            _COLUMNS,
            [
                (
                    f"  {each.name}",
                    each.subject,
                    format_count(each.num_requests),
                    format_count(each.num_errors),
                    format_rate(rates[key]) if (key := (each.name, each.subject, each.queue_group)) in rates else "?",
                    format_duration(each.average_processing_time) if each.num_requests else "",
                    each.last_error,
                )
                for each in totals.endpoints
            ],
        )


def _causes(instances: Sequence[natsery.ServiceStats]) -> str:
    """Return how many errors have which cause, as far as services tell: those that have ``stats_details``."""
    counts = {
        cause: sum(clamp_count(each.failures.get(cause, 0)) for instance in instances for each in instance.endpoints)
        for cause in map(str, natsery.FailureCause)
    }
    known = sorted(((count, cause) for cause, count in counts.items() if count), reverse=True)
    parts = [f"{format_count(count)} {cause.replace('_', ' ')}" for count, cause in known]
    return f" ({', '.join(parts)})" if parts else ""


def _rates(instances: Sequence[natsery.ServiceStats], moment: datetime) -> dict[EndpointKey, float]:
    """Return the requests per second of every endpoint: the sum over its instances, each since its own start.

    Instances whose start is unknown have no rate, and neither have endpoints that no other instance has.
    """
    rates: dict[EndpointKey, float] = {}
    for instance in instances:
        if _has_unknown_start(instance):
            continue
        # At least a second, for an instance that has just started, or whose clock is ahead of this one.
        seconds = max((moment - instance.started).total_seconds(), 1.0)
        for each in instance.endpoints:
            key = endpoint_key(each)
            rates[key] = rates.get(key, 0) + clamp_count(each.num_requests) / seconds
    return rates


def _total_rate(instances: Sequence[natsery.ServiceStats], rates: Mapping[EndpointKey, float]) -> str:
    return "?" if all(map(_has_unknown_start, instances)) else format_rate(sum(rates.values()))


def _has_unknown_start(instance: natsery.ServiceStats) -> bool:
    return instance.started.year <= 1
