"""IKE SAs whose large messages go in fragments: narrow paths, lost fragments, and what a hostile one cannot do."""

from collections.abc import Callable
from random import Random

import pytest

from oe.ike.fragments import Fragmentation, seal_message
from oe.ike.message import Place, decode_message, seal_chain
from oe.ike.payloads import NotifyPayload, Payload, VendorPayload, find_notify
from oe.ike.registry import ExchangeType, NotifyType, PayloadType
from oe.ike.settings import IkeSettings
from oe.ike.states import State
from oe.messages import SendDatagram
from oe.reasons import Reason
from tests.ike.puppet import AUTH, Puppet, played
from tests.ike.world import Host, KeyKind, World, assert_matched, is_message

INFORMATIONAL = ExchangeType.INFORMATIONAL
AGREED = NotifyPayload(NotifyType.FRAGMENTATION_SUPPORTED)
LARGE: tuple[Payload, ...] = tuple(VendorPayload(bytes(200)) for _ in range(10))


def path(mtu: int) -> Callable[[SendDatagram], bool]:
    """Nothing larger gets through, and nobody says so."""
    return lambda sent: len(sent.data) + (28 if sent.local.address.version == 4 else 48) <= mtu


def fragments(sent: list[SendDatagram]) -> list[Place]:
    found = (decode_message(datagram.data).sealed for datagram in sent)
    return [sealed.place for sealed in found if sealed is not None and sealed.place is not None]


# --- two engines -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["ed25519", "rsa"])
@pytest.mark.parametrize("mtu", [1500, 1280, 576])
def test_a_hybrid_exchange_comes_through_a_narrow_path(mtu: int, kind: KeyKind) -> None:
    world = World(hybrid=True)
    one, other = world.pair(kind)
    world.link.passes = path(mtu)
    one.negotiate(other)
    world.run(3.0)
    assert_matched(one, other)
    assert len(one.kernel) == 1
    assert bool(fragments(one.sent)) == (mtu < 1280)
    largest = max(len(datagram.data) + 28 for datagram in one.sent + other.sent)
    assert largest <= 1280


def test_ipv6_needs_no_probing() -> None:
    world = World(hybrid=True)
    one, other = world.host("2001:db8::1"), world.host("2001:db8::2")
    world.link.passes = path(1280)
    one.negotiate(other)
    world.run(0.5)
    assert_matched(one, other)
    assert {place.total for place in fragments(one.sent)} == {2}


def test_the_first_repetition_is_the_same_the_second_is_smaller_and_what_follows_stays_small() -> None:
    world = World(hybrid=True)
    one, other = world.pair()
    world.link.passes = path(576)
    one.negotiate(other)
    world.run(3.0)
    half = [datagram for datagram in one.sent if is_message(datagram, ExchangeType.IKE_INTERMEDIATE, is_response=False)]
    assert [len(datagram.data) > 1200 for datagram in half] == [True, True, False, False, False]
    assert half[0].data == half[1].data
    assert fragments(half) == [Place(1, 3), Place(2, 3), Place(3, 3)]
    assert {place.total for place in fragments(other.sent)} == {3}
    assert len(one.kernel) == 1


@pytest.mark.parametrize("seed", range(100))
def test_fragments_on_a_bad_network(seed: int) -> None:
    world = World(seed, hybrid=True)
    one, other = world.pair()
    chance, link = Random(seed), world.link
    link.loss, link.duplicates, link.jitter = chance.choice([0.0, 0.2, 0.4]), 0.3, 0.3
    link.passes = path(chance.choice([1500, 1280, 576]))
    one.negotiate(other, patience=8.0)
    world.run(10.0)
    link.loss = 0.0
    world.run(30.0)
    for _ in range(2):
        for host in (one, other):
            host.check_all()
        world.run(30.0)
    assert_matched(one, other)
    assert not one.notes + other.notes


# --- a peer played by hand -------------------------------------------------------------------------------------


def cut(puppet: Puppet, message_id: int, payloads: tuple[Payload, ...], room: int = 548) -> tuple[bytes, ...]:
    assert puppet.sealing is not None
    head = puppet.header(INFORMATIONAL, message_id, is_response=False)
    return seal_message(head, payloads, puppet.sealing, Fragmentation(4, room))


def agreed(settings: IkeSettings | None = None) -> tuple[World, Host, Puppet]:
    world, host, puppet = played()
    if settings is not None:
        host.settings = settings
        host.restart()
    answer = puppet.begin(AGREED)
    assert find_notify(answer.payloads, NotifyType.FRAGMENTATION_SUPPORTED) is not None
    assert puppet.request(AUTH, 1, *puppet.auth(), *puppet.child()) is not None
    assert host.states == [State.ESTABLISHED]
    return world, host, puppet


def answers(puppet: Puppet, *datagrams: bytes) -> int:
    """How many messages the host sends for these."""
    return sum(len(puppet.send(datagram)) for datagram in datagrams)


def test_only_who_asks_for_it_is_told_that_we_can() -> None:
    _, host, puppet = played()
    assert find_notify(puppet.begin().payloads, NotifyType.FRAGMENTATION_SUPPORTED) is None
    puppet.request(AUTH, 1, *puppet.auth(), *puppet.child())
    first, *_ = cut(puppet, 2, LARGE)
    assert not puppet.send(first)
    assert host.rejected == {Reason.UNEXPECTED_MESSAGE: 1}


