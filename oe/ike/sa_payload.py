"""The Security Association payload: proposals, transforms, attributes (RFC 7296 3.3).

SA payload ─┬─ Proposal 1, protocol, SPI ─┬─ Transform ENCRYPTION AES_GCM_16, key length 256
            │                             ├─ Transform ENCRYPTION AES_GCM_16, key length 128
            │                             └─ Transform ...
            └─ Proposal 2 ...
"""

from dataclasses import dataclass
from functools import lru_cache
from struct import Struct
from typing import ClassVar, Self

from oe.errors import ParseError
from oe.ike.registry import AttributeType, PayloadType, ProtocolId, TransformType
from oe.wire import Reader

MAX_PROPOSALS = 32
"""In one SA payload. What peers send has one to ten; each has at most 255 transforms by its own header."""

_MORE_PROPOSALS = 2
_MORE_TRANSFORMS = 3
_PROPOSAL = Struct("!BxHBBBB")  # last | length | number | protocol | SPI size | number of transforms
_TRANSFORM_HEAD = 8
_TV_FORMAT = 0x8000
_KEY_LENGTH = _TV_FORMAT | AttributeType.KEY_LENGTH


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
        attribute = b"" if self.key_bits is None else (_KEY_LENGTH << 16 | self.key_bits).to_bytes(4, "big")
        head = bytes((0 if is_last else _MORE_TRANSFORMS, 0, 0, _TRANSFORM_HEAD + len(attribute), self.kind, 0))
        return head + self.id.to_bytes(2, "big") + attribute


def _decode_attributes(reader: Reader) -> tuple[int | None, bool]:
    """Key length and whether all was understood. TV form has its value in place of a length (RFC 7296 3.3.5)."""
    key_bits: int | None = None
    is_understood = True
    while reader.remaining:
        kind, value = reader.u16("attribute type"), reader.u16("attribute length or value")
        if kind == _KEY_LENGTH and key_bits is None:
            key_bits = value
            continue
        is_understood = False
        if not kind & _TV_FORMAT:
            reader.take(value, "attribute value")
    return key_bits, is_understood


# Peers send the same transforms with every negotiation; the octets alone decide the value.
@lru_cache(maxsize=64)
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


# Ours are always the same, too.
@lru_cache(maxsize=64)
def _encode_transforms(transforms: tuple[Transform, ...]) -> bytes:
    last = len(transforms) - 1
    return b"".join([transform.encode(at == last) for at, transform in enumerate(transforms)])


@dataclass(frozen=True, slots=True)
class Proposal:
    """One suite of an SA payload: any one transform per kind may be taken from it (RFC 7296 3.3.1)."""

    number: int
    protocol: ProtocolId
    spi: bytes
    """Of the sender, big endian: empty in IKE_SA_INIT, 8 octets in an IKE rekey, 4 for ESP."""
    transforms: tuple[Transform, ...]

    def encode(self, is_last: bool) -> bytes:
        transforms = _encode_transforms(self.transforms)
        counts = len(self.spi), len(self.transforms)
        length = _PROPOSAL.size + len(self.spi) + len(transforms)
        last = 0 if is_last else _MORE_PROPOSALS
        return _PROPOSAL.pack(last, length, self.number, self.protocol, *counts) + self.spi + transforms


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
            last, length, number, protocol, spi_octets, count = reader.unpack(_PROPOSAL, "proposal")
            more = last == _MORE_PROPOSALS
            if last and not more:
                raise ParseError("Proposal", f"'last' field is {last}")
            body = reader.window(length - _PROPOSAL.size, "Proposal")
            spi = body.take(spi_octets, "SPI")
            proposals.append(Proposal(number, ProtocolId(protocol), spi, _decode_transforms(body.rest(), count)))
        reader.expect_end()
        return cls(tuple(proposals))

    def body(self) -> bytes:
        last = len(self.proposals) - 1
        return b"".join([p.encode(at == last) for at, p in enumerate(self.proposals)])
