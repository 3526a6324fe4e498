"""NATs on the way: two engines, a box between them that changes addresses, and what each end believes afterwards."""

from dataclasses import replace
from ipaddress import ip_address
from itertools import pairwise

import pytest

from oe.ike.message import decode_message
from oe.ike.nat import announce
from oe.ike.payloads import NotifyPayload
from oe.ike.registry import ExchangeType, NotifyType
from oe.ike.settings import IkeSettings
from oe.ike.states import State
from oe.messages import DatagramReceived, PeerMoved, SendDatagram
from oe.model import Anonymity, Encapsulation, HostPair, SocketAddress
from oe.negotiation import PeerJudged
from tests.ike.natbox import NatBox
from tests.ike.puppet import Puppet, played
from tests.ike.world import Host, World, is_message

OUTSIDE = "203.0.113.1"
INFORMATIONAL = ExchangeType.INFORMATIONAL


class Natted:
    """`inner` is behind a NAT, `outer` is not."""

    def __init__(
        self,
        seed: int = 0,
        *,
        addresses: tuple[str, str, str] = ("10.0.0.1", "192.0.2.2", OUTSIDE),
        settings: IkeSettings | None = None,
    ) -> None:
        inner, outer, outside = addresses
        self.world = World(seed)
        self.inner, self.outer = (self.world.host(address, settings=settings) for address in (inner, outer))
        self.box = NatBox(outside, [self.inner.address])
        self.world.link.middlebox = self.box

    def establish(self) -> "Natted":
        self.inner.negotiate(self.outer)
        self.world.run(1.0)
        assert len(self.inner.kernel) == len(self.outer.kernel) == 1
        return self

    def ask(self, host: Host, seconds: float = 1.0) -> None:
        """Have a host look whether its peer lives."""
        host.check_all()
        self.world.run(seconds)


def where(host: Host) -> tuple[str, str]:
    (row,) = host.endpoint.snapshot()
    return str(row.local), str(row.remote)


def esp_ways(host: Host) -> list[tuple[str, Encapsulation | None]]:
    return [(str(held.child.remote), held.child.encapsulation) for held in host.kernel.values()]


def ports(sent: list[SendDatagram]) -> list[tuple[int, int]]:
    return [(datagram.local.port, datagram.remote.port) for datagram in sent]


# --- setting up ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "addresses", [("10.0.0.1", "192.0.2.2", OUTSIDE), ("fd00::1", "2001:db8::2", "2001:db8:ffff::1")], ids=["v4", "v6"]
)
def test_behind_a_nat_ike_goes_on_from_port_4500_and_esp_goes_in_udp(addresses: tuple[str, str, str]) -> None:
    net = Natted(addresses=addresses).establish()
    assert ports(net.inner.sent) == [(500, 500), (4500, 4500)]
    assert ports(net.outer.sent) == [(500, 61000), (4500, 61001)]
    assert esp_ways(net.inner) == [(addresses[1], Encapsulation(4500, 4500))]
    assert esp_ways(net.outer) == [(addresses[2], Encapsulation(4500, 61001))]
    assert [question.nat for question in net.outer.judged] == [True]


def test_without_a_nat_nothing_is_different() -> None:
    world = World()
    one, other = world.pair()
    one.negotiate(other)
    world.run(60.0)
    assert set(ports(one.sent + other.sent)) == {(500, 500)}
    assert esp_ways(one) == [(str(other.address), None)]
    assert [question.nat for question in other.judged] == [False]
    assert not one.kept + other.kept


def reach_inner(net: Natted) -> None:
    """The outer one begins; it knows the inner one by the NAT's address, which forwards both ports."""
    net.box.forwards = {port: SocketAddress(net.inner.address, port) for port in (500, 4500)}
    front = Host.__new__(Host)
    front.address, front.socket = net.box.outside, SocketAddress(net.box.outside, 500)
    front.key, front.identity = net.inner.key, net.inner.identity
    net.outer.negotiate(front, pair=HostPair(net.outer.address, net.inner.address))
    net.world.run(1.0)


