"""``natsery stats``: what services have done, summed over their instances."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import click

from ..._responses import ServiceStats
from .._connection_options._help import ConnectingCommand
from .._connection_options._settings import Settings, connection_options
from .._exit_codes import Exit
from .._format import counted, format_age, format_count, format_duration, format_rate, now
from .._output import Column, say, show_table
from .._runner import run_async
from ._question import Question, ask, finish, json_option, question_options, show_replies
from ._totals import EndpointKey, count_of, endpoint_key, sum_stats

_COLUMNS = (
    Column("  Endpoint", style="cyan"),
    Column("Subject"),
    Column("Requests", right=True),
    Column("Errors", right=True),
    Column("Rate", right=True),
    Column("Average", right=True),
    Column("Last error", style="red"),
)


@click.command(cls=ConnectingCommand)
@question_options
@click.option("--each", is_flag=True, help="Show every instance by itself instead of the sums.")
@json_option
@connection_options
def stats(settings: Settings, question: Question, *, each: bool, as_json: bool) -> Exit:
    """Show what services have done: requests, errors, rates, times.

    Asks all services, those with a NAME, or the instance of it with an ID, and sums per service and per endpoint. The rate
    is that since an instance started or was reset, the average is the mean time that a request takes, and the last error
    is that of the instance with the most errors.
    """
    replies = run_async(ask, settings, "STATS", question)
    if as_json:
        show_replies(replies)
    else:
        for index, group in enumerate([reply] for reply in replies) if each else enumerate(_by_name(replies)):
            if index:
                say()
            _show(group, now())
    return finish(replies, len(replies), question)


def _by_name(replies: Sequence[ServiceStats]) -> list[list[ServiceStats]]:
    names = dict.fromkeys(each.name for each in replies)
    return [[each for each in replies if each.name == name] for name in names]


def _show(instances: Sequence[ServiceStats], moment: datetime) -> None:
    """Print what a service has done, or one of its instances."""
    (totals,) = sum_stats(instances)
    rates = _rates(instances, moment)
    who = f"instance {instances[0].id}" if len(instances) == 1 else counted(len(instances), "instance")
    say(f"{totals.name} {', '.join(totals.versions)}")
    say(f"  {who}, up {format_age(totals.started, moment)}")
    done = [counted(totals.num_requests, "request"), counted(totals.num_errors, "error")]
    if totals.num_requests:
        average = format_duration(totals.average_processing_time)
        done += [format_rate(sum(rates.values())), f"{average} on average"]
    say(f"  {', '.join(done)}")
    if totals.endpoints:
        show_table(
            _COLUMNS,
            [
                (
                    f"  {each.name}",
                    each.subject,
                    format_count(each.num_requests),
                    format_count(each.num_errors),
                    format_rate(rates[each.name, each.subject, each.queue_group]),
                    format_duration(each.average_processing_time) if each.num_requests else "",
                    each.last_error,
                )
                for each in totals.endpoints
            ],
        )


def _rates(instances: Sequence[ServiceStats], moment: datetime) -> dict[EndpointKey, float]:
    """Requests a second of every endpoint, each instance counted over its own time."""
    rates: dict[EndpointKey, float] = {}
    for instance in instances:
        # A clock that is ahead of ours, or an instance of this moment, must not give rates out of proportion.
        seconds = max((moment - instance.started).total_seconds(), 1.0)
        for each in instance.endpoints:
            key = endpoint_key(each)
            rates[key] = rates.get(key, 0) + count_of(each.num_requests) / seconds
    return rates
