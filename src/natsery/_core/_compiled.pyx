# cython: language_level=3, boundscheck=True, wraparound=False, cdivision=False, embedsignature=False
"""The core, compiled; see the plain form of each part, beside it, for what it does."""

import logging
from collections import deque

from cpython.bytearray cimport PyByteArray_AS_STRING
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.object cimport PyObject, PyTypeObject
from cpython.type cimport PyType_IsSubtype
from cpython.unicode cimport PyUnicode_AsUTF8AndSize, PyUnicode_DecodeUTF8
from libc.string cimport memcmp, memcpy

from .._deadline_header import may_say_time
from .._errors import MalformedMessageError
from .._headers import NO_HEADERS
from .._protocol._commands import split_frames
from .._protocol._messages import read_message
from .._protocol._parser import LARGE_MESSAGE, MAX_CONTROL_LINE, MAX_MESSAGE_SIZE, Parser, check_start
from .._errors import ProtocolError
from .._subjects import LONG_SUBJECT
from ._limits import AWAY, BATCH_BYTES, HOLD_NS, LONG_AGO, RECENT_REPLIES, REQUESTS_BETWEEN_YIELDS

logger = logging.getLogger("natsery")

cdef object _no_headers = NO_HEADERS
cdef tuple _nothing = ()
cdef Py_ssize_t _max_control_line = MAX_CONTROL_LINE
cdef Py_ssize_t _max_message_size = MAX_MESSAGE_SIZE
cdef Py_ssize_t _long_subject = LONG_SUBJECT
cdef Py_ssize_t _large_message = LARGE_MESSAGE
cdef Py_ssize_t _batch_bytes = BATCH_BYTES
cdef int _requests_between_yields = REQUESTS_BETWEEN_YIELDS
cdef long long _hold_ns = HOLD_NS
cdef long long _long_ago = LONG_AGO


# The fields


cdef class MessageFields:
    # None of them has a type: who makes a message, or changes one, may take a subclass.
    cdef public object subject
    cdef public object data
    cdef public object reply
    cdef public object headers
    cdef public object status


cdef class RequestFields(MessageFields):
    cdef public object endpoint
    cdef public object _failure
    cdef public long long _begun
    cdef public bint _has_responded
    cdef public bint _has_ended
    cdef public bint _is_released


cdef class SubscriptionFields:
    cdef public str subject
    cdef public long long delivered
    cdef public bytes _subject
    cdef public object _deliver
    cdef public object _message_type


cdef class CounterFields:
    cdef public long long num_requests
    cdef public long long processing_time


cdef class HeldAnswers:
    cdef public long long since


cdef class Worker:
    cdef public object wakeup
    cdef public object request

    def __init__(self, wakeup):
        self.wakeup = wakeup


# The reader


cdef struct Line:
    # Where the fields of a message's control line are, and what its numbers are.
    Py_ssize_t subject
    Py_ssize_t subject_end
    Py_ssize_t sid
    Py_ssize_t sid_end
    Py_ssize_t reply
    Py_ssize_t reply_end
    Py_ssize_t header_size
    Py_ssize_t size


cdef struct Span:
    # A run of bytes, which is read by the functions below alone: they check where.
    const unsigned char* start
    Py_ssize_t size


cdef inline Span span_of(bytes data):
    return Span(<const unsigned char*>PyBytes_AS_STRING(data), len(data))


cdef inline int byte_at(Span data, Py_ssize_t at) except -1:
    if not 0 <= at < data.size:
        raise IndexError(at)
    return data.start[at]


cdef inline const char* part(Span data, Py_ssize_t start, Py_ssize_t end) except NULL:
    """Return where a part begins, which must lie within the data."""
    if not 0 <= start <= end <= data.size:
        raise IndexError(start, end)
    return <const char*>data.start + start


cdef inline bytes bytes_at(Span data, Py_ssize_t start, Py_ssize_t end):
    return PyBytes_FromStringAndSize(part(data, start, end), end - start)


cdef inline str text_at(Span data, Py_ssize_t start, Py_ssize_t end):
    return PyUnicode_DecodeUTF8(part(data, start, end), end - start, NULL)


cdef inline bint holds(Span data, Py_ssize_t start, Py_ssize_t end, bytes text) except -1:
    """Return whether a text is what is between two positions."""
    return len(text) == end - start and memcmp(part(data, start, end), PyBytes_AS_STRING(text), end - start) == 0


