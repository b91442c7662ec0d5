"""What readers of both forms make of a stream: all that they call, in order, and what they return."""

from __future__ import annotations

from natsery import ProtocolError
from natsery._headers import NO_HEADERS

from .forms import COMPILED, PLAIN, request_type, subscription


class Listener:
    """What a reader of one form makes of a stream: everything that it calls, in order, and what it returns."""

    def __init__(self, form, raising=()) -> None:
        self.seen = []
        self.subscriptions = {
            b"1": subscription(form, "a", self.receiver("1", raising)),
            b"2": subscription(form, "é.*", self.receiver("2", raising), request_type(form)),
            b"3": subscription(form, "b.>", self.receiver("3", raising)),
        }
        self.reader = form.Reader(
            self.subscriptions, self.on_event, lambda event: self.seen.append(("malformed", event))
        )

    def receiver(self, name, raising):
        def deliver(message):
            fields = (message.subject, message.data, message.reply, message.headers, message.status)
            assert [type(field) for field in fields[:3]] == [str, bytes, str]
            has_none = message.headers is NO_HEADERS
            self.seen.append((name, type(message).__name__, *fields, has_none))
            if name in raising:
                raise LookupError(name)

        return deliver

    def on_event(self, event):
        if isinstance(event, ProtocolError):
            self.seen.append((type(event), str(event), event.reason, event.received))
        else:
            self.seen.append(event)

    def feed(self, *pieces):
        """What was seen while each piece was fed, the number of messages included."""
        for piece in pieces:
            self.seen.append(("fed", self.reader.feed(piece), self.reader.is_in_large_message))
            if isinstance(piece, memoryview):
                piece[:] = bytes(len(piece))
        self.seen += [each.delivered for each in self.subscriptions.values()]
        return self.seen


def overwritten(piece):
    """A view of a buffer, as streams receive into, which is overwritten when it has been read."""
    return memoryview(bytearray(b"..." + piece + b"..."))[3 : len(piece) + 3]


def outcomes(*pieces, raising=()):
    """What each form makes of a stream."""
    return [Listener(form, raising).feed(*pieces) for form in (PLAIN, COMPILED)]


def assert_alike(*pieces, raising=()):
    plain, compiled = outcomes(*pieces, raising=raising)
    assert compiled == plain
    assert Listener(COMPILED, raising).feed(*map(overwritten, pieces)) == plain
    return plain
