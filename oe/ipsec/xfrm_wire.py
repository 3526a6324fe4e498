"""XFRM netlink messages, octet by octet as linux/xfrm.h lays them out.

Numbers are in host byte order, except SPIs and ports. An address takes 16 octets, an IPv4 one the first 4 of them.
"""

from ipaddress import IPv4Address, IPv6Address
from math import ceil
from struct import Struct

from oe.errors import ParseError
from oe.ipsec.model import FIRST_SPI, REPLAY_WINDOW, SOFT
from oe.ipsec.netlink_wire import NativeReader, attribute, decode_attributes
from oe.ipsec.operations import Action, KernelSa, Past, Policy, SaKey, Selector, Template, Way
from oe.ipsec.reconcile import SeenPolicy, SeenSa
from oe.model import Address, Mode, SocketAddress

NEWSA, DELSA, GETSA = 0x10, 0x11, 0x12
NEWPOLICY, DELPOLICY, GETPOLICY = 0x13, 0x14, 0x15
ALLOCSPI, EXPIRE, UPDPOLICY, UPDSA = 0x16, 0x18, 0x19, 0x1A

FLUSHSA, FLUSHPOLICY, MAPPING = 0x1C, 0x1D, 0x26

GROUP_EXPIRE, GROUP_SA, GROUP_POLICY, GROUP_MAPPING = 2, 3, 4, 8

_ENCAP, _TMPL, _SA, _POLICY, _LTIME_VAL, _ALG_AEAD, _REPLAY_ESN = 4, 5, 6, 7, 9, 18, 23

_AF_INET, _AF_INET6 = 2, 10
_ESP = 50
_UDP_ENCAP_ESPINUDP = 2
_STATE_ESN = 128
_MODES = {Mode.TRANSPORT: 0, Mode.TUNNEL: 1}

# linux/xfrm.h: the fields are in its order, `x` is padding.
_SELECTOR = Struct("=16s16s2s2s2s2sHBBB3xiI")
_ID = Struct("=16s4sB3x")
_LIFETIME = Struct("=8Q")
_CURRENT = Struct("=4Q")
_STATISTICS = Struct("=3I")
_SA_TAIL = Struct("=IIHBBB7x")
_SA_ID = Struct("=16s4sHBx")
_MAPPING_TAIL = Struct("=I16s16s2s2s")
_SPI_RANGE = Struct("=II")
_TEMPLATE = Struct("=16s4sB3xH2x16sIBBBx3I")
_POLICY_TAIL = Struct("=IIBBBB4x")
_POLICY_ID_TAIL = Struct("=IB3x")
_AEAD = Struct("=64sII")
_REPLAY = Struct("=6I")
_ENCAPSULATION = Struct("=H2s2s2x16s")

_NO_LIMIT = (1 << 64) - 1
_NO_LIMITS = _LIFETIME.pack(*[_NO_LIMIT] * 4, 0, 0, 0, 0)
_ANY_ALGORITHM = 0xFFFF_FFFF
_WORDS = REPLAY_WINDOW // 32


# --- requests --------------------------------------------------------------------------------------------------


def encode_sa(sa: KernelSa, past: Past | None = None) -> bytes:
    """NEWSA or UPDSA: xfrm_usersa_info and attributes; with a past, that of an SA which goes on from there.

    The replay window is given as a bitmap also without ESN: the old field of the structure has 32 bits at most.
    """
    flags = _STATE_ESN if sa.esn else 0
    info = _sa_info(sa.selector, sa.key, sa.source, _sa_lifetime(sa), sa.reqid, sa.mode, flags)
    key = sa.esp.key.octets
    attributes = attribute(_ALG_AEAD, _AEAD.pack(b"rfc4106(gcm(aes))", len(key) * 8, 128) + key)
    if past is None:
        attributes += attribute(_REPLAY_ESN, _REPLAY.pack(_WORDS, 0, 0, 0, 0, REPLAY_WINDOW) + bytes(4 * _WORDS))
    else:
        attributes += attribute(_REPLAY_ESN, past.replay) + attribute(_LTIME_VAL, past.current)
    if sa.encapsulation is not None:
        source_port, destination_port = (port.to_bytes(2, "big") for port in sa.encapsulation)
        template = _ENCAPSULATION.pack(_UDP_ENCAP_ESPINUDP, source_port, destination_port, bytes(16))
        attributes += attribute(_ENCAP, template)
    return info + attributes