cdef Py_ssize_t number_at(Span data, Py_ssize_t start, Py_ssize_t end) except -2:
    """Return the number between two positions, -1 if there is none, or none that a message may have as its size."""
    cdef Py_ssize_t number = 0, at
    cdef int digit
    if not 0 < end - start <= 9:
        return -1
    for at in range(start, end):
        digit = byte_at(data, at)
        if not 48 <= digit <= 57:
            return -1
        number = 10 * number + (digit - 48)
    return number if number <= _max_message_size else -1


cdef class Reader:
    cdef dict _subscriptions
    cdef object _on_event
    cdef object _on_malformed
    cdef bint _has_failed
    cdef bytes _rest  # a control line that is not complete, or that of the message whose body is on the way
    cdef Line _line  # that message's
    cdef bytes _body  # filled as it comes; nobody else has it before it is full
    cdef Py_ssize_t _filled  # bytes of the body and of the line end behind it that have come
    cdef bytearray _end  # that line end

    def __init__(self, dict subscriptions, on_event, on_malformed):
        self._subscriptions = subscriptions
        self._on_event = on_event
        self._on_malformed = on_malformed
        self._rest = b""
        self._end = bytearray(2)

    @property
    def is_in_large_message(self):
        return self._body is not None and self._line.size >= _large_message

    def feed(self, data not None):
        cdef Py_buffer buffer
        if self._has_failed:
            return 0
        PyObject_GetBuffer(data, &buffer, PyBUF_SIMPLE)
        try:
            return self._feed(Span(<const unsigned char*>buffer.buf, buffer.len))
        finally:
            PyBuffer_Release(&buffer)

    cdef Py_ssize_t _feed(self, Span data) except -1:
        cdef Py_ssize_t at = 0, i, count = 0
        cdef Py_ssize_t[8] fields  # where each begins, and where one behind the last would
        cdef int n, c
        cdef bint is_plain, is_complete
        cdef Line line
        cdef bytes joined  # keeps what is read alive
        if self._body is not None:
            at = self._fill(data, 0)
            if self._body is not None or self._has_failed:
                return 0
            count = 1
        elif self._rest:
            joined = self._rest + bytes_at(data, 0, data.size)
            self._rest = b""
            data = span_of(joined)
        while at < data.size:
            fields[0] = at
            n = 1
            is_plain = True
            is_complete = False
            for i in range(at, data.size):
                c = byte_at(data, i)
                if c > 32:
                    continue
                if c == 32:
                    if n < 7:
                        fields[n] = i + 1
                        n += 1
                    else:
                        is_plain = False
                elif c == 13 and i + 1 < data.size and byte_at(data, i + 1) == 10:
                    is_complete = True
                    break
                elif 9 <= c <= 13:
                    is_plain = False
            if not is_complete:
                self._rest = bytes_at(data, at, data.size)
                self._check_start(self._rest)
                return count
            fields[n] = i + 1
            if not (is_plain and i - at <= _max_control_line and self._read_line(data, fields, n, &line)):
                for event in Parser().feed(bytes_at(data, at, i + 2)):
                    self._has_failed = isinstance(event, ProtocolError)
                    self._on_event(event)
                    if self._has_failed:
                        return count
                at = i + 2
                continue
            if data.size - (i + 2) < line.size + 2:
                self._begin_body(bytes_at(data, at, i), at, line)
                self._fill(data, i + 2)
                return count
            at = i + 2
            if not holds(data, at + line.size, at + line.size + 2, b"\r\n"):
                self._fail_too_long(bytes_at(data, at + line.size, min(at + line.size + 100, data.size)))
                return count
            count += 1
            self._deliver(data, &line, data, at, None)
            at += line.size + 2
        return count

    cdef bint _read_line(self, Span data, Py_ssize_t* fields, int n, Line* line) except -1:
        """Read the control line of a message; false if it is none, or a wrong one."""
        cdef int i, has_headers
        for i in range(n):
            if fields[i + 1] - fields[i] < 2:
                return False  # nothing between two blanks
        if holds(data, fields[0], fields[1] - 1, b"MSG"):
            has_headers = 0
        elif holds(data, fields[0], fields[1] - 1, b"HMSG"):
            has_headers = 1
        else:
            return False
        if not 4 <= n - has_headers <= 5:
            return False
        line.subject, line.subject_end = fields[1], fields[2] - 1
        line.sid, line.sid_end = fields[2], fields[3] - 1
        line.reply = line.reply_end = 0
        if n - has_headers == 5:
            line.reply, line.reply_end = fields[3], fields[4] - 1
        line.size = number_at(data, fields[n - 1], fields[n] - 1)
        line.header_size = number_at(data, fields[n - 2], fields[n - 1] - 1) if has_headers else 0
        return 0 <= line.header_size <= line.size

    cdef int _check_start(self, bytes line) except -1:
        try:
            check_start(line)
        except ProtocolError as error:
            self._has_failed = True
            self._on_event(error)
        return 0

    cdef int _fail_too_long(self, bytes received) except -1:
        self._has_failed = True
        self._on_event(ProtocolError("a message is longer than its size says", received))
        return 0

    cdef int _begin_body(self, bytes text, Py_ssize_t start, Line line) except -1:
        """Prepare for the body of a message that is not complete."""
        line.subject -= start
        line.subject_end -= start
        line.sid -= start
        line.sid_end -= start
        if line.reply_end:
            line.reply -= start
            line.reply_end -= start
        self._rest = text
        self._line = line
        self._body = PyBytes_FromStringAndSize(NULL, line.size)
        self._filled = 0
        return 0

    cdef Py_ssize_t _fill(self, Span data, Py_ssize_t at) except -1:
        """Add to the body what is in the data from a position on; deliver the message when it is complete.

        Returns the position behind what was taken.
        """
        cdef bytes body = self._body, text
        cdef Py_ssize_t size = self._line.size
        cdef Py_ssize_t n = min(size - self._filled, data.size - at)
        if n > 0:
            if not 0 <= self._filled <= size - n or len(body) != size:
                raise IndexError(self._filled, n)
            memcpy(PyBytes_AS_STRING(body) + self._filled, part(data, at, at + n), n)
            self._filled += n
            at += n
        while self._filled >= size and at < data.size:
            self._end[self._filled - size] = byte_at(data, at)
            self._filled += 1
            at += 1
            if self._filled == size + 2:
                self._body = None
                if self._end != b"\r\n":
                    self._fail_too_long(bytes(self._end) + bytes_at(data, at, min(at + 98, data.size)))
                    break
                text, self._rest = self._rest, b""
                self._deliver(span_of(text), &self._line, span_of(body), 0, body)
                break
        return at

    cdef int _deliver(self, Span text, Line* line, Span body, Py_ssize_t at, bytes whole) except -1:
        """Deliver the message whose control line is in one and whose body is in another run of bytes.

        ``whole`` is the body as an object of its own, if there is one.
        """
        cdef SubscriptionFields subscription = self._subscriptions.get(bytes_at(text, line.sid, line.sid_end))
        cdef MessageFields message
        if subscription is None:
            return 0
        try:
            if line.header_size:
                message = read_message(self._event(text, line, body, at), subscription._message_type)
            else:
                message = new_message(subscription._message_type)
                if holds(text, line.subject, line.subject_end, subscription._subject):
                    message.subject = subscription.subject
                else:
                    message.subject = text_at(text, line.subject, line.subject_end)
                message.data = bytes_at(body, at, at + line.size) if whole is None else whole
                message.reply = text_at(text, line.reply, line.reply_end) if line.reply_end else ""
                message.headers = _no_headers
                message.status = 0
        except (MalformedMessageError, UnicodeDecodeError):
            self._on_malformed(self._event(text, line, body, at))
            return 0
        subscription.delivered += 1
        try:
            subscription._deliver(message)
        except Exception:
            logger.exception("delivering a message on %r failed", subscription.subject)
        return 0

    cdef tuple _event(self, Span text, Line* line, Span body, Py_ssize_t at):
        """Return the message as the parser's event."""
        return (
            bytes_at(text, line.sid, line.sid_end),
            bytes_at(text, line.subject, line.subject_end),
            bytes_at(text, line.reply, line.reply_end),
            bytes_at(body, at, at + line.header_size),
            bytes_at(body, at + line.header_size, at + line.size),
        )


