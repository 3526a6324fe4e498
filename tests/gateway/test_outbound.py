"""Attempts: lookups in any order, several gateways, late answers."""

import pytest

from oe.messages import Decide, KeysLookedUp, LookUpKeys, Release
from oe.model import ID_NULL, Anonymity, Grade, PairState, Verdict
from oe.negotiation import NegotiationEnded
from oe.policy.outcome import Anonymous
from oe.reasons import Reason
from tests.gateway.script import (
    CLIENT,
    OTHER,
    OUR_KEY,
    OURS,
    PEER,
    PEER_KEY,
    PRIVATE_PEER,
    Script,
    delegation,
    found,
    missing,
)


def ended(ticket: int, reason: Reason = Reason.PEER_SILENT) -> NegotiationEnded:
    return NegotiationEnded(ticket, reason, "", authenticated=False)


def test_lookups_may_finish_in_any_order() -> None:
    for first in (OURS, PEER):
        script = Script(answers=())
        script.trap()
        asked = {command.owner: command.ticket for command in script.all(LookUpKeys)}
        answers = {OURS: found(OURS, delegation(OUR_KEY)), PEER: found(PEER, delegation())}
        second = PEER if first is OURS else OURS
        script.feed(KeysLookedUp(asked[first], answers[first]))
        assert script.negotiations() == []
        script.feed(KeysLookedUp(asked[second], answers[second]))
        assert len(script.negotiations()) == 1


def test_no_key_decides_before_our_own_side_is_known() -> None:
    script = Script(answers=(missing(PEER),))
    script.trap()
    status = script.status()
    assert status is not None
    assert status.state is PairState.CLEAR


def test_gateways_are_tried_in_turn_and_share_the_budget() -> None:
    records = found(PEER, delegation(gateway=OTHER, precedence=1), delegation(gateway=PEER, precedence=2))
    script = Script(answers=(found(OURS, delegation(OUR_KEY)), records))
    script.trap()
    first = script.negotiations()[0]
    assert (first.remote.address, first.deadline) == (OTHER, 1.5)
    script.now = 1.5
    script.engine_says(ended(first.ticket))
    second = script.negotiations()[1]
    assert (second.remote.address, second.deadline) == (PEER, 3.0)
    script.now = 3.0
    script.engine_says(ended(second.ticket))
    status = script.status()
    assert status is not None
    assert (status.state, status.reason) == (PairState.BLOCKED, Reason.PEER_SILENT)


def test_the_last_gateways_failure_is_the_one_that_is_told() -> None:
    script = Script()
    script.trap()
    script.engine_says(ended(script.negotiations()[0].ticket, Reason.PEER_AUTHENTICATION_FAILED))
    status = script.status()
    assert status is not None
    assert (status.state, status.reason) == (PairState.BLOCKED, Reason.PEER_AUTHENTICATION_FAILED)


def test_end_of_a_negotiation_nobody_waits_for_is_counted() -> None:
    script = Script()
    script.trap()
    script.protect()
    script.engine_says(ended(script.negotiations()[0].ticket, Reason.PEER_REFUSED))
    assert script.gateway.reasons[Reason.LATE_ANSWER] == 1
    status = script.status()
    assert status is not None
    assert status.state is PairState.PROTECTED


def test_silence_until_the_budget_is_spent_is_no_late_answer() -> None:
    script = Script()
    script.trap()
    (negotiate,) = script.negotiations()
    script.run_until(negotiate.deadline)
    script.engine_says(ended(negotiate.ticket))
    assert script.gateway.reasons[Reason.LATE_ANSWER] == 0
    status = script.status()
    assert status is not None
    assert (status.state, status.reason) == (PairState.BLOCKED, Reason.PEER_SILENT)


def test_answer_after_the_budget_is_counted_and_changes_nothing() -> None:
    script = Script(answers=())
    script.trap()
    ticket = next(command.ticket for command in script.all(LookUpKeys) if command.owner == PEER)
    script.run_until(3.0)
    script.feed(KeysLookedUp(ticket, found(PEER, delegation())))
    assert script.gateway.reasons[Reason.LATE_ANSWER] == 1
    assert script.negotiations() == []


def test_client_uses_the_gateway_address_of_its_delegation() -> None:
    answers = (found(CLIENT, delegation(OUR_KEY, OURS)), found(PEER, delegation()))
    script = Script(served=("203.0.113.0/24",), answers=answers)
    script.trap(source=CLIENT)
    (negotiate,) = script.negotiations()
    assert (negotiate.pair.source, negotiate.local.address, negotiate.own_identity.address) == (CLIENT, OURS, OURS)


def test_client_that_delegates_to_nobody_is_not_served() -> None:
    script = Script(served=("203.0.113.0/24",), answers=(missing(CLIENT), found(PEER, delegation())))
    script.trap(source=CLIENT)
    status = script.status(source=CLIENT)
    assert status is not None
    assert (script.negotiations(), status.reason) == ([], Reason.OWN_CLIENT_UNDELEGATED)


def test_a_record_that_names_nobody_reachable_is_no_usable_key() -> None:
    answers = (found(OURS, delegation(OUR_KEY)), found(PEER, delegation(name="gate.example")))
    script = Script(answers=answers)
    script.trap()
    status = script.status()
    assert status is not None
    assert (status.state, status.reason) == (PairState.CLEAR, Reason.NO_USABLE_KEY)


