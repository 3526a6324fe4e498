"""Routing netlink messages: policy rules by packet mark, default routes in tables of our own, an address."""

from dataclasses import dataclass
from ipaddress import IPv4Address, ip_address
from struct import Struct

from oe.errors import ParseError
from oe.ipsec.netlink_wire import NativeReader, attribute, decode_attributes
from oe.model import Address

NEWADDR, GETADDR = 20, 22
NEWROUTE, DELROUTE = 24, 25
NEWRULE, DELRULE, GETRULE = 32, 33, 34

FAMILIES = (2, 10)
"""AF_INET and AF_INET6."""

PROTOCOL = 111
"""Of our rules and routes (rtnetlink(7), `protocol` in iproute2's output): how they are told from foreign ones."""

_FRA_PRIORITY, _FRA_FWMARK, _FRA_TABLE, _FRA_FWMASK, _FRA_PROTOCOL = 6, 10, 15, 16, 21
GROUP_LINK, GROUP_IPV4_ADDRESS, GROUP_IPV6_ADDRESS = 1, 5, 9

_IFA_ADDRESS, _IFA_LOCAL, _IFA_FLAGS = 1, 2, 8
_NOT_USABLE = 0x20 | 0x40 | 0x08
"""IFA_F_DEPRECATED, IFA_F_TENTATIVE, IFA_F_DADFAILED: addresses that packets should not come from."""
_RTA_OIF, _RTA_PRIORITY, _RTA_TABLE = 4, 6, 15

_RTMSG = Struct("=BBBBBBBBI")
"""Of a rule (fib_rule_hdr) too: family, two prefix lengths, tos, table, then by kind."""
_IFADDRMSG = Struct("=BBBBI")
_U32 = Struct("=I")

_TO_TABLE = 1
_UNICAST, _BLACKHOLE = 1, 6
_SCOPE_UNIVERSE, _SCOPE_LINK, _SCOPE_HOST = 0, 253, 254
_RT_TABLE_COMPAT = 252


@dataclass(frozen=True, slots=True)
class Rule:
    """Packets that bear all bits of `mark` look into `table`. Rules are asked by ascending `priority`."""

    family: int
    priority: int
    mark: int
    table: int


@dataclass(frozen=True, slots=True)
class DefaultRoute:
    """Everything goes out of `device` (an interface index), or nowhere (None). The lowest metric wins."""

    family: int
    table: int
    device: int | None
    metric: int


def encode_rule(rule: Rule) -> bytes:
    """NEWRULE or DELRULE."""
    header = _RTMSG.pack(rule.family, 0, 0, 0, _RT_TABLE_COMPAT, 0, 0, _TO_TABLE, 0)
    return (
        header
        + _number(_FRA_PRIORITY, rule.priority)
        + _number(_FRA_FWMARK, rule.mark)
        + _number(_FRA_FWMASK, rule.mark)
        + _number(_FRA_TABLE, rule.table)
        + attribute(_FRA_PROTOCOL, bytes([PROTOCOL]))
    )


def decode_rule(body: bytes) -> Rule | None:
    """A rule of a dump; None for a foreign one. Raises ParseError."""
    reader = NativeReader(body, "routing rule")
    family = reader.fields(_RTMSG, "header")[0]
    attributes = decode_attributes(reader)
    if attributes.get(_FRA_PROTOCOL) != bytes([PROTOCOL]):
        return None
    priority, mark, table = (
        NativeReader(attributes.get(kind, bytes(4)), "routing rule").u32("attribute")
        for kind in (_FRA_PRIORITY, _FRA_FWMARK, _FRA_TABLE)
    )
    return Rule(family, priority, mark, table)


def encode_rule_query(family: int) -> bytes:
    """GETRULE, as a dump."""
    return _RTMSG.pack(family, 0, 0, 0, 0, 0, 0, 0, 0)


def encode_route(route: DefaultRoute) -> bytes:
    """NEWROUTE or DELROUTE."""
    kind, scope, device = _UNICAST, _SCOPE_LINK, b""
    if route.device is None:
        kind, scope = _BLACKHOLE, _SCOPE_UNIVERSE
    else:
        device = _number(_RTA_OIF, route.device)
    header = _RTMSG.pack(route.family, 0, 0, 0, _RT_TABLE_COMPAT, PROTOCOL, scope, kind, 0)
    return header + _number(_RTA_TABLE, route.table) + _number(_RTA_PRIORITY, route.metric) + device


def encode_address(device: int, address: IPv4Address) -> bytes:
    """NEWADDR: an address that the host itself never chooses as a source for other devices."""
    header = _IFADDRMSG.pack(FAMILIES[0], address.max_prefixlen, 0, _SCOPE_HOST, device)
    return header + attribute(_IFA_LOCAL, address.packed)


def encode_address_query() -> bytes:
    """GETADDR, as a dump of both families."""
    return _IFADDRMSG.pack(0, 0, 0, 0, 0)


def decode_address(body: bytes) -> Address | None:
    """An address of a dump; None for one that packets to the world should not come from. Raises ParseError."""
    reader = NativeReader(body, "address")
    family, _length, flags, scope, _device = reader.fields(_IFADDRMSG, "header")
    attributes = decode_attributes(reader)
    if _IFA_FLAGS in attributes:
        flags = NativeReader(attributes[_IFA_FLAGS], "address").u32("flags")
    octets = attributes.get(_IFA_LOCAL) or attributes.get(_IFA_ADDRESS) or b""
    if family not in FAMILIES or scope != _SCOPE_UNIVERSE or flags & _NOT_USABLE:
        return None
    if len(octets) != (4 if family == FAMILIES[0] else 16):
        raise ParseError("address", f"{len(octets)} octets for family {family}")
    address = ip_address(octets)
    return None if address.is_loopback else address


def _number(kind: int, value: int) -> bytes:
    return attribute(kind, _U32.pack(value))
