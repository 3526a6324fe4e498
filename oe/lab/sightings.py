"""What a captured frame is, and what all frames of one flow say: only ESP, clear, both, or nothing."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address

from oe.errors import ParseError
from oe.lab.capture import Frame
from oe.model import Address
from oe.wire import Reader

_ETHERTYPE_V4, _ETHERTYPE_V6 = 0x0800, 0x86DD
_ICMP, _UDP, _ESP, _ICMP6 = 1, 17, 50, 58
_ICMP_ERRORS = frozenset((b"\x03", b"\x04", b"\x05", b"\x0b", b"\x0c"))
_ICMP6_QUERIES = b"\x80"
"""ICMPv6 types below it are errors (RFC 4443 2.1)."""
_PORT_IKE, _PORT_NAT_T, _PORT_DNS = (port.to_bytes(2, "big") for port in (500, 4500, 53))


class Kind(StrEnum):
    ESP = "ESP"
    """Protocol 50, or UDP port 4500 without the non-ESP marker (RFC 3948 2.2)."""
    IKE = "IKE"
    DNS = "DNS"
    ERROR = "ICMP error"
    """A host's word about a packet, for instance that nobody listens for IKE; no part of the flow."""
    CLEAR = "clear"


@dataclass(frozen=True, slots=True)
class Sighting:
    """One IP packet on one link. `time` is in nanoseconds of the wall clock."""

    time: int
    link: str
    source: Address
    destination: Address
    kind: Kind
    payload: bytes

    @property
    def ends(self) -> frozenset[Address]:
        return frozenset((self.source, self.destination))


def sight(frame: Frame) -> Sighting | None:
    """The IP packet in a frame; None for frames that carry none or a damaged one."""
    reader = Reader(frame.data, "Ethernet frame")
    try:
        reader.take(12, "addresses")
        ethertype = reader.u16("type")
        if ethertype == _ETHERTYPE_V4:
            return _sight_v4(frame, reader)
        return _sight_v6(frame, reader) if ethertype == _ETHERTYPE_V6 else None
    except ParseError:
        return None


def _sight_v4(frame: Frame, reader: Reader) -> Sighting:
    words = (reader.u8("version and length") & 15) - 5
    reader.take(8, "up to the protocol")
    protocol = reader.u8("protocol")
    reader.take(2, "checksum")
    source, destination = IPv4Address(reader.take(4, "source")), IPv4Address(reader.take(4, "destination"))
    reader.take(4 * words, "options")
    return _sighting(frame, source, destination, protocol, reader)


def _sight_v6(frame: Frame, reader: Reader) -> Sighting:
    reader.take(6, "up to the next header")
    protocol = reader.u8("next header")
    reader.take(1, "hop limit")
    source, destination = IPv6Address(reader.take(16, "source")), IPv6Address(reader.take(16, "destination"))
    return _sighting(frame, source, destination, protocol, reader)


def _sighting(frame: Frame, source: Address, destination: Address, protocol: int, reader: Reader) -> Sighting:
    payload = reader.rest()
    return Sighting(frame.time, frame.link, source, destination, _kind(protocol, payload), payload)


def _kind(protocol: int, payload: bytes) -> Kind:
    if protocol == _ESP:
        return Kind.ESP
    if protocol == _UDP:
        return _udp_kind(payload)
    is_error = (protocol == _ICMP and payload[0:1] in _ICMP_ERRORS) or (
        protocol == _ICMP6 and payload[0:1] < _ICMP6_QUERIES and payload != b""
    )
    return Kind.ERROR if is_error else Kind.CLEAR


def _udp_kind(payload: bytes) -> Kind:
    ports = {payload[0:2], payload[2:4]}
    if _PORT_NAT_T in ports:
        is_short = len(payload) < 16  # a NAT keepalive
        return Kind.IKE if is_short or payload[8:12] == bytes(4) else Kind.ESP
    if _PORT_IKE in ports:
        return Kind.IKE
    return Kind.DNS if _PORT_DNS in ports else Kind.CLEAR


@dataclass(frozen=True, slots=True)
class Wire:
    """What the link of a flow's first sender showed of it."""

    esp: int
    clear: int
    ike: int
    clear_after_esp: int
    """Clear packets of the flow after its first ESP packet."""
    marker_seen: bool
    """The payload of the flow stood readable in a packet on any link."""

    def __str__(self) -> str:
        if self.esp and self.clear:
            return "ESP+clear" if self.clear_after_esp else "clear, then ESP"
        return "only ESP" if self.esp else "clear" if self.clear else "nothing"


def summarise(
    sightings: Iterable[Sighting], link: str, inner: frozenset[Address], outer: frozenset[Address], marker: bytes
) -> Wire:
    """Sum up a flow between the addresses `inner`, whose gateways are `outer`, as seen on `link`."""
    esp = clear = ike = clear_after_esp = 0
    marker_seen = False
    for sighting in sightings:
        marker_seen |= marker in sighting.payload
        if sighting.link != link:
            continue
        if sighting.kind is Kind.CLEAR and sighting.ends == inner:
            clear += 1
            clear_after_esp += esp > 0
        elif sighting.ends == outer:
            esp += sighting.kind is Kind.ESP
            ike += sighting.kind is Kind.IKE
    return Wire(esp, clear, ike, clear_after_esp, marker_seen)
