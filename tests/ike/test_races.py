"""Both ends do the same, or the opposite, at the same time: set-ups that cross, rekeys too, a rekey and a Delete.

Whatever survives, in the end each end has one Child SA for the pair, and it is the same one.
"""

import pytest

from oe.ike.message import decode_header
from oe.ike.registry import ExchangeType
from oe.ike.settings import IkeSettings
from oe.ike.states import State
from oe.messages import SendDatagram
from oe.model import HostPair
from oe.negotiation import PeerJudged
from oe.reasons import Reason
from tests.ike.world import Host, World, assert_matched, is_message, private_key, public_key

CREATE = ExchangeType.CREATE_CHILD_SA
MOMENTS = pytest.mark.parametrize("delay", [0.0, 0.005, 0.0101, 0.015, 0.0201, 0.025, 0.0301, 0.04, 0.2])
FIRST = pytest.mark.parametrize("first", [0, 1])


def one_is_left(one: Host, other: Host, pairs: int = 1) -> None:
    assert len(one.kernel) == len({held.child.pair for held in one.kernel.values()}) == pairs
    assert_matched(one, other)
    for host in (one, other):
        assert not host.notes
        assert host.states == [State.ESTABLISHED]


def connected(seed: int = 0) -> tuple[World, Host, Host]:
    world = World(seed)
    one, other = world.pair(settings=IkeSettings(lifetime_jitter=0.0))
    one.negotiate(other)
    world.run(2.5)
    return world, one, other


# --- set-ups ---


@FIRST
@MOMENTS
@pytest.mark.parametrize("seed", range(3))
def test_crossed_initiations_leave_one(seed: int, first: int, delay: float) -> None:
    """On a sound network the second starts at each moment of the first's four messages."""
    world = World(seed)
    hosts = world.pair()
    one, other = hosts[first], hosts[1 - first]
    one.negotiate(other)
    world.run(delay)
    other.negotiate(one)
    world.run(1.0)
    # Both inbound halves are there meanwhile, and nothing is lost.
    assert len(one.kernel) == len(other.kernel) == 2
    for host in (one, other):
        assert all(held.inbound for held in host.kernel.values())
        assert any(held.outbound for held in host.kernel.values())
    world.run(30.0)
    assert set(one.closed.values()) | set(other.closed.values()) == {Reason.REDUNDANT}
    assert not one.ended
    assert not other.ended
    one_is_left(one, other)


def test_the_one_with_the_lowest_nonce_goes_whoever_began_it() -> None:
    outcomes = set()
    for seed in range(12):
        world = World(seed)
        one, other = world.pair()
        one.negotiate(other)
        other.negotiate(one)
        world.run(1.0)
        nonces = {id: min(child.origin.nonces) for id, (_, child) in one.endpoint._ctx.children.items()}
        world.run(30.0)
        (kept,) = one.kernel
        assert nonces[kept] == max(nonces.values())
        outcomes.add(one.endpoint.snapshot()[0].role)
    assert len(outcomes) == 2


@FIRST
@MOMENTS
def test_they_cross_in_an_ike_sa_that_stands(first: int, delay: float) -> None:
    world, *hosts = connected()
    one, other = hosts[first], hosts[1 - first]
    pair = HostPair(one.address, other.address + 9)
    one.negotiate(other, pair=pair)
    world.run(delay)
    other.negotiate(one, pair=pair.reversed)
    world.run(30.0)
    one_is_left(one, other, pairs=2)


@FIRST
def test_a_side_that_refuses_the_others_attempt_because_of_its_own_ends_nobodys(first: int) -> None:
    """Its AUTHENTICATION_FAILED comes before its own attempt is through."""
    world = World()
    hosts = world.pair()
    one, other = hosts[first], hosts[1 - first]
    stranger = public_key(private_key("ed25519", 79))
    other.judge = lambda question: PeerJudged(question.ticket, (stranger,), None)
    one.answers = lambda _: 0.1
    ticket = one.negotiate(other)
    other.negotiate(one)
    world.run(0.35)
    assert one.rejected == {}
    assert ticket not in one.ended
    world.run(1.0)
    assert len(one.kernel) == 1
    assert_matched(one, other)
    assert ticket not in one.ended
    world.run(3.0)
    # Only then, when it is of no importance any more.
    assert one.ended[ticket].reason is Reason.WE_WERE_REFUSED
    assert len(one.kernel) == 1


