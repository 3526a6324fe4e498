"""The payloads of IKEv2 as values (RFC 7296 3.3 to 3.13).

Each has `type` (its number in the chain), `body()` (its octets without the generic header) and, but for the
uninterpreted one, a `decode` that reads such a body from a `Reader` whose window is exactly the body. Values are made
of plain fields; where octets themselves count — an ID payload under AUTH — the octets are the field.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from typing import ClassVar, Self, TypeVar

from oe.errors import ParseError
from oe.ike.registry import (
    AttributeType,
    AuthMethod,
    KeyExchangeId,
    NotifyType,
    PayloadType,
    ProtocolId,
    TransformType,
    TsType,
)
from oe.model import Address, Identity, IdentityKind
from oe.wire import Reader

MAX_PROPOSALS = 32
"""In one SA payload. What peers send has one to ten."""
MAX_SELECTORS = 64
"""In one TS payload."""
MAX_DELETED = 256
"""SPIs in one Delete payload."""


@dataclass(frozen=True, slots=True)
class Transform:
    """One algorithm of a proposal (RFC 7296 3.3.2)."""

    kind: TransformType
    id: int
    """Number in the registry that belongs to `kind`."""
    key_bits: int | None = None
    """Key Length attribute, in bits."""
    is_understood: bool = True
    """False: it carries an attribute that we do not know, and may not be chosen (RFC 7296 3.3.6)."""

    def encode(self, is_last: bool) -> bytes:
        attribute = b"" if self.key_bits is None else _KEY_LENGTH_TV + self.key_bits.to_bytes(2, "big")
        head = bytes((0 if is_last else _MORE_TRANSFORMS, 0, 0, _TRANSFORM_HEAD + len(attribute), self.kind, 0))
        return head + self.id.to_bytes(2, "big") + attribute


_MORE_PROPOSALS = 2
_MORE_TRANSFORMS = 3
_TRANSFORM_HEAD = 8
_TV_FORMAT = 0x8000
_KEY_LENGTH_TV = (_TV_FORMAT | AttributeType.KEY_LENGTH).to_bytes(2, "big")


def _decode_attributes(reader: Reader) -> tuple[int | None, bool]:
    """Key length and whether all was understood. TV form has its value in place of a length (RFC 7296 3.3.5)."""
    key_bits: int | None = None
    is_understood = True
    while reader.remaining:
        kind, value = reader.u16("attribute type"), reader.u16("attribute length or value")
        if kind == _TV_FORMAT | AttributeType.KEY_LENGTH and key_bits is None:
            key_bits = value
            continue
        is_understood = False
        if not kind & _TV_FORMAT:
            reader.take(value, "attribute value")
    return key_bits, is_understood


# Peers send the same transforms with every negotiation; the octets alone decide the value.
@lru_cache(maxsize=256)
def _decode_transforms(octets: bytes, count: int) -> tuple[Transform, ...]:
    reader = Reader(octets, "Proposal")
    transforms = []
    for left in range(count - 1, -1, -1):
        # last | reserved | length (16) | type | reserved | id (16)
        head = reader.u64("transform")
        if head >> 56 != (_MORE_TRANSFORMS if left else 0):
            raise ParseError("Transform", f"'last' field is {head >> 56} with {left} transforms to come")
        length = head >> 32 & 0xFFFF
        attributes = reader.window(length - _TRANSFORM_HEAD, "Transform attributes")
        key_bits, is_understood = _decode_attributes(attributes)
        transforms.append(Transform(TransformType(head >> 24 & 0xFF), head & 0xFFFF, key_bits, is_understood))
    reader.expect_end()
    return tuple(transforms)


@dataclass(frozen=True, slots=True)
class Proposal:
    """One suite of an SA payload: any one transform per kind may be taken from it (RFC 7296 3.3.1)."""

    number: int
    protocol: ProtocolId
    spi: bytes
    """Of the sender, big endian: empty in IKE_SA_INIT, 8 octets in an IKE rekey, 4 for ESP."""
    transforms: tuple[Transform, ...]

    def encode(self, is_last: bool) -> bytes:
        last = len(self.transforms) - 1
        transforms = b"".join([t.encode(at == last) for at, t in enumerate(self.transforms)])
        length = 8 + len(self.spi) + len(transforms)
        return b"".join(
            (
                b"\0\0" if is_last else b"\2\0",
                length.to_bytes(2, "big"),
                bytes((self.number, self.protocol, len(self.spi), len(self.transforms))),
                self.spi,
                transforms,
            )
        )


@dataclass(frozen=True, slots=True)
class SaPayload:
    """Security Association payload (RFC 7296 3.3): an offer, or the one proposal that was chosen."""

    type: ClassVar[PayloadType] = PayloadType.SA
    proposals: tuple[Proposal, ...]

    @classmethod
    def decode(cls, reader: Reader) -> Self:
        proposals: list[Proposal] = []
        more = True
        while more:
            if len(proposals) == MAX_PROPOSALS:
                raise ParseError("SA payload", f"more than {MAX_PROPOSALS} proposals")
            # last | reserved | length (16) | number | protocol | SPI size | number of transforms
            head = reader.u64("proposal")
            more = head >> 56 == _MORE_PROPOSALS
            if not more and head >> 56:
                raise ParseError("Proposal", f"'last' field is {head >> 56}")
            body = reader.window((head >> 32 & 0xFFFF) - 8, "Proposal")
            spi = body.take(head >> 8 & 0xFF, "SPI")
            transforms = _decode_transforms(body.rest(), head & 0xFF)
            proposals.append(Proposal(head >> 24 & 0xFF, ProtocolId(head >> 16 & 0xFF), spi, transforms))
        reader.expect_end()
        return cls(tuple(proposals))

    def body(self) -> bytes:
        last = len(self.proposals) - 1
        return b"".join([p.encode(at == last) for at, p in enumerate(self.proposals)])


@dataclass(frozen=True, slots=True)
class KePayload:
    """Key Exchange payload (RFC 7296 3.4)."""

    type: ClassVar[PayloadType] = PayloadType.KE
    group: KeyExchangeId
    data: bytes
    """The public value, in the form its group's RFC gives."""

    @classmethod
    def decode(cls, reader: Reader) -> Self:
        group = KeyExchangeId(reader.u16("key exchange method"))
        reader.u16("reserved")
        return cls(group, reader.rest())

    def body(self) -> bytes:
        return self.group.to_bytes(2, "big") + b"\0\0" + self.data


