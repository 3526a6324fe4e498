"""The rekey of an IKE SA, both roles, and both at once."""

import pytest

from oe.ike.crypto import SkCipher
from oe.ike.kex import KeyExchange
from oe.ike.keymat import derive_rekeyed_ike
from oe.ike.payloads import DeletePayload, KePayload, NoncePayload, NotifyPayload, Payload, SaPayload, find
from oe.ike.proposals import IKE_GROUPS, accept_ike, invalid_ke, offer_ike
from oe.ike.registry import ExchangeType, KeyExchangeId, NotifyType, ProtocolId
from oe.ike.settings import IkeSettings
from oe.ike.states import State
from oe.model import HostPair
from oe.negotiation import CheckLiveness
from oe.reasons import Reason
from tests.ike.puppet import Puppet, played
from tests.ike.world import Host, World, assert_matched, is_message

CREATE, INFORMATIONAL = ExchangeType.CREATE_CHILD_SA, ExchangeType.INFORMATIONAL
GROUP = IKE_GROUPS[0]
NEW_SPI = b"\xbb" * 8
NONCE = NoncePayload(b"\x55" * 32)


def connected(settings: IkeSettings | None = None) -> tuple[World, Host, Host]:
    world = World()
    one, other = world.pair(settings=settings)
    one.negotiate(other)
    world.run(2.5)
    return world, one, other


@pytest.mark.parametrize("first", [0, 1])
def test_a_new_ike_sa_takes_over_and_nobody_outside_hears_of_it(first: int) -> None:
    world, *hosts = connected()
    one, other = hosts[first], hosts[1 - first]
    told = [(len(host.ready), dict(host.closed)) for host in hosts]
    (before,) = one.endpoint.snapshot()
    one.rekey_ike()
    world.run(0.5)
    assert one.states == [State.ESTABLISHED]
    (after,) = one.endpoint.snapshot()
    assert {after.local_spi, after.remote_spi}.isdisjoint({before.local_spi, before.remote_spi})
    assert (after.role.value, after.children) == ("initiator", before.children)
    assert (after.peer_identity, after.peer_key) == (before.peer_identity, before.peer_key)
    world.run(20.0)
    assert one.states == other.states == [State.ESTABLISHED]
    assert [(len(host.ready), dict(host.closed)) for host in hosts] == told
    assert_matched(one, other)
    # It lives: liveness, rekey and a further Child SA go through it, from either end.
    other.check_all()
    other.rekey()
    other.negotiate(one, pair=HostPair(other.address, one.address + 7))
    world.run(5.0)
    assert_matched(one, other)
    assert len(one.kernel) == 2
    assert not one.notes + other.notes


def test_a_successor_that_is_never_heard_of_does_not_stay() -> None:
    """Its initiator vanishes behind its request; nothing waits for ever for a first message."""
    world, one, other = connected()
    one.rekey_ike()
    asked = len(one.sent)
    world.link.passes = lambda sent: sent.local.address != one.address or sent in one.sent[:asked]
    world.run(1.0)
    assert len(other.states) == 2
    world.run(120.0)
    assert other.states == []
    assert not other.kernel


def test_message_ids_start_anew() -> None:
    world, one, other = connected()
    one.check_all()
    world.run(1.0)
    one.rekey_ike()
    world.run(1.0)
    before = len(one.sent)
    one.feed(CheckLiveness(next(iter(one.kernel))))
    assert one.sent[before].data[20:24] in ((0).to_bytes(4, "big"), (1).to_bytes(4, "big"))
    world.run(1.0)
    assert_matched(one, other)


def test_it_comes_by_time_and_with_hard_ends_only_when_it_fails() -> None:
    world, one, other = connected(IkeSettings(ike_lifetime=1000.0))
    world.run(10_000.0)
    (row,) = one.endpoint.snapshot()
    assert world.now - row.since < 1000.0
    assert set(one.closed.values()) == {Reason.REKEYED}
    world.link.passes = lambda sent: not is_message(sent, CREATE, is_response=False)
    world.run(1000.0)
    assert_matched(one, other)
    assert {Reason.LIVENESS_FAILED, Reason.DELETED_BY_PEER} & {*one.closed.values(), *other.closed.values()}


