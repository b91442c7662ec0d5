"""In which order servers, and the addresses of one name, are tried."""

from __future__ import annotations

from natsery._native._server_pool import _MAX_RANKS, ServerPool
from natsery._protocol._addresses import Target, read_addresses

ONE, TWO, THREE = read_addresses("one,two,three")
IPS = ["10.0.0.1", "10.0.0.2", "10.0.0.3"]


def ordered() -> ServerPool:
    return ServerPool((ONE, TWO, THREE), shuffle=False)


def ips(pool: ServerPool) -> list[str]:
    return [target.ip for target in pool.targets(ONE, IPS)]


def test_what_has_not_failed_is_tried_in_order() -> None:
    pool = ordered()
    assert pool.next_round() == [ONE, TWO, THREE]
    assert ips(pool) == IPS


def test_what_did_not_answer_last_time_is_tried_last() -> None:
    pool = ordered()
    pool.note_failure(Target(ONE, "10.0.0.2"))
    assert pool.next_round() == [TWO, THREE, ONE]
    assert ips(pool) == ["10.0.0.1", "10.0.0.3", "10.0.0.2"]
    pool.note_failure(Target(ONE, "10.0.0.1"))
    assert ips(pool) == ["10.0.0.3", "10.0.0.2", "10.0.0.1"]
    pool.note_failure(TWO)
    assert pool.next_round() == [THREE, ONE, TWO]
    pool.note_success(Target(ONE, "10.0.0.1"))
    assert pool.next_round() == [ONE, THREE, TWO]
    assert ips(pool) == ["10.0.0.1", "10.0.0.3", "10.0.0.2"]


def test_what_was_lost_is_tried_before_what_did_not_answer() -> None:
    pool = ordered()
    pool.note_failure(Target(ONE, "10.0.0.1"))
    pool.note_success(Target(ONE, "10.0.0.2"))
    pool.note_loss(Target(ONE, "10.0.0.2"))
    assert ips(pool) == ["10.0.0.3", "10.0.0.2", "10.0.0.1"]
    assert pool.next_round() == [TWO, THREE, ONE]


def test_addresses_are_tried_at_random_unless_told_otherwise() -> None:
    pool = ServerPool((ONE,), shuffle=True)
    orders = {tuple(ips(pool)) for _ in range(200)}
    assert len(orders) == 6
    pool.note_failure(Target(ONE, "10.0.0.2"))
    assert {ips(pool)[-1] for _ in range(50)} == {"10.0.0.2"}


def test_failures_are_not_remembered_without_end() -> None:
    pool = ordered()
    for number in range(3 * _MAX_RANKS):
        pool.note_failure(Target(ONE, f"10.1.{number // 256}.{number % 256}"))
    assert len(pool._ranks) == _MAX_RANKS