def test_a_responder_behind_a_nat_is_reached_and_keeps_its_mapping() -> None:
    net = Natted()
    reach_inner(net)
    assert where(net.outer) == ("192.0.2.2:4500", f"{OUTSIDE}:4500")
    assert esp_ways(net.outer) == [(OUTSIDE, Encapsulation(4500, 4500))]
    assert esp_ways(net.inner) == [("192.0.2.2", Encapsulation(4500, 4500))]
    net.world.run(60.0)
    assert len(net.inner.kept) == 7
    assert not net.outer.kept


def test_both_behind_nats() -> None:
    net = Natted()
    other_box = NatBox("198.51.100.1", [net.outer.address])
    other_box.forwards = {port: SocketAddress(net.outer.address, port) for port in (500, 4500)}

    def both(sent: SendDatagram) -> SendDatagram | None:
        first, second = (net.box, other_box) if sent.local.address == net.inner.address else (other_box, net.box)
        on_the_way = first(sent)
        return None if on_the_way is None else second(on_the_way)

    net.world.link.middlebox = both
    front = Host.__new__(Host)
    front.address, front.socket = other_box.outside, SocketAddress(other_box.outside, 500)
    front.key, front.identity = net.outer.key, net.outer.identity
    net.inner.negotiate(front, pair=HostPair(net.inner.address, net.outer.address))
    net.world.run(15.0)
    assert esp_ways(net.inner) == [("198.51.100.1", Encapsulation(4500, 4500))]
    assert esp_ways(net.outer) == [(OUTSIDE, Encapsulation(4500, 61001))]
    assert len(net.inner.kept) == len(net.outer.kept) == 2


def test_two_hosts_behind_one_nat_are_two_peers() -> None:
    net = Natted()
    second = net.world.host("10.0.0.2")
    net.world.link.middlebox = net.box = NatBox(OUTSIDE, [net.inner.address, second.address])
    for host in (net.inner, second):
        host.negotiate(net.outer)
    net.world.run(1.0)
    assert len(net.outer.kernel) == 2
    assert len(set(esp_ways(net.outer))) == 2
    net.ask(net.outer)
    assert not net.outer.closed


def test_a_peer_that_is_on_port_4500_from_the_start_is_heard() -> None:
    _, host, puppet = played()
    puppet.socket = replace(puppet.socket, port=4500)
    host.socket = replace(host.socket, port=4500)
    puppet.establish()
    assert host.states == [State.ESTABLISHED]
    assert {(datagram.local.port, datagram.remote.port) for datagram in host.sent} == {(4500, 4500)}
    assert esp_ways(host) == [(str(puppet.socket.address), None)]


def test_a_peer_that_wants_esp_in_udp_says_a_source_that_does_not_fit() -> None:
    _, host, puppet = played()
    wanted = [
        NotifyPayload(NotifyType.NAT_DETECTION_SOURCE_IP, bytes(20)),
        NotifyPayload(NotifyType.NAT_DETECTION_DESTINATION_IP, bytes(20)),
    ]
    puppet.begin(*wanted)
    puppet.socket = replace(puppet.socket, port=4500)
    host.socket = replace(host.socket, port=4500)
    response = puppet.request(ExchangeType.IKE_AUTH, 1, *puppet.auth(), *puppet.child())
    assert response is not None
    assert esp_ways(host) == [(str(puppet.socket.address), Encapsulation(4500, 4500))]


# --- mappings that move ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("outside", [None, "203.0.113.9"], ids=["port", "address"])
def test_a_new_mapping_is_followed_by_ike_and_esp(outside: str | None) -> None:
    net = Natted().establish()
    net.box.rebind(outside)
    net.ask(net.inner)
    assert esp_ways(net.outer) == [(outside or OUTSIDE, Encapsulation(4500, 61002))]
    assert where(net.outer)[1] == f"{outside or OUTSIDE}:61002"
    net.ask(net.outer)
    assert not net.inner.closed
    assert not net.outer.closed


def test_a_request_that_was_lost_in_the_old_mapping_is_repeated_into_the_new_one() -> None:
    net = Natted().establish()
    net.box.rebind()
    net.ask(net.outer, 0.7)
    assert {str(datagram.remote) for datagram in net.outer.sent[-2:]} == {f"{OUTSIDE}:61001"}
    net.ask(net.inner, 2.0)
    assert str(net.outer.sent[-1].remote) == f"{OUTSIDE}:61002"
    net.world.run(60.0)
    assert not net.outer.closed


