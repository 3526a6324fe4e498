"""Idle tunnels: looked at after a minute, then every `idle` seconds."""

from oe.gateway.children import LINGER
from oe.gateway.idle import FIRST_LOOK
from oe.messages import RemoveChild, Undecide
from oe.model import HostPair, PairState
from oe.negotiation import ChildClosed, CloseChild
from oe.reasons import Reason
from tests.gateway.script import OURS, PEER, PRIVATE_PEER, Script, actions

PAIR = HostPair(OURS, PEER)
IDLE = 1200.0


def protected(packets: int = 3) -> Script:
    script = Script()
    script.trap()
    script.protect()
    script.traffic = {1: (packets, packets)}
    return script


def is_protected(script: Script) -> bool:
    status = script.status()
    return status is not None and status.state is PairState.PROTECTED


def test_a_single_exchange_is_over_after_a_minute_and_the_trap_closes_first() -> None:
    script = protected()
    script.run_until(FIRST_LOOK - 0.1)
    assert is_protected(script)
    assert actions(script.run_until(FIRST_LOOK)) == [Undecide(PAIR)]
    assert CloseChild(1, Reason.IDLE) in script.ike.heard
    assert not script.gateway.pairs
    assert script.gateway.reasons[Reason.IDLE] == 1


def test_what_the_peer_sends_before_it_hears_of_the_end_still_arrives() -> None:
    script = protected()
    script.run_until(FIRST_LOOK)
    assert script.all(RemoveChild) == []
    script.engine_says(ChildClosed(1, Reason.IDLE))
    assert actions(script.run_until(FIRST_LOOK + LINGER)) == [RemoveChild(1)]
    assert script.gateway.deadline() is None


def test_a_pair_that_is_used_again_at_once_has_its_new_sa_beside_the_old_one() -> None:
    script = protected()
    script.run_until(FIRST_LOOK)
    script.trap()
    script.protect(id=2)
    assert is_protected(script)
    assert actions(script.run_until(FIRST_LOOK + LINGER)) == [RemoveChild(1)]
    assert is_protected(script)


def test_one_packet_one_way_between_looks_keeps_it() -> None:
    script = protected()
    for look in range(4):
        script.run_until(45.0 + look * IDLE)
        script.traffic = {1: (3, 4 + look)}
    script.run_until(FIRST_LOOK + 4 * IDLE - 1.0)
    assert is_protected(script)
    script.run_until(FIRST_LOOK + 4 * IDLE)
    assert not is_protected(script)


def test_what_came_before_the_last_look_does_not_count_again() -> None:
    script = protected()
    script.run_until(45.0)
    script.traffic = {1: (4, 4)}
    script.run_until(FIRST_LOOK + IDLE - 1.0)
    assert is_protected(script)
    script.run_until(FIRST_LOOK + IDLE)
    assert not is_protected(script)


def test_a_rekey_is_no_new_beginning_and_no_traffic() -> None:
    script = protected()
    script.run_until(45.0)
    script.protect(id=2, initiated=False, replaces=1)
    script.engine_says(ChildClosed(1, Reason.REKEYED))
    script.traffic = {2: (0, 0)}
    script.run_until(FIRST_LOOK)
    assert not is_protected(script)


def among_slow_readings() -> Script:
    """Counters are read at the pace of `liveness`, here each minute; this pair is protected between two readings."""
    script = Script(liveness=120.0)
    script.traffic = {}
    script.protect(PRIVATE_PEER, id=9, initiated=False)
    script.run_until(100.0)
    script.trap()
    script.protect()
    script.traffic = {1: (3, 3)}
    return script


def test_two_looks_at_one_reading_are_no_idleness() -> None:
    script = among_slow_readings()
    for second in range(110, 400, 10):
        script.run_until(float(second))
        script.traffic = {1: (second, second)}
    script.run_until(400.0 + IDLE)
    assert is_protected(script)
    script.run_until(400.0 + 2 * IDLE)
    assert not is_protected(script)


def test_what_set_a_tunnel_up_does_not_count_however_late_it_is_read() -> None:
    script = among_slow_readings()
    script.run_until(100.0 + FIRST_LOOK)
    assert is_protected(script)
    script.run_until(100.0 + FIRST_LOOK + 60.0)
    assert not is_protected(script)


def test_counters_that_cannot_be_read_are_no_idleness() -> None:
    script = protected()
    script.run_until(20.0)
    script.traffic = {}
    script.run_until(FIRST_LOOK + IDLE + 1.0)
    assert is_protected(script)


def test_a_tunnel_that_was_set_up_anew_is_looked_at_anew() -> None:
    script = protected()
    script.run_until(FIRST_LOOK)
    script.trap()
    script.protect(id=2)
    script.traffic = {2: (1, 1)}
    script.run_until(2 * FIRST_LOOK - 0.1)
    assert is_protected(script)