def encode_sa_id(key: SaKey) -> bytes:
    """DELSA: xfrm_usersa_id."""
    destination, spi = key
    return _SA_ID.pack(destination.packed, spi.to_bytes(4, "big"), _family(destination), _ESP)


def encode_spi_request(source: Address, destination: Address, reqid: int) -> bytes:
    """ALLOCSPI: xfrm_userspi_info. The kernel answers with a NEWSA message that holds the SPI."""
    selector = Selector(source, 0, destination, 0)
    info = _sa_info(selector, (destination, 0), source, bytes(_LIFETIME.size), reqid, Mode.TUNNEL, 0)
    return info + _SPI_RANGE.pack(FIRST_SPI, 0xFFFF_FFFF)


def encode_policy(policy: Policy) -> bytes:
    """NEWPOLICY or UPDPOLICY: xfrm_userpolicy_info and its template."""
    return encode_policy_info(policy) + (
        b"" if policy.template is None else attribute(_TMPL, _template(policy.template))
    )


def encode_policy_info(policy: Policy) -> bytes:
    """xfrm_userpolicy_info alone."""
    tail = _POLICY_TAIL.pack(policy.priority, 0, policy.way, policy.action, 0, 0)
    return _selector(policy.selector) + _NO_LIMITS + bytes(_CURRENT.size) + tail


def encode_policy_id(selector: Selector, way: Way) -> bytes:
    """DELPOLICY: xfrm_userpolicy_id."""
    return _selector(selector) + _POLICY_ID_TAIL.pack(0, way)


def _sa_info(
    selector: Selector, key: SaKey, source: Address, lifetime: bytes, reqid: int, mode: Mode, flags: int
) -> bytes:
    destination, spi = key
    return (
        _selector(selector)
        + _ID.pack(destination.packed, spi.to_bytes(4, "big"), _ESP)
        + source.packed.ljust(16, b"\0")
        + lifetime
        + bytes(_CURRENT.size + _STATISTICS.size)
        + _SA_TAIL.pack(0, reqid, _family(destination), _MODES[mode], 0, flags)
    )


def _sa_lifetime(sa: KernelSa) -> bytes:
    # The kernel counts whole seconds from the second in which the SA was added: up to one too few.
    seconds = ceil(sa.lifetime) + 1
    never = 0
    return _LIFETIME.pack(*_limits(sa.octets), *_limits(sa.packets), never, seconds, 0, 0)


def _limits(hard: int | None) -> tuple[int, int]:
    """Soft and hard."""
    return (_NO_LIMIT, _NO_LIMIT) if hard is None else (int(hard * SOFT), hard)


def _template(template: Template) -> bytes:
    return _TEMPLATE.pack(
        template.destination.packed,
        template.spi.to_bytes(4, "big"),
        _ESP,
        _family(template.destination),
        template.source.packed,
        template.reqid,
        _MODES[template.mode],
        0,
        0,
        *[_ANY_ALGORITHM] * 3,
    )


def _selector(selector: Selector) -> bytes:
    """ICMP types stand in the field of the source port."""
    icmp_type, mask = bytes(2), bytes(2)
    if selector.icmp_type is not None:
        icmp_type, mask = selector.icmp_type.to_bytes(2, "big"), b"\xff\xff"
    return _SELECTOR.pack(
        selector.destination.packed,
        selector.source.packed,
        bytes(2),
        bytes(2),
        icmp_type,
        mask,
        _family(selector.source),
        selector.destination_bits,
        selector.source_bits,
        selector.protocol,
        0,
        0,
    )


def _family(address: Address) -> int:
    return _AF_INET if address.version == 4 else _AF_INET6


# --- answers ---------------------------------------------------------------------------------------------------


def decode_sa(body: bytes) -> SeenSa | None:
    """A NEWSA message; None for one that is not ESP. Raises ParseError."""
    return _read_sa(NativeReader(body, "XFRM SA"))


def decode_expire(body: bytes) -> tuple[SeenSa, bool] | None:
    """An EXPIRE message: the SA, and whether it is gone (hard). None for one that is not ESP. Raises ParseError."""
    reader = NativeReader(body, "XFRM expire")
    seen = _read_sa(reader)
    hard = reader.u8("hard") != 0
    return None if seen is None else (seen, hard)


