"""The engine as a whole: lifetimes, containment, stopping, and what it tells people."""

from dataclasses import replace
from ipaddress import ip_address

import pytest

from oe.ike.endpoint import DUE_AT_ONCE
from oe.ike.settings import IkeSettings
from oe.ike.states import State
from oe.model import HostPair, Identity
from oe.negotiation import CheckLiveness, CloseEverything, Negotiate, OwnKeysChanged, PeerJudged
from oe.reasons import Reason
from tests.ike.puppet import Puppet, played
from tests.ike.world import Host, World, assert_matched, private_key, public_key

EXACT = IkeSettings(lifetime_jitter=0.0)


def connected(settings: IkeSettings = EXACT) -> tuple[World, Host, Host]:
    world = World()
    one, other = world.pair(settings=settings)
    one.negotiate(other)
    world.run(1.0)
    assert_matched(one, other)
    return world, one, other


def without_rekey(settings: IkeSettings = EXACT) -> tuple[World, Host, Host]:
    """Both think that there is time enough, until it is too late."""
    return connected(replace(settings, rekey_margin=0.0))


def test_a_child_sa_that_nobody_rekeys_ends_with_its_lifetime_at_both_ends() -> None:
    world, one, other = without_rekey()
    assert one.ready[0].child.lifetime == 3600.0
    world.run(3600.0 - 1.1)
    assert one.kernel
    world.run(2.0)
    reasons = {reason for host in (one, other) for reason in host.closed.values()}
    assert reasons <= {Reason.LIFETIME_ENDED, Reason.DELETED_BY_PEER}
    assert Reason.LIFETIME_ENDED in reasons
    world.run(60.0)
    assert not one.states + other.states
    assert one.endpoint.deadline() is None


def test_an_ike_sa_ends_with_its_lifetime_and_takes_its_child_sas_along() -> None:
    world, one, other = without_rekey(IkeSettings(ike_lifetime=100.0, lifetime_jitter=0.0))
    world.run(100.0)
    assert Reason.LIFETIME_ENDED in {*one.closed.values(), *other.closed.values()}
    assert not one.kernel
    assert not other.kernel


def test_jitter_spreads_the_ends() -> None:
    world = World()
    server = world.host("192.0.2.1")
    for number in range(2, 12):
        world.host(f"192.0.2.{number}").negotiate(server)
    world.run(1.0)
    lifetimes = {held.child.lifetime for held in server.kernel.values()}
    assert len(lifetimes) == 10
    assert all(3240.0 <= lifetime <= 3600.0 for lifetime in lifetimes)


def test_stopping_says_goodbye_once_and_takes_nothing_new() -> None:
    world, one, other = connected()
    third = world.host("192.0.2.3")
    waiting = one.negotiate(third)
    before = len(one.sent)
    one.feed(CloseEverything())
    assert len(one.sent) == before + 1
    assert one.ended[waiting].reason is Reason.STOPPING
    assert list(one.closed.values()) == [Reason.STOPPING]
    assert not one.states
    assert one.endpoint.deadline() is None
    refused = one.negotiate(other)
    assert one.ended[refused].reason is Reason.STOPPING
    third.negotiate(one)
    world.run(1.0)
    assert list(other.closed.values()) == [Reason.DELETED_BY_PEER]
    assert one.rejected[Reason.STOPPING] >= 1
    assert not one.states


def test_stopping_while_a_request_is_under_way_still_says_goodbye() -> None:
    world, one, other = connected()
    one.check_all()
    one.feed(CloseEverything())
    world.run(1.0)
    assert list(other.closed.values()) == [Reason.DELETED_BY_PEER]


def test_a_mistake_in_one_ike_sa_ends_that_one_alone() -> None:
    _, one, _ = connected()
    (child,) = one.kernel
    puppet = Puppet(one)
    puppet.establish()
    sa, _ = one.endpoint._ctx.children[child]
    sa.ciphers = None  # The mistake.
    one.feed(CheckLiveness(child))
    assert one.closed == {child: Reason.INTERNAL_ERROR}
    assert [note.event for note in one.notes] == ["ike-sa-failed"]
    assert one.states == [State.ESTABLISHED]
    assert one.endpoint.deadline() is not None


