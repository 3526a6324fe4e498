from collections import deque
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from time import thread_time

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from oe.model import HeldPacket, HostPair
from oe.reasons import Reason
from oe.trap.holds import HoldTable

OURS = IPv4Address("10.0.0.1")


def to(last: int) -> HostPair:
    return HostPair(OURS, IPv4Address(0xC0000000 + last))


def packet(id: int, pair: HostPair) -> HeldPacket:
    return HeldPacket(id, pair, 17, 1, 2, 100, 0, False)


def table(*, per_pair: int = 3, total: int = 10, patience: float = 5.0) -> HoldTable:
    return HoldTable(per_pair=per_pair, total=total, patience=patience)


def ids(packets: tuple[HeldPacket, ...]) -> list[int]:
    return [packet.id for packet in packets]


def test_a_pair_keeps_its_first_packets_in_order() -> None:
    holds = table()
    reasons = [holds.hold(packet(id, to(1)), 0.0) for id in (9, 4, 7, 1, 2)]
    assert reasons == [None, None, None, Reason.HOLD_PAIR_FULL, Reason.HOLD_PAIR_FULL]
    assert (holds.held(to(1)), holds.lost(to(1)), len(holds)) == (3, 2, 3)
    assert ids(holds.take(to(1))) == [9, 4, 7]
    assert holds.take(to(1)) == ()
    assert (holds.held(to(1)), holds.lost(to(1)), len(holds)) == (0, 2, 0)


def test_the_whole_table_is_bounded_and_made_up_pairs_leave_no_trace() -> None:
    holds = table(total=2)
    assert [holds.hold(packet(id, to(id)), 0.0) for id in (1, 2, 3)] == [None, None, Reason.HOLD_FULL]
    assert holds.lost(to(3)) == 0
    assert holds.hold(packet(4, to(1)), 0.0) is Reason.HOLD_FULL
    assert holds.lost(to(1)) == 1
    holds.take(to(2))
    assert holds.hold(packet(5, to(3)), 0.0) is None


def test_each_packet_has_its_own_deadline() -> None:
    holds = table()
    assert holds.deadline() is None
    holds.hold(packet(1, to(1)), 10.0)
    holds.hold(packet(2, to(2)), 11.0)
    holds.hold(packet(3, to(1)), 12.0)
    assert holds.deadline() == 15.0
    assert holds.expire(14.9) == ()
    assert ids(holds.expire(16.0)) == [1, 2]
    assert (holds.lost(to(1)), holds.held(to(1)), holds.deadline()) == (1, 1, 17.0)
    assert ids(holds.take(to(1))) == [3]
    assert holds.deadline() is None


def test_lost_packets_are_counted_until_the_pair_is_forgotten() -> None:
    holds = table()
    holds.hold(packet(1, to(1)), 0.0)
    assert ids(holds.lose(to(1))) == [1]
    assert holds.lose(to(1)) == ()
    holds.hold(packet(2, to(1)), 0.0)
    assert holds.lost(to(1)) == 1
    assert ids(holds.forget(to(1))) == [2]
    assert (holds.lost(to(1)), holds.held(to(1)), len(holds)) == (0, 0, 0)


def test_a_decision_costs_the_same_at_one_pair_and_at_a_hundred_thousand() -> None:
    def cost(holds: HoldTable, first: int) -> float:
        """Of pairs that come and go."""
        fresh = [packet(n, to(n)) for n in range(first, first + 1000)]
        start = thread_time()
        for one in fresh:
            holds.hold(one, 1.0)
            holds.deadline()
            holds.take(one.pair)
        return thread_time() - start

    crowded, empty = table(total=1_000_000), table()
    for n in range(100_000):
        crowded.hold(packet(n, to(n)), 0.0)
    # In turns, and the best of each: what else the machine does makes some runs longer, none shorter.
    runs = [(cost(crowded, first), cost(empty, first)) for first in range(200_000, 230_000, 1000)]
    at_many, at_one = map(min, zip(*runs, strict=True))
    assert at_many < 5 * at_one


@dataclass
class _Model:
    """The obvious implementation: one list."""

    waiting: deque[tuple[HeldPacket, float]] = field(default_factory=deque)

    def of(self, pair: HostPair) -> list[int]:
        return [packet.id for packet, _ in self.waiting if packet.pair == pair]

    def without(self, gone: set[int]) -> None:
        self.waiting = deque(entry for entry in self.waiting if entry[0].id not in gone)


class AgainstAList(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.holds = table(per_pair=2, total=5, patience=3.0)
        self.model = _Model()
        self.now = 0.0
        self.next = 0

    @rule(pair=st.integers(0, 4).map(to), step=st.integers(0, 2))
    def hold(self, pair: HostPair, step: int) -> None:
        self.now += step
        self.next += 1
        one = packet(self.next, pair)
        reason = self.holds.hold(one, self.now)
        if len(self.model.waiting) >= 5:
            assert reason is Reason.HOLD_FULL
        elif len(self.model.of(pair)) >= 2:
            assert reason is Reason.HOLD_PAIR_FULL
        else:
            assert reason is None
            self.model.waiting.append((one, self.now + 3.0))

    @rule(pair=st.integers(0, 4).map(to), way=st.sampled_from(["take", "lose", "forget"]))
    def take(self, pair: HostPair, way: str) -> None:
        taken = ids(getattr(self.holds, way)(pair))
        assert taken == self.model.of(pair)
        self.model.without(set(taken))

    @rule(step=st.integers(0, 4))
    def expire(self, step: int) -> None:
        self.now += step
        due = [packet.id for packet, deadline in self.model.waiting if deadline <= self.now]
        assert ids(self.holds.expire(self.now)) == due
        self.model.without(set(due))

    @invariant()
    def agrees(self) -> None:
        assert len(self.holds) == len(self.model.waiting)
        assert self.holds.deadline() == (self.model.waiting[0][1] if self.model.waiting else None)
        for pair in map(to, range(5)):
            assert self.holds.held(pair) == len(self.model.of(pair))


TestAgainstAList = AgainstAList.TestCase
TestAgainstAList.settings = settings(max_examples=60, stateful_step_count=40)
