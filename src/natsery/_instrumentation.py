"""Tells instruments what happens, each behind its own fence: one that raises is left out from then on."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import final

from ._errors import ConfigError
from ._instruments import Instrument


@final
class Instruments:
    """The instruments of one service or client.

    Args:
        instruments: who is told.
        report: called with an instrument that has raised, which is told nothing more, and with what it raised.
    """

    def __init__(self, instruments: Sequence[Instrument], report: Callable[[Instrument, BaseException], None]) -> None:
        self._told = list(instruments)
        self._report = report

    def tell(self, method: str, *args: object) -> None:
        """Call a method of each."""
        for each in tuple(self._told):
            try:
                getattr(each, method)(*args)
            except BaseException as error:  # noqa: ASYNC103  # this may stand in a callback, where nothing may raise
                self._leave_out(each, error)

    def enter(self, method: str, argument: object) -> Contexts:
        """Call a method of each, and enter what it returns."""
        contexts = Contexts(self._leave_out)
        for each in tuple(self._told):
            try:
                context = getattr(each, method)(argument)
                if context is not None:
                    context.__enter__()
                    contexts.entered.append((each, context))
            except BaseException as error:  # noqa: ASYNC103  # as above
                self._leave_out(each, error)
        return contexts

    def _leave_out(self, instrument: Instrument, error: BaseException) -> None:
        if instrument in self._told:
            self._told.remove(instrument)
            self._report(instrument, error)


@final
class Contexts:
    """What instruments have around a handler or a call, to be left in the opposite order."""

    def __init__(self, leave_out: Callable[[Instrument, BaseException], None]) -> None:
        self.entered: list[tuple[Instrument, AbstractContextManager[object]]] = []
        self._leave_out = leave_out

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        while self.entered:
            instrument, context = self.entered.pop()
            try:
                # They see how it ended by its outcome, and cannot swallow an exception.
                context.__exit__(None, None, None)
            except BaseException as error:  # noqa: ASYNC103  # as above
                self._leave_out(instrument, error)


def check_instruments(where: str, value: object) -> tuple[Instrument, ...]:
    """Return instruments as a tuple; refuse what is none."""
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        raise ConfigError(where, value, "must be a sequence of natsery.Instrument")
    instruments = tuple(value)
    for each in instruments:
        if not isinstance(each, Instrument):
            hint = "; write Name(), with parentheses" if inspect.isclass(each) else ""
            raise ConfigError(where, each, f"must hold instances of natsery.Instrument{hint}")
    return instruments