def test_a_mistake_in_a_timer_does_not_stop_the_others() -> None:
    world, one, _ = connected()
    broken, _ = next(iter(one.endpoint._ctx.children.values()))
    puppet = Puppet(one)
    puppet.establish()
    broken.ciphers = None
    world.run(3700.0)
    # The broken one fails on its own timer or on the peer's rekey, whichever comes first; the other asks the puppet,
    # which does not answer.
    assert set(one.closed.values()) == {Reason.INTERNAL_ERROR, Reason.LIVENESS_FAILED}
    assert [note.event for note in one.notes] == ["ike-sa-failed"]
    assert not one.states


def test_a_mistake_before_an_ike_sa_exists_is_noted_and_that_is_all() -> None:
    _, one, _ = connected()
    puppet = Puppet(one)
    one.endpoint._ctx.admission = None  # type: ignore[assignment]  # the mistake
    assert not puppet.send(puppet.init_request())
    assert [note.event for note in one.notes] == ["ike-sa-failed"]
    assert one.states == [State.ESTABLISHED]


def test_an_answer_that_nobody_asked_for_is_late() -> None:
    _, one, _ = connected()
    one.feed(PeerJudged(987654, (), None))
    assert one.rejected[Reason.LATE_ANSWER] == 1


def test_other_keys_prove_us_from_the_next_handshake_on() -> None:
    world, one, other = connected()
    before = one.key
    assert [row.peer_key for row in other.endpoint.snapshot()] == [before]
    one.private = private_key("ed25519", 7)
    one.key = public_key(one.private)
    one.feed(OwnKeysChanged((one.key,)))
    assert_matched(one, other)
    one.close(*one.kernel)
    world.run(60.0)
    assert other.endpoint.snapshot() == ()
    one.negotiate(other)
    world.run(1.0)
    assert [row.peer_key for row in other.endpoint.snapshot()] == [one.key]


def test_an_address_may_have_an_order_of_keys_of_its_own() -> None:
    world = World()
    one, other = world.pair()
    unknown, elsewhere = public_key(private_key("ed25519", 8)), one.address + 1
    one.feed(OwnKeysChanged((unknown, one.key), {one.address: (one.key, unknown), elsewhere: (unknown,)}))
    one.negotiate(other)
    world.run(1.0)
    assert one.signed_with == [one.key]
    one.feed(OwnKeysChanged((unknown, one.key)))
    world.host("192.0.2.3").negotiate(one)
    world.run(1.0)
    assert one.signed_with == [one.key, unknown]


def test_people_see_what_stands() -> None:
    world, one, other = connected()
    (row,) = one.endpoint.snapshot()
    (mirror,) = other.endpoint.snapshot()
    assert (row.local_spi, row.remote_spi) == (mirror.remote_spi, mirror.local_spi)
    assert (row.state, row.role.value, mirror.role.value) == (State.ESTABLISHED, "initiator", "responder")
    assert (row.peer_identity, row.peer_key) == (other.identity, other.key)
    assert row.children == tuple(one.kernel)
    assert 1000.0 <= row.since <= world.now


def test_what_is_negotiated_with_a_peer_that_is_known_is_made_in_the_ike_sa_that_stands() -> None:
    world, one, other = connected()
    for number in (1, 2, 3):
        one.negotiate(other, pair=HostPair(one.address, other.address + number))
    other.negotiate(one, pair=HostPair(other.address + 4, one.address))
    world.run(1.0)
    assert len(one.kernel) == len(other.kernel) == 5
    assert_matched(one, other)
    assert one.states == other.states == [State.ESTABLISHED]
    assert not one.ended


