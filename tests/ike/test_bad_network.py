"""Hundreds of seeded networks that lose, repeat, delay and reorder. Whatever they do, the two ends agree in the end.

Invariants: each negotiation ends once, in time; the responder's inbound SA is in place before the initiator can send
into it; no Child SA is closed twice; what stands after a liveness check stands at both ends; there is always rest.
"""

from collections import Counter
from random import Random

import pytest

from oe.ike.registry import ExchangeType
from oe.ike.settings import IkeSettings
from oe.ike.states import State
from oe.model import Directions, HostPair
from oe.negotiation import ChildReady, IkeOutput
from oe.reasons import Reason
from tests.ike.world import Host, World, assert_matched, is_message

SEEDS = 250


def watch_kernels(world: World, one: Host, other: Host) -> None:
    """When an initiator gets its keys in place, the responder can already receive."""

    def check(host: Host, peer: Host) -> None:
        plain = host.install

        def install(ready: IkeOutput) -> object:
            assert isinstance(ready, ChildReady)
            if ready.directions is Directions.BOTH and ready.child.id not in host.closed:
                spis = {held.child.inbound.spi for held in peer.kernel.values() if held.inbound}
                ended = {*peer.closed, *peer.given_up}
                gone = {ready.child.inbound.spi for ready in peer.ready if ready.child.id in ended}
                assert ready.child.outbound.spi in spis | gone
            return plain(ready)

        host.install = install  # type: ignore[method-assign, assignment]  # a wire tap

    check(one, other)
    check(other, one)


def settle(world: World, one: Host, other: Host) -> None:
    """Let all time-outs pass, then ask whether the others live until nobody has doubts."""
    world.link.loss = 0.0
    world.run(60.0)
    for _ in range(2):
        one.check_all()
        other.check_all()
        world.run(30.0)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_one_initiator_over_a_bad_network(seed: int) -> None:
    world = World(seed, hybrid=bool(seed % 2))
    one, other = world.pair()
    watch_kernels(world, one, other)
    chance = Random(seed)
    link = world.link
    link.loss, link.duplicates, link.jitter = chance.choice([0.1, 0.3, 0.6]), chance.choice([0.0, 0.3]), 0.4
    one.answers = other.answers = lambda _: chance.random() * 0.1
    ticket = one.negotiate(other, patience=3.0)
    world.run(3.5)
    assert (ticket in one.ended) != bool(one.ready)
    settle(world, one, other)
    assert_matched(one, other)
    assert not one.notes + other.notes
    if one.ready and not one.closed:
        assert len(one.kernel) == 1


@pytest.mark.parametrize("seed", range(SEEDS))
def test_both_initiate_over_a_bad_network(seed: int) -> None:
    """A crossed initiation never kills the other's; with a peer that restarts once in between, nothing is left over."""
    world = World(seed, hybrid=bool(seed % 2))
    one, other = world.pair(settings=IkeSettings(cookie_threshold=seed % 2))
    watch_kernels(world, one, other)
    chance = Random(seed)
    world.link.loss, world.link.duplicates, world.link.jitter = chance.choice([0.0, 0.2, 0.5]), 0.2, 0.3
    tickets = []
    for host, peer in ((one, other), (other, one)):
        world.run(chance.random() * 0.3)
        tickets.append((host, host.negotiate(peer)))
    world.run(3.5)
    initiated = [sum(ready.negotiation is not None for ready in host.ready) for host, _ in tickets]
    assert [(ticket in host.ended) + number for (host, ticket), number in zip(tickets, initiated, strict=True)] == [
        1,
        1,
    ]
    assert Reason.REPLACED_BY_PEER not in {*one.closed.values(), *other.closed.values()}
    settle(world, one, other)
    assert_matched(one, other)
    assert not one.notes + other.notes


@pytest.mark.parametrize("seed", range(50))
def test_a_restart_at_a_bad_moment(seed: int) -> None:
    world = World(seed, hybrid=bool(seed % 2))
    one, other = world.pair()
    chance = Random(seed)
    world.link.loss = 0.1
    one.negotiate(other)
    world.run(chance.random())
    other.restart()
    other.negotiate(one)
    world.run(5.0)
    settle(world, one, other)
    assert_matched(one, other)
    assert not one.notes + other.notes


@pytest.mark.parametrize("lost", range(4))
def test_each_message_of_the_handshake_may_be_lost(lost: int) -> None:
    """At most one repetition mends it: the initiator's, answered anew or from the kept answer."""
    world = World()
    one, other = world.pair()
    seen = iter(range(1000))
    world.link.passes = lambda _: next(seen) != lost
    one.negotiate(other)
    world.run(1.0)
    assert len(one.kernel) == 1
    assert_matched(one, other)
    assert len(one.sent) == 3
    assert len(other.ready) == 2


