"""The DNS answers behind protected pairs: asked again when they end."""

import pytest

from oe.gateway.children import GRACE
from oe.gateway.evidence import PATIENCE
from oe.messages import KeysLookedUp, LookUpKeys, RemoveChild, Undecide
from oe.model import Address, Anonymity, Directions, Encapsulation, Grade, HostPair, KeyAnswer, PairState
from oe.negotiation import ChildClosed, ChildReady, CloseChild
from oe.policy.outcome import Anonymous
from oe.reasons import Reason
from tests.gateway.script import (
    CLIENT,
    OTHER,
    OTHER_KEY,
    OUR_KEY,
    OURS,
    PEER,
    PEER_KEY,
    Script,
    actions,
    child,
    delegation,
    found,
    missing,
)

PAIR = HostPair(OURS, PEER)
TTL = 300.0


def protected(*records: KeyAnswer) -> Script:
    """A pair whose answer ends after TTL; DNS says `records` afterwards."""
    script = Script(answers=(found(OURS, delegation(OUR_KEY)), found(PEER, delegation(), expires=TTL)))
    script.trap()
    script.protect()
    busy(script)
    script.run_until(TTL - 1.0)
    script.answers |= {record.owner: record for record in records}
    return script


def busy(script: Script) -> None:
    """Counters are not read, so that no tunnel can be idle."""
    script.traffic = {}


def is_protected(script: Script, source: Address = OURS) -> bool:
    status = script.status(source=source)
    return status is not None and status.state is PairState.PROTECTED


def asked(script: Script) -> int:
    return sum(command.owner == PEER for command in script.all(LookUpKeys))


def test_an_answer_that_says_the_same_keeps_the_tunnel_and_is_asked_again_when_it_ends() -> None:
    again = found(PEER, delegation(OTHER_KEY), delegation(), grade=Grade.INSECURE, expires=2 * TTL)
    script = protected(again)
    before = asked(script)
    script.run_until(TTL)
    assert asked(script) == before + 1
    assert is_protected(script)
    status = script.status()
    assert status is not None
    assert status.grade is Grade.INSECURE
    script.run_until(2 * TTL)
    assert asked(script) == before + 2


@pytest.mark.parametrize(
    "record",
    [
        missing(PEER),
        missing(PEER, Reason.NO_USABLE_KEY),
        found(PEER, delegation(OTHER_KEY)),
        found(PEER, delegation(PEER_KEY, OTHER)),
    ],
)
def test_a_key_or_delegation_that_is_gone_takes_the_tunnel_down_the_trap_first(record: KeyAnswer) -> None:
    script = protected(record)
    assert actions(script.run_until(TTL)) == [Undecide(PAIR), RemoveChild(1)]
    assert CloseChild(1, Reason.DELEGATION_WITHDRAWN) in script.ike.heard
    assert script.gateway.reasons[Reason.DELEGATION_WITHDRAWN] == 1
    assert not script.gateway.pairs


@pytest.mark.parametrize(
    "record",
    [
        missing(PEER, Reason.DNS_FAILED),
        missing(PEER, Reason.DNS_TIMEOUT),
        missing(PEER, Reason.DNS_BOGUS, Grade.BOGUS),
        missing(PEER, grade=Grade.INDETERMINATE),
        found(PEER, delegation(OTHER_KEY), grade=Grade.INDETERMINATE),
    ],
)
def test_what_the_group_would_not_act_on_changes_nothing_and_is_asked_again_later(record: KeyAnswer) -> None:
    script = protected(record)
    before = asked(script)
    script.run_until(TTL + PATIENCE)
    assert is_protected(script)
    assert asked(script) == before + 2
    script.answers[PEER] = missing(PEER)
    script.run_until(TTL + 2 * PATIENCE)
    assert not is_protected(script)


def test_answers_that_end_at_once_are_not_asked_for_at_once() -> None:
    script = protected(found(PEER, delegation(), expires=0.0))
    before = asked(script)
    script.run_until(TTL + 10 * PATIENCE)
    assert asked(script) == before + 11


def test_the_answer_about_a_peer_that_came_is_kept_fresh_too() -> None:
    script = Script(answers=(found(OURS, delegation(OUR_KEY)), found(PEER, delegation(), expires=TTL)))
    script.protect(initiated=False)
    busy(script)
    status = script.status()
    assert status is not None
    assert status.grade is Grade.SECURE
    script.answers[PEER] = missing(PEER)
    script.run_until(TTL)
    assert not is_protected(script)


def test_a_rekey_asks_nobody() -> None:
    script = protected()
    before = asked(script)
    script.protect(id=2, initiated=False, replaces=1)
    assert asked(script) == before


def test_behind_a_nat_the_key_alone_has_to_be_there() -> None:
    script = Script()
    sa = child(1, PAIR, OTHER)
    mapped = ChildReady(1, sa, Directions.BOTH, None, PEER_KEY)
    script.install(mapped)
    assert not is_protected(script)
    encapsulated = child(2, PAIR, OTHER, encapsulation=Encapsulation(4500, 4500))
    script.install(ChildReady(2, encapsulated, Directions.BOTH, None, PEER_KEY))
    assert is_protected(script)


def test_our_client_may_withdraw_its_trust_in_us() -> None:
    records = (found(CLIENT, delegation(OUR_KEY, OURS)), found(PEER, delegation(), expires=TTL))
    script = Script(served=("203.0.113.0/24",), answers=records)
    script.trap(source=CLIENT)
    script.protect(source=CLIENT)
    busy(script)
    script.answers[PEER] = found(PEER, delegation())
    script.answers[CLIENT] = missing(CLIENT, Reason.DNS_FAILED)
    script.run_until(TTL)
    assert is_protected(script, CLIENT)
    script.answers[PEER] = found(PEER, delegation(), expires=TTL)
    script = Script(served=("203.0.113.0/24",), answers=records)
    script.trap(source=CLIENT)
    script.protect(source=CLIENT)
    busy(script)
    script.answers[CLIENT] = missing(CLIENT)
    script.run_until(TTL)
    assert not is_protected(script, CLIENT)


def test_a_peer_that_was_nobody_and_publishes_a_key_is_negotiated_with_behind_the_tunnel() -> None:
    script = Script(answers=(found(OURS, delegation(OUR_KEY)), missing(PEER, expires=TTL)), anonymous=Anonymous.ACCEPT)
    script.protect(initiated=False, key=None)
    busy(script)
    assert script.negotiations() == []
    script.answers[PEER] = found(PEER, delegation())
    script.run_until(TTL)
    (negotiate,) = script.negotiations()
    assert (negotiate.peer_keys, negotiate.anonymity) == ((PEER_KEY,), Anonymity.AUTHENTICATED)
    assert is_protected(script)
    script.protect(id=2)
    assert RemoveChild(1) in script.commands
    status = script.status()
    assert status is not None
    assert status.authentication is Anonymity.AUTHENTICATED


def test_an_answer_about_the_tunnel_before_does_not_meet_the_one_that_is_not_in_use_yet() -> None:
    script = Script(answers=())
    script.protect(initiated=False)
    (question,) = script.all(LookUpKeys)
    script.engine_says(ChildClosed(1, Reason.DELETED_BY_PEER))
    script.trap()
    script.protect(id=2, initiated=False)
    status = script.status()
    assert status is not None
    assert status.state is PairState.HELD
    script.feed(KeysLookedUp(question.ticket, missing(PEER)))
    script.run_until(GRACE)
    assert is_protected(script)
    assert asked(script) == 3