@pytest.mark.parametrize("what", ["key", "identity", "own address"])
def test_an_ike_sa_with_somebody_else_is_not_taken_for_it(what: str) -> None:
    world, one, other = connected()
    third = world.host("192.0.2.3")
    match what:
        case "key":
            one.negotiate(other, keys=(third.key,))
        case "identity":
            one.negotiate(other, identity=third.identity, keys=(other.key,))
        case _:
            third.negotiate(other)
    world.run(0.02)
    assert len(one.states + third.states) == 2


def test_a_second_one_for_the_same_pair_takes_the_place_of_the_first() -> None:
    world, one, other = connected()
    world.run(10.0)
    (old,) = one.kernel
    one.negotiate(other)
    world.run(1.0)
    assert len(one.kernel) == len(other.kernel) == 2
    world.run(5.0)
    assert one.closed == {old: Reason.REDUNDANT}
    assert_matched(one, other)
    assert len(one.kernel) == 1


def test_a_negotiation_without_time_ends_at_once() -> None:
    world = World()
    one, other = world.pair()
    ticket = one.negotiate(other, patience=0.0)
    world.run(0.0)
    assert one.ended[ticket].reason is Reason.PEER_SILENT


@pytest.mark.parametrize("seed", range(3))
def test_same_seed_same_octets(seed: int) -> None:
    def run() -> list[bytes]:
        world = World(seed)
        one, other = world.pair()
        one.negotiate(other)
        world.run(1.0)
        # AUTH is made by keys outside of the engine; these are Ed25519, which has no chance in it.
        return [datagram.data for datagram in (*one.sent, *other.sent)]

    assert run() == run()


def test_secrets_are_not_shown() -> None:
    _, host, puppet = played()
    puppet.establish()
    sa = next(iter(host.endpoint._ctx.sas.values()))
    assert sa.keys is not None
    assert sa.keys.sk_d.octets.hex() not in repr(sa)
    assert repr(sa.keys.sk_d.octets) not in repr(sa)
    for held in host.kernel.values():
        assert repr(held.child.inbound.key.octets) not in repr(held.child)


def test_thousands_of_negotiations_do_not_pile_up_timers() -> None:
    world = World()
    one, other = world.pair(settings=IkeSettings(half_open_limit_per_source=10**6))
    world.link.loss = 1.0
    for _ in range(300):
        pair = HostPair(one.address, other.address)
        args = (pair, one.socket, other.socket, one.identity, other.identity, (other.key,), False, world.now + 1.0)
        one.feed(Negotiate(next(one.tickets), *args))
    world.run(5.0)
    assert len(one.ended) == 300
    assert not one.endpoint._timers
    assert one.endpoint.deadline() is None


def test_ike_sas_that_ended_are_not_kept_by_their_timers() -> None:
    """Their keys would stay in memory for the hours that they might have lived."""
    world, one, other = connected()
    third = world.host("192.0.2.3")
    for _ in range(70):
        one.negotiate(third)
        world.run(1.0)
        one.close(max(one.kernel))
        world.run(30.0)
    assert len(one.endpoint.snapshot()) == 1
    assert len(one.endpoint._timers) < 64
    assert len(third.endpoint._timers) < 64
    assert one.endpoint.deadline() is not None
    world.run(8 * 3600.0)
    assert_matched(one, other)


def test_what_is_due_is_done_in_parts_that_others_need_not_wait_for() -> None:
    world = World()
    one, other = world.pair()
    for number in range(2 * DUE_AT_ONCE):
        pair = HostPair(one.address, ip_address(f"198.51.100.{number}"))
        other.identity = Identity.of(pair.destination)  # Each with a peer of its own, so that none waits for another.
        one.negotiate(other, pair=pair, patience=1.0)
    one.sent.clear()
    world.now += 0.5
    one.endpoint.expire(world.now)
    one.drain()
    assert len(one.sent) == DUE_AT_ONCE
    assert one.endpoint.deadline() == world.now
    one.endpoint.expire(world.now)
    one.drain()
    assert len(one.sent) == 2 * DUE_AT_ONCE