def test_the_kernels_step_by_step() -> None:
    world = World()
    one, other = world.pair()
    one.negotiate(other)
    world.run(1.0)
    start = 1000.0
    steps = [(round(at - start, 3), sorted(held)) for at, held in other.kernel_log]
    (child,) = other.kernel
    assert steps == [(0.03, [(child, True, False)]), (0.03, [(child, True, True)])]
    (child,) = one.kernel
    assert [(round(at - start, 3), sorted(held)) for at, held in one.kernel_log] == [(0.04, [(child, True, True)])]


def test_many_pairs_between_two_gateways() -> None:
    world = World()
    one, other = world.pair()
    clients = [HostPair(one.address + number, other.address + number) for number in range(20)]
    for pair in clients:
        one.negotiate(other, pair=pair)
    world.run(2.0)
    assert {held.child.pair for held in one.kernel.values()} == set(clients)
    assert_matched(one, other)


def test_after_a_restart_many_beginnings_replace_what_stood_and_not_each_other() -> None:
    world = World()
    one, other = world.pair()
    clients = [HostPair(one.address + number, other.address + number) for number in range(10)]
    for pair in clients:
        one.negotiate(other, pair=pair)
    world.run(2.0)
    one.restart()
    for pair in clients:
        one.negotiate(other, pair=pair)
    world.run(2.0)
    assert list(other.closed.values()) == [Reason.REPLACED_BY_PEER] * 10
    world.run(20.0)
    assert {held.child.pair for held in one.kernel.values()} == set(clients)
    assert_matched(one, other)


def test_an_initiator_that_gives_up_takes_its_half_done_work_back() -> None:
    """Only the responder's last message is lost, each time: it would send into nothing for hours."""
    world = World()
    one, other = world.pair()
    world.link.passes = lambda datagram: not is_message(datagram, ExchangeType.IKE_AUTH, is_response=True)
    ticket = one.negotiate(other, patience=3.0)
    world.run(2.9)
    assert len(other.kernel) == 1
    world.run(0.2)
    assert one.ended[ticket].reason is Reason.NEGOTIATION_TIMEOUT
    assert list(other.closed.values()) == [Reason.DELETED_BY_PEER]


# --- many rekeys, set-ups and ends at once ---


def disturb(world: World, chance: Random, one: Host, other: Host, pairs: list[HostPair]) -> None:
    """Something happens at one end, or at both at nearly the same time."""
    first, second = chance.sample([one, other], 2)
    act = chance.choice(["rekey", "rekey", "rekey-ike", "rekey-ike", "close", "negotiate"])
    for host, peer in ((first, second), (second, first))[: chance.choice([1, 2])]:
        pair = chance.choice(pairs)
        children = list(host.kernel)
        match act:
            case "rekey" if children:
                host.rekey(chance.choice(children))
            case "rekey-ike":
                host.rekey_ike()
            case "close" if children:
                host.close(chance.choice(children))
            case "negotiate":
                host.negotiate(peer, pair=pair if host is one else pair.reversed)
        world.run(chance.choice([0.0, 0.03]) * chance.random())


@pytest.mark.parametrize("seed", range(SEEDS))
def test_everything_at_once_and_one_child_sa_for_each_pair_is_left(seed: int) -> None:
    world = World(seed, hybrid=bool(seed % 2))
    one, other = world.pair()
    watch_kernels(world, one, other)
    chance = Random(seed)
    pairs = [HostPair(one.address, other.address + number) for number in range(chance.choice([1, 2, 3]))]
    link = world.link
    link.loss, link.duplicates = chance.choice([0.0, 0.1, 0.3]), chance.choice([0.0, 0.3])
    link.jitter = chance.choice([0.0, 0.02, 0.3])
    one.answers = other.answers = lambda _: chance.choice([0.0, 0.05]) * chance.random()
    for pair in pairs:
        one.negotiate(other, pair=pair)
        if chance.random() < 0.5:
            other.negotiate(one, pair=pair.reversed)
    world.run(1.0 + 4 * chance.random())
    for _ in range(chance.randrange(1, 8)):
        disturb(world, chance, one, other, pairs)
        world.run(chance.choice([0.0, 0.02, 1.0, 6.0]) * chance.random())
    settle(world, one, other)
    assert_matched(one, other)
    counted = Counter(held.child.pair for held in one.kernel.values())
    assert all(number == 1 for number in counted.values())
    for host in (one, other):
        assert not host.notes
        assert all(row.state is State.ESTABLISHED and row.children for row in host.endpoint.snapshot())
        assert {child for row in host.endpoint.snapshot() for child in row.children} == set(host.kernel)
