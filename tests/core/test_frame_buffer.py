"""The frame buffer: both forms send the same bytes, count the same and push at the same moments."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from natsery._core import AWAY
from natsery._core._limits import BATCH_BYTES

from .forms import BOTH, COMPILED, PLAIN, needs_both
from .peer import Peer

generated = settings(max_examples=300)


subjects = st.one_of(
    st.sampled_from(
        ["a", "a.b", "_INBOX.x.1", "", ".", "a.", ".a", "a..b", "a b", "a\n", "a*", "a.>", ">", "é", "a\0", "\ud800"]
    ),
    st.sampled_from(["a" * size for size in (999, 1000, 1001, 3900, 4000, 4096, 20_000)]),
    st.text(max_size=6),
    st.text("ab.*> \r\n\t~\x7f\x80", max_size=8),
)


def steps(payloads, replies, *more):
    frames = st.one_of(
        st.sampled_from([b"PING\r\n", b"PONG\r\n", b"SUB a 1\r\n", b"UNSUB 1\r\n"]),
        payloads.map(lambda data: b"PUB a %d\r\n%b\r\n" % (len(data), data)),
        payloads.map(lambda data: b"HPUB a r 12 %d\r\nNATS/1.0\r\n\r\n%b\r\n" % (12 + len(data), data)),
    )
    return st.lists(
        st.one_of(
            st.tuples(st.just("add"), frames),
            st.tuples(st.just("answer"), replies, payloads),
            st.tuples(st.just("answer"), replies, payloads),
            st.tuples(st.just("publish"), subjects, payloads),
            st.tuples(st.just("add_first"), st.lists(frames, max_size=3)),
            st.sampled_from([("drain",), ("clear",), ("connect",), ("retire",)]),
            *more,
        ),
        max_size=30,
    )


texts = st.one_of(st.binary(max_size=30), st.sampled_from([b"", b"\r\n", b"PUB a 1\r\nx\r\n", b"\0\r"]))


def near(*sizes):
    return st.sampled_from(sizes).flatmap(
        lambda size: st.integers(-40, 40).map(lambda more: b"x" * max(0, size + more))
    )


short_replies = st.one_of(st.sampled_from(["r", "_INBOX.abc.1", "ü.😀"]), st.text("ab.é", min_size=1, max_size=50))
pushes = (
    st.tuples(st.just("expect"), st.integers(0, 6)),
    st.tuples(st.just("make_room"), st.sampled_from([0, 1, 5, 100, 10_000, 1_000_000_000])),
    st.sampled_from([("push",), ("push_early",), ("wait",), ("begin",), ("finish",)]),
)


@needs_both
@generated
@given(steps(st.one_of(texts, near(9, 99, 999, 2000, 4096)), short_replies, *pushes))
def test_both_forms_do_the_same_with_what_is_sent_at_once(steps):
    plain, compiled = Peer(PLAIN), Peer(COMPILED)
    for name, *arguments in steps:
        assert plain.buffer.size < BATCH_BYTES
        assert getattr(compiled, name)(*arguments) == getattr(plain, name)(*arguments)
        assert compiled.state() == plain.state()


@needs_both
@generated
@given(
    steps(
        st.one_of(texts, near(4096, 9_999, 16_310, 16_384, 65_536, 99_999, 262_144, 600_000)),
        st.one_of(short_replies, st.sampled_from(["r" * 3000, "r" * 16_360, "é" * 8190, "r" * 16_384])),
    )
)
def test_both_forms_keep_the_same_of_all_sizes(steps):
    plain, compiled = Peer(PLAIN), Peer(COMPILED)
    for name, *arguments in steps:
        assert getattr(compiled, name)(*arguments) == getattr(plain, name)(*arguments)
        assert compiled.received == plain.received
        assert (compiled.buffer.size, compiled.buffer.count) == (plain.buffer.size, plain.buffer.count)
    compiled.drain()
    plain.drain()
    assert compiled.received == plain.received
    assert compiled.counters.taken_frames == plain.counters.taken_frames
    assert compiled.counters.out_bytes == plain.counters.out_bytes


@pytest.mark.parametrize("form", BOTH)
@generated
@given(steps(st.one_of(texts, near(4096, 16_310, 16_384, 65_536, 262_144)), short_replies, *pushes))
def test_nothing_is_lost_doubled_or_mixed_up(form, steps):
    """Whatever is taken at once, and wherever the network stops: a list of frames does the same."""
    peer = Peer(form, is_connected=False)
    sent, waiting = b"", []  # what must have been handed to the network so far, and what must wait
    for name, *arguments in steps:
        if name == "add":
            waiting.append(arguments[0])
        elif name == "add_first":
            waiting[:0] = arguments[0]
        handed = len(sent)
        result = getattr(peer, name)(*arguments)
        if name in ("answer", "publish") and result:
            reply, data = arguments
            waiting.append(b"PUB %b %d\r\n%b\r\n" % (reply.encode(), len(data), data))
        taken = peer.counters.out_bytes - handed
        while taken:
            frame = waiting.pop(0)
            taken -= len(frame)
            sent += frame
        if name in ("clear", "retire"):
            assert result == waiting
            waiting = []
        if name == "retire":
            sent = sent[: len(peer.received)] if len(peer.received) < len(sent) else sent
            peer.counters.out_bytes = len(sent)
        assert (peer.buffer.count, peer.buffer.size) == (len(waiting), sum(map(len, waiting)))
        assert peer.received + peer.buffer._rest == sent
    peer.drain()
    assert peer.received == sent + b"".join(waiting)


# What each form has to do


@pytest.mark.parametrize("form", BOTH)
def test_an_answer_that_is_not_taken_leaves_nothing_behind(form):
    peer = Peer(form)
    assert peer.answer("r", b"x" * 600_000)
    before = peer.state()
    assert not peer.answer("r", b"x" * 600_001)
    with pytest.raises(UnicodeEncodeError):
        peer.answer("\ud800", b"x")
    with pytest.raises(UnicodeEncodeError):
        peer.answer("\ud800", b"x" * 100_000)
    assert peer.state() == before
    peer.buffer.limit = 1
    assert not peer.answer("r", b"")
    peer.buffer.limit = AWAY
    peer.drain()
    assert not peer.answer("r", b"")
    assert peer.received == b"PUB r 600000\r\n" + b"x" * 600_000 + b"\r\n"


@pytest.mark.parametrize("form", BOTH)
@pytest.mark.parametrize("size", [0, 9, 10, 99, 100, 16_363, 16_364, 16_365, 16_366, 16_384, 65_536, 300_000])
def test_frames_of_all_sizes_fill_whole_blocks(form, size):
    peer = Peer(form)
    frames = []
    for number in range(200_000 // (size + 15) + 3):
        assert peer.answer(f"r{number}", b"x" * size)
        frames.append(b"PUB r%d %d\r\n%b\r\n" % (number, size, b"x" * size))
    assert (peer.buffer.count, peer.buffer.size) == (len(frames), sum(map(len, frames)))
    peer.drain()
    assert peer.received == b"".join(frames)


@pytest.mark.parametrize("form", BOTH)
def test_what_is_taken_at_once_is_bounded(form):
    peer = Peer(form)
    for _ in range(100):
        peer.add(b"PUB a 10000\r\n" + b"x" * 10_000 + b"\r\n")
    while peer.buffer.has_frames:
        assert 0 < len(peer.take()) < BATCH_BYTES + 64 * 1024
        peer.buffer.sent()


@pytest.mark.parametrize("form", BOTH)
def test_the_writer_task_sends_what_the_network_did_not_take_at_once(form):
    peer = Peer(form, room=5)
    peer.wait()
    peer.expect(1)
    assert peer.answer("r", b"1")
    assert peer.calls == [("push", 12, 5), "wake"]
    peer.drain()
    assert peer.received == b"PUB r 1\r\n1\r\n"


@pytest.mark.parametrize("form", BOTH)
def test_an_error_of_the_network_leaves_push(form):
    peer = Peer(form)

    def send_nowait(data):
        raise OSError("gone")

    peer.buffer._send_nowait = send_nowait
    peer.expect(2)
    assert peer.answer("r", b"1")
    with pytest.raises(OSError, match="gone"):
        peer.answer("r", b"2")
    assert (peer.buffer.size, peer.buffer.count) == (0, 0)


@pytest.mark.parametrize("form", BOTH)
def test_what_was_taken_does_not_change_afterwards(form):
    """Bytes are never changed once they have been handed out."""
    peer = Peer(form)
    peer.add(b"PUB a 1\r\nx\r\n")
    taken = peer.take()
    peer.buffer.sent()
    peer.add(b"PUB b 1\r\ny\r\n")
    peer.answer("c", b"z")
    assert taken == b"PUB a 1\r\nx\r\n"
    assert peer.clear() == [b"PUB b 1\r\ny\r\n", b"PUB c 1\r\nz\r\n"]
    assert taken == b"PUB a 1\r\nx\r\n"


@pytest.mark.parametrize("form", BOTH)
@pytest.mark.parametrize("max_payload", [0, 1, 2**31, sys.maxsize])
def test_a_server_may_name_any_max_payload_that_fits(form, max_payload):
    peer = Peer(form)
    peer.buffer.max_payload = max_payload
    assert peer.buffer.max_payload == max_payload
    assert peer.answer("r", b"x") == bool(max_payload)


@needs_both
@generated
@given(subjects)
def test_both_forms_find_the_same_subjects_plain(subject):
    plain, compiled = Peer(PLAIN), Peer(COMPILED)
    assert compiled.publish(subject, b"x") == plain.publish(subject, b"x")
    assert compiled.state() == plain.state()


@needs_both
@pytest.mark.parametrize("code", range(0x180))
def test_both_forms_find_the_same_characters_plain(code):
    for subject in (chr(code), f"a{chr(code)}", f"{chr(code)}.a", f"a.{chr(code)}b"):
        plain, compiled = Peer(PLAIN), Peer(COMPILED)
        assert compiled.publish(subject, b"x") == plain.publish(subject, b"x")
        assert compiled.state() == plain.state()
