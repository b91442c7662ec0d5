"""The core: the parts that every message passes, in plain Python and, where it could be built, compiled.

Both forms have the same interface, which the plain one documents, and behave alike:

- `Reader`: received bytes in, messages delivered;
- `EndpointQueue`: the bounded queue of an endpoint's requests, and the loop in which its workers handle them;
- `FrameBuffer`: frames in, one run of bytes out;
- the fields of messages, requests, subscriptions, counters and workers that these read and write.

The compiled form is used where there is one; the environment variable ``NATSERY_CORE`` can ask for ``python`` or ``compiled``.
"""

from __future__ import annotations

import os
from typing import Final, Literal

from ._limits import AWAY

__all__ = (
    "AWAY",
    "CORE",
    "CounterFields",
    "EndpointQueue",
    "FrameBuffer",
    "HeldAnswers",
    "MessageFields",
    "Reader",
    "RequestFields",
    "SubscriptionFields",
    "Worker",
)

_choice = os.environ.get("NATSERY_CORE", "")
if _choice not in ("", "python", "compiled"):
    raise ImportError(f"NATSERY_CORE: must be 'python' or 'compiled', or not set; got {_choice!r}", name="natsery")

_name: Literal["compiled", "python"] = "python"
if _choice != "python":
    try:
        from ._compiled import (
            CounterFields,
            EndpointQueue,
            FrameBuffer,
            HeldAnswers,
            MessageFields,
            Reader,
            RequestFields,
            SubscriptionFields,
            Worker,
        )

        _name = "compiled"
    except ModuleNotFoundError as error:
        if error.name != f"{__name__}._compiled":
            raise  # it is there, and was compiled from other sources than those around it
        if _choice == "compiled":
            raise ImportError(
                "NATSERY_CORE is 'compiled', and this installation has no compiled core: it was built where there was no C "
                "compiler; install a wheel, or leave NATSERY_CORE unset",
                name="natsery",
            ) from error

if _name == "python":
    from ._endpoint_queue import EndpointQueue
    from ._fields import CounterFields, HeldAnswers, MessageFields, RequestFields, SubscriptionFields, Worker
    from ._frame_buffer import FrameBuffer
    from ._reader import Reader

CORE: Final = _name
"""Which form runs: ``compiled`` or ``python``."""
