"""The two record formats that delegate IKE: IPSECKEY (RFC 4025) and FreeS/WAN's TXT (RFC 4322 3.2).

Ours to read are `decode_ipseckey` and `decode_txt`: a `Delegation`, an `Unusable` with the reason, or (TXT only)
None for a record that is not about us. Nothing is raised for what a zone may contain.
"""

import binascii
import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

from oe.dnskeys.keys import weakness
from oe.dnskeys.names import MAX_NAME, checked_host, host_labels, shown
from oe.errors import ParseError
from oe.model import Address, Delegation, KeyAlgorithm, PublicKey, RecordKind
from oe.reasons import Reason
from oe.wire import Reader

NO_KEY_ALGORITHM = 0
"""IPSECKEY algorithm: the record carries no key, it stands at the gateway's own name (RFC 4025 2.4)."""

_KEY_ALGORITHMS = frozenset(KeyAlgorithm)
_TXT_OURS = re.compile(rb"\s*X-IPsec-Server(?![\w-])", re.IGNORECASE)
_TXT_FORM = re.compile(rb"\s*\(\s*(\d{1,5})\s*\)\s*=\s*(\S+)\s*")
_BLANKS = re.compile(rb"\s+")


@dataclass(frozen=True, slots=True)
class Unusable:
    """A record that is meant for us but gives nobody to talk to."""

    reason: Reason
    """MALFORMED_RECORD, NO_USABLE_KEY or UNSIGNED_DELEGATION."""
    detail: str


def decode_ipseckey(rdata: bytes) -> Delegation | Unusable:
    """RFC 4025 2.1: precedence, gateway type, algorithm (an octet each), gateway, public key up to the end."""
    try:
        return _read_ipseckey(Reader(rdata, "IPSECKEY rdata"))
    except ParseError as error:
        return Unusable(Reason.MALFORMED_RECORD, str(error))


def decode_txt(rdata: bytes) -> Delegation | Unusable | None:
    """`X-IPsec-Server(P)=G K` in any number of character-strings; None for a TXT record about something else."""
    try:
        text = _joined(Reader(rdata, "TXT rdata"))
        ours = _TXT_OURS.match(text)
        return _read_txt(text[ours.end() :]) if ours else None
    except ParseError as error:
        return Unusable(Reason.MALFORMED_RECORD, str(error))


def _read_ipseckey(reader: Reader) -> Delegation | Unusable:
    precedence, gateway_type, algorithm = (reader.u8(what) for what in ("precedence", "gateway type", "algorithm"))
    gateway: Address | None = None
    name: str | None = None
    match gateway_type:
        case 0:
            pass
        case 1:
            gateway = IPv4Address(reader.take(4, "IPv4 gateway"))
        case 2:
            gateway = IPv6Address(reader.take(16, "IPv6 gateway"))
        case 3:
            name = _read_gateway_name(reader)
        case _:
            raise ParseError(reader.where, f"gateway type {gateway_type}; 0 to 3 are known")
    return _delegation(RecordKind.IPSECKEY, precedence, gateway, name, algorithm, reader.rest())


def _read_gateway_name(reader: Reader) -> str:
    """An uncompressed name (RFC 4025 2.5)."""
    labels = []
    for _ in range(MAX_NAME):
        length = reader.u8("label length")
        if not length:
            break
        labels.append(reader.take(length, "label").lower())
    return shown(checked_host(tuple(labels)))


def _joined(reader: Reader) -> bytes:
    """The character-strings of a TXT record, with nothing between them."""
    parts = []
    while reader.remaining:
        parts.append(reader.take(reader.u8("string length"), "string"))
    return b"".join(parts)


def _read_txt(text: bytes) -> Delegation | Unusable:
    """What follows the attribute name; blanks may stand around every part and inside the key."""
    form = _TXT_FORM.match(text)
    if form is None or int(form[1]) > 0xFFFF:
        raise ParseError("X-IPsec-Server TXT", "the form is X-IPsec-Server(PRECEDENCE)=GATEWAY KEY")
    key = _base64(_BLANKS.sub(b"", text[form.end() :]))
    gateway: Address | None = None
    name: str | None = None
    # ParseError's text shows nothing of the zone's octets, so they need no escaping in logs.
    written = form[2].decode("ascii", "replace")
    if written.startswith("@"):
        name = shown(host_labels(written[1:]))
    elif "%" in written:
        raise ParseError("X-IPsec-Server TXT", "the gateway has a zone index")
    else:
        try:
            gateway = ip_address(written)
        except ValueError:
            raise ParseError("X-IPsec-Server TXT", "the gateway is neither an address nor @NAME") from None
    return _delegation(RecordKind.TXT, int(form[1]), gateway, name, KeyAlgorithm.RSA if key else NO_KEY_ALGORITHM, key)


def _base64(text: bytes) -> bytes:
    """Decoded key; padding may be missing at the end."""
    try:
        return binascii.a2b_base64(text.rstrip(b"=") + b"=" * (-len(text.rstrip(b"=")) % 4), strict_mode=True)
    except binascii.Error:
        raise ParseError("X-IPsec-Server TXT", "the key is not base64") from None


def _delegation(
    kind: RecordKind, precedence: int, gateway: Address | None, name: str | None, algorithm: int, data: bytes
) -> Delegation | Unusable:
    """Judge the parts of a record, whichever format they came in."""
    if gateway is not None and not _can_be_a_host(gateway):
        raise ParseError(kind, f"{gateway} cannot be a gateway")
    if algorithm == NO_KEY_ALGORITHM:
        if data:
            raise ParseError(kind, f"algorithm 0 says no key, yet there are {len(data)} octets of one")
        if gateway is None and name is None:
            return Unusable(Reason.NO_USABLE_KEY, f"{kind} record with neither gateway nor key")
        return Delegation(kind, precedence, gateway, name, None)
    if algorithm not in _KEY_ALGORITHMS:
        return Unusable(Reason.NO_USABLE_KEY, f"{kind} key algorithm {algorithm} is not known")
    key = PublicKey(KeyAlgorithm(algorithm), data)
    if why := weakness(key):
        return Unusable(Reason.NO_USABLE_KEY, why)
    return Delegation(kind, precedence, gateway, name, key)


def _can_be_a_host(address: Address) -> bool:
    """Not for 240.0.0.0/4, which includes the broadcast address, nor for IPv4 in IPv6 dress."""
    if address.is_unspecified or address.is_multicast:
        return False
    return not address.is_reserved if isinstance(address, IPv4Address) else address.ipv4_mapped is None
