from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
)
from scapy.layers.ipsec import AH, ESP
from scapy.layers.sctp import SCTP
from scapy.packet import Packet, Raw

from oe.errors import ParseError
from oe.model import HeldPacket, HostPair
from oe.trap.packet import COPIED_OCTETS, MAX_EXTENSION_HEADERS, peek
from tests.trap.netns import pair

V4 = pair("10.0.0.1", "192.0.2.7")
V6 = pair("fd00::1", "2001:db8::7")


def held(octets: bytes) -> HeldPacket:
    return peek(octets[:COPIED_OCTETS], id=5, mark=0x7, forwarded=True)


def v4(**fields: Any) -> Packet:
    return IP(src="10.0.0.1", dst="192.0.2.7", **fields)


def v6() -> Packet:
    return IPv6(src="fd00::1", dst="2001:db8::7")


@pytest.mark.parametrize(
    ("packet", "protocol", "ports"),
    [
        (v4() / UDP(sport=1234, dport=53) / b"x", 17, (1234, 53)),
        (v4() / TCP(sport=40000, dport=443), 6, (40000, 443)),
        (v4() / SCTP(sport=7, dport=8), 132, (7, 8)),
        (v4(proto=33) / Raw(bytes.fromhex("00010002") + bytes(12)), 33, (1, 2)),
        (v4(proto=136) / Raw(bytes.fromhex("00010002") + bytes(4)), 136, (1, 2)),
        (v4() / ICMP(), 1, (0, 0)),
        (v4() / ESP(spi=1, seq=2, data=b"x" * 40), 50, (0, 0)),
        (v4(options=b"\x07\x07\x04" + bytes(5)) / UDP(sport=5, dport=6), 17, (5, 6)),
        (v4(flags="MF") / UDP(sport=5, dport=6) / bytes(16), 17, (5, 6)),
        (v4(frag=2) / Raw(bytes(16)), 0, (0, 0)),
        (v4(frag=2, proto=17) / Raw(bytes(16)), 17, (0, 0)),
    ],
)
def test_ipv4_agrees_with_scapy(packet: Packet, protocol: int, ports: tuple[int, int]) -> None:
    octets = bytes(packet)
    assert held(octets) == HeldPacket(5, V4, protocol, *ports, len(octets), 0x7, True)


HOP, ROUTE, OPTIONS = IPv6ExtHdrHopByHop(), IPv6ExtHdrRouting(addresses=["::1"]), IPv6ExtHdrDestOpt()


@pytest.mark.parametrize(
    ("packet", "protocol", "ports"),
    [
        (v6() / UDP(sport=1234, dport=53) / b"x", 17, (1234, 53)),
        (v6() / ICMPv6EchoRequest(), 58, (0, 0)),
        (v6() / HOP / ROUTE / OPTIONS / TCP(sport=1, dport=2), 6, (1, 2)),
        (v6() / IPv6ExtHdrFragment(offset=0, m=1) / UDP(sport=3, dport=4) / bytes(8), 17, (3, 4)),
        (v6() / IPv6ExtHdrFragment(offset=9, nh=17) / Raw(bytes(16)), 17, (0, 0)),
        (v6() / AH(nh=17, payloadlen=4, spi=1, icv=bytes(12)) / UDP(sport=3, dport=4), 17, (3, 4)),
        (v6() / ESP(spi=1, seq=2, data=b"x" * 40), 50, (0, 0)),
        (IPv6(src="fd00::1", dst="2001:db8::7", nh=59), 59, (0, 0)),
    ],
)
def test_ipv6_agrees_with_scapy(packet: Packet, protocol: int, ports: tuple[int, int]) -> None:
    octets = bytes(packet)
    assert held(octets) == HeldPacket(5, V6, protocol, *ports, len(octets), 0x7, True)


def test_a_chain_that_leaves_the_copied_octets_is_no_error() -> None:
    octets = bytes(v6() / IPv6ExtHdrDestOpt(len=20, autopad=0, options=[Raw(bytes(166))]) / UDP(sport=1, dport=2))
    seen = held(octets)
    assert (seen.protocol, seen.source_port, seen.size) == (17, 0, len(octets))


def test_ports_beyond_the_copied_octets_are_zero() -> None:
    octets = bytes(v4() / TCP(sport=1, dport=2))
    assert peek(octets[:22], id=1, mark=0, forwarded=False).source_port == 0


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"\x45",
        b"\x10" * 40,
        bytes(v4() / UDP())[:19],
        b"\x44" + bytes(v4() / UDP())[1:],
        b"\x4f" + bytes(v4() / UDP())[1:],
        bytes(IP(src="10.0.0.1", dst="192.0.2.7", proto=6, len=22) / Raw(b"ab")),
        bytes(v6() / UDP())[:39],
        bytes(IPv6(nh=60) / Raw(b"\x11\x04" + bytes(6))),
        bytes(IPv6(nh=44) / Raw(bytes(4))),
        bytes(IPv6(nh=0) / Raw(b"\0\0" + bytes(6)) / Raw((b"\0\0" + bytes(6)) * MAX_EXTENSION_HEADERS)),
    ],
)
def test_malformed_packets_are_parse_errors(octets: bytes) -> None:
    with pytest.raises(ParseError):
        held(octets)


@given(st.sampled_from([b"", b"\x45", b"\x60"]), st.binary(max_size=COPIED_OCTETS))
def test_any_octets_give_a_packet_or_a_parse_error(start: bytes, rest: bytes) -> None:
    try:
        seen = held(start + rest)
    except ParseError:
        return
    assert isinstance(seen.pair, HostPair)
    assert 0 <= seen.source_port <= 0xFFFF
    assert 0 <= seen.protocol <= 0xFF


@given(st.binary(min_size=8, max_size=60), st.integers(0, 255), st.integers(0, 70))
def test_any_extension_headers_cut_anywhere(chain: bytes, first: int, cut: int) -> None:
    octets = bytes(IPv6(src="fd00::1", dst="2001:db8::7", nh=first) / Raw(chain))
    with suppress(ParseError):
        assert held(octets[: 40 + cut]).pair == V6