def test_unvalidated_answers_are_refused_when_the_group_prefers_dnssec() -> None:
    answers = (found(OURS, delegation(OUR_KEY)), found(PRIVATE_PEER, delegation(), grade=Grade.INDETERMINATE))
    script = Script(answers=answers)
    script.trap(PRIVATE_PEER)
    status = script.status(PRIVATE_PEER)
    assert status is not None
    assert (status.state, status.reason) == (PairState.BLOCKED, Reason.DNSSEC_REQUIRED)


def test_negotiation_knows_every_key_and_whether_it_must_fail_closed() -> None:
    records = found(PRIVATE_PEER, delegation(PEER_KEY), delegation(OUR_KEY))
    script = Script(answers=(found(OURS, delegation(OUR_KEY)), records))
    script.trap(PRIVATE_PEER)
    (negotiate,) = script.negotiations()
    assert negotiate.peer_keys == (PEER_KEY, OUR_KEY)
    assert negotiate.fail_closed


# --- tunnels with nobody ----------------------------------------------------------------------------------------


def test_while_our_key_is_unpublished_we_may_be_nobody_to_a_peer_that_we_know() -> None:
    script = Script(answers=(missing(OURS), found(PEER, delegation())), anonymous=Anonymous.ASK)
    script.trap()
    (negotiate,) = script.negotiations()
    assert (negotiate.own_identity, negotiate.local.address) == (ID_NULL, OURS)
    assert negotiate.peer_identity.address == PEER
    assert (negotiate.peer_keys, negotiate.anonymity) == ((PEER_KEY,), Anonymity.AUTHENTICATED)


def test_we_are_nobody_only_where_we_may_and_never_for_a_client() -> None:
    answers = (missing(OURS), missing(CLIENT), found(PEER, delegation()), found(PRIVATE_PEER, delegation()))
    for knob in (Anonymous.NO, Anonymous.ACCEPT):
        script = Script(answers=answers, anonymous=knob)
        script.trap()
        assert script.negotiations() == []
    script = Script(served=("203.0.113.0/24",), answers=answers, anonymous=Anonymous.ASK)
    script.trap(PRIVATE_PEER)
    script.trap(source=CLIENT)
    assert script.negotiations() == []


def test_a_peer_without_a_key_is_asked_behind_the_clear_decision() -> None:
    script = Script(answers=(found(OURS, delegation(OUR_KEY)), missing(PEER)), anonymous=Anonymous.ASK)
    packet = script.trap()
    assert script.all(Release) == [Release((packet,), Verdict.CLEAR, fail_closed=False)]
    (negotiate,) = script.negotiations()
    assert (negotiate.own_identity.address, negotiate.peer_identity) == (OURS, ID_NULL)
    assert (negotiate.peer_keys, negotiate.anonymity) == ((), Anonymity.ANONYMOUS)
    script.protect(key=None)
    assert [decide.verdict for decide in script.all(Decide)] == [Verdict.CLEAR, Verdict.PROTECTED]
    status = script.status()
    assert status is not None
    assert (status.authentication, status.key_source) == (Anonymity.ANONYMOUS, None)


def test_a_stranger_that_refuses_us_is_asked_whether_it_takes_nobody() -> None:
    script = Script(answers=(found(OURS, delegation(OUR_KEY)), missing(PEER)), anonymous=Anonymous.ASK)
    script.trap()
    script.engine_says(ended(script.negotiations()[0].ticket, Reason.WE_WERE_REFUSED))
    assert [one.own_identity for one in script.negotiations()][1:] == [ID_NULL]
    script.engine_says(ended(script.negotiations()[1].ticket, Reason.WE_WERE_REFUSED))
    script.run_until(900.0)
    assert len(script.negotiations()) == 2


def test_two_strangers_are_nobody_to_each_other() -> None:
    script = Script(answers=(missing(OURS), missing(PEER)), anonymous=Anonymous.ASK)
    script.trap()
    assert [one.own_identity for one in script.negotiations()] == [ID_NULL]


def test_a_stranger_that_is_silent_is_not_asked_again_and_again() -> None:
    script = Script(answers=(found(OURS, delegation(OUR_KEY)), missing(PEER)), anonymous=Anonymous.ASK)
    script.trap()
    script.run_until(900.0)
    assert len(script.negotiations()) == 1
    status = script.status()
    assert status is not None
    assert (status.state, status.reason) == (PairState.CLEAR, Reason.NO_KEY)


@pytest.mark.parametrize("knob", [Anonymous.NO, Anonymous.ACCEPT])
def test_strangers_are_asked_only_where_the_group_asks(knob: Anonymous) -> None:
    script = Script(answers=(found(OURS, delegation(OUR_KEY)), missing(PEER)), anonymous=knob)
    script.trap()
    assert script.negotiations() == []


def test_a_peer_that_does_not_take_nobody_must_not_cut_us_off() -> None:
    script = Script(answers=(missing(OURS), found(PEER, delegation())), anonymous=Anonymous.ASK)
    script.trap()
    script.engine_says(ended(script.negotiations()[0].ticket, Reason.WE_WERE_REFUSED))
    status = script.status()
    assert status is not None
    assert (status.state, status.reason) == (PairState.CLEAR, Reason.OWN_KEY_UNPUBLISHED)
    assert Reason.WE_WERE_REFUSED in status.detail