@dataclass(frozen=True, slots=True)
class NoncePayload:
    """Nonce payload: 16 to 256 octets (RFC 7296 3.9)."""

    type: ClassVar[PayloadType] = PayloadType.NONCE
    data: bytes

    @classmethod
    def decode(cls, reader: Reader) -> Self:
        if not 16 <= reader.remaining <= 256:
            raise ParseError("Nonce payload", f"{reader.remaining} octets, must be 16 to 256")
        return cls(reader.rest())

    def body(self) -> bytes:
        return self.data


@dataclass(frozen=True, slots=True)
class IdPayload:
    """Identification payload of the initiator (`ID_I`) or responder (`ID_R`) (RFC 7296 3.5).

    It keeps its octets as they stood on the wire, reserved ones included, since AUTH covers them (RFC 7296 2.15).
    """

    type: PayloadType
    octets: bytes
    """ID type, three reserved octets, identification data: "RestOfIDPayload" of RFC 7296 2.15."""

    @classmethod
    def of(cls, type: PayloadType, identity: Identity) -> Self:
        return cls(type, bytes((identity.kind, 0, 0, 0)) + identity.data)

    @classmethod
    def decode(cls, reader: Reader, type: PayloadType) -> Self:
        if reader.remaining < 4:
            raise ParseError("ID payload", f"{reader.remaining} octets, must be 4 or more")
        return cls(type, reader.rest())

    def body(self) -> bytes:
        return self.octets

    @property
    def identity(self) -> Identity | None:
        """What it names; None for an ID type that `oe` does not understand."""
        kind = self.octets[0]
        return Identity(IdentityKind(kind), self.octets[4:]) if kind in _IDENTITY_KINDS else None

    def __str__(self) -> str:
        return str(self.identity) if self.identity else f"ID type {self.octets[0]}:{self.octets[4:].hex()}"


_IDENTITY_KINDS = frozenset(int(kind) for kind in IdentityKind)


