"""The payloads of IKEv2 as values (RFC 7296 3.4 to 3.13; SA and TS payloads have files of their own).

Each has `type` (its number in the chain), `body()` (its octets without the generic header) and, but for the
uninterpreted one, a `decode` that reads such a body from a `Reader` whose window is exactly the body. Values are made
of plain fields; where octets themselves count — an ID payload under AUTH — the octets are the field.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from struct import Struct
from typing import ClassVar, Self, TypeVar

from oe.errors import ParseError
from oe.ike.registry import AuthMethod, KeyExchangeId, NotifyType, PayloadType, ProtocolId
from oe.ike.sa_payload import Proposal, SaPayload, Transform
from oe.ike.ts_payload import TrafficSelector, TsPayload
from oe.model import Identity, IdentityKind
from oe.wire import Reader

__all__ = [
    "AuthPayload",
    "DeletePayload",
    "IdPayload",
    "KePayload",
    "NoncePayload",
    "NotifyPayload",
    "Payload",
    "Proposal",
    "SaPayload",
    "TrafficSelector",
    "Transform",
    "TsPayload",
    "UnknownPayload",
    "VendorPayload",
    "decode_payload",
    "find",
    "find_error",
    "find_notify",
]

MAX_DELETED = 256
"""SPIs in one Delete payload."""


_KE = Struct("!HH")  # method | reserved


@dataclass(frozen=True, slots=True)
class KePayload:
    """Key Exchange payload (RFC 7296 3.4)."""

    type: ClassVar[PayloadType] = PayloadType.KE
    group: KeyExchangeId
    data: bytes
    """The public value, in the form its group's RFC gives."""

    @classmethod
    def decode(cls, reader: Reader) -> Self:
        group, _reserved = reader.unpack(_KE, "key exchange method")
        return cls(KeyExchangeId(group), reader.rest())

    def body(self) -> bytes:
        return _KE.pack(self.group, 0) + self.data


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
        """What it names; None for an ID type that `oe` does not understand, or data that is no name of its type.

        Domain names come in lower case and without the final dot, so that equal names are equal identities.
        """
        kind, data = self.octets[0], self.octets[4:]
        if kind not in _IS_IDENTITY:
            return None
        if kind == IdentityKind.FQDN:
            data = data.removesuffix(b".").lower()
        return Identity(IdentityKind(kind), data) if _IS_IDENTITY[kind](data) else None

    def __str__(self) -> str:
        return str(self.identity) if self.identity else f"ID type {self.octets[0]}:{self.octets[4:].hex()}"


# RFC 1123 2.1 and the underscore that names in DNS may have: what is not among it has no business in a log either.
_DOMAIN_NAME = re.compile(rb"(?=.{1,253}\Z)[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*", re.DOTALL)

_IS_IDENTITY: dict[int, Callable[[bytes], bool]] = {
    IdentityKind.IPV4_ADDR: lambda data: len(data) == 4,
    IdentityKind.IPV6_ADDR: lambda data: len(data) == 16,
    IdentityKind.FQDN: lambda data: _DOMAIN_NAME.fullmatch(data) is not None,
    IdentityKind.NULL: lambda data: not data,
}


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


_NOTIFY = Struct("!BBH")  # protocol | SPI size | notify type


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
        protocol, spi_octets, notify = reader.unpack(_NOTIFY, "notify")
        spi = reader.take(spi_octets, "SPI")
        return cls(NotifyType(notify), reader.rest(), ProtocolId(protocol), spi)

    def body(self) -> bytes:
        return _NOTIFY.pack(self.protocol, len(self.spi), self.notify) + self.spi + self.data


@dataclass(frozen=True, slots=True)
class DeletePayload:
    """Delete payload (RFC 7296 3.11): the IKE SA itself (no SPIs), or ESP SAs that the sender receives with."""

    type: ClassVar[PayloadType] = PayloadType.DELETE
    protocol: ProtocolId
    spis: tuple[int, ...] = ()
    """ESP or AH SPIs; empty for IKE."""

    @staticmethod
    def _spi_octets(protocol: ProtocolId) -> int:
        return 4 if protocol in (ProtocolId.AH, ProtocolId.ESP) else 0

    @classmethod
    def decode(cls, reader: Reader) -> Self:
        protocol = ProtocolId(reader.u8("protocol"))
        size, count = reader.u8("SPI size"), reader.u16("number of SPIs")
        if size != cls._spi_octets(protocol) or count > MAX_DELETED:
            raise ParseError("Delete payload", f"{count} SPIs of {size} octets for protocol {protocol}")
        spis = tuple(reader.u32("SPI") for _ in range(count if size else 0))
        reader.expect_end()
        return cls(protocol, spis)

    def body(self) -> bytes:
        head = bytes((self.protocol, self._spi_octets(self.protocol))) + len(self.spis).to_bytes(2, "big")
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

_DECODERS: dict[int, Callable[[Reader], Payload]] = {
    PayloadType.SA: SaPayload.decode,
    PayloadType.KE: KePayload.decode,
    PayloadType.ID_I: partial(IdPayload.decode, type=PayloadType.ID_I),
    PayloadType.ID_R: partial(IdPayload.decode, type=PayloadType.ID_R),
    PayloadType.AUTH: AuthPayload.decode,
    PayloadType.NONCE: NoncePayload.decode,
    PayloadType.NOTIFY: NotifyPayload.decode,
    PayloadType.DELETE: DeletePayload.decode,
    PayloadType.VENDOR: VendorPayload.decode,
    PayloadType.TS_I: partial(TsPayload.decode, type=PayloadType.TS_I),
    PayloadType.TS_R: partial(TsPayload.decode, type=PayloadType.TS_R),
}


def decode_payload(type: int, critical: bool, reader: Reader) -> Payload:
    """The payload whose body is `reader`'s window. Raises `ParseError`; an uninterpreted type is never an error."""
    decode = _DECODERS.get(type)
    return UnknownPayload(PayloadType(type), critical, reader.rest()) if decode is None else decode(reader)


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