def decode_removed_sa(body: bytes) -> SaKey | None:
    """A DELSA message as listeners get it; None for an SA that is not ESP. Raises ParseError."""
    destination, spi, family, protocol = NativeReader(body, "XFRM removed SA").fields(_SA_ID, "id")
    return (_address(destination, family), int.from_bytes(spi, "big")) if protocol == _ESP else None


def decode_farewell(body: bytes) -> Past:
    """What an SA had done by the time of the DELSA message that tells of its end. Raises ParseError."""
    reader = NativeReader(body, "XFRM farewell")
    reader.take(_SA_ID.size, "id")
    attributes = decode_attributes(reader)
    info = NativeReader(attributes.get(_SA, b""), "XFRM farewell")
    info.take(_SELECTOR.size + _ID.size + 16 + _LIFETIME.size, "what it was")
    replay = attributes.get(_REPLAY_ESN, b"")
    if len(replay) != _REPLAY.size + 4 * _WORDS:
        raise ParseError("XFRM farewell", f"replay state of {len(replay)} octets")
    return Past(replay, info.take(_CURRENT.size, "counters"))


def decode_mapping(body: bytes) -> tuple[SaKey, SocketAddress] | None:
    """A MAPPING message: an inbound SA, and where its ESP in UDP comes from now; None for an SA that is not ESP.

    Raises ParseError.
    """
    reader = NativeReader(body, "XFRM mapping")
    destination, spi, family, protocol = reader.fields(_SA_ID, "id")
    _reqid, _old, source, _old_port, port = reader.fields(_MAPPING_TAIL, "addresses and ports")
    if protocol != _ESP:
        return None
    key = (_address(destination, family), int.from_bytes(spi, "big"))
    return key, SocketAddress(_address(source, family), int.from_bytes(port, "big"))


def decode_removed_policy(body: bytes) -> SeenPolicy | None:
    """A DELPOLICY message as listeners get it; None as with `decode_policy`. Raises ParseError.

    The policy is in an attribute: what precedes it may name an index only.
    """
    reader = NativeReader(body, "XFRM removed policy")
    reader.take(_SELECTOR.size + _POLICY_ID_TAIL.size, "id")
    return decode_policy(decode_attributes(reader).get(_POLICY, b""))


def decode_policy(body: bytes) -> SeenPolicy | None:
    """A NEWPOLICY message of a dump; None for one of a socket or of a form that we never make. Raises ParseError."""
    reader = NativeReader(body, "XFRM policy")
    selector = _read_selector(reader)
    reader.take(_LIFETIME.size + _CURRENT.size, "lifetimes")
    priority, _index, way, action, _flags, _share = reader.fields(_POLICY_TAIL, "policy")
    templates = NativeReader(decode_attributes(reader).get(_TMPL, b""), "XFRM template")
    reqids = []
    while templates.remaining:
        reqids.append(templates.fields(_TEMPLATE, "template")[5])
    if selector is None or way not in tuple(Way) or action not in tuple(Action):
        return None
    return SeenPolicy(Policy(selector, Way(way), None, priority, Action(action)), tuple(reqids))


def _read_sa(reader: NativeReader) -> SeenSa | None:
    reader.take(_SELECTOR.size, "selector")
    destination, spi, protocol = reader.fields(_ID, "id")
    reader.take(16 + _LIFETIME.size, "source and lifetimes")
    octets, packets, _added, _used = reader.fields(_CURRENT, "counters")
    reader.take(_STATISTICS.size, "statistics")
    _sequence, reqid, family, _mode, _window, _flags = reader.fields(_SA_TAIL, "SA")
    if protocol != _ESP:
        return None
    return SeenSa((_address(destination, family), int.from_bytes(spi, "big")), reqid, octets, packets)


def _read_selector(reader: NativeReader) -> Selector | None:
    """None for a selector with ports, a device or a user."""
    destination, source, dport, dport_mask, sport, sport_mask, family, to_bits, from_bits, protocol, device, user = (
        reader.fields(_SELECTOR, "selector")
    )
    if dport != bytes(2) or dport_mask != bytes(2) or device or user:
        return None
    icmp_type = int.from_bytes(sport, "big") if sport_mask == b"\xff\xff" else None
    return Selector(_address(source, family), from_bits, _address(destination, family), to_bits, protocol, icmp_type)


def _address(octets: bytes, family: int) -> Address:
    if family == _AF_INET:
        return IPv4Address(octets[:4])
    if family == _AF_INET6:
        return IPv6Address(octets)
    raise ParseError("XFRM address", f"family {family}")
