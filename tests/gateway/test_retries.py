"""Failed attempts are made again: when, and which."""

import pytest

from oe.gateway.retries import CROSSED, HEARD, pause
from oe.model import Grade
from oe.negotiation import NegotiationEnded
from oe.reasons import Reason
from tests.gateway.script import OUR_KEY, OURS, PEER, Script, delegation, found


def ended(ticket: int, reason: Reason) -> NegotiationEnded:
    return NegotiationEnded(ticket, reason, "", authenticated=False)


@pytest.mark.parametrize("reason", [Reason.NO_KEY, Reason.TS_UNACCEPTABLE, Reason.DNS_BOGUS])
def test_what_will_not_pass_by_itself_is_not_tried_again(reason: Reason) -> None:
    assert pause(reason, 0) is None


@pytest.mark.parametrize("reason", [Reason.PEER_SILENT, *sorted(CROSSED)])
def test_pauses_double_up_to_a_bound(reason: Reason) -> None:
    assert [pause(reason, tries) for tries in (0, 1, 2, 3, 1000)] == [5.0, 10.0, 20.0, 20.0, 20.0]


def test_retries_come_further_and_further_apart_but_not_for_ever() -> None:
    script = Script(answers=(found(OURS, delegation(OUR_KEY)), found(PEER, delegation(), grade=Grade.INSECURE)))
    script.trap()
    began: list[float] = [0.0]
    while script.now < 120.0:
        script.run_until(script.now + 1.0)
        if len(script.negotiations()) > len(began):
            began.append(script.now)
    assert began == [0.0, 8.0, 21.0, 44.0, 67.0, 90.0, 113.0]


def test_a_peer_that_began_to_answer_is_tried_again_soon() -> None:
    script = Script()
    script.trap()
    script.now = 3.0
    script.engine_says(ended(script.negotiations()[0].ticket, Reason.NEGOTIATION_TIMEOUT))
    script.run_until(3.0 + HEARD)
    assert len(script.negotiations()) == 2


def test_a_signature_that_was_wrong_once_is_looked_at_again_and_then_less_and_less() -> None:
    script = Script()
    script.trap()
    tried: list[int] = []
    while script.now < 3600.0:
        if len(script.negotiations()) > len(tried):
            tried.append(round(script.now))
            script.engine_says(ended(script.negotiations()[-1].ticket, Reason.PEER_AUTHENTICATION_FAILED))
        script.run_until(script.now + 1.0)
    assert tried == [0, 5, 15, 35, 75, 155, 315, 635, 1275, 2555]
