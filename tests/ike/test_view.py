"""What people see of an IKE SA, from its first message to its successor."""

from dataclasses import fields, replace

import pytest

from oe.ike.kem import KEMS
from oe.ike.nat import Nat
from oe.ike.proposals import IKE_GROUPS, ChosenIke, accept_ike, offer_ike
from oe.ike.registry import KeyExchangeId, PrfId
from oe.ike.sa import IkeSa, Role
from oe.ike.settings import IkeSettings
from oe.ike.states import State
from oe.ike.view import IkeSaRow, Suite, view
from oe.model import ID_NULL, Anonymity, Secret
from tests.ike.test_anonymous import lenient, negotiate
from tests.ike.test_reach import Natted
from tests.ike.world import Host, World

CLASSICAL = Suite("AES-GCM-256", "HMAC-SHA2-512", "X25519", None)
HYBRID = replace(CLASSICAL, additional_key_exchange="ML-KEM-768")
SHORT = IkeSettings(ike_lifetime=1000.0)


def row(host: Host) -> IkeSaRow:
    (only,) = host.endpoint.snapshot()
    return only


@pytest.mark.parametrize(("hybrid", "suite"), [(False, CLASSICAL), (True, HYBRID)])
def test_an_established_one_and_its_successor(hybrid: bool, suite: Suite) -> None:
    world = World(hybrid=hybrid)
    one, other = world.pair(settings=SHORT)
    one.negotiate(other)
    world.run(1.0)
    for host, peer, role in ((one, other, Role.INITIATOR), (other, one, Role.RESPONDER)):
        seen = row(host)
        assert (seen.role, seen.state, seen.suite, seen.nat) == (role, State.ESTABLISHED, suite, Nat.NOBODY)
        assert (seen.local, seen.remote) == (host.socket, peer.socket)
        assert (seen.peer_identity, seen.peer_key) == (peer.identity, peer.key)
        assert seen.authentication is Anonymity.AUTHENTICATED
        assert seen.children == tuple(host.kernel)
    before, when = row(one), min(row(host).rekey or 0.0 for host in (one, other))
    assert before.since < when < before.since + SHORT.ike_lifetime
    world.run(when - world.now + 10.0)
    after = row(one)
    assert after.local_spi != before.local_spi
    assert (after.suite, after.authentication, after.peer_key) == (suite, before.authentication, before.peer_key)
    assert after.since == pytest.approx(when, abs=1.0)
    assert after.rekey is not None


def test_one_that_is_only_begun() -> None:
    world = World()
    one, other = world.pair()
    one.negotiate(other)
    begun = row(one)
    assert (begun.state, begun.remote_spi, begun.suite) == (State.STARTED, 0, None)
    assert (begun.peer_identity, begun.peer_key, begun.authentication) == (other.identity, None, None)
    assert (begun.rekey, begun.children) == (None, ())
    world.run(0.015)
    answered = row(other)
    assert (answered.state, answered.remote_spi, answered.suite) == (State.HALF_OPEN, begun.local_spi, CLASSICAL)
    assert (answered.peer_identity, answered.authentication) == (None, None)


def test_a_peer_that_is_nobody_in_particular() -> None:
    world = World()
    one, other = world.pair()
    other.judge = lenient(world)
    negotiate(one, other, own=ID_NULL)
    world.run(1.0)
    seen = row(other)
    assert (seen.peer_identity, seen.peer_key, seen.authentication) == (ID_NULL, None, Anonymity.ANONYMOUS)


def test_behind_a_nat() -> None:
    net = Natted().establish()
    assert (row(net.inner).nat, row(net.outer).nat) == (Nat.WE, Nat.PEER)
    assert row(net.outer).peer_identity == net.inner.identity


def chosen(group: KeyExchangeId, additional: KeyExchangeId | None) -> ChosenIke:
    """What a peer takes that wants just this."""
    offer = offer_ike([group], additional=[] if additional is None else [additional])
    (first, *_) = offer.proposals
    one_each = tuple({transform.kind: transform for transform in reversed(first.transforms)}.values())
    found = accept_ike(offer, replace(offer, proposals=(replace(first, transforms=one_each),)))
    assert found is not None
    return found


NAMES = {
    KeyExchangeId.CURVE25519: "X25519",
    KeyExchangeId.ECP_256: "P-256",
    KeyExchangeId.ECP_384: "P-384",
    KeyExchangeId.MODP_3072: "MODP-3072",
    KeyExchangeId.MODP_2048: "MODP-2048",
    KeyExchangeId.ML_KEM_768: "ML-KEM-768",
    KeyExchangeId.ML_KEM_1024: "ML-KEM-1024",
}


@pytest.mark.parametrize("group", IKE_GROUPS)
@pytest.mark.parametrize("additional", [None, *KEMS])
def test_every_algorithm_has_the_name_that_people_use(group: KeyExchangeId, additional: KeyExchangeId | None) -> None:
    world = World()
    ends = world.host("192.0.2.1").socket, world.host("192.0.2.2").socket
    sa = IkeSa(Role.INITIATOR, State.AUTHENTICATING, 1, *ends, 0.0)
    sa.chosen = replace(chosen(group, additional), encryption_bits=128, prf=PrfId.HMAC_SHA2_256)
    suite = view(sa).suite
    assert suite is not None
    assert (suite.encryption, suite.prf, suite.key_exchange) == ("AES-GCM-128", "HMAC-SHA2-256", NAMES[group])
    assert suite.additional_key_exchange == (None if additional is None else NAMES[additional])


def test_no_secret_is_among_it() -> None:
    world = World(hybrid=True)
    one, other = world.pair()
    one.negotiate(other)
    world.run(1.0)
    seen = row(one)
    assert not any(isinstance(getattr(seen, field.name), Secret | bytes) for field in fields(seen))
    (sa,) = one.endpoint._ctx.sas.values()
    assert sa.keys is not None
    told = repr(seen)
    for secret in (sa.keys.sk_d, sa.keys.sk_ei, sa.keys.sk_er, sa.keys.sk_pi, sa.keys.sk_pr):
        assert secret.octets.hex() not in told
        assert repr(secret.octets) not in told
