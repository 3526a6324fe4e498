"""Traffic of a pair: sums over its Child SAs."""

from oe.gateway.pairs import Traffic
from oe.model import ChildCounters


def test_nothing_is_known_before_the_first_reading() -> None:
    traffic = Traffic()
    assert (traffic.of(1), traffic.packets, traffic.read_at) == (None, 0, None)
    traffic.end(1)
    assert traffic.of(1) is None


def test_all_that_are_in_place_count_and_all_that_were() -> None:
    traffic = Traffic()
    traffic.read(ChildCounters(1, 1, 10, 2, 20), 5.0)
    traffic.read(ChildCounters(2, 3, 30, 4, 40), 6.0)
    assert traffic.of(2) == ChildCounters(2, 4, 40, 6, 60)
    traffic.end(1)
    traffic.read(ChildCounters(2, 5, 50, 4, 40), 7.0)
    traffic.end(7)
    assert traffic.of(2) == ChildCounters(2, 6, 60, 6, 60)
    assert (traffic.packets, traffic.read_at) == (12, 7.0)


def test_a_reading_replaces_the_one_before() -> None:
    traffic = Traffic()
    for packets in (1, 2, 3):
        traffic.read(ChildCounters(1, packets, 0, 0, 0), float(packets))
    assert traffic.packets == 3