def test_without_another_attempt_the_refusal_is_told_at_once() -> None:
    world = World()
    one, other = world.pair()
    stranger = public_key(private_key("ed25519", 79))
    other.judge = lambda question: PeerJudged(question.ticket, (stranger,), None)
    ticket = one.negotiate(other)
    world.run(0.1)
    assert one.ended[ticket].reason is Reason.WE_WERE_REFUSED


# --- rekeys of a Child SA ---


@FIRST
@MOMENTS
@pytest.mark.parametrize("seed", range(3))
def test_both_rekey_the_same_child_sa(seed: int, first: int, delay: float) -> None:
    world, *hosts = connected(seed)
    one, other = hosts[first], hosts[1 - first]
    one.rekey()
    world.run(delay)
    for child in tuple(other.kernel):
        other.rekey(child)
    world.run(30.0)
    one_is_left(one, other)
    assert {*one.closed.values(), *other.closed.values()} <= {Reason.REKEYED, Reason.REDUNDANT}
    for host in (one, other):
        assert all(any(inbound and outbound for _, inbound, outbound in held) for _, held in host.kernel_log[2:])


def test_of_two_successors_the_one_with_the_lowest_nonce_goes() -> None:
    ours = set()
    for seed in range(12):
        world, one, other = connected(seed)
        (old,) = one.kernel
        one.rekey()
        other.rekey()
        world.run(1.0)
        found = {id: child.origin for id, (_, child) in one.endpoint._ctx.children.items() if id != old}
        world.run(30.0)
        (kept,) = one.kernel
        assert len(found) == 2
        assert kept == max(found, key=lambda id: min(found[id].nonces))
        ours.add(found[kept].we_initiated)
        # Who began the one that holds deletes the old one, the other end its own.
        assert one.closed[old] is Reason.REKEYED
    assert ours == {True, False}


@pytest.mark.parametrize("lost", range(10))
def test_each_message_of_two_rekeys_may_be_lost(lost: int) -> None:
    world, one, other = connected()
    seen = iter(range(1000))
    world.link.passes = lambda _: next(seen) != lost
    one.rekey()
    other.rekey()
    world.run(60.0)
    one_is_left(one, other)


def test_an_end_that_did_not_notice_has_the_first_and_the_other_one_gives_way() -> None:
    """The second request is late: what it is about has a successor already (RFC 7296 2.8.1)."""
    world, one, other = connected()
    held: list[SendDatagram] = []

    def hold(datagram: SendDatagram) -> bool:
        if datagram.local == other.socket and is_message(datagram, CREATE, is_response=False):
            held.append(datagram)
            return False
        return True

    world.link.passes = hold
    one.rekey()
    other.rekey()
    world.run(0.3)
    world.link.passes = lambda _: True
    world.deliver(held[0])
    world.run(30.0)
    one_is_left(one, other)
    assert not [detail for detail in one.details + other.details if "redundant" in detail]
    assert Reason.REDUNDANT not in {*one.closed.values(), *other.closed.values()}


# --- a rekey and a Delete ---


@FIRST
@MOMENTS
def test_one_rekeys_what_the_other_deletes(first: int, delay: float) -> None:
    world, *hosts = connected()
    one, other = hosts[first], hosts[1 - first]
    one.negotiate(other, pair=HostPair(one.address, other.address + 9))
    world.run(1.0)
    victims = [id for id, held in one.kernel.items() if held.child.pair.destination == other.address]
    mirrors = [id for id, held in other.kernel.items() if held.child.pair.source == other.address]
    one.rekey(*victims)
    world.run(delay)
    for child in mirrors:
        other.close(child)
    world.run(60.0)
    assert_matched(one, other)
    assert len({held.child.pair for held in one.kernel.values()}) == len(one.kernel)
    assert one.states == other.states == [State.ESTABLISHED]
    assert not one.notes + other.notes