def test_esp_tells_of_a_new_mapping_before_ike_does() -> None:
    net = Natted().establish()
    (child,) = net.outer.kernel
    seen = SocketAddress(ip_address(OUTSIDE), 61007)
    net.outer.feed(PeerMoved(child, seen))
    assert esp_ways(net.outer) == [(OUTSIDE, Encapsulation(4500, 61007))]
    net.outer.feed(PeerMoved(child, seen))
    net.outer.feed(PeerMoved(99, seen))
    assert esp_ways(net.outer) == [(OUTSIDE, Encapsulation(4500, 61007))]


def test_who_is_behind_a_nat_itself_follows_nobody() -> None:
    net = Natted().establish()
    (child,) = net.inner.kernel
    before = where(net.inner)
    net.inner.feed(PeerMoved(child, SocketAddress(ip_address("198.51.100.66"), 4500)))
    net.outer.check_all()
    request = net.outer.sent[-1]
    bent = SocketAddress(ip_address("198.51.100.66"), 4500)
    net.inner.feed(DatagramReceived(SocketAddress(net.inner.address, 4500), bent, request.data))
    assert net.inner.sent[-1].remote == bent  # It is answered where it came from, and nothing else goes there.
    assert where(net.inner) == before
    assert esp_ways(net.inner) == [("192.0.2.2", Encapsulation(4500, 4500))]


def test_without_a_nat_nobody_moves() -> None:
    world = World()
    one, other = world.pair()
    one.negotiate(other)
    world.run(1.0)
    (child,) = other.kernel
    elsewhere = SocketAddress(ip_address("198.51.100.66"), 4500)
    other.feed(PeerMoved(child, elsewhere))
    one.check_all()
    other.feed(DatagramReceived(other.socket, elsewhere, one.sent[-1].data))
    assert where(other) == (str(other.socket), str(one.socket))
    assert esp_ways(other) == [(str(one.address), None)]


def test_a_repeated_or_forged_message_moves_nobody() -> None:
    """An attacker who repeats what it saw, or makes something up, from an address of its own."""
    net = Natted().establish()
    net.ask(net.inner)
    before = where(net.outer)
    old = [datagram for datagram in net.inner.sent if is_message(datagram, INFORMATIONAL, is_response=False)][-1]
    here, there = SocketAddress(net.outer.address, 4500), SocketAddress(ip_address("198.51.100.66"), 4500)
    forged = bytearray(old.data)
    forged[23] += 1  # the next Message ID
    for octets in (old.data, bytes(forged)):
        net.outer.feed(DatagramReceived(here, there, octets))
    assert where(net.outer) == before
    assert esp_ways(net.outer) == [(OUTSIDE, Encapsulation(4500, 61001))]


def nobody_behind_a_nat() -> tuple[Host, Puppet]:
    """An anonymous peer that says that it is behind a NAT, on port 4500, about to send IKE_AUTH."""
    _, host, puppet = played()
    host.judge = lambda question: PeerJudged(question.ticket, (), None, anonymity=Anonymity.ANONYMOUS)
    puppet.begin(
        NotifyPayload(NotifyType.NAT_DETECTION_SOURCE_IP, bytes(20)),
        NotifyPayload(NotifyType.NAT_DETECTION_DESTINATION_IP, nat_digest(puppet)),
    )
    puppet.socket, host.socket = replace(puppet.socket, port=4500), replace(host.socket, port=4500)
    return host, puppet


def nat_digest(puppet: Puppet) -> bytes:
    """What the host is to find of itself: it is not behind a NAT."""
    return announce((puppet.spi, 0), puppet.host.socket, puppet.socket)[0].data


