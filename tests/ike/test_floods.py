"""Floods: whatever strangers send, in whosever name, the honest get through, and what is kept has a bound."""

from collections import Counter
from ipaddress import ip_address
from random import Random

import pytest

from oe.ike.message import decode_message
from oe.ike.payloads import KePayload, NotifyPayload, find_notify
from oe.ike.registry import ExchangeType, KeyExchangeId, NotifyType
from oe.ike.states import State
from oe.messages import DatagramReceived
from oe.model import SocketAddress
from oe.reasons import Reason
from tests.ike.puppet import AUTH, Puppet
from tests.ike.world import Host, World, assert_matched

RANDOM = Random(5)


def forge(host: Host, request: bytes, source: str, count: int) -> None:
    """`count` IKE_SA_INIT requests, each with an SPI of its own; `source` has a place for two numbers or none."""
    for _ in range(count):
        address = ip_address(source.format(RANDOM.randrange(256), RANDOM.randrange(1, 255)))
        remote = SocketAddress(address, RANDOM.randrange(1024, 65536))
        host.feed(DatagramReceived(host.socket, remote, RANDOM.randbytes(8) + request[8:]))


def gets_through(world: World, one: Host, other: Host) -> bool:
    other.judge = world.judge
    ticket = one.negotiate(other)
    world.run(2.0)
    if ticket in one.ended:
        return False
    assert_matched(one, other)
    return True


@pytest.mark.parametrize("source", ["10.{}.{}.1", "198.51.{}.{}", "198.51.100.7", "192.0.2.1", "2001:db8:{:x}:{:x}::1"])
def test_forged_addresses_keep_nobody_out(source: str) -> None:
    """From anywhere, from one net, from one address, in the honest peer's own name, over IPv6."""
    world = World()
    one, other = world.pair()
    request = Puppet(other).init_request()
    forge(other, request, source, 2000)
    begun = len(other.states)
    assert begun <= other.settings.cookie_threshold
    assert other.rejected[Reason.COOKIE_DEMANDED] >= 2000 - begun
    assert not other.judged
    assert gets_through(world, one, other)
    world.run(11.0)
    assert Counter(other.states) == {State.ESTABLISHED: 1}


def begins(host: Host, address: str, number: int) -> Puppet | None:
    """A peer that is where it says: it comes back with a cookie if it must. None: it was not let in."""
    puppet = Puppet(host, address, 9)
    puppet.spi += number << 16
    cookies: tuple[NotifyPayload, ...] = ()
    for _ in range(2):
        answers = puppet.send(puppet.init_request(*cookies))
        if not answers:
            return None
        cookie = find_notify(decode_message(answers[0]).payloads, NotifyType.COOKIE)
        if cookie is None:
            puppet.spi += 1  # As if it began once more, so that `begin` has an answer of its own to work with.
            return puppet
        cookies = (cookie,)
    return None


def test_a_crowd_in_one_net_that_shows_its_addresses_takes_no_more_than_the_share_of_a_net() -> None:
    world = World()
    one, other = world.pair()
    let_in = sum(begins(other, f"203.0.113.{1 + number % 250}", number) is not None for number in range(600))
    assert let_in == other.settings.half_open_limit_per_prefix
    assert gets_through(world, one, other)


def test_who_fails_to_prove_itself_soon_costs_nothing_more() -> None:
    """No key exchange, no look into DNS for it, while its neighbour goes on."""
    world = World()
    one, other = world.pair()
    for number in range(50):
        liar = Puppet(other, "192.0.2.77", 9)
        other.judge = world.judge
        liar.spi += number << 16
        answers = liar.send(liar.init_request())
        if not answers:
            continue
        if find_notify(decode_message(answers[0]).payloads, NotifyType.COOKIE) is not None:
            jar = other.endpoint._ctx.admission.cookies
            cookie = NotifyPayload(NotifyType.COOKIE, jar.make(liar.socket, liar.spi + 1, liar.nonce, world.now))
            liar.spi += 1
            liar.begin(cookie)
        else:
            liar.spi += 1
            liar.begin()
        liar.request(AUTH, 1, *liar.auth(), *liar.child())
    assert len(other.judged) <= other.settings.failures_at_once
    assert other.rejected[Reason.TOO_MANY_FAILURES] > 30
    assert gets_through(world, one, other)


def test_noise_under_the_spis_of_an_ike_sa_does_not_hurt_it() -> None:
    world = World()
    one, other = world.pair()
    assert gets_through(world, one, other)
    request = one.sent[-1].data
    for _ in range(3000):
        garbled = bytearray(request)
        garbled[RANDOM.randrange(16, len(request))] ^= 1 << RANDOM.randrange(8)
        other.feed(DatagramReceived(other.socket, one.socket, bytes(garbled)))
    assert other.states == [State.ESTABLISHED]
    sent = len(other.sent)
    for _ in range(100):
        other.feed(DatagramReceived(other.socket, one.socket, request))  # Replayed: the kept answer, no more than that.
    assert len(other.sent) - sent <= 100
    assert {datagram.remote for datagram in other.sent[sent:]} <= {one.socket}
    one.check_all()
    world.run(1.0)
    assert one.states == other.states == [State.ESTABLISHED]


def test_strays_get_few_answers_whoever_is_named() -> None:
    world = World()
    one, other = world.pair()
    request = Puppet(other).init_request()
    stray = request[:18] + bytes([ExchangeType.INFORMATIONAL]) + request[19:]
    forge(other, stray, "192.0.2.1", 500)
    assert len(other.sent) <= 4
    forge(other, stray, "198.51.{}.{}", 2000)
    assert len(other.sent) <= 4 + other.settings.stray_answers_per_second
    assert other.rejected == {Reason.UNKNOWN_IKE_SPI: 2500}
    assert gets_through(world, one, other)


def test_a_public_value_that_is_none_counts_as_the_key_exchange_that_it_cost() -> None:
    world = World()
    host = world.host("192.0.2.1")
    puppet = Puppet(host)
    request = puppet.init_request(ke=KePayload(KeyExchangeId.CURVE25519, bytes(32)))
    for _ in range(200):
        puppet.send(RANDOM.randbytes(8) + request[8:])
    assert not host.states
    assert host.rejected[Reason.COOKIE_DEMANDED] >= 100
