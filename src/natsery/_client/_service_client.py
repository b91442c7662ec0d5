"""`ServiceClient`: calls services, and finds them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from .. import abc
from .._adr32 import DEFAULT_PREFIX
from .._checks import check_argument
from .._codecs._codec import Codec, codec_rule
from .._codecs._json_codec import JSONCodec
from .._errors import BackendMismatchError
from .._fast_path import fast_path
from .._instrumentation import check_instruments
from .._instruments import Instrument
from .._subjects import literal_subject_rule
from .._usage import describe_no_connection
from ._bodies import Bodies
from ._caller import Caller
from ._calls import Calls
from ._directory import Directory
from ._discovery import Discovery
from ._stream_calls import StreamCalls


@final
class ServiceClient(Calls, StreamCalls, Discovery):
    """Calls services of any implementation, and finds out which there are::

        client = natsery.ServiceClient(nc)
        with anyio.fail_after(2):
            reply = await client.request("math.add", b"1+2")
        for each in await client.ping():
            print(each.name, each.id)

    It holds no task and no subscription, and remembers only the subjects of endpoints that were called by name; make as many
    as you like. Calls may be made concurrently.

    Args:
        nc: a connection.
        prefix: the control prefix of the services to find.
        codec: how bodies of other types than ``bytes`` are written and read; JSON if left out.
        instruments: what is told of each call.

    Raises:
        BackendMismatchError: ``nc`` is no connection of natsery's.
        TypeError, ValueError: ``prefix`` is no subject.

    **How a collection ends** (``ping``, ``info``, ``stats``, ``discover``, ``request_many``), whichever comes first:

    - ``wait`` seconds after its start, which may be ``math.inf``;
    - ``stall`` seconds after the last reply, once there was one; ``None`` for never;
    - with the ``count``-th reply, unreadable and repeated ones included; 1 when an instance's id is given;
    - at once if there are no responders.

    Its ``ended`` says which it was. The server drops nothing of this, but only those who answer in time are found. An instance
    that answers ``ping``, ``info``, ``stats`` or ``discover`` more than once is one instance: its first reply counts, and
    ``repeated`` has the others. The lists hold 65,536 replies and 64 MiB at most, and count what they drop.

    Source: ADR-32, "Discovery and status"; ADR-47, "Request many".
    """

    def __init__(
        self,
        nc: abc.Connection,
        *,
        prefix: str = DEFAULT_PREFIX,
        codec: Codec | None = None,
        instruments: Sequence[Instrument] = (),
    ) -> None:
        if not isinstance(nc, abc.Connection):
            raise BackendMismatchError(
                f"ServiceClient needs a connection of natsery's, not {describe_no_connection(nc)}"
            )
        self._nc = nc
        self._caller = Caller(nc, check_instruments("ServiceClient.instruments", instruments))
        self._prefix = check_argument("prefix", prefix, literal_subject_rule)
        self._bodies = Bodies(JSONCodec() if codec is None else check_argument("codec", codec, codec_rule))
        self._directory = Directory(
            lambda service: self.discover("INFO", service), self._prefix, fast_path(nc)._max_subjects
        )