cdef MessageFields new_message(message_type):
    """Return a message without its fields; its ``__init__`` would be called with Python's conventions."""
    if not (isinstance(message_type, type) and PyType_IsSubtype(message_type, MessageFields)):
        raise TypeError(f"message_type: must be Message or a subclass; got {message_type!r}")
    return <MessageFields?>(<PyTypeObject*>message_type).tp_new(message_type, <PyObject*>_nothing, NULL)


# The write buffer


cdef Py_ssize_t BLOCK = 64 * 1024
cdef Py_ssize_t LARGE = 16 * 1024


cdef class FrameBuffer:
    cdef public Py_ssize_t size
    cdef public Py_ssize_t limit
    cdef public Py_ssize_t max_payload
    cdef public bint is_waiting
    cdef public long long until_push
    cdef public object _counters
    cdef public HeldAnswers _held
    cdef public object _send_nowait
    cdef public bint _is_sending
    cdef public bytes _rest
    cdef object _finished  # runs that nothing is added to any more, and how many frames each holds
    cdef bytearray _block  # the run that frames are added to, of which the first bytes are used
    cdef Py_ssize_t _used
    cdef Py_ssize_t _frames  # in the block
    cdef Py_ssize_t _finished_frames

    def __cinit__(self, *arguments, **options):
        self._block = bytearray(BLOCK)  # there also if a subclass forgets to call __init__
        self._finished = deque()

    def __init__(self, counters, HeldAnswers held not None):
        self.limit = AWAY
        self._counters = counters
        self._held = held
        self._rest = b""

    @property
    def count(self):
        return self._finished_frames + self._frames

    def add(self, bytes frame not None):
        self._add(frame)
        if self.is_waiting:
            self.wake()

    cdef int _add(self, bytes frame) except -1:
        cdef Py_ssize_t size = len(frame)
        if size >= LARGE:
            self._finish()
            self._finished.append((frame, 1))
            self._finished_frames += 1
        else:
            memcpy(self._room(size), PyBytes_AS_STRING(frame), size)
            self._used += size
            self._frames += 1
        self.size += size
        return 0

    cdef char* _room(self, Py_ssize_t size) except NULL:
        """Return where that many bytes can be written, which are less than a block."""
        if size > BLOCK - self._used:
            self._finish()
        if not 0 <= size <= BLOCK - self._used:
            raise AssertionError
        return PyByteArray_AS_STRING(self._block) + self._used

    cdef int _finish(self) except -1:
        """Add nothing more to what is in the block."""
        if self._frames:
            self._finished.append((PyBytes_FromStringAndSize(PyByteArray_AS_STRING(self._block), self._used), self._frames))
            self._finished_frames += self._frames
            self._used = self._frames = 0
        return 0

    def add_first(self, list frames not None):
        self._finish()
        for frame in reversed(frames):
            self._finished.appendleft((frame, 1))
            self._finished_frames += 1
            self.size += len(frame)

    def answer(self, str reply not None, bytes data not None):
        if self.size > self.limit or len(data) > self.max_payload:
            return False
        self._add_pub(reply, data)
        self.until_push -= 1
        if self.until_push == 0:
            self.push()
            return True
        if self._held.since == 0:
            self._held.since = _long_ago
        if self.is_waiting:
            self.wake()
        return True

    def publish(self, subject, bytes data not None):
        if self.size > self.limit or len(data) > self.max_payload or type(subject) is not str:
            return False
        if not is_plain_subject(<str>subject):
            return False
        self._add_pub(<str>subject, data)
        if self.is_waiting:
            self.wake()
        return True

    cdef int _add_pub(self, str subject, bytes data) except -1:
        cdef Py_ssize_t size = len(data), subject_size, most
        cdef const char* text = PyUnicode_AsUTF8AndSize(subject, &subject_size)
        cdef char* start
        cdef char* at
        most = 4 + subject_size + 1 + 20 + 2 + size + 2
        if most >= LARGE:
            self._add(b"PUB %b %d\r\n%b\r\n" % (subject.encode(), size, data))
            return 0
        start = at = self._room(most)
        at = write(at, b"PUB ", 4)
        at = write(at, text, subject_size)
        at = write(at, b" ", 1)
        at = write_number(at, size)
        at = write(at, b"\r\n", 2)
        at = write(at, PyBytes_AS_STRING(data), size)
        at = write(at, b"\r\n", 2)
        self._used += at - start
        self._frames += 1
        self.size += at - start
        return 0

    def expect_answers(self, long long count):
        if self._send_nowait is not None:
            self.until_push = count

    cpdef push(self):
        cdef bytes frames
        cdef Py_ssize_t sent
        self.until_push = 0
        if self._send_nowait is not None and not self._is_sending:
            frames = self.take()
            sent = self._send_nowait(frames)
            if sent == len(frames):
                self.sent()
                return
            self._rest = frames[sent:]
            self._is_sending = False
        if self.is_waiting:
            self.wake()

    def push_early(self):
        cdef long long until_push = self.until_push
        if self.size:
            self.push()
            self.until_push = until_push

    @property
    def has_frames(self):
        return bool(self._frames or self._finished_frames or self._rest)

    cpdef bytes take(self):
        cdef bytes data
        cdef Py_ssize_t count
        self._is_sending = True
        self._held.since = 0
        if self._rest:
            data, self._rest = self._rest, b""
            return data
        if self._finished:
            self._finish()
            data, count = self._take_finished()
        else:
            data = PyBytes_FromStringAndSize(PyByteArray_AS_STRING(self._block), self._used)
            count = self._frames
            self._used = self._frames = 0
        self.size -= len(data)
        self._counters.taken_frames += count
        self._counters.out_bytes += len(data)
        return data

    cdef tuple _take_finished(self):
        """Return what is joined for one call to the network, and how many frames it holds; large frames are not copied."""
        cdef list runs = []
        cdef Py_ssize_t size = 0, count = 0
        while self._finished and size < _batch_bytes:
            run, frames = self._finished[0]
            if runs and len(run) >= LARGE > 0 and frames == 1:
                break
            self._finished.popleft()
            runs.append(run)
            size += len(run)
            count += frames
            if len(run) >= LARGE and frames == 1:
                break
        self._finished_frames -= count
        return (runs[0] if len(runs) == 1 else b"".join(runs)), count

    def clear(self):
        self._finish()
        frames = split_frames(b"".join([run for run, _ in self._finished]))
        frames += [b""] * (self._finished_frames - len(frames))  # empty ones are not seen in there
        self._finished.clear()
        self._finished_frames = 0
        self.size = 0
        return frames


