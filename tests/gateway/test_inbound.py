"""Judgements: who may have which pair."""

import pytest

from oe.model import Grade, HostPair, KeyAnswer, Reason
from tests.gateway.script import (
    CLIENT,
    OTHER,
    OTHER_KEY,
    OUR_KEY,
    OURS,
    PEER,
    PEER_KEY,
    PRIVATE_PEER,
    Script,
    delegation,
    found,
    missing,
    v4,
)

BEHIND = v4("198.51.100.20")
"""A client behind PEER."""


def test_peer_that_speaks_for_itself_gets_its_pair() -> None:
    judged = Script().claim(HostPair(OURS, PEER), PEER)
    assert judged is not None
    assert (judged.keys, judged.refusal, judged.fail_closed) == ((PEER_KEY,), None, False)


def test_private_pairs_are_judged_as_such() -> None:
    script = Script(answers=(found(PRIVATE_PEER, delegation()),))
    judged = script.claim(HostPair(OURS, PRIVATE_PEER), PRIVATE_PEER)
    assert judged is not None
    assert judged.fail_closed


def test_nobody_is_judged_before_dns_has_answered() -> None:
    assert Script(answers=()).claim(HostPair(OURS, PEER), PEER) is None


@pytest.mark.parametrize("reason", [Reason.NO_KEY, Reason.DNS_BOGUS, Reason.DNS_TIMEOUT])
def test_without_a_key_nobody_is_authenticated(reason: Reason) -> None:
    judged = Script(answers=(missing(PEER, reason),)).claim(HostPair(OURS, PEER), PEER)
    assert judged is not None
    assert (judged.keys, judged.refusal) == ((), reason)


def test_identity_must_be_the_address_on_the_wire() -> None:
    script = Script(answers=(found(PEER, delegation()),))
    judged = script.claim(HostPair(OURS, PEER), OTHER, identity=PEER)
    assert judged is not None
    assert judged.keys == ()


def test_the_grade_must_satisfy_the_group() -> None:
    script = Script(answers=(found(PEER, delegation(), grade=Grade.INDETERMINATE),))
    judged = script.claim(HostPair(OURS, PEER), PEER)
    assert judged is not None
    assert judged.refusal is Reason.DNSSEC_REQUIRED


def test_gateway_for_a_client_that_delegates_to_it() -> None:
    script = Script(answers=(found(PEER, delegation()), found(BEHIND, delegation(PEER_KEY, PEER))))
    judged = script.claim(HostPair(OURS, BEHIND), PEER)
    assert judged is not None
    assert (judged.keys, judged.refusal) == ((PEER_KEY,), None)


def test_client_may_name_its_gateway_without_a_key() -> None:
    script = Script(answers=(found(PEER, delegation()), found(BEHIND, delegation(None, PEER))))
    judged = script.claim(HostPair(OURS, BEHIND), PEER)
    assert judged is not None
    assert (judged.keys, judged.refusal) == ((PEER_KEY,), None)


@pytest.mark.parametrize(
    "record",
    [
        found(BEHIND, delegation(PEER_KEY, OTHER)),
        found(BEHIND, delegation(OTHER_KEY, PEER)),
        missing(BEHIND),
        found(BEHIND, delegation(PEER_KEY, PEER), grade=Grade.INDETERMINATE),
    ],
)
def test_peer_that_nobody_delegated_to_stays_itself_but_does_not_get_the_pair(record: KeyAnswer) -> None:
    script = Script(answers=(found(PEER, delegation()), record))
    judged = script.claim(HostPair(OURS, BEHIND), PEER)
    assert judged is not None
    assert (judged.keys, judged.refusal) == ((PEER_KEY,), Reason.NOT_DELEGATED)


def test_our_client_must_have_asked_for_us() -> None:
    served = ("203.0.113.0/24",)
    asked = (found(PEER, delegation()), found(CLIENT, delegation(OUR_KEY, OURS)))
    judged = Script(served=served, answers=asked).claim(HostPair(CLIENT, PEER), PEER)
    assert judged is not None
    assert judged.refusal is None
    judged = Script(served=served, answers=(found(PEER, delegation()), missing(CLIENT))).claim(
        HostPair(CLIENT, PEER), PEER
    )
    assert judged is not None
    assert judged.refusal is Reason.OWN_CLIENT_UNDELEGATED


def test_addresses_that_are_not_ours_are_not_ours_to_give() -> None:
    script = Script(answers=(found(PEER, delegation()), missing(CLIENT)))
    judged = script.claim(HostPair(CLIENT, PEER), PEER)
    assert judged is not None
    assert judged.refusal is Reason.TS_UNACCEPTABLE


def test_a_pair_of_a_group_that_never_negotiates_is_refused() -> None:
    clear = v4("198.51.100.130")
    script = Script(answers=(found(PEER, delegation()), found(clear, delegation(PEER_KEY, PEER))))
    judged = script.claim(HostPair(OURS, clear), PEER)
    assert judged is not None
    assert judged.refusal is Reason.NOT_ADMITTED


def test_admission_is_by_the_group_of_the_peers_address() -> None:
    admits = Script().ike.admits
    assert admits(PEER)
    assert admits(PRIVATE_PEER)
    assert admits(v4("198.51.100.225"))
    assert not admits(v4("198.51.100.130"))
    assert not admits(v4("198.51.100.200"))


def test_unlisted_gateway_may_speak_for_a_listed_client_but_not_for_itself() -> None:
    unlisted = v4("192.0.2.77")
    script = Script(answers=(found(unlisted, delegation()), found(BEHIND, delegation(PEER_KEY, unlisted))))
    assert script.ike.admits(unlisted)
    judged = script.claim(HostPair(OURS, BEHIND), unlisted)
    assert judged is not None
    assert (judged.keys, judged.refusal) == ((PEER_KEY,), None)
    judged = script.claim(HostPair(OURS, unlisted), unlisted)
    assert judged is not None
    assert judged.refusal is Reason.NOT_ADMITTED
