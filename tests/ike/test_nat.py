"""Hashes of addresses: what they tell, and what they must not be taken for."""

from hashlib import sha1
from ipaddress import ip_address

import pytest

from oe.ike.nat import Nat, announce, detect
from oe.ike.payloads import NotifyPayload, VendorPayload
from oe.ike.registry import NotifyType
from oe.model import SocketAddress

SPIS = (0x0102030405060708, 0)
INSIDE = SocketAddress(ip_address("10.0.0.1"), 500)
OUTSIDE = SocketAddress(ip_address("192.0.2.1"), 61000)
PEER = SocketAddress(ip_address("198.51.100.1"), 500)


def test_the_digest_is_that_of_the_standard() -> None:
    source, destination = announce(SPIS, INSIDE, PEER)
    octets = bytes.fromhex("010203040506070800000000000000000a00000101f4")
    assert source == NotifyPayload(NotifyType.NAT_DETECTION_SOURCE_IP, sha1(octets).digest())
    octets = bytes.fromhex("01020304050607080000000000000000c633640101f4")
    assert destination == NotifyPayload(NotifyType.NAT_DETECTION_DESTINATION_IP, sha1(octets).digest())


@pytest.mark.parametrize(
    ("said", "seen", "nat"),
    [
        ((INSIDE, PEER), (PEER, INSIDE), Nat.NOBODY),
        ((INSIDE, PEER), (PEER, OUTSIDE), Nat.PEER),
        ((PEER, OUTSIDE), (INSIDE, PEER), Nat.WE),
        ((INSIDE, OUTSIDE), (PEER, SocketAddress(PEER.address, 7)), Nat.PEER | Nat.WE),
        ((INSIDE, PEER), (PEER, SocketAddress(INSIDE.address, 501)), Nat.PEER),
    ],
    ids=["nobody", "sender", "receiver", "both", "port"],
)
def test_who_is_behind_a_nat(
    said: tuple[SocketAddress, SocketAddress], seen: tuple[SocketAddress, SocketAddress], nat: Nat
) -> None:
    """`said` as the sender has them, own first; `seen` as the receiver has them, own first."""
    assert detect((VendorPayload(b""), *announce(SPIS, *said)), SPIS, *seen) == nat


def test_other_spis_are_another_digest() -> None:
    assert detect(announce(SPIS, INSIDE, PEER), (1, 2), PEER, INSIDE) == Nat.PEER | Nat.WE


def test_ipv6() -> None:
    one, other = (SocketAddress(ip_address(text), 500) for text in ("2001:db8::1", "2001:db8::2"))
    assert detect(announce(SPIS, one, other), SPIS, other, one) is Nat.NOBODY
    assert detect(announce(SPIS, one, other), SPIS, other, SocketAddress(one.address, 9)) == Nat.PEER


def test_one_of_several_sources_is_enough() -> None:
    sources = [announce(SPIS, end, PEER)[0] for end in (OUTSIDE, INSIDE)]
    assert detect((*sources, announce(SPIS, INSIDE, PEER)[1]), SPIS, PEER, INSIDE) is Nat.NOBODY


def test_whoever_says_nothing_or_half_of_it_knows_no_nat_traversal() -> None:
    source, destination = announce(SPIS, INSIDE, PEER)
    for payloads in ((), (source,), (destination,)):
        assert detect(payloads, SPIS, PEER, OUTSIDE) is None


def test_digests_of_odd_length_fit_nothing() -> None:
    payloads = [NotifyPayload(notify.notify, notify.data[:4]) for notify in announce(SPIS, INSIDE, PEER)]
    assert detect(payloads, SPIS, PEER, INSIDE) == Nat.PEER | Nat.WE