@FIRST
@MOMENTS
def test_both_delete(first: int, delay: float) -> None:
    world, *hosts = connected()
    one, other = hosts[first], hosts[1 - first]
    one.negotiate(other, pair=HostPair(one.address, other.address + 9))
    world.run(1.0)
    mirror = next(iter(other.kernel))
    one.close(next(iter(one.kernel)))
    world.run(delay)
    if mirror in other.kernel:
        other.close(mirror)
    world.run(30.0)
    one_is_left(one, other)


@FIRST
@MOMENTS
def test_requests_of_both_ends_are_under_way_at_once(first: int, delay: float) -> None:
    """Liveness checks, a new Child SA, a rekey and a Delete, each end one after the other, both at once."""
    world, *hosts = connected()
    one, other = hosts[first], hosts[1 - first]
    for host, peer in ((one, other), (other, one)):
        host.check_all()
        host.negotiate(peer, pair=HostPair(host.address, peer.address + 9))
        host.rekey()
        world.run(delay)
    world.run(5.0)
    one.close(next(iter(one.kernel)))
    other.check_all()
    world.run(30.0)
    assert_matched(one, other)
    assert len(one.kernel) == 2
    assert one.states == other.states == [State.ESTABLISHED]
    assert not one.notes + other.notes


def crossed() -> tuple[World, Host, Host]:
    """Both began at once, and have a Child SA of each other's."""
    world = World()
    one, other = world.pair()
    one.negotiate(other)
    other.negotiate(one)
    world.run(0.5)
    assert len(one.kernel) == len(other.kernel) == 2
    return world, one, other


def test_a_redundant_one_stays_for_as_long_as_the_peer_may_send_in_it() -> None:
    """The peer may go by another rule. Only the other one gets a successor; that is younger than both, and ends it."""
    world = World()
    one, other = world.pair(settings=IkeSettings(child_lifetime=100.0))
    one.sees_traffic = other.sees_traffic = False
    one.negotiate(other)
    other.negotiate(one)
    for _ in range(8):
        world.run(10.0)
        assert len(one.kernel) == len(other.kernel) == 2
        assert all(held.inbound for host in (one, other) for held in host.kernel.values())
    world.run(40.0)
    assert len(one.closed) >= 2
    one_is_left(one, other)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("delay", [0.0, 0.005, 0.015, 0.02])
def test_a_peer_that_gave_up_its_own_attempt_when_it_answered_ours_is_found_out_soon(seed: int, delay: float) -> None:
    """As Libreswan does. Where its attempt would be the one that counts, we send into nothing until we know."""
    world = World(seed)
    one, other = world.pair()
    asked: set[bytes] = set()

    def passes(datagram: SendDatagram) -> bool:
        """Of its own IKE SA the other one knows nothing any more after its first IKE_AUTH request."""
        header = decode_header(datagram.data)
        is_its_own = header.from_initiator is (datagram.local == other.socket)
        if header.exchange == ExchangeType.IKE_SA_INIT or not is_its_own:
            return True
        is_first = datagram.local == other.socket and not asked
        asked.add(datagram.data)
        return is_first

    world.link.passes = passes
    other.negotiate(one)
    world.run(delay)
    one.negotiate(other)
    world.run(1.8)
    standing = {id: child for id, (_, child) in one.endpoint._ctx.children.items() if child.is_in_use}
    assert [child.origin.we_initiated for child in standing.values()] == [True]
    assert one.kernel[next(iter(standing))].outbound
    world.run(5.0)
    assert set(one.kernel) == set(standing)


def test_who_has_to_delete_the_redundant_child_sa_never_sends_in_it() -> None:
    """The peer takes it away with our Delete, and our word that it did may be long in coming."""
    world, one, other = crossed()
    sending = sorted([held.outbound for held in host.kernel.values()] for host in (one, other))
    assert sorted(map(sum, sending)) == [1, 2]
    world.run(10.0)
    assert len(one.kernel) == 1
    assert_matched(one, other)


def test_it_sends_after_all_when_the_other_one_is_gone() -> None:
    world, one, other = crossed()
    loser = next(host for host in (one, other) if not all(held.outbound for held in host.kernel.values()))
    loser.close(next(id for id, held in loser.kernel.items() if held.outbound))
    world.run(60.0)
    assert len(one.kernel) == 1
    assert_matched(one, other)