def test_who_has_proved_nothing_asks_for_the_address_that_it_received_at() -> None:
    """Its IKE_AUTH bears the address of somebody else, whose pair it would get, and later his traffic."""
    host, puppet = nobody_behind_a_nat()
    request = puppet.sealed(ExchangeType.IKE_AUTH, 1, (*puppet.anonymous(), *puppet.child()))
    victim = SocketAddress(ip_address("198.51.100.7"), 4500)
    host.feed(DatagramReceived(host.socket, victim, request))
    assert [question.remote.address for question in host.judged] == [puppet.socket.address]


def test_who_has_proved_nothing_takes_its_child_sas_to_no_other_address() -> None:
    host, puppet = nobody_behind_a_nat()
    assert puppet.request(ExchangeType.IKE_AUTH, 1, *puppet.anonymous(), *puppet.child()) is not None
    (child,) = host.kernel
    elsewhere = SocketAddress(ip_address("198.51.100.7"), 4500)
    request = puppet.sealed(INFORMATIONAL, 2, ())
    host.feed(DatagramReceived(host.socket, elsewhere, request))
    host.feed(PeerMoved(child, elsewhere))
    assert host.sent[-1].remote == elsewhere
    assert esp_ways(host) == [(str(puppet.socket.address), Encapsulation(4500, 4500))]
    # Another port is its NAT's affair.
    puppet.socket = replace(puppet.socket, port=61007)
    assert puppet.request(INFORMATIONAL, 3) == ()
    assert esp_ways(host) == [(str(puppet.socket.address), Encapsulation(4500, 61007))]


@pytest.mark.parametrize("here", [("192.0.2.3", 4500), ("192.0.2.2", 500)], ids=["address", "port"])
def test_a_message_to_another_socket_of_ours_moves_nobody(here: tuple[str, int]) -> None:
    net = Natted().establish()
    net.inner.check_all()
    local = SocketAddress(ip_address(here[0]), here[1])
    request = net.inner.sent[-1]
    net.outer.endpoint.handle(
        DatagramReceived(local, SocketAddress(ip_address(OUTSIDE), 7), request.data), net.world.now
    )
    assert where(net.outer) == ("192.0.2.2:4500", f"{OUTSIDE}:61001")


# --- keepalives ------------------------------------------------------------------------------------------------


def test_only_the_end_behind_the_nat_keeps_the_mapping_and_only_while_there_is_one() -> None:
    net = Natted().establish()
    net.world.run(30.0)
    begun = net.inner.kept[0]
    assert [at - begun for at in net.inner.kept] == [0.0, 10.0, 20.0, 30.0]
    assert not net.outer.kept
    (child,) = net.inner.kernel
    net.inner.close(child)
    net.world.run(60.0)
    assert len(net.inner.kept) == 4


def test_a_rekeyed_ike_sa_knows_of_the_nat() -> None:
    net = Natted(settings=IkeSettings(ike_lifetime=100.0)).establish()
    net.world.run(1000.0)
    assert not net.inner.notes + net.outer.notes
    assert net.inner.endpoint.snapshot()[0].since > 1500.0
    assert [end for end, _ in ports(net.inner.sent)].count(500) == 1
    pauses = {round(after - before, 1) for before, after in pairwise(net.inner.kept)}
    assert max(pauses) <= 10.0
    net.box.rebind("203.0.113.9")
    net.ask(net.inner)
    net.ask(net.outer)
    assert {way for way, _ in esp_ways(net.outer)} == {"203.0.113.9"}


# --- a bad network ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(60))
def test_a_nat_that_forgets_again_and_again_on_a_bad_network(seed: int) -> None:
    net = Natted(seed).establish()
    link = net.world.link
    link.loss, link.duplicates, link.jitter = 0.2, 0.2, 0.3
    for number in range(6):
        net.box.rebind(f"203.0.113.{number + 2}")
        net.ask(net.inner, 5.0)
        net.ask(net.outer, 5.0)
    link.loss = link.jitter = 0.0
    net.ask(net.inner, 20.0)
    assert not net.inner.notes + net.outer.notes
    if net.inner.kernel:
        assert esp_ways(net.outer)[0][0] == "203.0.113.7"
        assert [decode_message(net.outer.sent[-1].data).header.is_response] == [True]
    net.ask(net.outer, 20.0)
    assert len(net.inner.kernel) == len(net.outer.kernel)
