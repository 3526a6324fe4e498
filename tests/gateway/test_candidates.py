from ipaddress import ip_address

from oe.gateway.candidates import Credentials, candidates, gateway_of, keys_at, own_credentials
from oe.gateway.context import OwnSide
from oe.reasons import Reason
from tests.gateway.script import CLIENT, OTHER, OTHER_KEY, OUR_KEY, OURS, PEER, PEER_KEY, delegation, found, missing

OWN = OwnSide((OURS,), (), (OUR_KEY,))


def counting(n: int) -> bytes:
    """Entropy that never shuffles: equal draws leave the order of the records."""
    return bytes(n)


def test_gateway_is_the_owner_unless_the_record_says_otherwise() -> None:
    assert gateway_of(delegation(), PEER) == PEER
    assert gateway_of(delegation(gateway=OTHER), PEER) == OTHER
    assert gateway_of(delegation(name="gate.example"), PEER) is None


def test_best_precedence_first_and_all_keys_of_a_gateway_together() -> None:
    answer = found(
        PEER,
        delegation(PEER_KEY, OTHER, precedence=20),
        delegation(PEER_KEY, precedence=10),
        delegation(OTHER_KEY, precedence=30),
    )
    first, second = candidates(answer, OWN, counting)
    assert (first.gateway, first.keys) == (PEER, (PEER_KEY, OTHER_KEY))
    assert (second.gateway, second.keys) == (OTHER, (PEER_KEY,))


def test_equals_are_shuffled_by_entropy() -> None:
    answer = found(PEER, delegation(gateway=PEER), delegation(gateway=OTHER))
    draws = iter((b"\xff\0\0\0", b"\0\0\0\0"))
    assert [one.gateway for one in candidates(answer, OWN, lambda n: next(draws))] == [OTHER, PEER]


def test_ourselves_names_and_foreign_families_do_not_qualify() -> None:
    answer = found(
        PEER,
        delegation(gateway=OURS),
        delegation(name="gate.example"),
        delegation(gateway=ip_address("2001:db8::9")),
        delegation(None, OTHER),
    )
    assert candidates(answer, OWN, counting) == ()


def test_own_credentials_need_our_address_and_our_key() -> None:
    assert own_credentials(found(OURS, delegation(OUR_KEY)), OWN) == Credentials(OURS)
    assert own_credentials(found(OURS, delegation(OTHER_KEY)), OWN) is Reason.OWN_KEY_UNPUBLISHED
    assert own_credentials(found(OURS, delegation(OUR_KEY, OTHER)), OWN) is Reason.OWN_KEY_UNPUBLISHED
    assert own_credentials(missing(OURS), OWN) is Reason.OWN_KEY_UNPUBLISHED


def test_a_client_must_delegate_to_us() -> None:
    assert own_credentials(found(CLIENT, delegation(OUR_KEY, OURS)), OWN) == Credentials(OURS)
    assert own_credentials(found(CLIENT, delegation(OUR_KEY)), OWN) is Reason.OWN_CLIENT_UNDELEGATED


def test_silent_dns_about_ourselves_is_told_as_such() -> None:
    assert own_credentials(missing(OURS, Reason.DNS_TIMEOUT), OWN) is Reason.DNS_TIMEOUT


def test_keys_at_one_gateway_only() -> None:
    answer = found(CLIENT, delegation(PEER_KEY, PEER), delegation(OTHER_KEY, OTHER), delegation(None, PEER))
    assert keys_at(answer, PEER) == (PEER_KEY,)
