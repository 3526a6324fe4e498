from dataclasses import replace

from oe.gateway.liveness import BACK_OFF, Liveness
from oe.model import ChildCounters


def counters(inbound: int, outbound: int) -> ChildCounters:
    return ChildCounters(1, inbound, inbound * 100, outbound, outbound * 100)


def test_traffic_both_ways_is_proof_of_life() -> None:
    liveness = Liveness(5.0)
    assert not any(liveness.doubts(counters(n, n), float(n)) for n in range(1, 60))


def test_silence_both_ways_needs_no_proof() -> None:
    liveness = Liveness(5.0)
    liveness.doubts(counters(3, 3), 0.0)
    assert not any(liveness.doubts(counters(3, 3), float(n)) for n in range(1, 60))


def test_receiving_only_is_proof_enough() -> None:
    liveness = Liveness(5.0)
    assert not any(liveness.doubts(counters(n, 0), float(n)) for n in range(1, 60))


def test_sending_only_raises_doubt_after_patience_and_less_and_less_often_again() -> None:
    liveness = Liveness(5.0)
    doubted = [n for n in range(1, 200) if liveness.doubts(counters(0, n), float(n))]
    assert doubted == [6, 16, 36, 76, 116, 156, 196]
    assert BACK_OFF == 8


def test_whatever_comes_in_makes_patience_short_again() -> None:
    liveness = Liveness(5.0)
    read = [(1 if n < 50 else 2, n) for n in range(100)]
    doubted = [n for inbound, n in read if liveness.doubts(counters(inbound, n), float(n))]
    assert doubted == [5, 15, 35, 55, 65, 85]


def test_one_reading_alone_raises_no_doubt_however_long_ago_the_last_one_was() -> None:
    """Its packet may have left a moment ago."""
    liveness = Liveness(5.0)
    assert not liveness.doubts(counters(1, 1), 20.0)
    assert not liveness.doubts(counters(1, 2), 40.0)
    assert liveness.doubts(counters(1, 2), 60.0)


def test_the_peer_is_asked_within_patience_of_the_first_unanswered_packet() -> None:
    liveness = Liveness(5.0)
    read = [2.5 * n for n in range(1, 9)]
    doubted = [at for at in read if liveness.doubts(counters(3, 3 if at <= 10.0 else 4), at)]
    assert doubted == [15.0]


def test_an_answer_ends_the_doubt() -> None:
    liveness = Liveness(5.0)
    liveness.doubts(counters(0, 1), 0.0)
    liveness.doubts(counters(1, 1), 4.0)
    assert not liveness.doubts(counters(1, 1), 10.0)


def test_forgotten_children_start_anew() -> None:
    liveness = Liveness(5.0)
    liveness.doubts(counters(0, 1), 0.0)
    liveness.forget(1)
    assert not liveness.doubts(counters(0, 1), 9.0)


def test_each_child_has_its_own_patience() -> None:
    liveness = Liveness(5.0)
    for at in (0.0, 2.5, 5.0):
        assert not liveness.doubts(replace(counters(9, int(at)), child=2), at) or at == 5.0
        assert not liveness.doubts(counters(int(at), int(at)), at)
