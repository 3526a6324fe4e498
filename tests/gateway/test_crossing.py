"""Both sides begin at once: one of two negotiations counts, and nothing goes astray meanwhile."""

import pytest

from oe.gateway.children import CROSSED_SUCCESSION, LINGER
from oe.gateway.coordinator import CROSSING
from oe.gateway.retries import CROSSED
from oe.messages import Decide, Release, RemoveChild
from oe.model import Directions, Verdict
from oe.negotiation import ChildClosed, ChildReady, NegotiationEnded
from oe.reasons import Reason
from tests.gateway.halves import PAIR, SUCCESSOR, carrier, inbound_half, informed, outbound_half, responder
from tests.gateway.script import PEER_KEY, Script, actions, child


def refused(script: Script, reason: Reason = Reason.WE_WERE_REFUSED) -> None:
    ticket = script.negotiations()[0].ticket
    script.engine_says(NegotiationEnded(ticket, reason, "", authenticated=False))


@pytest.mark.parametrize("reason", sorted(CROSSED))
def test_a_refusal_of_the_losing_side_waits_for_the_winning_one(reason: Reason) -> None:
    script = Script()
    packet = script.trap()
    refused(script, reason)
    assert script.all(Decide) == []
    script.run_until(CROSSING / 2)
    script.protect(initiated=False)
    script.run_until(1.0)
    assert [decide.verdict for decide in script.all(Decide)] == [Verdict.PROTECTED]
    assert script.all(Release) == [Release((packet,), Verdict.PROTECTED, fail_closed=False)]


def test_a_refusal_that_nobody_makes_good_counts_and_is_tried_again() -> None:
    script = Script()
    script.trap()
    refused(script)
    script.run_until(CROSSING)
    assert [decide.verdict for decide in script.all(Decide)] == [Verdict.BLOCKED]
    script.run_until(6.0)
    assert len(script.negotiations()) == 2


def test_a_failure_waits_for_the_peers_sa_whose_first_half_is_in_place() -> None:
    script = Script()
    script.trap()
    script.install(ChildReady(9, child(1, PAIR), Directions.INBOUND, None, PEER_KEY))
    refused(script, Reason.PEER_SILENT)
    assert script.all(Decide) == []
    script.install(ChildReady(10, child(1, PAIR), Directions.OUTBOUND, None, PEER_KEY))
    script.run_until(1.0)
    assert [decide.verdict for decide in script.all(Decide)] == [Verdict.PROTECTED]


def test_failures_beside_a_living_sa_are_none() -> None:
    script = Script()
    script.trap()
    script.protect(initiated=False)
    script.run_until(5.0)
    refused(script, Reason.PEER_SILENT)
    assert script.gateway.reasons[Reason.PEER_SILENT] == 0
    assert [decide.verdict for decide in script.all(Decide)] == [Verdict.PROTECTED]


def test_the_redundant_of_two_goes_quietly_whichever_it_is() -> None:
    for redundant, stays in ((1, 2), (2, 1)):
        script = Script()
        responder(script, id=1)
        script.protect(id=2, initiated=False)
        commands = script.engine_says(ChildClosed(redundant, Reason.REDUNDANT))
        commands += script.run_until(LINGER)
        assert actions(commands) == [RemoveChild(redundant)]
        assert informed(commands) == []
        assert carrier(script) == stays


def test_of_two_that_crossed_the_one_that_sends_goes_on_until_one_is_gone() -> None:
    script = Script()
    script.trap()
    script.protect(id=1)
    inbound_half(script, 2)
    script.run_until(CROSSED_SUCCESSION - 0.01)
    assert SUCCESSOR not in script.commands
    assert actions(script.engine_says(ChildClosed(1, Reason.REDUNDANT))) == [SUCCESSOR]
    assert actions(outbound_half(script, 2))[-1] == RemoveChild(1)
    script = Script()
    script.trap()
    script.protect(id=1)
    inbound_half(script, 2)
    script.run_until(CROSSED_SUCCESSION)
    assert SUCCESSOR in script.commands
