"""An IKE message: header, chain of payloads, Encrypted payload (RFC 7296 3.1, 3.2, 3.14; RFC 5282; RFC 7383).

                     1                   2                   3
 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
|                       IKE SA Initiator's SPI                  |  8 octets
|                       IKE SA Responder's SPI                  |  8 octets
|  Next Payload | MjVer | MnVer | Exchange Type |     Flags     |
|                          Message ID                           |
|                            Length                             |
| Next Payload  |C|  RESERVED   |         Payload Length        |  first payload
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from struct import Struct

from oe.errors import ParseError
from oe.ike.crypto import SK_IV_OCTETS, SK_TAG_OCTETS, SkCipher
from oe.ike.payloads import Payload, UnknownPayload, decode_payload
from oe.ike.registry import ExchangeType, PayloadType
from oe.wire import Reader

HEADER_OCTETS = 28
MAX_MESSAGE_OCTETS = 16384
"""Beyond it a message is not looked at. RFC 7296 2 asks for 3000."""
MAX_PAYLOADS = 64
"""In one message, clear and encrypted ones each."""
MAX_FRAGMENTS = 64
"""Of one message: enough for the largest in fragments of 576 octets, and then some."""
MAJOR_VERSION = 2

_HEADER = Struct("!QQBBBBII")  # SPIs | next payload | version | exchange type | flags | message ID | length
_GENERIC = Struct("!BBH")  # next payload | C, reserved | payload length
_GENERIC_HEADER = _GENERIC.size
_ENCRYPTED = frozenset({PayloadType.SK, PayloadType.SKF})
_INITIATOR_FLAG = 0x08
_RESPONSE_FLAG = 0x20
_CRITICAL = 0x80


@dataclass(frozen=True, slots=True)
class Header:
    """The IKE header but for what follows from the rest of the message (RFC 7296 3.1)."""

    initiator_spi: int
    """64 bits, chosen by the end that sent IKE_SA_INIT."""
    responder_spi: int
    """64 bits; 0 until the responder chose."""
    exchange: ExchangeType
    is_response: bool
    from_initiator: bool
    """The sender is the end that sent IKE_SA_INIT, whichever exchange this is."""
    message_id: int
    version: int = MAJOR_VERSION << 4
    """Major version in the upper four bits, minor in the lower."""

    @property
    def major_version(self) -> int:
        return self.version >> 4

    def encode(self, first: int, length: int) -> bytes:
        """The 28 octets; `first` is the type of the first payload, `length` that of the whole message."""
        flags = (_RESPONSE_FLAG if self.is_response else 0) | (_INITIATOR_FLAG if self.from_initiator else 0)
        types = first, self.version, self.exchange, flags
        return _HEADER.pack(self.initiator_spi, self.responder_spi, *types, self.message_id, length)


@dataclass(frozen=True, slots=True)
class Place:
    """Which fragment of how many (RFC 7383 2.5): 1 <= number <= total <= MAX_FRAGMENTS."""

    number: int
    total: int


@dataclass(frozen=True, slots=True)
class Sealed:
    """Where the Encrypted (SK) or Encrypted Fragment (SKF) payload of a message stands; always the last one."""

    first: int
    """Type of the first payload inside; of a fragment only the first one says it, others say 0."""
    body: int
    """Offset in the message of the IV; up to here all is authenticated (RFC 5282 5.1)."""
    place: Place | None = None
    """None: it is no fragment."""


@dataclass(frozen=True, slots=True)
class Message:
    """A received message, decoded as far as that goes without keys."""

    header: Header
    payloads: tuple[Payload, ...]
    """Those in clear."""
    sealed: Sealed | None
    """None: nothing in it is encrypted."""
    octets: bytes = field(repr=False)
    """All of it as received: AUTH covers IKE_SA_INIT messages octet by octet (RFC 7296 2.15)."""


def decode_header(data: bytes) -> Header:
    """The header alone, any version. Raises `ParseError` when the octets are not one whole message."""
    if not HEADER_OCTETS <= len(data) <= MAX_MESSAGE_OCTETS:
        raise ParseError("IKE header", f"message of {len(data)} octets")
    initiator_spi, responder_spi, _, version, exchange, flags, message_id, length = _HEADER.unpack_from(data)
    if length != len(data):
        raise ParseError("IKE header", f"length field {length}, datagram has {len(data)} octets")
    return Header(
        initiator_spi,
        responder_spi,
        ExchangeType(exchange),
        bool(flags & _RESPONSE_FLAG),
        bool(flags & _INITIATOR_FLAG),
        message_id,
        version,
    )


def decode_chain(first: int, reader: Reader) -> tuple[tuple[Payload, ...], Sealed | None]:
    """The payloads in `reader`'s window, and the encrypted one that may end them. Raises `ParseError`.

    Each step reads at least a generic header of four octets, so that the walk ends whatever lengths the peer wrote.
    """
    payloads: list[Payload] = []
    following = first
    while following:
        if len(payloads) == MAX_PAYLOADS:
            raise ParseError(reader.where, f"more than {MAX_PAYLOADS} payloads")
        type = following
        following, flags, length = reader.unpack(_GENERIC, "generic header")
        length -= _GENERIC_HEADER
        if type in _ENCRYPTED:
            if length != reader.remaining:
                raise ParseError(reader.where, f"encrypted payload of {length} octets, {reader.remaining} are left")
            place = _decode_place(reader) if type == PayloadType.SKF else None
            return tuple(payloads), Sealed(following, reader.offset, place)
        payloads.append(decode_payload(type, bool(flags & _CRITICAL), reader.window(length, "payload")))
    reader.expect_end()
    return tuple(payloads), None


def _decode_place(reader: Reader) -> Place:
    number, total = reader.u16("fragment number"), reader.u16("total fragments")
    if not 1 <= number <= total <= MAX_FRAGMENTS:
        raise ParseError(reader.where, f"fragment {number} of {total}")
    return Place(number, total)


def decode_message(data: bytes, header: Header | None = None) -> Message:
    """A message as received, up to its encrypted payload. Raises `ParseError`, also for a major version not ours.

    `header`: what `decode_header` says of `data`, if that was asked before.
    """
    if header is None:
        header = decode_header(data)
    if header.major_version != MAJOR_VERSION:
        raise ParseError("IKE header", f"version {header.major_version}")
    reader = Reader(data, "IKE message")
    reader.take(HEADER_OCTETS, "header")
    payloads, sealed = decode_chain(data[16], reader)
    return Message(header, payloads, sealed, data)


def encode_chain(payloads: Iterable[Payload]) -> tuple[int, bytes]:
    """Type of the first payload (0: there is none) and the octets of the chain."""
    following = 0
    parts: list[bytes] = []
    for payload in reversed(tuple(payloads)):
        body = payload.body()
        critical = _CRITICAL if isinstance(payload, UnknownPayload) and payload.critical else 0
        parts += (body, _GENERIC.pack(following, critical, _GENERIC_HEADER + len(body)))
        following = payload.type
    return int(following), b"".join(reversed(parts))


def encode_message(header: Header, payloads: Iterable[Payload]) -> bytes:
    """A message in clear."""
    first, chain = encode_chain(payloads)
    return header.encode(first, HEADER_OCTETS + len(chain)) + chain


def seal(header: Header, payloads: Iterable[Payload], cipher: SkCipher) -> bytes:
    """A message whose payloads stand in one Encrypted payload (RFC 7296 3.14 with an AEAD: RFC 5282 3).

        header | SK header | IV | encrypted(payloads | pad length 0) | tag

    Sealing takes an IV from `cipher`: seal once, and send the same octets again.
    """
    first, chain = encode_chain(payloads)
    return seal_chain(header, first, chain, cipher)


def seal_chain(header: Header, first: int, chain: bytes, cipher: SkCipher, place: Place | None = None) -> bytes:
    """`seal` for payloads that are encoded; with `place` the message is that fragment, and `chain` its share."""
    type, fields = PayloadType.SK, b""
    if place is not None:
        type, fields = PayloadType.SKF, place.number.to_bytes(2, "big") + place.total.to_bytes(2, "big")
    length = _GENERIC_HEADER + len(fields) + SK_IV_OCTETS + len(chain) + 1 + SK_TAG_OCTETS
    start = header.encode(type, HEADER_OCTETS + length) + bytes((first, 0)) + length.to_bytes(2, "big") + fields
    return start + cipher.seal(chain + b"\0", start)


def open_octets(message: Message, cipher: SkCipher) -> bytes | None:
    """The chain's octets inside an SK or SKF payload, padding removed; None: the integrity check failed."""
    if message.sealed is None:
        raise ParseError("IKE message", "no Encrypted payload")
    start = message.sealed.body
    plain = cipher.open(message.octets[start:], message.octets[:start])
    if plain is None:
        return None
    if not plain or plain[-1] >= len(plain):
        raise ParseError("Encrypted payload", "padding longer than the content")
    return plain[: len(plain) - 1 - plain[-1]]


def decode_plain(first: int, plain: bytes) -> tuple[Payload, ...]:
    """The chain of payloads that was encrypted; an Encrypted payload in it is a `ParseError`."""
    payloads, nested = decode_chain(first, Reader(plain, "Encrypted payload"))
    if nested is not None:
        raise ParseError("Encrypted payload", "holds another one")
    return payloads