def test_negotiations_that_wait_meanwhile_are_served_by_the_new_one() -> None:
    world, one, other = connected()
    one.rekey_ike()
    ticket = one.negotiate(other, pair=HostPair(one.address, other.address + 5))
    mirror = other.negotiate(one, pair=HostPair(other.address, one.address + 6))
    world.run(3.0)
    assert ticket in [ready.negotiation for ready in one.ready]
    assert mirror in [ready.negotiation for ready in other.ready]
    assert one.states == [State.ESTABLISHED]
    assert_matched(one, other)


def test_so_are_deletes_and_rekeys() -> None:
    world, one, other = connected()
    for number in (5, 6):
        one.negotiate(other, pair=HostPair(one.address, other.address + number))
    world.run(1.0)
    first, second, third = one.kernel
    one.rekey_ike()
    one.close(first)
    one.rekey(second)
    world.run(30.0)
    assert third in one.kernel
    assert len(one.kernel) == len(other.kernel) == 2
    assert one.closed == {second: Reason.REKEYED}
    assert_matched(one, other)


# --- both at once ---


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("delay", [0.0, 0.004, 0.0101, 0.015])
def test_both_ends_rekey_at_once_and_one_is_left(seed: int, delay: float) -> None:
    world = World(seed)
    one, other = world.pair()
    one.negotiate(other)
    world.run(2.5)
    one.rekey_ike()
    world.run(delay)
    other.rekey_ike()
    world.run(60.0)
    (row,), (mirror,) = one.endpoint.snapshot(), other.endpoint.snapshot()
    assert (row.local_spi, row.remote_spi) == (mirror.remote_spi, mirror.local_spi)
    assert row.children
    assert_matched(one, other)
    assert not one.closed
    assert not one.notes + other.notes


def test_the_one_with_the_lowest_nonce_goes_whoever_made_it() -> None:
    winners = set()
    for seed in range(12):
        world = World(seed)
        one, other = world.pair()
        one.negotiate(other)
        world.run(2.5)
        one.rekey_ike()
        other.rekey_ike()
        world.run(0.015)
        nonces = {
            sa.local_spi: min(sa.nonces)
            for sa in one.endpoint._ctx.sas.values()
            if sa.nonces is not None and sa.state is State.ESTABLISHED
        }
        world.run(0.015)
        nonces |= {sa.local_spi: min(sa.nonces) for sa in one.endpoint._ctx.sas.values() if sa.nonces is not None}
        world.run(60.0)
        (row,) = one.endpoint.snapshot()
        assert len(nonces) == 2
        assert nonces[row.local_spi] == max(nonces.values())
        winners.add(row.role)
    assert len(winners) == 2


@pytest.mark.parametrize("lost", range(8))
@pytest.mark.parametrize("both", [False, True])
def test_each_message_of_it_may_be_lost(lost: int, both: bool) -> None:
    world, one, other = connected()
    seen = iter(range(1000))
    world.link.passes = lambda _: next(seen) != lost
    one.rekey_ike()
    if both:
        other.rekey_ike()
    world.run(60.0)
    assert one.states == other.states == [State.ESTABLISHED]
    assert not one.closed
    assert not other.closed
    assert_matched(one, other)


@pytest.mark.parametrize("delay", [0.0, 0.005, 0.0101, 0.015, 0.0201])
@pytest.mark.parametrize("first", [0, 1])
def test_a_rekey_and_a_delete_at_once(first: int, delay: float) -> None:
    world, *hosts = connected()
    one, other = hosts[first], hosts[1 - first]
    one.rekey_ike()
    world.run(delay)
    other.close(next(iter(other.kernel)))
    world.run(90.0)
    assert not one.kernel
    assert not other.kernel
    assert not one.states + other.states
    assert not one.notes + other.notes


