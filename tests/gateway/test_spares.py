"""Child SAs that crossed: which of them sends, and when the redundant one may go."""

import pytest

from oe.gateway.children import CROSSED_SUCCESSION, SUCCESSION
from oe.gateway.spares import PATIENCE
from oe.messages import ChildInstalled, InstallChild, RemoveChild, Undecide
from oe.model import Directions
from oe.negotiation import CheckLiveness, ChildClosed, ChildReady, ChildRedundant, CloseChild, RekeyChild
from oe.reasons import Reason
from tests.gateway.halves import PAIR, SUCCESSOR, carrier, inbound_half, outbound_half
from tests.gateway.script import PEER_KEY, Script, actions, child

CLOSED = CloseChild(1, Reason.REDUNDANT)
OUTBOUND_HALF = ChildReady(11, child(1, PAIR), Directions.OUTBOUND, None, PEER_KEY)


def crossed(*, is_ours: bool = True) -> Script:
    """SA 2 carries the pair. SA 1 came later and is redundant; it receives, and its outbound half waits."""
    script = Script(liveness=5.0)
    script.trap()
    script.protect(id=2, initiated=False)
    script.engine_says(ChildRedundant(1, is_ours))
    script.install(ChildReady(10, child(1, PAIR), Directions.INBOUND, None, PEER_KEY))
    script.engine_says(OUTBOUND_HALF)
    script.traffic = {1: (0, 0), 2: (0, 0)}
    return script


def hear(script: Script, *where: int, seconds: int) -> None:
    """We send in SA 2, and for so long the peer in those, a packet a second each."""
    for _ in range(seconds):
        script.run_until(script.now + 1.0)
        assert script.traffic is not None
        for id, (inbound, outbound) in tuple(script.traffic.items()):
            script.traffic[id] = inbound + (id in where), outbound + (id == 2)


def test_a_redundant_one_receives_and_does_not_send() -> None:
    script = crossed()
    hear(script, 1, seconds=60)
    assert InstallChild(11, child(1, PAIR), Directions.OUTBOUND) not in script.commands
    assert carrier(script) == 2


def test_for_as_long_as_the_peer_sends_in_it_it_stays() -> None:
    for heard in ((1,), (1, 2)):
        script = crossed()
        hear(script, *heard, seconds=300)
        assert CLOSED not in script.ike.heard
        assert RemoveChild(1) not in script.commands


def test_if_it_sends_in_it_alone_the_other_one_gets_a_successor_which_is_younger_than_both() -> None:
    script = crossed()
    hear(script, 1, seconds=5)
    assert RekeyChild(2) not in script.ike.heard
    hear(script, 1, seconds=295)
    assert script.ike.heard.count(RekeyChild(2)) == 1
    # The peer is silent in it: if it does not have it, that is to be known before a rekey would tell.
    assert script.ike.heard[script.ike.heard.index(RekeyChild(2)) - 1] == CheckLiveness(2)
    script = crossed()
    hear(script, 1, 2, seconds=300)
    assert RekeyChild(2) not in script.ike.heard


def test_so_it_does_while_nothing_shows_where_the_peer_sends() -> None:
    script = crossed()
    script.run_until(25.0)
    hear(script, seconds=25)
    assert CLOSED not in script.ike.heard


@pytest.mark.parametrize("is_ours", [True, False])
def test_once_the_peer_sends_in_the_other_one_and_not_in_it_who_began_it_closes_it_first(is_ours: bool) -> None:
    script = crossed(is_ours=is_ours)
    hear(script, 1, seconds=20)
    assert CLOSED not in script.ike.heard
    quiet_since = script.now
    while CLOSED not in script.ike.heard:
        hear(script, 2, seconds=1)
        assert script.now < 100.0
    took = script.now - quiet_since
    assert 5.0 <= took - (0.0 if is_ours else PATIENCE) <= 10.0
    assert carrier(script) == 2
    script.run_until(script.now + 2.0)
    assert RemoveChild(1) in script.commands
    assert script.all(Undecide) == []


def test_what_the_peer_sent_before_it_could_change_shows_nothing() -> None:
    script = crossed()
    hear(script, 2, seconds=2)
    script.run_until(25.0)
    assert CLOSED not in script.ike.heard


def test_it_sends_when_the_other_one_is_over_and_no_packet_is_trapped_meanwhile() -> None:
    script = crossed()
    commands = script.engine_says(ChildClosed(2, Reason.DELETED_BY_PEER))
    assert actions(commands) == [InstallChild(11, child(1, PAIR), Directions.OUTBOUND), RemoveChild(2)]
    script.feed(ChildInstalled(11, 1, Directions.OUTBOUND))
    assert carrier(script) == 1
    assert script.all(Undecide) == []
    hear(script, 1, seconds=60)
    assert CLOSED not in script.ike.heard


def test_the_redundant_one_that_sends_goes_on_until_the_other_one_is_ready() -> None:
    """Ours was first, and carries the pair; the peer's wins."""
    script = Script(liveness=5.0)
    script.trap()
    script.protect(id=1)
    script.engine_says(ChildRedundant(1, is_ours=True))
    inbound_half(script, 2)
    script.run_until(CROSSED_SUCCESSION - 0.01)
    assert carrier(script) == 1
    script.run_until(CROSSED_SUCCESSION)
    outbound_half(script, 2)
    assert carrier(script) == 2


def test_once_it_is_known_to_be_redundant_the_other_one_waits_for_the_peer_to_have_our_answer_and_no_longer() -> None:
    script = Script(liveness=5.0)
    script.trap()
    script.protect(id=1)
    inbound_half(script, 2)
    script.engine_says(ChildRedundant(1, is_ours=True))
    script.run_until(SUCCESSION - 0.01)
    assert SUCCESSOR not in script.commands
    script.run_until(SUCCESSION)
    assert SUCCESSOR in script.commands


def test_an_outbound_half_waits_for_one_that_is_only_on_its_way_as_well() -> None:
    """The peer's answer to our attempt comes while our answer to its attempt is made."""
    script = Script(liveness=5.0)
    script.trap()
    ticket = script.negotiations()[0].ticket
    script.engine_says(ChildReady(1, child(1, PAIR), Directions.BOTH, ticket, PEER_KEY))
    commands = inbound_half(script, 2)
    script.engine_says(ChildRedundant(2, is_ours=False))
    assert InstallChild(202, child(2, PAIR), Directions.OUTBOUND) not in commands
    script.feed(ChildInstalled(1, 1, Directions.BOTH))
    script.run_until(20.0)
    assert carrier(script) == 1


def test_one_that_never_came_leaves_nothing_behind() -> None:
    script = crossed()
    script.engine_says(ChildRedundant(3, is_ours=True), ChildClosed(3, Reason.INSTALL_FAILED))
    assert 3 not in script.gateway._children._spares
