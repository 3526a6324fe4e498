"""What ends, fails or comes too late while it is on its way into the kernel."""

from oe.messages import ChildInstalled, Decide, RemoveChild, StopAsked, Undecide
from oe.model import Directions
from oe.negotiation import ChildClosed, ChildReady
from oe.reasons import Reason
from tests.gateway.halves import PAIR, carrier
from tests.gateway.script import PEER_KEY, Script, actions, child


def test_an_old_sa_that_ends_while_the_new_one_is_on_its_way_opens_no_gap() -> None:
    script = Script()
    script.trap()
    script.protect()
    script.engine_says(ChildReady(50, child(2, PAIR), Directions.BOTH, None, PEER_KEY, replaces=1))
    assert actions(script.engine_says(ChildClosed(1, Reason.REKEYED))) == []
    assert actions(script.feed(ChildInstalled(50, 2, Directions.BOTH)))[-1] == RemoveChild(1)
    assert carrier(script) == 2
    assert script.all(Undecide) == []


def test_an_old_sa_stays_until_the_trap_is_closed_when_the_new_one_fails() -> None:
    script = Script()
    script.trap()
    script.protect()
    script.engine_says(ChildReady(50, child(2, PAIR), Directions.BOTH, None, PEER_KEY, replaces=1))
    script.engine_says(ChildClosed(1, Reason.DELETED_BY_PEER))
    failed = script.feed(ChildInstalled(50, 2, Directions.BOTH, Reason.INSTALL_FAILED))
    assert actions(failed) == [Undecide(PAIR), RemoveChild(1)]
    assert not script.gateway.pairs


def test_an_sa_that_ended_before_it_was_in_place_is_taken_away_again() -> None:
    script = Script()
    script.trap()
    script.engine_says(ChildReady(50, child(1, PAIR), Directions.INBOUND, None, PEER_KEY))
    script.engine_says(ChildClosed(1, Reason.DELETED_BY_PEER))
    assert actions(script.feed(ChildInstalled(50, 1, Directions.INBOUND))) == [RemoveChild(1)]
    script.protect(id=2)
    assert carrier(script) == 2


def test_installation_that_fails_is_told_to_the_engine() -> None:
    script = Script()
    script.trap()
    ready = ChildReady(9, child(1, PAIR), Directions.BOTH, script.negotiations()[0].ticket, PEER_KEY)
    script.engine_says(ready)
    failed = ChildInstalled(9, 1, Directions.BOTH, Reason.INSTALL_FAILED, "no ESP")
    script.feed(failed)
    assert failed in script.ike.heard
    assert script.all(Decide) == []


def test_half_an_sa_that_is_given_up_leaves_no_record() -> None:
    script = Script()
    script.install(ChildReady(9, child(1, PAIR), Directions.INBOUND, None, PEER_KEY))
    assert script.status() is not None
    assert actions(script.engine_says(ChildClosed(1, Reason.LIFETIME_ENDED))) == [RemoveChild(1)]
    assert script.status() is None


def test_sa_that_arrives_while_stopping_is_taken_down_again() -> None:
    script = Script()
    script.trap()
    script.feed(StopAsked())
    commands = script.install(ChildReady(9, child(1, PAIR), Directions.BOTH, None, PEER_KEY))
    assert actions(commands) == [RemoveChild(1)]
    assert script.status() is None