@pytest.mark.parametrize("delay", [0.0, 0.005, 0.0101, 0.015])
@pytest.mark.parametrize("first", [0, 1])
def test_the_rekey_of_the_ike_sa_and_that_of_its_child_sa_at_once(first: int, delay: float) -> None:
    world, *hosts = connected()
    one, other = hosts[first], hosts[1 - first]
    one.rekey_ike()
    world.run(delay)
    other.rekey()
    world.run(60.0)
    assert one.states == other.states == [State.ESTABLISHED]
    assert [row.children for row in one.endpoint.snapshot()] == [tuple(one.kernel)]
    assert set(other.closed.values()) == {Reason.REKEYED}
    assert len(one.kernel) == 1
    assert_matched(one, other)


# --- by hand, as initiator ---


def asked() -> tuple[World, Host, Puppet, tuple[Payload, ...]]:
    world, host, puppet = played()
    puppet.establish()
    puppet.heard()
    host.rekey_ike()
    world.run(0.001)
    (octets,) = puppet.heard()
    return world, host, puppet, puppet.open(octets)


def test_the_request_has_a_new_spi_and_a_key_exchange() -> None:
    _, _, _, request = asked()
    offered, key = find(request, SaPayload), find(request, KePayload)
    assert offered is not None
    assert key is not None
    assert len(offered.proposals[0].spi) == 8
    assert key.group == GROUP


@pytest.mark.parametrize(
    "answer",
    [
        NotifyPayload(NotifyType.NO_PROPOSAL_CHOSEN),
        NotifyPayload(NotifyType.NO_ADDITIONAL_SAS),
        invalid_ke(KeyExchangeId.MODP_1024),
        offer_ike((GROUP,), NEW_SPI),
    ],
)
def test_a_refused_rekey_is_tried_again_while_the_lifetime_lasts(answer: Payload) -> None:
    world, host, puppet, _ = asked()
    front = () if isinstance(answer, NotifyPayload) else (NONCE, KePayload(GROUP, bytes(31) + b"\x09"))
    assert not puppet.respond(CREATE, 0, answer, *front)
    assert host.states == [State.ESTABLISHED]
    assert not host.closed
    world.run(2 * host.settings.rekey_pause)
    assert puppet.heard()


def test_another_group_is_taken() -> None:
    _, _, puppet, _ = asked()
    (again,) = puppet.respond(CREATE, 0, invalid_ke(KeyExchangeId.ECP_384))
    key = find(puppet.open(again), KePayload)
    assert key is not None
    assert key.group == KeyExchangeId.ECP_384


def test_no_answer_means_a_dead_peer() -> None:
    world, host, _, _ = asked()
    world.run(host.settings.request_patience + 0.1)
    assert not host.states
    assert list(host.closed.values()) == [Reason.LIVENESS_FAILED]


def test_it_waits_while_a_request_of_the_peer_is_worked_on() -> None:
    world, host, puppet = played()
    puppet.establish()
    host.answers = lambda _: 0.2
    puppet.heard()
    puppet.send(puppet.sealed(CREATE, 2, (*puppet.child(0x7777)[:1], NONCE, *puppet.child()[1:])))
    host.rekey_ike()
    world.run(0.1)
    assert not puppet.heard()
    world.run(2.0)
    sent = [octets[18] for octets in puppet.heard()]
    assert sent.count(CREATE) >= 2


def test_an_answer_that_comes_twice_is_late_the_second_time() -> None:
    _, host, puppet, _ = asked()
    refusal = puppet.sealed(CREATE, 0, (NotifyPayload(NotifyType.TEMPORARY_FAILURE),), is_response=True)
    puppet.send(refusal)
    puppet.send(refusal)
    assert host.rejected == {Reason.LATE_ANSWER: 1}


# --- by hand, as responder ---