@dataclass(frozen=True, slots=True)
class AuthPayload:
    """Authentication payload (RFC 7296 3.8). Its data is read by `oe.ike.auth`."""

    type: ClassVar[PayloadType] = PayloadType.AUTH
    method: AuthMethod
    data: bytes

    @classmethod
    def decode(cls, reader: Reader) -> Self:
        method = AuthMethod(reader.u8("auth method"))
        reader.take(3, "reserved")
        return cls(method, reader.rest())

    def body(self) -> bytes:
        return bytes((self.method, 0, 0, 0)) + self.data


@dataclass(frozen=True, slots=True)
class NotifyPayload:
    """Notify payload (RFC 7296 3.10)."""

    type: ClassVar[PayloadType] = PayloadType.NOTIFY
    notify: NotifyType
    data: bytes = b""
    protocol: ProtocolId = ProtocolId.NONE
    """Which protocol `spi` belongs to; NONE where no SA is meant."""
    spi: bytes = b""

    @classmethod
    def decode(cls, reader: Reader) -> Self:
        # protocol | SPI size | notify type (16)
        head = reader.u32("notify")
        spi = reader.take(head >> 16 & 0xFF, "SPI")
        return cls(NotifyType(head & 0xFFFF), reader.rest(), ProtocolId(head >> 24), spi)

    def body(self) -> bytes:
        return bytes((self.protocol, len(self.spi))) + self.notify.to_bytes(2, "big") + self.spi + self.data


@dataclass(frozen=True, slots=True)
class DeletePayload:
    """Delete payload (RFC 7296 3.11): the IKE SA itself (no SPIs), or ESP SAs that the sender receives with."""

    type: ClassVar[PayloadType] = PayloadType.DELETE
    protocol: ProtocolId
    spis: tuple[int, ...] = ()
    """ESP or AH SPIs; empty for IKE."""

    @classmethod
    def decode(cls, reader: Reader) -> Self:
        protocol = ProtocolId(reader.u8("protocol"))
        size, count = reader.u8("SPI size"), reader.u16("number of SPIs")
        if size != (4 if protocol in (ProtocolId.AH, ProtocolId.ESP) else 0) or count > MAX_DELETED:
            raise ParseError("Delete payload", f"{count} SPIs of {size} octets for protocol {protocol}")
        spis = tuple(reader.u32("SPI") for _ in range(count if size else 0))
        reader.expect_end()
        return cls(protocol, spis)

    def body(self) -> bytes:
        head = bytes((self.protocol, 4 if self.spis else 0)) + len(self.spis).to_bytes(2, "big")
        return head + b"".join([spi.to_bytes(4, "big") for spi in self.spis])


@dataclass(frozen=True, slots=True)
class VendorPayload:
    """Vendor ID payload (RFC 7296 3.12)."""

    type: ClassVar[PayloadType] = PayloadType.VENDOR
    data: bytes

    @classmethod
    def decode(cls, reader: Reader) -> Self:
        return cls(reader.rest())

    def body(self) -> bytes:
        return self.data


@dataclass(frozen=True, slots=True)
class TrafficSelector:
    """A range of addresses and ports, both ends included (RFC 7296 3.13.1).

    Protocol 0 is any. Any port: 0 to 65535. OPAQUE ports: first 65535, last 0. ICMP: type and code in a port's octets.
    """

    protocol: int
    first_port: int
    last_port: int
    first: Address
    last: Address

    @classmethod
    def of(cls, address: Address) -> Self:
        """All traffic of one address."""
        return cls(0, 0, 65535, address, address)

    @classmethod
    def decode(cls, reader: Reader) -> Self | None:
        """The next selector; None when its type is unknown (it can then not be accepted, RFC 7296 3.13.1)."""
        # type | protocol | length (16) | first port (16) | last port (16)
        head = reader.u64("traffic selector")
        kind = head >> 56
        body = reader.window((head >> 32 & 0xFFFF) - 8, "Traffic Selector")
        first: Address
        last: Address
        if kind == TsType.IPV4_ADDR_RANGE:
            first, last = IPv4Address(body.take(4, "first address")), IPv4Address(body.take(4, "last address"))
        elif kind == TsType.IPV6_ADDR_RANGE:
            first, last = IPv6Address(body.take(16, "first address")), IPv6Address(body.take(16, "last address"))
        else:
            return None
        body.expect_end()
        return cls(head >> 48 & 0xFF, head >> 16 & 0xFFFF, head & 0xFFFF, first, last)

    def encode(self) -> bytes:
        addresses = self.first.packed + self.last.packed
        kind = TsType.IPV4_ADDR_RANGE if self.first.version == 4 else TsType.IPV6_ADDR_RANGE
        length = 8 + len(addresses)
        ports = self.first_port.to_bytes(2, "big") + self.last_port.to_bytes(2, "big")
        return bytes((kind, self.protocol)) + length.to_bytes(2, "big") + ports + addresses

    def covers(self, address: Address) -> bool:
        """All traffic of `address` is inside: any protocol, any port."""
        return (
            self.first.version == address.version
            and self.protocol == 0
            and (self.first_port, self.last_port) == (0, 65535)
            and self.first.packed <= address.packed <= self.last.packed
        )

    def __str__(self) -> str:
        span = str(self.first) if self.first == self.last else f"{self.first}-{self.last}"
        return f"{span} proto {self.protocol} ports {self.first_port}-{self.last_port}"


