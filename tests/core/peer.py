"""A frame buffer of either form, and the network that it writes to."""

from __future__ import annotations

from natsery._core import AWAY
from natsery._native._connection_statistics import Counters


class Peer:
    """A frame buffer of one form, and a network that has room for so many bytes."""

    def __init__(self, form, room=0, *, is_connected=True) -> None:
        self.calls = []
        self.received = b""
        self.room = room
        self.counters = Counters()
        self.held = form.HeldAnswers()
        peer = self

        class Buffer(form.FrameBuffer):
            def wake(self):
                self.is_waiting = False
                peer.calls.append("wake")

            def sent(self):
                self._is_sending = False
                peer.calls.append("sent")

        self.buffer = Buffer(self.counters, self.held)
        if is_connected:
            self.connect()

    def send_nowait(self, data):
        taken = data[: self.room]
        self.calls.append(("push", len(data), len(taken)))
        self.room -= len(taken)
        self.received += taken
        return len(taken)

    @property
    def unsent(self):
        """Bytes that wait, those of a frame that was sent in part included."""
        return self.buffer.size + len(self.buffer._rest)

    def state(self):
        buffer, counters = self.buffer, self.counters
        assert buffer.has_frames == bool(buffer.count or buffer._rest)
        fields = (buffer.size, buffer.count, buffer.limit, buffer.max_payload, buffer.is_waiting, buffer.until_push)
        private = (buffer._is_sending, buffer._rest, self.held.since)
        return *fields, *private, counters.taken_frames, counters.out_bytes, self.received, self.calls

    # What is done to it

    def connect(self):
        self.buffer._send_nowait = self.send_nowait
        self.buffer.limit = 1_000_000
        self.buffer.max_payload = 600_000

    def retire(self):
        self.buffer._send_nowait = None
        self.buffer.limit = AWAY
        self.buffer._rest = b""
        return self.buffer.clear()

    def add_first(self, frames):
        self.buffer.add_first(frames)

    def add(self, frame):
        self.buffer.add(frame)

    def answer(self, reply, data):
        return self.buffer.answer(reply, data)

    def publish(self, subject, data):
        return self.buffer.publish(subject, data)

    def expect(self, count):
        self.buffer.expect_answers(count)

    def push(self):
        self.buffer.push()

    def push_early(self):
        self.buffer.push_early()

    def begin(self):
        """The writer task takes what there is."""
        return None if self.buffer._is_sending or not self.buffer.has_frames else self.take()

    def take(self):
        data = self.buffer.take()
        self.received += data
        return data

    def finish(self):
        """The network has accepted what the writer task has taken."""
        if self.buffer._is_sending:
            self.buffer.sent()

    def drain(self):
        self.finish()
        while self.buffer.has_frames:
            self.take()
            self.buffer.sent()

    def make_room(self, room):
        self.room = room

    def wait(self):
        self.buffer.is_waiting = not self.buffer.has_frames

    def clear(self):
        return self.buffer.clear()
