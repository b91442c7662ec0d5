"""How long nats-py is given for what may never end, in seconds."""

from typing import Final

CLOSE_SECONDS: Final = 2.0
"""To send what was sent before the end and to close the client; then its socket is dropped."""

CANCEL_SECONDS: Final = 1.0
"""To end tasks that are cancelled; then they are left behind."""

CANCEL_INTERVAL_SECONDS: Final = 0.05
"""Between two cancellations of one task: nats-py swallows some."""

ACLOSE_SECONDS: Final = CLOSE_SECONDS + 3 * CANCEL_SECONDS
"""For all of the above."""

CALL_CANCEL_SECONDS: Final = 5.0
"""To end a cancelled ``call``."""

SILENCE_SECONDS: Final = 1.0
"""How long the caller's loop may leave a wake-up unheeded before the bridge looks whether that loop still runs."""