def rekeyed() -> tuple[World, Host, Puppet, Puppet]:
    """The puppet has rekeyed the IKE SA; the second puppet speaks in the new one."""
    world, host, puppet = played()
    puppet.establish()
    kex = KeyExchange.generate(GROUP, lambda size: b"\x0b" * size)
    offer = offer_ike(IKE_GROUPS, NEW_SPI)
    answer = puppet.request(CREATE, 2, offer, NONCE, KePayload(GROUP, kex.public))
    assert answer is not None
    chosen, key, nonce = find(answer, SaPayload), find(answer, KePayload), find(answer, NoncePayload)
    assert chosen is not None
    assert key is not None
    assert nonce is not None
    accepted = accept_ike(offer, chosen)
    assert accepted is not None
    assert puppet.keys is not None
    heir = Puppet(host)
    heir.spi, heir.host_spi = int.from_bytes(NEW_SPI, "big"), int.from_bytes(accepted.spi, "big")
    spis = (heir.spi, heir.host_spi)
    shared, nonces = kex.shared(key.data), (NONCE.data, nonce.data)
    keys = derive_rekeyed_ike(puppet.keys, accepted.prf, accepted.encryption_bits, shared, nonces, spis)
    heir.keys, heir.sealing, heir.opening = keys, SkCipher(keys.sk_ei), SkCipher(keys.sk_er)
    return world, host, puppet, heir


def test_the_new_one_speaks_under_keys_of_its_own() -> None:
    _, host, puppet, heir = rekeyed()
    assert host.states == [State.REPLACED, State.ESTABLISHED]
    assert heir.request(INFORMATIONAL, 0) == ()
    assert puppet.request(INFORMATIONAL, 3, DeletePayload(ProtocolId.IKE)) == ()
    assert host.states == [State.LINGERING, State.ESTABLISHED]
    assert not host.closed
    # The Child SA is now one of the new IKE SA.
    assert heir.request(INFORMATIONAL, 1, DeletePayload(ProtocolId.ESP, (0x9999,))) != ()
    assert list(host.closed.values()) == [Reason.DELETED_BY_PEER]


def test_nothing_is_asked_in_it_before_the_peer_is_sure_to_have_it() -> None:
    """A peer that does not have it yet would show the token that later proves that it has lost it."""
    world, host, puppet, heir = rekeyed()
    puppet.heard()
    host.check_all()
    host.rekey()
    world.run(1.0)
    assert not heir.heard()
    sent = heir.send(heir.sealed(INFORMATIONAL, 0, ()))
    assert [octets[18] for octets in sent] == [INFORMATIONAL, CREATE]


def test_the_delete_of_the_old_one_makes_sure() -> None:
    world, host, puppet, heir = rekeyed()
    host.rekey()
    world.run(1.0)
    heir.heard()
    puppet.request(INFORMATIONAL, 3, DeletePayload(ProtocolId.IKE))
    assert [octets[:8] for octets in heir.heard()][-1] == NEW_SPI


def test_if_neither_comes_the_peer_is_asked_whether_it_lives() -> None:
    world, host, _, heir = rekeyed()
    heir.heard()
    world.run(host.settings.request_patience / 2 + 0.1)
    (check,) = [octets for octets in heir.heard() if octets[:8] == NEW_SPI]
    assert heir.open(check) == ()


def test_but_a_delete_of_it_does_not_wait() -> None:
    world, host, _, heir = rekeyed()
    heir.heard()
    host.close(next(iter(host.kernel)))
    (delete,) = [octets for octets in heir.heard() if octets[:8] == NEW_SPI]
    assert heir.open(delete) == (DeletePayload(ProtocolId.IKE),)
    world.run(host.settings.request_patience + 0.1)
    assert heir.host_spi not in [row.local_spi for row in host.endpoint.snapshot()]


def test_an_old_one_that_the_peer_does_not_delete_is_deleted_by_us() -> None:
    world, host, puppet, heir = rekeyed()
    heir.request(INFORMATIONAL, 0)
    puppet.heard()
    world.run(host.settings.request_patience + 0.1)
    (delete,) = [octets for octets in puppet.heard() if octets[:8] != NEW_SPI]
    assert puppet.open(delete) == (DeletePayload(ProtocolId.IKE),)
    assert not host.closed


