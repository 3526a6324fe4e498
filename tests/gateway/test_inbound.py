"""Judgements: who may have which pair."""

import pytest

from oe.messages import KeysLookedUp, LookUpKeys
from oe.model import ID_NULL, Address, Anonymity, Grade, HostPair, Identity, IdentityKind, KeyAnswer
from oe.negotiation import PeerExpected, PeerJudged
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


def test_an_expected_peer_is_looked_up_before_it_claims_anything() -> None:
    script = Script(answers=())
    script.engine_says(PeerExpected(PEER))
    question = script.all(LookUpKeys)[-1]
    assert (question.owner, question.deadline) == (PEER, script.now + 3.0)
    script.feed(KeysLookedUp(question.ticket, found(PEER, delegation())))
    assert not script.gateway.pairs
    assert not script.gateway.reasons


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


def test_behind_a_nat_the_identity_proves_itself_by_its_own_record() -> None:
    inside = v4("198.51.100.30")
    own = found(inside, delegation())
    judged = Script(answers=(own,)).claim(HostPair(OURS, inside), OTHER, identity=inside, nat=True)
    assert judged is not None
    assert (judged.keys, judged.refusal) == ((PEER_KEY,), None)
    judged = Script(answers=(own,)).claim(HostPair(OURS, inside), OTHER, identity=inside, nat=False)
    assert judged is not None
    assert (judged.keys, judged.refusal) == ((), Reason.NOT_DELEGATED)
    judged = Script(answers=(missing(inside),)).claim(HostPair(OURS, inside), OTHER, identity=inside, nat=True)
    assert judged is not None
    assert (judged.keys, judged.refusal) == ((), Reason.NO_KEY)


def test_behind_a_nat_nobody_gets_the_address_of_the_nat_for_his_own_key() -> None:
    inside = v4("198.51.100.30")
    answers = (found(inside, delegation()), found(OTHER, delegation(OTHER_KEY)))
    judged = Script(answers=answers).claim(HostPair(OURS, OTHER), OTHER, identity=inside, nat=True)
    assert judged is not None
    assert judged.refusal is Reason.NOT_DELEGATED


# --- identities that are names ----------------------------------------------------------------------------------

GATE = Identity(IdentityKind.FQDN, b"Gate.Example.")


def test_a_name_is_proved_by_the_keys_of_the_record_that_delegates_to_it() -> None:
    records = found(PEER, delegation(name="gate.example"), delegation(OTHER_KEY, name="other.example"))
    judged = Script(answers=(records,)).claim(HostPair(OURS, PEER), OTHER, identity=GATE)
    assert judged is not None
    assert (judged.keys, judged.refusal) == ((PEER_KEY,), None)


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (found(PEER, delegation(name="other.example")), Reason.NOT_DELEGATED),
        (found(PEER, delegation()), Reason.NOT_DELEGATED),
        (found(PEER, delegation(name="gate.example"), grade=Grade.INDETERMINATE), Reason.DNSSEC_REQUIRED),
        (missing(PEER), Reason.NO_KEY),
        (missing(PEER, Reason.DNS_BOGUS), Reason.DNS_BOGUS),
    ],
)
def test_a_name_that_nobody_delegates_to_proves_nothing(record: KeyAnswer, reason: Reason) -> None:
    judged = Script(answers=(record,)).claim(HostPair(OURS, PEER), PEER, identity=GATE)
    assert judged is not None
    assert (judged.keys, judged.refusal, judged.anonymity) == ((), reason, Anonymity.AUTHENTICATED)


@pytest.mark.parametrize("name", [b"", b".", b"\xff\x00", b"." * 300])
def test_odd_names_are_nobodys(name: bytes) -> None:
    odd = Identity(IdentityKind.FQDN, name)
    judged = Script().claim(HostPair(OURS, PEER), PEER, identity=odd)
    assert judged is not None
    assert judged.keys == ()


# --- anonymous peers --------------------------------------------------------------------------------------------


def anonymous_claim(script: Script, destination: Address = PEER, wire: Address = PEER) -> PeerJudged:
    judged = script.claim(HostPair(OURS, destination), wire, identity=ID_NULL)
    assert judged is not None
    return judged


@pytest.mark.parametrize(
    "answer", [missing(PEER), missing(PEER, Reason.DNS_FAILED), missing(PEER, Reason.NO_USABLE_KEY)]
)
def test_nobody_gets_his_own_address_where_the_group_accepts_him(answer: KeyAnswer) -> None:
    script = Script(answers=(answer,), anonymous=Anonymous.ACCEPT)
    judged = anonymous_claim(script)
    assert (judged.keys, judged.refusal, judged.anonymity) == ((), None, Anonymity.ANONYMOUS)


def refused_as_nobody(judged: PeerJudged) -> bool:
    return judged.keys == () and judged.anonymity is Anonymity.AUTHENTICATED


def test_nobody_is_refused_unless_the_group_accepts_him_and_by_private_always() -> None:
    assert refused_as_nobody(anonymous_claim(Script(answers=(missing(PEER),))))
    private = Script(answers=(missing(PRIVATE_PEER),), anonymous=Anonymous.ASK)
    assert refused_as_nobody(anonymous_claim(private, PRIVATE_PEER, PRIVATE_PEER))


def test_nobody_speaks_for_no_other_address() -> None:
    script = Script(answers=(missing(PEER), missing(OTHER)), anonymous=Anonymous.ASK)
    assert refused_as_nobody(anonymous_claim(script, PEER, OTHER))


@pytest.mark.parametrize("answer", [found(PEER, delegation()), missing(PEER, Reason.DNS_BOGUS)])
def test_where_a_key_is_published_or_hidden_nobody_is_somebody_else(answer: KeyAnswer) -> None:
    script = Script(answers=(answer,), anonymous=Anonymous.ACCEPT)
    assert refused_as_nobody(anonymous_claim(script))
    assert script.gateway.reasons[Reason.ANONYMOUS_REFUSED] == 1


def test_nobody_does_not_get_a_pair_that_somebody_has() -> None:
    script = Script(anonymous=Anonymous.ACCEPT)
    script.trap()
    script.protect()
    script.answers[PEER] = missing(PEER)
    assert refused_as_nobody(anonymous_claim(script))


def test_nobody_gets_only_what_is_ours_to_give() -> None:
    clear = v4("198.51.100.130")
    script = Script(answers=(missing(clear), missing(PEER), missing(CLIENT)), anonymous=Anonymous.ACCEPT)
    assert anonymous_claim(script, clear, clear).refusal is Reason.NOT_ADMITTED
    judged = script.claim(HostPair(CLIENT, PEER), PEER, identity=ID_NULL)
    assert judged is not None
    assert judged.refusal is Reason.TS_UNACCEPTABLE


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