def test_a_request_is_answered_when_its_last_fragment_came() -> None:
    _, host, puppet = agreed()
    datagrams = cut(puppet, 2, LARGE)
    assert [len(puppet.send(datagram)) for datagram in reversed(datagrams)] == [0] * (len(datagrams) - 1) + [1]
    assert not host.rejected
    assert puppet.request(INFORMATIONAL, 3) == ()


def test_of_a_repeated_request_only_the_first_fragment_brings_the_answer_again() -> None:
    _, host, puppet = agreed()
    datagrams = cut(puppet, 2, LARGE)
    assert answers(puppet, *datagrams) == 1
    assert [answers(puppet, datagram) for datagram in datagrams] == [1] + [0] * (len(datagrams) - 1)
    forged = bytearray(datagrams[0])
    forged[-1] ^= 1
    assert answers(puppet, bytes(forged)) == 0
    assert host.rejected == {Reason.INTEGRITY_CHECK_FAILED: 1}


def test_forged_and_foreign_fragments_are_counted_and_spoil_nothing() -> None:
    _, host, puppet = agreed()
    datagrams = cut(puppet, 2, LARGE)
    forged = [bytes([*datagram[:-1], datagram[-1] ^ 1]) for datagram in datagrams]
    assert answers(puppet, forged[0], datagrams[0], *forged[1:], *datagrams[1:]) == 1
    assert host.rejected == {Reason.INTEGRITY_CHECK_FAILED: len(forged)}


def test_fragments_that_the_rest_never_follows_are_forgotten() -> None:
    world, host, puppet = agreed(IkeSettings(reassembly_patience=2.0))
    datagrams = cut(puppet, 2, LARGE)
    assert answers(puppet, *datagrams[:-1]) == 0
    world.run(2.1)
    assert answers(puppet, datagrams[-1]) == 0
    assert answers(puppet, *datagrams[:-1]) == 1
    assert not host.rejected


def test_a_whole_message_takes_the_place_of_its_fragments() -> None:
    world, _, puppet = agreed()
    datagrams = cut(puppet, 2, LARGE)
    assert answers(puppet, datagrams[0], puppet.sealed(INFORMATIONAL, 2, LARGE)) == 1
    assert answers(puppet, *cut(puppet, 3, LARGE)) == 1
    world.run(20.0)
    assert not puppet.heard()


def test_a_message_that_is_too_long_is_the_peers_own_mistake() -> None:
    _, host, puppet = agreed()
    assert puppet.sealing is not None
    head = puppet.header(INFORMATIONAL, 2, is_response=False)
    long = [seal_chain(head, 0, bytes(9000), puppet.sealing, Place(number, 2)) for number in (1, 2)]
    (answer,) = [octets for datagram in long for octets in puppet.send(datagram)]
    assert puppet.open(answer) == (NotifyPayload(NotifyType.INVALID_SYNTAX),)
    assert host.rejected == {Reason.INVALID_SYNTAX: 1}
    assert host.states == [State.LINGERING]


def test_nonsense_in_fragments_is_answered_like_nonsense_in_one_piece() -> None:
    _, host, puppet = agreed()
    assert puppet.sealing is not None
    head = puppet.header(INFORMATIONAL, 2, is_response=False)
    parts = [seal_chain(head, PayloadType.DELETE, b"?", puppet.sealing, Place(number, 2)) for number in (1, 2)]
    assert answers(puppet, *parts) == 1
    assert host.rejected == {Reason.INVALID_SYNTAX: 1}


def test_an_answer_is_made_smaller_when_it_is_asked_for_again_and_again() -> None:
    _, host, puppet = agreed()
    sa = next(iter(host.endpoint._ctx.sas.values()))
    assert puppet.request(INFORMATIONAL, 2) == ()
    # An answer as large as that of an IKE_INTERMEDIATE.
    head = puppet.header(INFORMATIONAL, 2, is_response=True)
    sa.responses.kept = seal_message(head, LARGE, sa.sealing, sa.fragmentation)
    again = puppet.sealed(INFORMATIONAL, 2, ())
    sizes = [[len(octets) for octets in puppet.send(again)] for _ in range(3)]
    assert [len(row) for row in sizes] == [2, 5, 5]
    assert [max(row) for row in sizes] == [1252, 548, 548]


def test_a_peer_with_small_fragments_gets_small_fragments() -> None:
    _, host, puppet = agreed()
    sa = next(iter(host.endpoint._ctx.sas.values()))
    assert answers(puppet, *cut(puppet, 2, LARGE, 700)) == 1
    assert sa.fragmentation.room == 700
    assert answers(puppet, *cut(puppet, 3, LARGE, 200)) == 1
    assert sa.fragmentation.room == 548


def test_a_response_in_fragments_is_heard() -> None:
    world, host, puppet = agreed()
    host.check_all()
    puppet.heard()
    assert puppet.sealing is not None
    head = puppet.header(INFORMATIONAL, 0, is_response=True)
    parts = seal_message(head, LARGE, puppet.sealing, Fragmentation(4, 548))
    for part in parts:
        puppet.send(part)
    world.run(60.0)
    assert not host.closed
    assert host.states == [State.ESTABLISHED]