@dataclass(frozen=True, slots=True)
class TsPayload:
    """Traffic Selector payload of the initiator (`TS_I`) or responder (`TS_R`) (RFC 7296 3.13)."""

    type: PayloadType
    selectors: tuple[TrafficSelector, ...]
    """Those of known types; may be empty when the peer sent others only."""

    @classmethod
    def decode(cls, reader: Reader, type: PayloadType) -> Self:
        count = reader.u8("number of selectors")
        reader.take(3, "reserved")
        if not 1 <= count <= MAX_SELECTORS:
            raise ParseError("TS payload", f"{count} selectors, must be 1 to {MAX_SELECTORS}")
        selectors = [TrafficSelector.decode(reader) for _ in range(count)]
        reader.expect_end()
        return cls(type, tuple(s for s in selectors if s is not None))

    def body(self) -> bytes:
        return bytes((len(self.selectors), 0, 0, 0)) + b"".join([s.encode() for s in self.selectors])


@dataclass(frozen=True, slots=True)
class UnknownPayload:
    """A payload that `oe` does not look into: CERT, CERTREQ, CP, EAP, or one that is not known at all."""

    type: PayloadType
    critical: bool
    data: bytes

    def body(self) -> bytes:
        return self.data


Payload = (
    SaPayload
    | KePayload
    | NoncePayload
    | IdPayload
    | AuthPayload
    | NotifyPayload
    | DeletePayload
    | VendorPayload
    | TsPayload
    | UnknownPayload
)
P = TypeVar("P", bound=Payload)

_DECODERS = {
    cls.type: cls.decode
    for cls in (SaPayload, KePayload, NoncePayload, AuthPayload, NotifyPayload, DeletePayload, VendorPayload)
}


def decode_payload(type: int, critical: bool, reader: Reader) -> Payload:
    """The payload whose body is `reader`'s window. Raises `ParseError`; an uninterpreted type is never an error."""
    if (decode := _DECODERS.get(type)) is not None:  # type: ignore[call-overload]
        return decode(reader)
    kind = PayloadType(type)
    if kind in (PayloadType.ID_I, PayloadType.ID_R):
        return IdPayload.decode(reader, kind)
    if kind in (PayloadType.TS_I, PayloadType.TS_R):
        return TsPayload.decode(reader, kind)
    return UnknownPayload(kind, critical, reader.rest())


def find(payloads: Iterable[Payload], cls: type[P], type: PayloadType | None = None) -> P | None:
    """The first payload of a class (and of a type, where IDi and IDr or TSi and TSr share their class), or None."""
    for payload in payloads:
        if isinstance(payload, cls) and (type is None or payload.type == type):
            return payload
    return None


def find_notify(payloads: Iterable[Payload], notify: NotifyType) -> NotifyPayload | None:
    """The first Notify payload of that message type, or None."""
    for payload in payloads:
        if isinstance(payload, NotifyPayload) and payload.notify == notify:
            return payload
    return None


def find_error(payloads: Iterable[Payload]) -> NotifyPayload | None:
    """The first Notify payload that says an error, or None."""
    for payload in payloads:
        if isinstance(payload, NotifyPayload) and payload.notify.is_error:
            return payload
    return None
