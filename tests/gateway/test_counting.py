"""Counters: shown, read at a steady pace, and a reason to doubt."""

import pytest

from oe.gateway.counting import LONGEST_PAUSE
from oe.messages import CountersRead, ReadCounters, Undecide
from oe.model import ChildCounters, Directions
from oe.negotiation import CheckLiveness, ChildClosed, ChildReady, CloseChild
from oe.reasons import Reason
from tests.gateway.halves import PAIR, carrier
from tests.gateway.script import OTHER, PEER_KEY, Script, child


def test_one_way_traffic_asks_whether_the_peer_lives() -> None:
    script = Script()
    script.trap()
    script.protect()
    for second in range(1, 30):
        script.run_until(float(second))
        if script.commands and isinstance(script.commands[-1], ReadCounters):
            script.feed(CountersRead((ChildCounters(1, 0, 0, 3, 300),)))
    checks = [event for event in script.ike.heard if isinstance(event, CheckLiveness)]
    assert checks == [CheckLiveness(1)]


def test_counters_are_shown_with_the_pair_and_read_while_there_is_something_to_count() -> None:
    script = Script()
    script.trap()
    script.protect()
    script.run_until(2.5)
    assert isinstance(script.commands[-1], ReadCounters)
    counters = ChildCounters(1, 5, 500, 6, 600)
    script.feed(CountersRead((counters, ChildCounters(99, 1, 1, 1, 1))))
    status = script.status()
    assert status is not None
    assert status.counters == counters
    script.engine_says(ChildClosed(1, Reason.DELETED_BY_PEER))
    script.feed(CountersRead(()))
    assert script.gateway.deadline() is None


def test_counters_are_read_however_often_tunnels_come() -> None:
    script = Script()
    for at in range(1, 12):
        script.protect(id=at, initiated=False)
        script.run_until(float(at))
    assert script.all(ReadCounters) == [ReadCounters()]


def test_a_reading_is_over_with_its_last_portion() -> None:
    script = Script()
    script.trap()
    script.protect()
    script.run_until(2.5)
    counters = ChildCounters(1, 5, 500, 6, 600)
    script.feed(CountersRead((counters,), is_last=False))
    status = script.status()
    assert status is not None
    assert status.counters == counters
    script.run_until(20.0)
    assert len(script.all(ReadCounters)) == 1
    script.feed(CountersRead(()))
    script.run_until(60.0)
    assert len(script.all(ReadCounters)) == 2


def test_readings_that_take_long_are_made_seldom() -> None:
    script = Script(liveness=5.0)
    script.trap()
    script.protect()
    asked = []
    for _ in range(4):
        script.run_until(script.gateway.deadline() or 0.0)
        assert script.commands[-1] == ReadCounters()
        asked.append(script.now)
        script.now += 0.9 if len(asked) < 3 else 0.1
        script.feed(CountersRead(()))
    assert asked == [pytest.approx(at) for at in (2.5, 12.4, 22.3, 24.9)]


def test_a_reading_in_which_the_machine_stood_still_does_not_put_off_the_next_one_for_long() -> None:
    script = Script(liveness=5.0)
    script.trap()
    script.protect()
    script.run_until(2.5)
    script.now += 3600.0
    script.feed(CountersRead(()))
    assert ReadCounters() not in script.run_until(script.now + LONGEST_PAUSE - 0.1)
    assert ReadCounters() in script.run_until(script.now + 0.1)


def test_of_two_gateways_that_are_used_one_way_each_the_one_that_is_heard_stays() -> None:
    script = Script()
    script.trap()
    script.install(ChildReady(1, child(1, PAIR, OTHER), Directions.BOTH, None, PEER_KEY))
    script.protect(id=2)
    script.traffic = {1: (1, 0), 2: (0, 1)}
    for at in range(1, 8):
        script.run_until(2.5 * at)
        script.traffic = {1: (1 + at, 0), 2: (0, 1 + at)}
    assert carrier(script) == 1
    assert CloseChild(2, Reason.REDUNDANT) in script.ike.heard
    assert script.all(Undecide) == []


def test_of_two_sas_with_one_gateway_the_engine_decides() -> None:
    script = Script()
    script.trap()
    script.protect(id=1, initiated=False)
    script.protect(id=2)
    for at in range(1, 8):
        script.traffic = {1: (at, 0), 2: (0, at)}
        script.run_until(2.5 * at)
    assert CheckLiveness(2) in script.ike.heard
    assert carrier(script) == 2