cdef bint is_plain_subject(str subject):
    """Return whether a subject is printable ASCII without blanks, wildcards and empty tokens, and short."""
    cdef Py_UCS4 c, previous = "."
    if not 0 < len(subject) <= _long_subject:
        return False
    for c in subject:
        if c <= 32 or c >= 127 or c == "*" or c == ">" or (c == "." and previous == "."):
            return False
        previous = c
    return previous != "."


cdef inline char* write(char* at, const char* text, Py_ssize_t size) noexcept:
    """Write so many bytes; return where they end."""
    memcpy(at, text, size)
    return at + size


cdef char* write_number(char* at, Py_ssize_t number) noexcept:
    """Write the digits of a number; return where they end."""
    cdef char[20] digits
    cdef int n = 0
    while True:
        digits[n] = <char>(48 + number % 10)
        number //= 10
        n += 1
        if number == 0:
            break
    while n > 0:
        n -= 1
        at[0] = digits[n]
        at += 1
    return at


# The endpoint queue


cdef class EndpointQueue:
    cdef public object handler
    cdef public object handler_with_time
    cdef public object now
    cdef public object _endpoint
    cdef public object _fast_path
    cdef readonly CounterFields _counters  # which must not be set to None
    cdef public object _clock_ns
    cdef public object _checkpoint
    cdef public Py_ssize_t _concurrency
    cdef public Py_ssize_t _max_messages
    cdef public Py_ssize_t _max_bytes
    cdef public str _suspicious
    cdef public object _pending
    cdef public Py_ssize_t _pending_bytes
    cdef public set _with_time
    cdef public list _workers
    cdef public list _idle
    cdef public Py_ssize_t _waking
    cdef public bint _is_cut_off
    cdef public bint _is_congested
    cdef public bint _is_retired
    cdef public object _recent_replies

    def __init__(
        self,
        endpoint,
        fast_path,
        CounterFields counters not None,
        *,
        clock_ns,
        checkpoint,
        Py_ssize_t concurrency,
        Py_ssize_t max_messages,
        Py_ssize_t max_bytes,
        suspicious,
    ):
        self._endpoint = endpoint
        self._fast_path = fast_path
        self._counters = counters
        self._clock_ns = clock_ns
        self._checkpoint = checkpoint
        self._concurrency = concurrency
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._suspicious = "".join(suspicious)
        self._pending = deque()
        self._with_time = set()
        self._workers = []
        self._idle = []
        self._recent_replies = deque(maxlen=RECENT_REPLIES)

    cdef bint _looks_suspicious(self, reply) except -1:
        cdef Py_UCS4 c, previous = 0
        cdef str text
        if not reply:
            return False
        text = reply if type(reply) is str else "".join([reply])
        if len(text) > _long_subject or text[0] in self._suspicious:
            return True
        for c in text:
            if c == "*" or c == ">" or (c == "." and previous == "."):
                return True
            previous = c
        return previous == "."

    def deliver(self, RequestFields request not None):
        cdef Py_ssize_t size = len(request.data), waiting
        if self._looks_suspicious(request.reply) and not self._may_answer(request.reply):
            self._drop_malformed(request)
            return
        if self._is_cut_off:
            self._refuse_late(request)
            return
        if request.headers is not _no_headers:
            size += request.headers._wire_size
            if may_say_time(request.headers):
                request._arrived = self.now()
                self._with_time.add(request)
        # A worker that has been woken is about to take a request, so that one does not wait any more.
        waiting = len(self._pending) - self._waking
        if waiting >= self._max_messages or (
            self._pending_bytes + size > self._max_bytes and (waiting > 0 or self._has_detached())
        ):
            self._with_time.discard(request)
            self._overload(request)
            return
        self._pending.append(request)
        self._pending_bytes += size
        if self._idle:
            self._waking += 1
            (<Worker?>self._idle.pop()).wakeup.set()
        elif len(self._workers) < self._concurrency:
            self._start_worker()

    async def work(self, Worker worker not None):
        cdef RequestFields request
        cdef HeldAnswers held
        cdef Py_ssize_t headers_size
        cdef long long begun, now = 0  # the end of the last request, if it is the beginning of the next
        cdef int unyielded = 0
        cdef bint is_replying
        pending = self._pending
        fast_path = self._fast_path
        held = fast_path._held
        clock_ns = self._clock_ns
        recent_replies = self._recent_replies
        handler = self.handler
        failed = None
        self._waking -= 1
        try:
            while True:
                if not pending:
                    if self._is_retired:
                        return
                    if held.since != 0 and now - held.since > _hold_ns:
                        fast_path._push_answers()
                        held.since = now
                    self._is_congested = False
                    self._idle.append(worker)
                    self._check_drained()
                    await worker.wakeup.wait()
                    self._waking -= 1
                    unyielded = 0
                    now = 0
                    continue
                request = pending.popleft()
                # Their `_wire_size`, which is known since the delivery.
                headers_size = 0 if request.headers is _no_headers else request.headers._size
                self._pending_bytes -= len(request.data) + headers_size
                request.endpoint = self._endpoint
                reply = request.reply  # a handler may change the request's
                worker.request = request
                begun = now or clock_ns()
                request._begun = begun
                now = 0
                if held.since == 0:
                    held.since = begun
                elif begun - held.since > _hold_ns:
                    fast_path._push_answers()
                    held.since = begun
                is_replying = False
                try:
                    if headers_size and request in self._with_time:
                        self._with_time.remove(request)
                        result = await self.handler_with_time(request)
                    else:
                        result = await handler(request)
                    if request._has_ended:
                        pass  # cut off while it shielded itself, and answered then
                    elif type(result) is bytes and reply and request._failure is None:
                        is_replying = request._has_responded = True
                        if not fast_path._answer_nowait(reply, result):
                            await fast_path._send(reply, result)
                    elif result is not None:
                        await self._send(request, result)
                    elif not request._has_responded and not request._is_released:
                        self._keep_silent(request)
                except BaseException as error:
                    # Waiting in here, a coroutine of Cython's looks at the traceback without a check, and somebody who has
                    # the error, too, may have set it to None.
                    failed = error
                else:
                    if not request._is_released:
                        now = clock_ns()
                        if request._failure is None:
                            request._has_ended = True
                            self._counters.num_requests += 1
                            self._counters.processing_time += now - begun
                            recent_replies.append(reply)
                        else:
                            self._end_failed(request, now - begun)
                if failed is not None:
                    if isinstance(failed, Exception):
                        await self._end_with_error(request, failed, is_replying=is_replying)
                    else:
                        await self._end_abruptly(request, failed)
                    failed = None
                    now = clock_ns()
                worker.request = None
                unyielded += 1
                if unyielded >= _requests_between_yields:
                    unyielded = 0
                    now = 0
                    await self._checkpoint()
        finally:
            failed = None  # whose traceback has this frame
            self._workers.remove(worker)
            if worker in self._idle:
                self._idle.remove(worker)
            self._check_drained()