@pytest.mark.parametrize(
    ("payloads", "notify"),
    [
        ((offer_ike(IKE_GROUPS, NEW_SPI), NONCE), NotifyType.INVALID_KE_PAYLOAD),
        (
            (offer_ike((GROUP,), NEW_SPI), NONCE, KePayload(KeyExchangeId.ECP_256, bytes(64))),
            NotifyType.INVALID_KE_PAYLOAD,
        ),
        ((offer_ike(IKE_GROUPS), NONCE, KePayload(GROUP, bytes(31) + b"\x09")), NotifyType.NO_PROPOSAL_CHOSEN),
    ],
)
def test_a_rekey_that_will_not_do_changes_nothing(payloads: tuple[Payload, ...], notify: NotifyType) -> None:
    _, host, puppet = played()
    puppet.establish()
    answer = puppet.request(CREATE, 2, *payloads)
    assert answer is not None
    (told,) = answer
    assert isinstance(told, NotifyPayload)
    assert told.notify == notify
    assert host.states == [State.ESTABLISHED]
    assert puppet.request(INFORMATIONAL, 3) == ()


def test_a_rekey_with_a_public_value_that_is_none_ends_the_ike_sa() -> None:
    _, host, puppet = played()
    puppet.establish()
    answer = puppet.request(CREATE, 2, offer_ike(IKE_GROUPS, NEW_SPI), NONCE, KePayload(GROUP, bytes(32)))
    assert answer == (NotifyPayload(NotifyType.INVALID_SYNTAX),)
    assert host.states == [State.LINGERING]


def test_one_rekey_after_another_without_end_is_put_off() -> None:
    """Each leaves behind an IKE SA that goes only after a while, and an anonymous peer may ask for it too."""
    world, host, puppet = played()
    puppet.establish()
    admission = host.endpoint._ctx.admission
    while admission.may_exchange(puppet.socket.address, world.now):
        pass
    kex = KeyExchange.generate(GROUP, lambda size: b"\x0b" * size)
    rekey = offer_ike(IKE_GROUPS, NEW_SPI), NONCE, KePayload(GROUP, kex.public)
    assert puppet.request(CREATE, 2, *rekey) == (NotifyPayload(NotifyType.TEMPORARY_FAILURE),)
    assert host.rejected == {Reason.TOO_MANY_HANDSHAKES: 1}
    assert host.states == [State.ESTABLISHED]
    world.run(1.0)
    assert puppet.request(CREATE, 3, *rekey) != (NotifyPayload(NotifyType.TEMPORARY_FAILURE),)


def test_while_we_asked_too_the_peers_use_of_its_own_decides() -> None:
    world, host, puppet = played()
    puppet.establish()
    host.rekey_ike()
    kex = KeyExchange.generate(GROUP, lambda size: b"\x0b" * size)
    puppet.request(CREATE, 2, offer_ike(IKE_GROUPS, NEW_SPI), NONCE, KePayload(GROUP, kex.public))
    assert host.states == [State.ESTABLISHED, State.ESTABLISHED]
    rows = host.endpoint.snapshot()
    assert [len(row.children) for row in rows] == [1, 0]
    # It did not see ours, and deletes the old one.
    assert puppet.request(INFORMATIONAL, 3, DeletePayload(ProtocolId.IKE)) == ()
    rows = host.endpoint.snapshot()
    assert [(row.state, len(row.children)) for row in rows] == [(State.LINGERING, 0), (State.ESTABLISHED, 1)]
    assert not host.closed
    world.run(0.1)


def test_or_its_refusal_of_ours() -> None:
    _, host, puppet = played()
    puppet.establish()
    host.rekey_ike()
    kex = KeyExchange.generate(GROUP, lambda size: b"\x0b" * size)
    puppet.request(CREATE, 2, offer_ike(IKE_GROUPS, NEW_SPI), NONCE, KePayload(GROUP, kex.public))
    puppet.respond(CREATE, 0, NotifyPayload(NotifyType.TEMPORARY_FAILURE))
    rows = host.endpoint.snapshot()
    assert [(row.state, len(row.children)) for row in rows] == [(State.REPLACED, 0), (State.ESTABLISHED, 1)]
