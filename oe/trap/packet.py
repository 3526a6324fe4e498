"""A look at a trapped packet: whose it is and what it carries (RFC 791, RFC 8200). Pure.

The queue copies only the first octets of a packet, and a flood must cost little: fixed headers are unpacked in one
step after their length was checked, and only IPv6 extension headers, which hardly any packet has, are walked.
"""

from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from struct import Struct

from oe.errors import ParseError
from oe.model import HeldPacket, HostPair
from oe.wire import Reader

COPIED_OCTETS = 192
"""How much of a packet `peek` wants to see: the IPv6 header, some extension headers, ports."""
MAX_EXTENSION_HEADERS = 8
"""More than any honest packet has; a longer chain is refused."""

#   0      1      2      4      6      8      9      10     12     16
#   ver/   TOS    total  id     frag   TTL    proto  sum    source destination
#   IHL           length        offset
_IPV4 = Struct("!BxHxxHxBxxII")

#   0             4        6     7    8        24
#   ver/class/    payload  next  hop  source   destination
#   flow          length   hdr   lim
_IPV6 = Struct("!BxxxHBx16s16s")

_PORTS = Struct("!HH")
_WITH_PORTS = frozenset({6, 17, 33, 132, 136})
"""TCP, UDP, DCCP, SCTP, UDP-Lite: source and destination port are the first four octets of each."""

_FRAGMENT = 44
_AUTHENTICATION = 51
_IN_EIGHTS = frozenset({0, 43, 60, 135, 139, 140})
"""Extension headers that count their length in 8 octets beyond the first 8 (RFC 6564): hop-by-hop options, routing,
destination options, mobility, HIP, shim6."""


def peek(octets: bytes, *, id: int, mark: int, forwarded: bool) -> HeldPacket:
    """What `octets`, the first of an IP packet, say about it.

    `octets` may end before the packet does; then `protocol` is the last next-header value that was seen and the
    ports may be 0. Raises `ParseError` if a header disagrees with itself or with the packet's own length.
    """
    version = octets[0] >> 4 if octets else 0
    if version == 4:
        return _peek_v4(octets, id, mark, forwarded)
    if version == 6:
        return _peek_v6(octets, id, mark, forwarded)
    raise ParseError("IP header", f"version {version} in {len(octets)} octets")


def _peek_v4(octets: bytes, id: int, mark: int, forwarded: bool) -> HeldPacket:
    if len(octets) < _IPV4.size:
        raise ParseError("IPv4 header", f"need {_IPV4.size} octets, have {len(octets)}")
    first, size, fragment, protocol, source, destination = _IPV4.unpack_from(octets)
    size = size or len(octets)  # a segmentation-offload packet beyond 64 KiB says 0
    start = (first & 0xF) * 4
    if start < _IPV4.size or start > size:
        raise ParseError("IPv4 header", f"header of {start} octets in a packet of {size}")
    ports = (0, 0) if fragment & 0x1FFF else _ports(octets, start, size, protocol)
    return HeldPacket(id, _pair4(source, destination), protocol, *ports, size, mark, forwarded)


def _peek_v6(octets: bytes, id: int, mark: int, forwarded: bool) -> HeldPacket:
    if len(octets) < _IPV6.size:
        raise ParseError("IPv6 header", f"need {_IPV6.size} octets, have {len(octets)}")
    _, payload, protocol, source, destination = _IPV6.unpack_from(octets)
    size = _IPV6.size + payload if payload else len(octets)  # 0: nothing follows, or a jumbogram (RFC 2675)
    start = _IPV6.size
    if protocol in _IN_EIGHTS or protocol in (_FRAGMENT, _AUTHENTICATION):
        protocol, start = _skip_extensions(octets, size, protocol)
    ports = _ports(octets, start, size, protocol) if start else (0, 0)
    return HeldPacket(id, _pair6(source, destination), protocol, *ports, size, mark, forwarded)


def _skip_extensions(octets: bytes, size: int, protocol: int) -> tuple[int, int]:
    """The protocol after IPv6 extension headers and where it starts; 0 when that is not to be seen here."""
    reader = Reader(octets[_IPV6.size : size], "IPv6 extension headers")
    whole = len(octets) >= size
    for _ in range(MAX_EXTENSION_HEADERS):
        if protocol not in _IN_EIGHTS and protocol not in (_FRAGMENT, _AUTHENTICATION):
            return protocol, _IPV6.size + reader.offset
        if reader.remaining < 8 and not whole:
            return protocol, 0
        this, protocol, length = protocol, reader.u8("next header"), reader.u8("length")
        if this == _FRAGMENT:
            if reader.u16("fragment offset") & 0xFFF8:
                return protocol, 0
            reader.take(4, "fragment identification")
            continue
        rest = length * 8 + 6 if this in _IN_EIGHTS else length * 4 + 6
        if rest > reader.remaining and not whole:
            return protocol, 0
        reader.take(rest, "extension header")
    raise ParseError("IPv6 extension headers", f"more than {MAX_EXTENSION_HEADERS}")


def _ports(octets: bytes, start: int, size: int, protocol: int) -> tuple[int, int]:
    if protocol not in _WITH_PORTS:
        return 0, 0
    if start + _PORTS.size > size:
        raise ParseError("ports", f"packet of {size} octets ends before those of protocol {protocol} at {start}")
    if start + _PORTS.size > len(octets):
        return 0, 0
    source, destination = _PORTS.unpack_from(octets, start)
    return source, destination


# A held pair mostly sends more than one packet, and building two addresses costs more than all the rest.
@lru_cache(maxsize=4096)
def _pair4(source: int, destination: int) -> HostPair:
    return HostPair(IPv4Address(source), IPv4Address(destination))


@lru_cache(maxsize=4096)
def _pair6(source: bytes, destination: bytes) -> HostPair:
    return HostPair(IPv6Address(source), IPv6Address(destination))
